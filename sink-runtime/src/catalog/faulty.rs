//! A table whose commits go wrong by script: what a test needs to see every branch of the commit loop. Each commit
//! (or drop) takes the next step of the script; after the last one all is well. [`foreign`] is what other engines do meanwhile.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use iceberg::TableRequirement;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult};
use parking_lot::Mutex;

use super::{Base, CatalogError, CommitError, TableOps};
use crate::plan::S3Plan;
use crate::store::{Store, StoreError};

pub mod foreign;

/// What somebody else does with the table.
pub type Interlude = Box<dyn FnOnce(Arc<dyn TableOps>) -> BoxFuture<'static, ()> + Send>;

/// What one commit comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    #[default]
    Real,
    /// Somebody else won, says the catalog; nothing is applied.
    Conflict,
    /// The reply is lost; the commit happened if it could.
    LostReply,
    /// The request is lost, and so is the reply.
    LostRequest,
    /// Nothing is applied; try later.
    Unavailable,
    Refused,
}

#[derive(Default)]
pub struct Step {
    pub before: Option<Interlude>,
    pub outcome: Outcome,
    pub after: Option<Interlude>,
}

impl Step {
    pub fn outcome(outcome: Outcome) -> Self {
        Self {
            outcome,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn before<F>(mut self, act: impl FnOnce(Arc<dyn TableOps>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.before = Some(Box::new(move |table| Box::pin(act(table))));
        self
    }

    #[must_use]
    pub fn after<F>(mut self, act: impl FnOnce(Arc<dyn TableOps>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.after = Some(Box::new(move |table| Box::pin(act(table))));
        self
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.outcome)
    }
}

#[derive(Debug)]
pub struct FaultyTable {
    inner: Arc<dyn TableOps>,
    script: Mutex<VecDeque<Step>>,
}

impl FaultyTable {
    pub fn new(inner: Arc<dyn TableOps>, script: impl IntoIterator<Item = Step>) -> Self {
        Self {
            inner,
            script: Mutex::new(script.into_iter().collect()),
        }
    }

    /// Steps that no commit has taken yet.
    pub fn steps_left(&self) -> usize {
        self.script.lock().len()
    }
}

#[async_trait]
impl TableOps for FaultyTable {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn file_io(&self) -> FileIO {
        self.inner.file_io()
    }

    async fn store(&self, plan: &S3Plan) -> Result<Arc<dyn Store>, StoreError> {
        self.inner.store(plan).await
    }

    async fn load(&self) -> Result<Base, CatalogError> {
        self.inner.load().await
    }

    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        self.inner.create(initial).await
    }

    async fn commit(
        &self,
        base: &Base,
        built: TableMetadataBuildResult,
        requirements: Vec<TableRequirement>,
    ) -> Result<(), CommitError> {
        let step = self.script.lock().pop_front().unwrap_or_default();
        if let Some(act) = step.before {
            act(self.inner.clone()).await;
        }
        let answer = match step.outcome {
            Outcome::Real => self.inner.commit(base, built, requirements).await,
            Outcome::Conflict => Err(CommitError::Conflict),
            Outcome::LostReply => {
                let _ = self.inner.commit(base, built, requirements).await;
                Err(CommitError::Unknown("reply lost".into()))
            }
            Outcome::LostRequest => Err(CommitError::Unknown("request lost".into())),
            Outcome::Unavailable => Err(CommitError::Unavailable("come back later".into())),
            Outcome::Refused => Err(CommitError::Refused(CatalogError::Refused {
                operation: "commit",
                source: "not here".into(),
            })),
        };
        if let Some(act) = step.after {
            act(self.inner.clone()).await;
        }
        answer
    }

    async fn drop_table(&self, base: &Base) -> Result<(), CatalogError> {
        let unavailable = |source: &'static str| CatalogError::Unavailable {
            operation: "drop table",
            source: source.into(),
        };
        let step = self.script.lock().pop_front().unwrap_or_default();
        if let Some(act) = step.before {
            act(self.inner.clone()).await;
        }
        let answer = match step.outcome {
            Outcome::LostReply => {
                let _ = self.inner.drop_table(base).await;
                Err(unavailable("reply lost"))
            }
            Outcome::LostRequest | Outcome::Unavailable | Outcome::Conflict => {
                Err(unavailable("request lost"))
            }
            Outcome::Refused => Err(CatalogError::Refused {
                operation: "drop table",
                source: "not here".into(),
            }),
            Outcome::Real => self.inner.drop_table(base).await,
        };
        if let Some(act) = step.after {
            act(self.inner.clone()).await;
        }
        answer
    }
}
