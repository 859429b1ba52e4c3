//! The contract of an encoder of one file. Pull model: rows go in, encoded bytes are drained; nothing is sent from here.
//!
//! Writers are cheap while small: rows are kept as compact Arrow arrays, and the encoder (dictionaries, page buffers,
//! compression contexts: megabytes) comes to be only when enough rows wait for it, or at the end.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::FileError;
use super::json::JsonFile;
use super::metrics::Metrics;
use super::parquet::ParquetFile;
use super::sorted::SortedFile;
use crate::layout::iceberg::RowOrder;
use crate::plan::OutputFormat;

/// Key-value metadata of a file, in order.
pub type KeyValues = Vec<(String, String)>;

pub trait FileWriter: Send {
    /// Rows must have the schema that the file was opened with.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), FileError>;

    /// Bytes held in memory: buffered rows, encoder state, encoded bytes not drained.
    fn memory(&self) -> usize;

    /// Encoded size so far, buffered rows estimated.
    fn size(&self) -> u64;

    fn rows(&self) -> u64;

    /// Encoded bytes ready to leave, each part exactly the format's part size.
    fn drain(&mut self) -> Vec<Bytes>;

    /// About how much of [`Self::memory`] a call of [`Self::relieve`] would give back.
    fn relievable(&self) -> usize {
        0
    }

    /// Encodes what waits and gives back what the encoder holds beside encoded bytes, without ending the file.
    fn relieve(&mut self) -> Result<(), FileError> {
        Ok(())
    }

    /// Encodes what is left. `metadata` goes into the file where the format has a place for it.
    fn finish(self: Box<Self>, metadata: KeyValues) -> Result<Finished, FileError>;
}

/// A whole file.
#[derive(Debug)]
pub struct Finished {
    pub rows: u64,
    /// Bytes of the whole file.
    pub size: u64,
    /// What was not drained; the last part may be short.
    pub rest: Vec<Bytes>,
    /// For Parquet files whose columns carry field ids.
    pub metrics: Option<Metrics>,
}

/// How files are encoded, and how large their parts are.
#[derive(Clone, Debug)]
pub struct Format {
    output: OutputFormat,
    part_size: usize,
    order: Option<Arc<RowOrder>>,
}

impl Format {
    pub fn new(output: OutputFormat, part_size: usize) -> Self {
        Self {
            output,
            part_size,
            order: None,
        }
    }

    /// Parquet files opened from now on are sorted so, or not at all.
    pub fn sort_by(&mut self, order: Option<Arc<RowOrder>>) {
        self.order = order;
    }

    /// A writer without rows: allocates next to nothing.
    pub fn open(&self, schema: &SchemaRef) -> Box<dyn FileWriter> {
        match &self.output {
            OutputFormat::Parquet(options) => {
                let file = ParquetFile::new(options.clone(), schema.clone(), self.part_size);
                match &self.order {
                    None => Box::new(file),
                    Some(order) => {
                        let order = Arc::clone(order);
                        Box::new(SortedFile::new(file, order, options.row_group_rows))
                    }
                }
            }
            OutputFormat::JsonLines { compression } => {
                Box::new(JsonFile::new(*compression, schema.clone(), self.part_size))
            }
        }
    }

    /// Ending of object names, with the dot.
    pub fn extension(&self) -> &'static str {
        use crate::plan::JsonCompression::{Gzip, None, Zstd};
        match &self.output {
            OutputFormat::Parquet(_) => ".parquet",
            OutputFormat::JsonLines { compression: None } => ".json",
            OutputFormat::JsonLines { compression: Gzip } => ".json.gz",
            OutputFormat::JsonLines {
                compression: Zstd { .. },
            } => ".json.zst",
        }
    }
}
