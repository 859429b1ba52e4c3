//! One open file: its encoder, its upload once bytes have left, and where its rows came from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::{FileId, Opening, Outlet, Sealed, Span};
use crate::files::FileError;
use crate::files::conform::{Conformer, Misfit};
use crate::files::fingerprint::fingerprint;
use crate::files::writer::{FileWriter, Format, KeyValues};
use crate::layout::Slice;
use crate::record::TopicPartition;

/// Memory of an open file beside its rows and bytes: the entry, its spans, its writer.
const OVERHEAD: usize = 1024;

pub(super) struct OpenFile<U> {
    pub(super) opened: Duration,
    /// As last counted, so that the table's sums need no walk over all files.
    pub(super) memory: usize,
    /// About what of it [`OpenFile::relieve`] would give back.
    pub(super) relievable: usize,
    pub(super) size: u64,
    writer: Box<dyn FileWriter>,
    schema: SchemaRef,
    /// The schema of the last batch that was not the file's own, and what makes it so.
    conformer: Option<(SchemaRef, Conformer)>,
    shipment: Shipment<U>,
}

/// What is left of a file when its writer is done.
struct Shipment<U> {
    id: FileId,
    upload: Option<U>,
    spans: BTreeMap<TopicPartition, Span>,
}

/// Whether the columns are those of an Iceberg table. Their ids, not their names, say what they are: such rows go only
/// into files of the very same schema.
pub(super) fn carries_ids(schema: &Schema) -> bool {
    schema
        .fields()
        .iter()
        .any(|f| f.metadata().contains_key(PARQUET_FIELD_ID_META_KEY))
}

impl<U> OpenFile<U> {
    pub(super) fn new(id: FileId, format: &Format, schema: SchemaRef, now: Duration) -> Self {
        Self {
            opened: now,
            memory: 0,
            relievable: 0,
            size: 0,
            writer: format.open(&schema),
            schema,
            conformer: None,
            shipment: Shipment {
                id,
                upload: None,
                spans: BTreeMap::new(),
            },
        }
    }

    pub(super) fn id(&self) -> FileId {
        self.shipment.id
    }

    pub(super) fn rows(&self) -> u64 {
        self.writer.rows()
    }

    pub(super) fn upload(&self) -> Option<&U> {
        self.shipment.upload.as_ref()
    }

    pub(super) fn into_upload(self) -> Option<U> {
        self.shipment.upload
    }

    /// The batch with the file's schema.
    pub(super) fn conform(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Misfit> {
        let from = batch.schema_ref();
        if Arc::ptr_eq(from, &self.schema) || from == &self.schema {
            return Ok(batch.clone());
        }
        if carries_ids(from) || carries_ids(&self.schema) {
            return Err(Misfit::OtherTable);
        }
        let known = self
            .conformer
            .as_ref()
            .is_some_and(|(schema, _)| Arc::ptr_eq(schema, from) || schema == from);
        if !known {
            self.conformer = Some((from.clone(), Conformer::new(from, &self.schema)?));
        }
        match &self.conformer {
            Some((_, conformer)) => conformer.apply(batch),
            None => Ok(batch.clone()),
        }
    }

    /// `batch` is the slice's, conformed.
    pub(super) fn write<G, K, O: Outlet<G, K, Upload = U>>(
        &mut self,
        group: &G,
        tp: &TopicPartition,
        slice: &Slice<K>,
        batch: &RecordBatch,
        outlet: &mut O,
    ) -> Result<(), FileError> {
        self.writer.write(batch)?;
        self.shipment.extend(tp, slice, batch.num_rows() as u64);
        let parts = self.writer.drain();
        self.shipment.ship(group, &slice.key, parts, outlet);
        self.measure();
        Ok(())
    }

    /// Gives memory back without ending the file.
    pub(super) fn relieve<G, K, O: Outlet<G, K, Upload = U>>(
        &mut self,
        group: &G,
        key: &Arc<K>,
        outlet: &mut O,
    ) -> Result<(), FileError> {
        self.writer.relieve()?;
        let parts = self.writer.drain();
        self.shipment.ship(group, key, parts, outlet);
        self.measure();
        Ok(())
    }

    fn measure(&mut self) {
        self.memory = self.writer.memory() + OVERHEAD;
        self.relievable = self.writer.relievable();
        self.size = self.writer.size();
    }

    /// `None` when the file never had a row.
    pub(super) fn finish<G, K, O: Outlet<G, K, Upload = U>>(
        self,
        group: &G,
        key: &Arc<K>,
        metadata: &KeyValues,
        outlet: &mut O,
    ) -> Result<Option<Sealed<K, U>>, FileError> {
        let mut shipment = self.shipment;
        let fingerprint = fingerprint(&self.schema);
        let finished = self
            .writer
            .finish(shipment.describe(metadata, &fingerprint))?;
        shipment.ship(group, key, finished.rest, outlet);
        Ok(shipment.upload.map(|upload| Sealed {
            id: shipment.id,
            key: key.clone(),
            upload,
            rows: finished.rows,
            size: finished.size,
            spans: shipment.spans,
            schema: self.schema,
            fingerprint,
            metrics: finished.metrics,
        }))
    }
}

impl<U> Shipment<U> {
    fn extend<K>(&mut self, tp: &TopicPartition, slice: &Slice<K>, rows: u64) {
        if let Some(span) = self.spans.get_mut(tp) {
            span.first = span.first.min(slice.first_offset);
            span.last = span.last.max(slice.last_offset);
            span.rows += rows;
            return;
        }
        let span = Span {
            first: slice.first_offset,
            last: slice.last_offset,
            rows,
        };
        self.spans.insert(tp.clone(), span);
    }

    fn ship<G, K, O: Outlet<G, K, Upload = U>>(
        &mut self,
        group: &G,
        key: &Arc<K>,
        parts: Vec<Bytes>,
        outlet: &mut O,
    ) {
        let Some((tp, span)) = self.spans.first_key_value() else {
            return;
        };
        for part in parts {
            let upload = self.upload.get_or_insert_with(|| {
                outlet.begin(&Opening {
                    id: self.id,
                    group,
                    key,
                    first: (tp, span.first),
                })
            });
            outlet.push(upload, part);
        }
    }

    /// What the file says of itself: where its rows come from and what they look like.
    fn describe(&self, fixed: &KeyValues, fingerprint: &str) -> KeyValues {
        let mut metadata = fixed.clone();
        let mut add = |key: &str, value: String| metadata.push((format!("tidewater.{key}"), value));
        add("schema-fingerprint", fingerprint.to_owned());
        if let (1, Some((tp, span))) = (self.spans.len(), self.spans.first_key_value()) {
            add("topic", tp.topic.to_string());
            add("partition", tp.partition.to_string());
            add("first-offset", span.first.to_string());
            add("last-offset", span.last.to_string());
        } else {
            let spans = self.spans.iter();
            let listed: Vec<String> = spans
                .map(|(tp, span)| format!("{tp}:{}-{}", span.first, span.last))
                .collect();
            add("offsets", listed.join(","));
        }
        metadata
    }
}
