//! What a resource wants of a catalog, and asking for it. Client of catalogs; knows nothing of the cluster.

use std::time::Duration;

use tidewater_crds::TableStatus;
use tidewater_runtime::catalog::hive::{self, Deleted, HivePlan, TableState};
use tidewater_runtime::commit::iceberg::declare::{
    Dropped, declare, drop_made, preview as preview_table,
};
use tidewater_runtime::commit::iceberg::{Declaration, Declared, IcebergFailure, Pace};
use tidewater_runtime::errors::{Classified, OneLine, class};
use tidewater_runtime::plan::{AwsCredentials, CatalogPlan, Destination, Plan, RestAuth, S3Access};

use crate::conditions::{
    AWAITING_RECORDS, CATALOG_NOT_PERMITTED, CATALOG_REFUSED, CATALOG_UNREACHABLE, DIFFERS,
    Finding, SYNCED, TABLE_ACCESS_DENIED, TABLE_MISSING,
};

/// One look takes no longer; one that did is begun anew.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// The first pause of 0.2 s, doubled up to 2 s: about 3 s in all. The next look is never far.
const PACE: Pace = Pace {
    attempts: 4,
    first: Duration::from_millis(200),
    longest: Duration::from_secs(2),
};

/// As whom catalogs of AWS are asked for a resource that brings no keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum CatalogIdentity {
    /// Not at all: nothing is done with rights that whoever wrote the resource did not bring. Its pods look after the table.
    #[default]
    Resource,
    /// As the operator: for a cluster in which all who write resources may do what the operator may.
    Operator,
}

/// What a resource wants of a catalog.
#[derive(Clone, Debug)]
pub enum TableWish {
    Iceberg(Box<Declaration>),
    /// A view of a dataset's files.
    Hive(Box<HivePlan>),
}

/// What applying a spec would change in the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    pub exists: bool,
    pub steps: Vec<String>,
    pub refused: Vec<String>,
}

impl TableWish {
    /// `None`: the resource has nothing to do with a catalog.
    pub fn of(plan: &Plan) -> Option<Self> {
        if let Some(wanted) = Declaration::of(plan) {
            return Some(Self::Iceberg(Box::new(wanted)));
        }
        match &plan.destination {
            Destination::Dataset(dataset) => {
                let wanted = dataset.glue.clone()?;
                Some(Self::Hive(Box::new(wanted)))
            }
            Destination::Iceberg(_) => None,
        }
    }

    /// It only shows files: pods write them whatever becomes of it.
    pub fn is_view(&self) -> bool {
        matches!(self, Self::Hive(_))
    }

    /// `namespace.table`.
    pub fn name(&self) -> String {
        match self {
            Self::Iceberg(wanted) => {
                format!("{}.{}", wanted.plan.namespace.join("."), wanted.plan.table)
            }
            Self::Hive(wanted) => wanted.name(),
        }
    }

    /// Why only the pods may see it.
    pub fn hidden(&self, identity: CatalogIdentity) -> Option<&'static str> {
        if let Self::Iceberg(wanted) = self
            && matches!(wanted.plan.catalog, CatalogPlan::Local { .. })
        {
            return Some("its catalog is a folder that only the pods can see");
        }
        let without_keys = "the resource brings no keys, and the operator does not ask catalogs as itself (catalogs.identity)";
        (identity == CatalogIdentity::Resource && !self.brings_keys()).then_some(without_keys)
    }

    /// Whether nothing but what the resource names is needed to ask the catalog.
    fn brings_keys(&self) -> bool {
        let own = |access: &S3Access| matches!(access.credentials, AwsCredentials::Static { .. });
        match self {
            Self::Hive(wanted) => own(&wanted.access.access),
            Self::Iceberg(wanted) => {
                let storage = wanted.plan.storage.as_ref().map(|storage| &storage.access);
                match &wanted.plan.catalog {
                    CatalogPlan::Local { .. } => true,
                    CatalogPlan::Glue(glue) => own(&glue.glue.access) && storage.is_none_or(own),
                    CatalogPlan::Rest(rest) => match rest.auth {
                        RestAuth::SigV4 { .. } => storage.is_some_and(own),
                        RestAuth::None | RestAuth::Bearer(_) | RestAuth::OAuth2 { .. } => true,
                    },
                }
            }
        }
    }

    /// Makes the table what is wanted.
    pub(super) async fn sync(&self) -> Look {
        match self {
            Self::Iceberg(wanted) => {
                let declared = async {
                    let ops = Box::pin(tidewater_runtime::catalog::connect(&wanted.plan)).await;
                    let ops = ops.map_err(|error| of_catalog(&error))?;
                    let declared = Box::pin(declare(&*ops, wanted, PACE, now_ms)).await;
                    declared.map_err(|error| of_failure(&error))
                };
                match declared.await {
                    Ok(declared) => of_declared(&self.name(), declared),
                    Err(finding) => Look::of(finding),
                }
            }
            Self::Hive(wanted) => Look::of(match Box::pin(hive::ensure(wanted)).await {
                Ok(TableState::Synced) => SYNCED.found(),
                Ok(TableState::Awaited) => AWAITING_RECORDS.found(),
                Ok(state @ TableState::Differs(_)) => {
                    let why = state.trouble().map(|(_, why)| why).unwrap_or_default();
                    DIFFERS.because(format!("table {}: {why}", self.name()))
                }
                Err(error) => of_class(error.class().reason, OneLine(&error).to_string()),
            }),
        }
    }

    /// What [`Self::sync`] would change.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn preview(&self) -> Result<Preview, String> {
        let told = |error: &dyn std::error::Error| OneLine(error).to_string();
        let wanted = match self {
            Self::Iceberg(wanted) => wanted,
            Self::Hive(wanted) => {
                let asked = tokio::time::timeout(LONGEST, Box::pin(hive::preview(wanted))).await;
                let preview = asked.map_err(|_| took_too_long())?;
                let preview = preview.map_err(|error| told(&error))?;
                return Ok(Preview {
                    exists: preview.exists,
                    steps: preview.steps,
                    refused: preview
                        .differences
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                });
            }
        };
        let asked = async {
            let ops = Box::pin(tidewater_runtime::catalog::connect(&wanted.plan)).await;
            let ops = ops.map_err(|error| told(&error))?;
            let changes = Box::pin(preview_table(&*ops, wanted, now_ms)).await;
            changes.map_err(|error| told(&error))
        };
        let changes = tokio::time::timeout(LONGEST, asked)
            .await
            .map_err(|_| took_too_long())??;
        Ok(match changes {
            Some(changes) => Preview {
                exists: true,
                steps: changes.steps.iter().map(ToString::to_string).collect(),
                refused: changes.refused,
            },
            None if wanted.columns.is_some() && !wanted.plan.create_if_missing => Preview {
                refused: vec![TABLE_MISSING.message.to_owned()],
                ..Preview::default()
            },
            None => Preview::default(),
        })
    }

    /// Drops the table if it was made for this resource.
    pub(super) async fn delete(&self) -> Result<Dropped, String> {
        let told = |error: &dyn std::error::Error| OneLine(error).to_string();
        let wanted = match self {
            Self::Iceberg(wanted) => wanted,
            Self::Hive(wanted) => {
                let deleted = Box::pin(hive::delete_owned(wanted)).await;
                return match deleted.map_err(|error| told(&error))? {
                    Deleted::Gone => Ok(Dropped::Dropped),
                    Deleted::Kept(why) => Ok(Dropped::Kept(why)),
                };
            }
        };
        let ops = Box::pin(tidewater_runtime::catalog::connect(&wanted.plan)).await;
        let ops = ops.map_err(|error| told(&error))?;
        let dropped = Box::pin(drop_made(&*ops, &wanted.sink, PACE)).await;
        dropped.map_err(|error| told(&error))
    }
}

fn now_ms() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_millisecond()
}

pub(super) fn took_too_long() -> String {
    format!("no answer within {} s", LONGEST.as_secs())
}

/// What a look came to.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) finding: Finding,
    pub(super) table: Option<TableStatus>,
    /// The table made by this look.
    pub(super) created: Option<String>,
    /// Changed by this look.
    pub(super) steps: Vec<String>,
}

impl Look {
    pub(super) fn of(finding: Finding) -> Self {
        Self {
            finding,
            table: None,
            created: None,
            steps: Vec::new(),
        }
    }
}

fn of_declared(name: &str, declared: Declared) -> Look {
    let status = |table: &tidewater_runtime::catalog::Base| TableStatus {
        uuid: Some(table.metadata.uuid().to_string()),
        location: Some(table.metadata.location().to_owned()),
        format_version: Some(i64::from(table.metadata.format_version() as u8)),
    };
    match declared {
        Declared::Synced {
            table,
            created,
            steps,
        } => Look {
            finding: SYNCED.found(),
            table: Some(status(&table)),
            created: created.then(|| name.to_owned()),
            steps: steps.iter().map(ToString::to_string).collect(),
        },
        Declared::Refused { table, changes } => Look {
            finding: DIFFERS.because(format!("table {name}: {}", changes.plan())),
            table: Some(status(&table)),
            ..Look::of(DIFFERS.found())
        },
        Declared::Awaiting => Look::of(AWAITING_RECORDS.found()),
    }
}

pub(super) fn of_failure(failure: &IcebergFailure) -> Finding {
    let why = OneLine(failure).to_string();
    match failure {
        IcebergFailure::TableMissing { .. } => {
            TABLE_MISSING.because(format!("{why}: {}", TABLE_MISSING.message))
        }
        _ => of_class(failure.class().reason, why),
    }
}

fn of_catalog(error: &tidewater_runtime::catalog::CatalogError) -> Finding {
    of_class(error.class().reason, OneLine(error).to_string())
}

/// Of pods that keep the table themselves: behind them there is nobody.
pub(super) fn of_pods(reason: &str, why: &str) -> Finding {
    if reason == class::CATALOG_DENIED.reason {
        return TABLE_ACCESS_DENIED.because(format!("{why} ({})", TABLE_ACCESS_DENIED.message));
    }
    of_class(reason, why.to_owned())
}

pub(super) fn of_class(reason: &str, why: String) -> Finding {
    let is = |class: tidewater_runtime::errors::Class| class.reason == reason;
    if is(class::CATALOG_DENIED) {
        CATALOG_NOT_PERMITTED.because(why)
    } else if [
        class::TABLE_INCOMPATIBLE,
        class::TABLE_NOT_OURS,
        class::TABLE_DIFFERS,
        class::CATALOG_DATABASE_MISSING,
        class::INVALID_SPEC,
    ]
    .into_iter()
    .any(is)
    {
        DIFFERS.because(why)
    } else if is(class::CATALOG_REFUSED) {
        CATALOG_REFUSED.because(why)
    } else {
        CATALOG_UNREACHABLE.because(why)
    }
}
