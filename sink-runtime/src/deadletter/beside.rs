//! The store of a table's dead letters: the warehouse's, with the keys that reach it. Never the table's own directory,
//! which other engines clean of files that no metadata names. Opened for the first letter: where a warehouse is, and
//! with which keys, a catalog may tell only with the table.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::DeadLetterError;
use crate::catalog::TableOps;
use crate::plan::{CatalogPlan, IcebergPlan, S3Plan, StorePlan};
use crate::store::{self, Store};

#[derive(Debug)]
pub struct BesideTable {
    table: IcebergPlan,
    ops: Arc<dyn TableOps>,
    opened: OnceCell<Arc<dyn Store>>,
}

impl BesideTable {
    pub fn new(table: IcebergPlan, ops: Arc<dyn TableOps>) -> Self {
        Self {
            table,
            ops,
            opened: OnceCell::new(),
        }
    }

    pub(super) async fn store(&self, prefix: &str) -> Result<&Arc<dyn Store>, DeadLetterError> {
        self.opened
            .get_or_try_init(|| async {
                let failed = |source| DeadLetterError::Store {
                    prefix: prefix.to_owned(),
                    source,
                };
                match self.place().await? {
                    StorePlan::S3(plan) => self.ops.store(&plan).await.map_err(failed),
                    local @ StorePlan::Local { .. } => store::open(&local).await.map_err(failed),
                }
            })
            .await
    }

    async fn place(&self) -> Result<StorePlan, DeadLetterError> {
        let s3 = match (&self.table.storage, &self.table.catalog) {
            (_, CatalogPlan::Local { path }) => {
                return Ok(StorePlan::Local { path: path.clone() });
            }
            (Some(s3), _) if !s3.bucket.is_empty() => return Ok(StorePlan::S3(s3.clone())),
            (s3, _) => s3,
        };
        let base = self.ops.load().await.map_err(DeadLetterError::Table)?;
        let location = base.metadata.location();
        above(location, s3.as_ref()).ok_or_else(|| DeadLetterError::Place {
            location: location.to_owned(),
        })
    }
}

/// The folder that a location is in.
fn above(location: &str, s3: Option<&S3Plan>) -> Option<StorePlan> {
    let location = location.trim_end_matches('/');
    let Some(path) = ["s3://", "s3a://", "s3n://"]
        .iter()
        .find_map(|scheme| location.strip_prefix(scheme))
    else {
        let path = location.strip_prefix("file://").unwrap_or(location);
        let folder = std::path::Path::new(path).parent()?;
        return Some(StorePlan::Local {
            path: folder.to_owned(),
        });
    };
    let (bucket, key) = path.split_once('/')?;
    let prefix = key.rsplit_once('/').map_or("", |(above, _)| above);
    Some(StorePlan::S3(S3Plan {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        ..s3?.clone()
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]

    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::plan::{AwsCredentials, Checksum, Encryption, S3Access, Timeouts};

    #[test]
    fn letters_go_beside_a_table_and_never_into_it() {
        let s3 = S3Plan {
            bucket: String::new(),
            prefix: String::new(),
            access: S3Access {
                region: None,
                endpoint: None,
                path_style: false,
                credentials: AwsCredentials::DefaultChain,
                assume_role: None,
            },
            encryption: Encryption::BucketDefault,
            storage_class: None,
            tags: BTreeMap::new(),
            checksum: Checksum::None,
            part_size: 8 << 20,
            upload_concurrency: 1,
            conditional_writes: true,
            timeouts: Timeouts {
                connect: Duration::from_secs(1),
                attempt: Duration::from_secs(1),
                max_attempts: 1,
            },
        };
        for (location, wanted) in [
            ("s3://lake/wh/sales/orders", Some("s3://lake/wh/sales")),
            ("s3a://lake/orders/", Some("s3://lake/")),
            ("file:///w/sales/orders", Some("/w/sales")),
            ("/w/orders", Some("/w")),
            ("s3://lake", None),
        ] {
            let found = above(location, Some(&s3)).map(|place| match place {
                StorePlan::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.prefix),
                StorePlan::Local { path } => path.display().to_string(),
            });
            assert_eq!(found.as_deref(), wanted, "{location}");
        }
    }
}
