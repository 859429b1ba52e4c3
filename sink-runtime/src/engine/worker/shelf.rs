//! Where a worker puts rows, as it sees it.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;

use crate::budget::Budget;
use crate::errors::{Class, Classified, class};
use crate::layout::{Rows, Unfit};
use crate::record::TopicPartition;
use crate::schema::precedent::Precedent;

#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("{0}")]
    Fatal(
        String,
        #[source] Box<dyn std::error::Error + Send + Sync>,
        Class,
    ),
    /// Columns that were found in records are not what the destination has: decoded for its columns, or without the one
    /// that it cannot have, they fit.
    #[error("{why}")]
    Unlike {
        precedent: Arc<Precedent>,
        /// The full name of the first that does not fit.
        column: String,
        why: Box<ShelfError>,
    },
    /// The destination cannot take rows yet, and nothing was taken: what it waits for may pass. With news of it, if any.
    #[error("the destination cannot take rows yet")]
    Later { told: Option<(Class, String)> },
}

impl ShelfError {
    pub fn new(error: impl Classified + Send + Sync + 'static) -> Self {
        let class = error.class();
        Self::Fatal(error.to_string(), Box::new(error), class)
    }

    pub fn class(&self) -> Class {
        match self {
            Self::Fatal(_, _, class) => *class,
            Self::Unlike { why, .. } => why.class(),
            Self::Later { told } => told.as_ref().map_or(class::INTERNAL, |(class, _)| *class),
        }
    }
}

/// Where decoded rows of a worker wait for their cut: a dataset's or a table's open files.
pub trait Shelf: Send {
    type File: Send + 'static;

    /// What the destination says of found columns, once it is there.
    fn precedent(&mut self) -> Option<Arc<Precedent>> {
        None
    }

    /// Makes ready for rows of this schema, before anything is done with them.
    fn prepare(&mut self, _schema: &SchemaRef) -> Result<(), ShelfError> {
        Ok(())
    }

    /// Takes the rows that have a place, and gives back which have none.
    fn write(&mut self, rows: Rows, now: Instant) -> Result<Vec<Unfit>, ShelfError>;

    /// Seals all that these lanes wrote since their last seal. (A table's shelf seals everything it has.)
    fn seal(&mut self, lanes: &[TopicPartition]) -> Result<Vec<Self::File>, ShelfError>;

    fn discard(&mut self, lanes: &[TopicPartition]);

    /// Lanes that a rotation rule wants committed.
    fn due(&mut self, now: Instant) -> Vec<TopicPartition>;

    /// Gives memory back while the budget is above its mark.
    fn shed(&mut self, budget: &Budget) -> Result<(), ShelfError>;

    fn open_files(&self) -> usize;
}
