//! The table as it shall be, compared with the one that is found: what to write, and what cannot be made right. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use twox_hash::XxHash64;

use super::types::REMEDY_ADD;
use super::{Allowed, Column, HiveFormat, HivePlan, HiveType, ORIGIN, OWNER, Partitions};
use crate::errors::{Class, class};

/// Classes of Hive's that read and write a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    pub classification: &'static str,
    pub serde: &'static str,
    pub input: &'static str,
    pub output: &'static str,
    pub serde_parameters: &'static [(&'static str, &'static str)],
}

impl HiveFormat {
    pub fn storage(self) -> Storage {
        match self {
            Self::Parquet => Storage {
                classification: "parquet",
                serde: "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
                input: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
                output: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
                serde_parameters: &[("serialization.format", "1")],
            },
            Self::Json => Storage {
                classification: "json",
                serde: "org.openx.data.jsonserde.JsonSerDe",
                input: "org.apache.hadoop.mapred.TextInputFormat",
                output: "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
                serde_parameters: &[("serialization.format", "1"), ("case.insensitive", "true")],
            },
        }
    }
}

/// What is to be written of a table; the rest stays as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub columns: Vec<Column>,
    pub parameters: BTreeMap<String, String>,
    /// For people: what the writing does.
    pub changes: Vec<String>,
}

/// A table as Glue has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub location: Option<String>,
    /// Names and types.
    pub columns: Vec<(String, String)>,
    pub keys: Vec<(String, String)>,
    pub serde: Option<String>,
    pub input: Option<String>,
    pub kind: Option<String>,
    pub parameters: BTreeMap<String, String>,
}

impl Found {
    pub(super) fn owner(&self) -> Option<&str> {
        self.parameters.get(OWNER).map(String::as_str)
    }

    pub(super) fn is_at(&self, location: &str) -> bool {
        let plain = |location: &str| {
            let rest = ["s3://", "s3a://", "s3n://"]
                .iter()
                .find_map(|scheme| location.strip_prefix(scheme));
            rest.unwrap_or(location).trim_end_matches('/').to_owned()
        };
        self.location.as_deref().map(plain) == Some(plain(location))
    }
}

/// Something that is not as wanted, and why it stays so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The table is somebody else's.
    NotOurs(String),
    /// It is not as the sink needs it.
    Unlike(String),
}

impl Difference {
    pub fn class(&self) -> Class {
        match self {
            Self::NotOurs(_) => class::TABLE_NOT_OURS,
            Self::Unlike(_) => class::TABLE_DIFFERS,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotOurs(text) | Self::Unlike(text)) = self;
        f.write_str(text)
    }
}

/// What to do about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is none, and its columns are not known yet.
    Wait,
    /// It is not to be touched, nor its partitions.
    Refuse(Vec<Difference>),
    Keep {
        /// What must be written first.
        write: Option<Definition>,
        /// As readers see them then.
        columns: Vec<Column>,
        /// What stays different all the same.
        differences: Vec<Difference>,
    },
}

/// `columns` are those of the files, as far as they are known.
pub fn decide(plan: &HivePlan, columns: Option<&[Column]>, found: Option<&Found>) -> Decision {
    let Some(found) = found else {
        if columns.is_none() {
            return Decision::Wait;
        }
        let (mut changes, mut differences) = (vec!["create".to_owned()], Vec::new());
        let nothing = Found::default();
        let anew = Allowed {
            add_columns: true,
            widen: true,
        };
        let columns = merge(
            plan,
            anew,
            columns,
            &nothing,
            &mut changes,
            &mut differences,
        );
        let write = Definition {
            columns: columns.clone(),
            parameters: parameters(plan, "Created"),
            changes,
        };
        return Decision::Keep {
            write: Some(write),
            columns,
            differences,
        };
    };
    let refused = refusals(plan, found);
    if !refused.is_empty() {
        return Decision::Refuse(refused);
    }
    let ours = found.owner().is_some();
    let mut changes = Vec::new();
    let mut differences = Vec::new();
    let merged = merge(
        plan,
        plan.allowed,
        columns,
        found,
        &mut changes,
        &mut differences,
    );
    let origin = match found.parameters.get(ORIGIN) {
        Some(origin) if ours => origin.clone(),
        _ => "Adopted".to_owned(),
    };
    if !ours {
        changes.push("take over".to_owned());
    }
    let mut written = found.parameters.clone();
    if plan.partitions != Partitions::None {
        written.retain(|key, _| !is_projection(key));
    }
    written.extend(parameters(plan, &origin));
    if written != found.parameters && ours {
        changes.push("set parameters".to_owned());
    }
    if origin == "Created" {
        for ((name, have), key) in found.keys.iter().zip(&plan.keys) {
            if !have.eq_ignore_ascii_case(&key.ty) {
                differences.push(Difference::Unlike(format!(
                    "partition column \"{name}\" is {have}, the folders have {}; delete the table, not its files: it is \
                     made anew",
                    key.ty
                )));
            }
        }
    }
    let write = (!changes.is_empty()).then(|| Definition {
        columns: merged.clone(),
        parameters: written,
        changes,
    });
    Decision::Keep {
        write,
        columns: merged,
        differences,
    }
}

/// Why the table is not to be deleted with its sink.
pub(super) fn why_kept(plan: &HivePlan, found: &Found) -> Option<&'static str> {
    if found.owner() != Some(&plan.sink.0) {
        return Some("it does not belong to this sink");
    }
    if found.parameters.get(ORIGIN).map(String::as_str) != Some("Created") {
        return Some("this sink took it over, somebody else made it");
    }
    (!found.is_at(&plan.location)).then_some("it shows another dataset")
}

/// A short name for columns, the same in every process.
pub(super) fn fingerprint(columns: &[Column]) -> String {
    let mut text = String::new();
    for Column { name, ty, .. } in columns {
        // The length keeps names with separators in them apart.
        text.push_str(&format!("{}:{name}{ty};", name.len()));
    }
    format!("{:016x}", XxHash64::oneshot(0, text.as_bytes()))
}

fn is_projection(key: &str) -> bool {
    key.starts_with("projection.") || key == "storage.location.template"
}

fn parameters(plan: &HivePlan, origin: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::from([
        ("EXTERNAL".to_owned(), "TRUE".to_owned()),
        (
            "classification".to_owned(),
            plan.format.storage().classification.to_owned(),
        ),
        (OWNER.to_owned(), plan.sink.to_string()),
        (ORIGIN.to_owned(), origin.to_owned()),
    ]);
    if let Partitions::Projection(projection) = &plan.partitions {
        parameters.extend(projection.clone());
    }
    parameters
}

/// Why the table is not to be touched.
fn refusals(plan: &HivePlan, found: &Found) -> Vec<Difference> {
    let name = plan.name();
    let at = found.location.as_deref().unwrap_or("nowhere");
    let sink = plan.sink.to_string();
    match found.owner() {
        Some(owner) if owner != sink => {
            return vec![Difference::NotOurs(format!(
                "table \"{name}\" belongs to the sink \"{owner}\" (parameter {OWNER}); choose another spec.glue.table, or \
                 remove the parameter if that sink is gone"
            ))];
        }
        Some(_) if !found.is_at(&plan.location) => {
            return vec![Difference::NotOurs(format!(
                "table \"{name}\" belongs to a sink of this name that writes to {at}; choose another spec.glue.table, or \
                 delete the table, not its files"
            ))];
        }
        None if !plan.adopt => {
            return vec![Difference::NotOurs(format!(
                "table \"{name}\" exists already and no sink made it; choose another spec.glue.table, or set \
                 spec.glue.adopt: true"
            ))];
        }
        _ => {}
    }
    let mut refused = Vec::new();
    let mut unlike = |text: String| refused.push(Difference::Unlike(text));
    let iceberg = found.parameters.get("table_type");
    if let Some(kind) = iceberg.filter(|kind| !kind.is_empty()) {
        unlike(format!(
            "table \"{name}\" is of type {kind}, not one of plain files; choose another spec.glue.table"
        ));
        return refused;
    }
    if let Some(kind) = found.kind.as_deref()
        && !kind.eq_ignore_ascii_case("EXTERNAL_TABLE")
    {
        unlike(format!(
            "\"{name}\" is a {kind}, not an EXTERNAL_TABLE; choose another spec.glue.table"
        ));
        return refused;
    }
    if !found.is_at(&plan.location) {
        unlike(format!(
            "table \"{name}\" shows {at}, the dataset is at {}; choose another spec.glue.table",
            plan.location
        ));
    }
    let storage = plan.format.storage();
    for (what, have, want) in [
        ("serde", &found.serde, storage.serde),
        ("input format", &found.input, storage.input),
    ] {
        if have.as_deref() != Some(want) {
            let have = have.as_deref().unwrap_or("none");
            unlike(format!(
                "table \"{name}\" has the {what} {have}, the files need {want}; delete the table, not its files: it is made \
                 anew"
            ));
        }
    }
    let have: Vec<String> = found.keys.iter().map(|(k, _)| k.to_lowercase()).collect();
    let want: Vec<&str> = plan.keys.iter().map(|key| key.name.as_str()).collect();
    if have != want {
        unlike(format!(
            "table \"{name}\" is partitioned by ({}), the folders by ({}); delete the table, not its files: it is made anew",
            have.join(", "),
            want.join(", ")
        ));
    }
    refused
}

/// The table's columns with what the files need; what cannot be is told and left as it is.
fn merge(
    plan: &HivePlan,
    allowed: Allowed,
    wanted: Option<&[Column]>,
    found: &Found,
    changes: &mut Vec<String>,
    differences: &mut Vec<Difference>,
) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::with_capacity(found.columns.len());
    for (name, ty) in &found.columns {
        columns.push(Column {
            name: name.to_lowercase(),
            ty: HiveType::parse(ty).unwrap_or_else(|| HiveType::Simple(ty.clone())),
            comment: None,
        });
    }
    let keys: BTreeSet<&str> = plan.keys.iter().map(|key| key.name.as_str()).collect();
    for want in wanted.unwrap_or_default() {
        let name = &want.name;
        if keys.contains(name.as_str()) {
            differences.push(Difference::Unlike(format!(
                "column \"{name}\" of the files has the name of a partition column; give the folder another label"
            )));
            continue;
        }
        match columns.iter_mut().find(|column| column.name == *name) {
            Some(have) => match HiveType::merged(&have.ty, &want.ty, plan.format, allowed) {
                Ok(ty) if ty == have.ty => {}
                Ok(ty) => {
                    changes.push(format!("column \"{name}\" from {} to {ty}", have.ty));
                    have.ty = ty;
                }
                Err(why) => {
                    differences.push(Difference::Unlike(format!("column \"{name}\" {why}")));
                }
            },
            None if allowed.add_columns => {
                changes.push(format!("add column \"{name}\" {}", want.ty));
                columns.push(want.clone());
            }
            None => differences.push(Difference::Unlike(format!(
                "the table has no column \"{name}\" {}; {REMEDY_ADD}",
                want.ty
            ))),
        }
    }
    columns
}
