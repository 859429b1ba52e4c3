//! What is measured: which records, into which destination, described to `tidewater` by which resource.

use std::path::PathBuf;

use anyhow::Result;
use tidewater_e2e::{COUNTRIES, Lab, S3Access, Topic};

/// Records to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// 12 partitions.
    Orders,
    /// 24 partitions, and 80 countries mixed in each.
    ManyCountries,
}

impl Workload {
    pub(crate) const ALL: [Workload; 2] = [Workload::Orders, Workload::ManyCountries];

    pub(crate) fn partitions(self) -> i32 {
        match self {
            Workload::Orders => 12,
            Workload::ManyCountries => 24,
        }
    }

    pub(crate) fn countries(self) -> usize {
        match self {
            Workload::Orders => 10,
            Workload::ManyCountries => COUNTRIES.len(),
        }
    }

    /// Name of its control in the report.
    pub(crate) fn control(self) -> &'static str {
        match self {
            Workload::Orders => "control",
            Workload::ManyCountries => "control-many-paths",
        }
    }
}

/// A run of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    S3SinkLocal,
    S3SinkS3,
    IcebergLocal,
    IcebergRest,
    ManyPaths,
}

impl Case {
    pub(crate) const ALL: [Case; 5] = [
        Case::S3SinkLocal,
        Case::S3SinkS3,
        Case::IcebergLocal,
        Case::IcebergRest,
        Case::ManyPaths,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Case::S3SinkLocal => "s3sink-local",
            Case::S3SinkS3 => "s3sink-s3",
            Case::IcebergLocal => "iceberg-local",
            Case::IcebergRest => "iceberg-rest",
            Case::ManyPaths => "many-paths",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Case> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }

    pub(crate) fn workload(self) -> Workload {
        match self {
            Case::ManyPaths => Workload::ManyCountries,
            _ => Workload::Orders,
        }
    }

    /// Peak that the process should stay under: its budget of 256 MiB, and 64 MiB for code, stacks and clients.
    pub(crate) fn rss_limit(self) -> Option<u64> {
        (self == Case::ManyPaths).then_some((256 + 64) << 20)
    }

    /// A destination nobody has used.
    pub(crate) async fn destination(self, lab: &Lab) -> Result<Destination> {
        Ok(match self {
            Case::S3SinkLocal | Case::ManyPaths => Destination::Folder(lab.scratch()?),
            Case::S3SinkS3 => Destination::Bucket(lab.bucket().await?),
            Case::IcebergLocal => Destination::LocalTable(lab.scratch()?),
            Case::IcebergRest => Destination::RestTable {
                namespace: lab.unique("bench"),
            },
        })
    }

    /// The resource, in YAML.
    pub(crate) fn resource(self, lab: &Lab, topic: &Topic, destination: &Destination) -> String {
        let template = match destination {
            Destination::Folder(_) | Destination::Bucket(_) => include_str!("dataset.yaml"),
            Destination::LocalTable(_) | Destination::RestTable { .. } => {
                include_str!("table.yaml")
            }
        };
        let mut values = vec![
            ("@BOOTSTRAP@", lab.kafka().to_owned()),
            ("@TOPIC@", topic.name().to_owned()),
            ("@GROUP@", lab.unique(self.name())),
        ];
        let partitioning = match self {
            Case::ManyPaths => "[{column: country}]",
            _ => "[]",
        };
        values.push(("@PARTITIONING@", partitioning.to_owned()));
        values.extend(destination.settings(lab));
        values
            .iter()
            .fold(template.to_owned(), |text, (placeholder, value)| {
                text.replace(placeholder, value)
            })
    }
}

/// Where rows go.
#[derive(Debug)]
pub(crate) enum Destination {
    Folder(PathBuf),
    Bucket(String),
    LocalTable(PathBuf),
    RestTable { namespace: String },
}

/// Of the dataset in a bucket.
pub(crate) const PREFIX: &str = "orders";

impl Destination {
    fn settings(&self, lab: &Lab) -> Vec<(&'static str, String)> {
        match self {
            Destination::Folder(path) => vec![(
                "@DESTINATION@",
                format!("{{local: {{path: \"{}\"}}}}", path.display()),
            )],
            Destination::Bucket(bucket) => vec![(
                "@DESTINATION@",
                format!(
                    "{{s3: {{bucket: {bucket}, prefix: {PREFIX}, {}}}}}",
                    reach(lab.s3())
                ),
            )],
            Destination::LocalTable(path) => vec![
                (
                    "@CATALOG@",
                    format!("{{local: {{path: \"{}\"}}}}", path.display()),
                ),
                ("@NAMESPACE@", "bench".to_owned()),
                ("@STORAGE@", String::new()),
            ],
            Destination::RestTable { namespace } => vec![
                (
                    "@CATALOG@",
                    format!("{{rest: {{uri: \"{}\"}}}}", lab.iceberg_rest()),
                ),
                ("@NAMESPACE@", namespace.clone()),
                (
                    "@STORAGE@",
                    format!("storage: {{s3: {{{}}}}}", reach(lab.s3())),
                ),
            ],
        }
    }
}

/// The keys come from the environment.
fn reach(s3: &S3Access) -> String {
    format!(
        "endpoint: \"{}\", region: {}, pathStyle: true",
        s3.endpoint, s3.region
    )
}
