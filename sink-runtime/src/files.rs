//! Open files: rows in, encoded bytes out to staged uploads, sealed by the rotation rules and the memory budget.
//! Buffers and CPU only: no I/O, no clock.
//!
//! `open` is the worker's table of open files; `writer` the contract of an encoder, `parquet` and `json` its two
//! kinds; `conform` fits batches to the schema a file or table has; `metrics` is what Iceberg wants to know of a file.

use arrow::error::ArrowError;

use crate::errors::{Class, Classified, class};
use crate::store::BoxError;

mod buffer;
mod cardinality;
pub mod conform;
mod fingerprint;
mod json;
pub mod limits;
pub mod metrics;
mod nan;
pub mod open;
mod parquet;
mod places;
mod sink;
mod sorted;
pub mod writer;

pub use conform::{Conformer, Misfit};
pub use limits::Limits;
pub use metrics::Metrics;
pub use open::{Cut, FileId, OpenFiles, Opening, Outlet, Sealed, Span, Totals};
pub use places::Places;
pub use writer::{FileWriter, Finished, Format, KeyValues};

/// Rows that could not be put into a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("gather buffered rows")]
    Gather(#[source] ArrowError),
    #[error("open {format} encoder")]
    Open {
        format: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("encode rows as {format}")]
    Encode {
        format: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("finish {format} file")]
    Finish {
        format: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("fit rows to the open file's schema")]
    Misfit(#[from] Misfit),
    #[error("describe file for Iceberg")]
    Metrics(#[source] Box<iceberg::Error>),
}

impl Classified for FileError {
    fn class(&self) -> Class {
        match self {
            Self::Misfit(misfit) => misfit.class(),
            _ => class::INTERNAL,
        }
    }
}

#[cfg(test)]
pub(crate) mod samples;
