//! A table that rows need, and whose catalog is away.

use iceberg::TableRequirement;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult};

use super::*;
use crate::catalog::{Base, CatalogError, CommitError};

/// A table whose catalog answers, or does not.
#[derive(Debug)]
struct Distant {
    table: Arc<MemoryTable>,
    away: AtomicBool,
}

#[async_trait::async_trait]
impl TableOps for Distant {
    fn describe(&self) -> String {
        self.table.describe()
    }

    fn file_io(&self) -> iceberg::io::FileIO {
        self.table.file_io()
    }

    async fn store(
        &self,
        plan: &S3Plan,
    ) -> Result<Arc<dyn crate::store::Store>, crate::store::StoreError> {
        self.table.store(plan).await
    }

    async fn load(&self) -> Result<Base, CatalogError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(CatalogError::Unavailable {
                operation: "load",
                source: "nobody answers".into(),
            });
        }
        self.table.load().await
    }

    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        self.table.create(initial).await
    }

    async fn commit(
        &self,
        base: &Base,
        built: TableMetadataBuildResult,
        requirements: Vec<TableRequirement>,
    ) -> Result<(), CommitError> {
        self.table.commit(base, built, requirements).await
    }

    async fn drop_table(&self, base: &Base) -> Result<(), CatalogError> {
        self.table.drop_table(base).await
    }
}

#[tokio::test]
async fn a_catalog_that_is_away_when_rows_need_the_table_is_asked_again_without_end() {
    let folder = TempDir::new().unwrap();
    let distant = Arc::new(Distant {
        table: Arc::new(MemoryTable::new("orders")),
        away: AtomicBool::new(true),
    });
    let targets = targets(plan(&folder), distant.clone());
    let id = || vec![Field::optional("id", Type::Long)];
    let mut told = 0;
    while told < 20 {
        match for_rows(&targets, id()).await {
            Err(ShelfError::Later {
                told: Some((class, message)),
            }) => {
                assert_eq!(class, class::CATALOG_UNAVAILABLE);
                assert!(message.contains("nobody answers"), "{message}");
                told += 1;
                // Not before its time.
                let early = for_rows(&targets, id()).await.unwrap_err();
                assert!(
                    matches!(early, ShelfError::Later { told: None }),
                    "{early:?}"
                );
                targets.opening.lock().again = None;
            }
            // Under way.
            Err(ShelfError::Later { told: None }) => {}
            other => panic!("{other:?}"),
        }
    }
    distant.away.store(false, Ordering::Relaxed);
    let opened = for_rows(&targets, id()).await.unwrap();
    assert!(targets.is_current(&opened));
}

#[tokio::test]
async fn a_table_that_only_a_person_can_make_is_not_waited_for() {
    let folder = TempDir::new().unwrap();
    let absent = IcebergPlan {
        create_if_missing: false,
        ..plan(&folder)
    };
    let targets = targets(absent, Arc::new(MemoryTable::new("orders")));
    let refused = for_rows(&targets, vec![Field::optional("id", Type::Long)]).await;
    let missing =
        matches!(&refused, Err(ShelfError::Fatal(_, _, class)) if *class == class::TABLE_MISSING);
    assert!(missing, "{refused:?}");
}
