//! The set of servers as one thing: started together, or attached to by the file named in `TIDEWATER_LAB`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::readers::{DuckDb, PyIceberg};
use crate::servers::iceberg_rest;
use crate::{
    Cluster, IcebergRest, IcebergRestOptions, KafkaServer, Ministack, Proxy, S3Server, Topic,
    Toxiproxy, ToxiproxyServer, os,
};

/// Names the file of endpoints of a lab that already runs.
pub(crate) const ENVIRONMENT: &str = "TIDEWATER_LAB";

const WAREHOUSE_BUCKET: &str = "warehouse";

/// Where an S3-like server is and how to sign for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct S3Access {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub region: String,
}

/// Where everything is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoints {
    /// The process that holds the servers.
    pub pid: u32,
    /// Data and logs of the servers, and scratch folders; removed when the lab stops.
    pub folder: PathBuf,
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// versitygw.
    pub s3: S3Access,
    /// Glue, STS, KMS, and an S3 that knows SSE-KMS and storage classes.
    pub ministack: S3Access,
    /// The REST catalog's base URI.
    pub iceberg_rest: String,
    /// Where the REST catalog puts its tables: a location on `s3`.
    pub warehouse: String,
    /// Toxiproxy's API.
    pub toxiproxy: String,
    /// Where the lab starts a cluster, or has started one, if it was asked to.
    pub cluster: Option<PathBuf>,
}

/// The lab.
#[derive(Debug)]
pub struct Lab {
    endpoints: Endpoints,
    servers: Option<Servers>,
    duckdb: OnceCell<DuckDb>,
    ministack_duckdb: OnceCell<DuckDb>,
    pyiceberg: OnceCell<PyIceberg>,
    cluster: OnceCell<Cluster>,
}

#[derive(Debug)]
struct Servers {
    kafka: KafkaServer,
    s3: S3Server,
    ministack: Ministack,
    iceberg_rest: IcebergRest,
    toxiproxy: ToxiproxyServer,
}

static SHARED: OnceCell<Lab> = OnceCell::const_new();

impl Lab {
    /// The lab this process shares: the running one that `TIDEWATER_LAB` names, else one of its own, started once and
    /// gone with the process.
    pub async fn shared() -> Result<&'static Lab> {
        SHARED
            .get_or_try_init(|| async {
                match std::env::var_os(ENVIRONMENT) {
                    Some(file) => Self::attach(Path::new(&file)),
                    None => Box::pin(Self::start()).await,
                }
            })
            .await
    }

    /// The lab described by a file of endpoints.
    pub fn attach(file: &Path) -> Result<Lab> {
        let text = fs::read(file).with_context(|| format!("read '{}'", file.display()))?;
        let endpoints =
            serde_json::from_slice(&text).with_context(|| format!("parse '{}'", file.display()))?;
        Ok(Self::of(endpoints, None))
    }

    /// Starts every server, side by side.
    pub async fn start() -> Result<Lab> {
        let folder = own_folder()?;
        let s3_and_catalog = async {
            let s3 = S3Server::start(&folder.join("s3")).await?;
            s3.access()
                .client()
                .create_bucket()
                .bucket(WAREHOUSE_BUCKET)
                .send()
                .await?;
            let catalog = IcebergRest::start(
                &folder.join("iceberg-rest"),
                &warehouse(),
                s3.access(),
                &IcebergRestOptions::default(),
            )
            .await?;
            anyhow::Ok((s3, catalog))
        };
        let (kafka, ministack, toxiproxy) = (
            folder.join("kafka"),
            folder.join("ministack"),
            folder.join("toxiproxy"),
        );
        let (kafka, (s3, iceberg_rest), ministack, toxiproxy) = tokio::try_join!(
            Box::pin(KafkaServer::start(&kafka)),
            Box::pin(s3_and_catalog),
            Box::pin(Ministack::start(&ministack)),
            Box::pin(ToxiproxyServer::start(&toxiproxy)),
        )?;
        let endpoints = Endpoints {
            pid: std::process::id(),
            folder,
            kafka: kafka.bootstrap().to_owned(),
            s3: s3.access().clone(),
            ministack: ministack.access(),
            iceberg_rest: iceberg_rest.uri().to_owned(),
            warehouse: warehouse(),
            toxiproxy: toxiproxy.api().to_owned(),
            cluster: None,
        };
        let servers = Servers {
            kafka,
            s3,
            ministack,
            iceberg_rest,
            toxiproxy,
        };
        Ok(Self::of(endpoints, Some(servers)))
    }

    fn of(endpoints: Endpoints, servers: Option<Servers>) -> Lab {
        Lab {
            endpoints,
            servers,
            duckdb: OnceCell::new(),
            ministack_duckdb: OnceCell::new(),
            pyiceberg: OnceCell::new(),
            cluster: OnceCell::new(),
        }
    }

    /// Promises a cluster to those who attach: the caller starts it in the folder that this gives, by
    /// [`Cluster::start_and_announce`].
    pub fn promise_cluster(&mut self) -> PathBuf {
        let folder = self.endpoints.folder.join("cluster");
        self.endpoints.cluster = Some(folder.clone());
        folder
    }

    /// The shared Kubernetes cluster: the one the lab starts, else one of this process, started when it is first asked
    /// for. Who means to break it starts one of their own.
    pub async fn cluster(&self) -> Result<&Cluster> {
        self.cluster
            .get_or_try_init(|| async {
                match &self.endpoints.cluster {
                    Some(folder) => Box::pin(Cluster::announced(folder)).await,
                    None => {
                        let name = format!("cluster-{}", std::process::id());
                        let folder = self.endpoints.folder.join(name);
                        Box::pin(Cluster::start(&folder)).await
                    }
                }
            })
            .await
    }

    /// Stops the servers this lab started. `keep`: leave data and logs, to be looked at until the next lab starts.
    pub fn stop(self, keep: bool) -> Result<()> {
        let Some(servers) = self.servers else {
            return Ok(());
        };
        // Nothing of it is used again, so there is nothing to stop cleanly for.
        servers.kafka.kill();
        servers.s3.kill();
        servers.ministack.kill();
        servers.iceberg_rest.kill();
        drop(servers.toxiproxy);
        if !keep {
            fs::remove_dir_all(&self.endpoints.folder)?;
        }
        Ok(())
    }

    /// Where everything is.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Kafka's bootstrap servers.
    pub fn kafka(&self) -> &str {
        &self.endpoints.kafka
    }

    /// The S3 server.
    pub fn s3(&self) -> &S3Access {
        &self.endpoints.s3
    }

    /// Glue, STS, KMS, and an S3 that knows SSE-KMS.
    pub fn ministack(&self) -> &S3Access {
        &self.endpoints.ministack
    }

    /// The REST catalog's base URI.
    pub fn iceberg_rest(&self) -> &str {
        &self.endpoints.iceberg_rest
    }

    /// Spoils the next `count` POSTs to the shared REST catalog whose path contains `path` (a table's name, so that
    /// other scenarios are left alone), and answers how many the last order for that path spoilt. Modes: `500-before`, `503-before`,
    /// `429-before`, `409-before` (nothing happened); `500-after`, `502-after`, `503-after`, `504-after` (it happened, the answer is
    /// an error); `drop-after` (it happened, the connection is cut); `slow`.
    pub async fn fault(&self, mode: &str, count: u32, path: &str) -> Result<u32> {
        iceberg_rest::arm(&self.endpoints.iceberg_rest, mode, count, path).await
    }

    /// A proxy in front of `upstream`.
    pub async fn proxy(&self, upstream: &str) -> Result<Proxy> {
        let toxiproxy = Toxiproxy::at(&self.endpoints.toxiproxy);
        toxiproxy.proxy(&self.unique("proxy"), upstream).await
    }

    /// A name nobody else has, of letters and digits: good for topics, groups, buckets, tables and resources alike.
    pub fn unique(&self, prefix: &str) -> String {
        format!("{prefix}x{:08x}", rand::random::<u32>())
    }

    /// A fresh topic.
    pub async fn topic(&self, prefix: &str, partitions: i32) -> Result<Topic> {
        Topic::create(self.kafka(), &self.unique(prefix), partitions).await
    }

    /// A fresh bucket on the S3 server.
    pub async fn bucket(&self) -> Result<String> {
        let bucket = self.unique("bucket");
        self.make_bucket(&bucket).await?;
        Ok(bucket)
    }

    /// A bucket of that name on the S3 server; one that is there already will do.
    pub async fn make_bucket(&self, name: &str) -> Result<()> {
        let made = self.s3_client().create_bucket().bucket(name).send().await;
        match made {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_bucket_already_owned_by_you()) =>
            {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("create bucket '{name}'")),
        }
    }

    /// A fresh folder.
    pub fn scratch(&self) -> Result<PathBuf> {
        let folder = self.endpoints.folder.join("scratch").join(self.unique("t"));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// A client of the S3 server. Make one per test.
    pub fn s3_client(&self) -> aws_sdk_s3::Client {
        self.endpoints.s3.client()
    }

    /// A client of ministack's S3.
    pub fn ministack_s3_client(&self) -> aws_sdk_s3::Client {
        self.endpoints.ministack.client()
    }

    /// A Glue client. Make one per test.
    pub fn glue_client(&self) -> aws_sdk_glue::Client {
        let access = &self.endpoints.ministack;
        let config = aws_sdk_glue::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&access.endpoint)
            .region(Region::new(access.region.clone()))
            .credentials_provider(access.credentials())
            .build();
        aws_sdk_glue::Client::from_conf(config)
    }

    /// DuckDB, with the keys of the S3 server and the REST catalog attached as `ice`. One process for all tests.
    pub async fn duckdb(&self) -> Result<&DuckDb> {
        self.duckdb
            .get_or_try_init(|| DuckDb::start(self.s3(), Some(self.iceberg_rest())))
            .await
    }

    /// DuckDB with the keys of ministack's S3. One process for all tests.
    pub async fn ministack_duckdb(&self) -> Result<&DuckDb> {
        self.ministack_duckdb
            .get_or_try_init(|| DuckDb::start(self.ministack(), None))
            .await
    }

    /// PyIceberg and pyarrow. One process for all tests.
    pub async fn pyiceberg(&self) -> Result<&PyIceberg> {
        self.pyiceberg
            .get_or_try_init(|| PyIceberg::start(&self.endpoints))
            .await
    }

    /// The S3 server as the runtime's own tests of its store want it: endpoint, keys, bucket.
    pub fn s3_setting(&self) -> String {
        let S3Access {
            endpoint,
            access_key,
            secret_key,
            ..
        } = &self.endpoints.s3;
        format!("{endpoint},{access_key},{secret_key},{WAREHOUSE_BUCKET}")
    }

    /// Variables to work by hand or to give to a child: the endpoints, and the AWS SDK's own.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Endpoints {
            kafka,
            s3,
            ministack,
            iceberg_rest,
            warehouse,
            ..
        } = &self.endpoints;
        vec![
            ("KAFKA_BOOTSTRAP", kafka.clone()),
            ("ICEBERG_REST_URI", iceberg_rest.clone()),
            ("ICEBERG_WAREHOUSE", warehouse.clone()),
            ("TOXIPROXY_URL", self.endpoints.toxiproxy.clone()),
            ("AWS_ACCESS_KEY_ID", s3.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", s3.secret_key.clone()),
            ("AWS_REGION", s3.region.clone()),
            ("AWS_ENDPOINT_URL_S3", s3.endpoint.clone()),
            ("AWS_ENDPOINT_URL_GLUE", ministack.endpoint.clone()),
            ("AWS_ENDPOINT_URL_STS", ministack.endpoint.clone()),
        ]
    }
}

impl S3Access {
    /// A client, path-style. Make one per test: a client's connections belong to the runtime they began in.
    pub fn client(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new(self.region.clone()))
            .credentials_provider(self.credentials())
            .force_path_style(true)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    fn credentials(&self) -> Credentials {
        Credentials::new(&self.access_key, &self.secret_key, None, None, "lab")
    }

    /// `host:port` of the endpoint.
    pub fn host(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }
}

fn warehouse() -> String {
    format!("s3://{WAREHOUSE_BUCKET}/tables")
}

/// A fresh folder named by our process id; removes those of processes that are gone.
fn own_folder() -> Result<PathBuf> {
    let all = std::env::temp_dir().join("tidewater-lab");
    fs::create_dir_all(&all)?;
    for entry in fs::read_dir(&all)?.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.parse().ok());
        if owner.is_some_and(|pid| !os::exists(pid)) {
            // Another lab may be sweeping as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let own = all.join(std::process::id().to_string());
    fs::create_dir(&own).with_context(|| format!("create '{}'", own.display()))?;
    Ok(own)
}
