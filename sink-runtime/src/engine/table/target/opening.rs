//! The table opened for the rows of workers: beside them, since a worker has more to do than to wait for a catalog, and
//! again until it can be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Target, TargetError, Targets};
use crate::engine::worker::ShelfError;
use crate::engine::{RETRY, ends};
use crate::errors::{Classified, OneLine, class};
use crate::schema::Schema;

/// How long a worker stands still for it: most catalogs answer in this time, and rows lose no turn.
const STANDSTILL: Duration = Duration::from_millis(100);

/// How the opening goes on.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// Of this moment.
    task: Option<JoinHandle<Result<Arc<Target>, TargetError>>>,
    /// In a row.
    failures: u32,
    /// When it may be tried again.
    pub(super) again: Option<Instant>,
}

impl Targets {
    /// The table for rows of these columns, made if it is missing. What may pass is waited for, and said with
    /// [`ShelfError::Later`]; what only a person can mend is said for good.
    pub(super) fn opened_for(self: &Arc<Self>, wanted: &Schema) -> Result<Arc<Target>, ShelfError> {
        // One opens it; the other workers wait here as long.
        let mut opening = self.opening.lock();
        if let Some(target) = self.current() {
            return Ok(target);
        }
        if opening.again.is_some_and(|again| Instant::now() < again) {
            return Err(ShelfError::Later { told: None });
        }
        let task = opening.task.get_or_insert_with(|| {
            let (targets, wanted) = (Arc::clone(self), wanted.clone());
            self.runtime
                .spawn(async move { Box::pin(targets.open_for(&wanted)).await })
        });
        let ended = async { tokio::time::timeout(STANDSTILL, task).await };
        let Ok(ended) = self.runtime.block_on(ended) else {
            return Err(ShelfError::Later { told: None });
        };
        opening.task = None;
        let opened = ended.map_err(|error| {
            let why = OneLine(&error).to_string();
            ShelfError::Fatal(why, "table".into(), class::INTERNAL)
        })?;
        let error = match opened {
            Ok(target) => {
                *opening = Opening::default();
                return Ok(target);
            }
            Err(error) => error,
        };
        opening.failures += 1;
        let (class, message) = (error.class(), OneLine(&error).to_string());
        if ends(class, opening.failures, self.max_failures) {
            return Err(ShelfError::Fatal(message, "table".into(), class));
        }
        let pause = RETRY.delay(opening.failures, rand::random());
        opening.again = Some(Instant::now() + pause);
        let told = Some((class, message));
        Err(ShelfError::Later { told })
    }
}
