//! Manifests, written and read here. What others would stumble over is ours to decide: names of partition fields that
//! Avro does not allow are written as the reference implementation writes them, each named type is defined once, a uuid
//! is a `fixed(16)`. Fields are read by id, never by name. Pure: bytes in, bytes out.

use iceberg::spec::{
    DataContentType, FieldSummary, FormatVersion, ManifestContentType, ManifestFile, PartitionSpec,
    PrimitiveLiteral, PrimitiveType, Schema, StructType,
};

mod avro;
mod entry;
mod form;
mod names;
mod value;

pub(crate) use entry::{Entry, Status};

use avro::{Container, ContainerWriter};

/// The list gives the real one to what says so.
const UNASSIGNED: i64 = -1;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("partition field \"{field}\" is of type {ty}, and the value of \"{file}\" is not")]
    Value {
        field: String,
        ty: String,
        file: String,
    },
    #[error("partition field \"{field}\" is of type {ty}, by which nothing is partitioned")]
    PartitionType { field: String, ty: String },
    #[error("\"{file}\" has {found} partition values, and the spec {wanted} fields")]
    Tuple {
        file: String,
        found: usize,
        wanted: usize,
    },
    #[error("\"{file}\" is no data file")]
    NotData { file: String },
    #[error("entry of \"{file}\" lacks {what}")]
    Incomplete { file: String, what: &'static str },
    #[error("no manifest: {0}")]
    Malformed(&'static str),
    #[error("a manifest of another kind: {0}")]
    Foreign(String),
    #[error("the table's schema or partition spec as text")]
    Text(#[source] serde_json::Error),
    #[error("partition type")]
    Spec(#[source] Box<iceberg::Error>),
    #[error("compress or decompress")]
    Codec(#[source] std::io::Error),
}

/// What all entries of a manifest share.
#[derive(Debug)]
pub(crate) struct Form<'a> {
    version: FormatVersion,
    schema: &'a Schema,
    spec: &'a PartitionSpec,
    partition: StructType,
}

impl<'a> Form<'a> {
    /// # Errors
    /// A spec whose source columns are not all in the schema.
    pub(crate) fn new(
        version: FormatVersion,
        schema: &'a Schema,
        spec: &'a PartitionSpec,
    ) -> Result<Self, ManifestError> {
        let partition = spec.partition_type(schema);
        Ok(Self {
            version,
            schema,
            spec,
            partition: partition.map_err(|e| ManifestError::Spec(Box::new(e)))?,
        })
    }

    /// Each partition field's type.
    fn fields(&self) -> Result<Vec<(i32, &str, &PrimitiveType)>, ManifestError> {
        let fields = self.partition.fields().iter().map(|field| {
            let ty = field.field_type.as_primitive_type();
            ty.map(|ty| (field.id, field.name.as_str(), ty))
                .ok_or_else(|| ManifestError::PartitionType {
                    field: field.name.clone(),
                    ty: field.field_type.to_string(),
                })
        });
        fields.collect()
    }
}

/// A manifest of data files, entry by entry.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    form: &'a Form<'a>,
    fields: Vec<(i32, &'a str, &'a PrimitiveType)>,
    container: ContainerWriter,
    counts: [(u32, u64); 3],
    least_sequence: Option<i64>,
    /// The least row id, as long as every entry has one.
    first_row_id: Option<Option<i64>>,
    partitions: Vec<Summary>,
}

impl<'a> Writer<'a> {
    /// # Errors
    /// A partition field that no manifest can hold.
    pub(crate) fn new(form: &'a Form<'a>) -> Result<Self, ManifestError> {
        let fields = form.fields()?;
        let avro = form::schema(form.version, &fields)?;
        let text = |value: serde_json::Result<Vec<u8>>| value.map_err(ManifestError::Text);
        let mut metadata = vec![
            ("schema", text(serde_json::to_vec(form.schema))?),
            ("schema-id", form.schema.schema_id().to_string().into()),
            (
                "partition-spec",
                text(serde_json::to_vec(form.spec.fields()))?,
            ),
            ("partition-spec-id", form.spec.spec_id().to_string().into()),
            ("format-version", (form.version as u8).to_string().into()),
        ];
        if form.version != FormatVersion::V1 {
            metadata.push(("content", b"data".to_vec()));
        }
        let avro = text(serde_json::to_vec(&avro))?;
        Ok(Self {
            form,
            partitions: vec![Summary::default(); fields.len()],
            fields,
            container: ContainerWriter::new(&avro, &metadata),
            counts: [(0, 0); 3],
            least_sequence: None,
            first_row_id: None,
        })
    }

    /// # Errors
    /// An entry that the manifest cannot hold: nothing of it is written.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<(), ManifestError> {
        entry.check(&self.fields)?;
        let version = self.form.version;
        self.container
            .item(|out| entry.encode(version, &self.fields, out))?;
        let (files, rows) = &mut self.counts[entry.status as usize];
        *files += 1;
        *rows += u64::try_from(entry.record_count).unwrap_or_default();
        if let Some(sequence) = entry.sequence_number
            && entry.status != Status::Deleted
        {
            let least = self.least_sequence.get_or_insert(sequence);
            *least = (*least).min(sequence);
        }
        self.first_row_id = Some(match self.first_row_id {
            None => entry.first_row_id,
            Some(before) => before.zip(entry.first_row_id).map(|(a, b)| a.min(b)),
        });
        for (summary, value) in self.partitions.iter_mut().zip(&entry.partition) {
            summary.add(value.as_ref());
        }
        Ok(())
    }

    /// An entry of a file that may have been begun before the table's columns were as they are.
    pub(crate) fn widened(&self, entry: Entry) -> Entry {
        entry.widened(&self.fields)
    }

    /// # Errors
    /// As [`Writer::add`].
    pub(crate) fn check(&self, entry: &Entry) -> Result<(), ManifestError> {
        entry.check(&self.fields)
    }

    /// The file's content, and its entry in the manifest list. An entry without a sequence number gets it from the
    /// list, as does a manifest of which not every file has its first row id.
    ///
    /// # Errors
    /// What the compression says.
    pub(crate) fn finish(
        self,
        path: String,
        snapshot_id: i64,
    ) -> Result<(Vec<u8>, ManifestFile), ManifestError> {
        let mut partitions = Vec::with_capacity(self.fields.len());
        // Without any summary readers open the manifest; with one that lacks its bounds they take all values for null.
        let sound = self.partitions.iter().all(Summary::is_sound);
        for (summary, (_, _, ty)) in self.partitions.into_iter().zip(&self.fields) {
            partitions.push(summary.finish(ty));
        }
        let bytes = self.container.finish()?;
        let [existing, added, deleted] = self.counts;
        // What is added takes the commit's own number, which is the highest.
        let least = self.least_sequence.unwrap_or(UNASSIGNED);
        let row_ids = (self.form.version >= FormatVersion::V3)
            .then_some(self.first_row_id.flatten())
            .flatten();
        let manifest = ManifestFile {
            manifest_path: path,
            manifest_length: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            partition_spec_id: self.form.spec.spec_id(),
            content: ManifestContentType::Data,
            sequence_number: UNASSIGNED,
            min_sequence_number: least,
            added_snapshot_id: snapshot_id,
            added_files_count: Some(added.0),
            existing_files_count: Some(existing.0),
            deleted_files_count: Some(deleted.0),
            added_rows_count: Some(added.1),
            existing_rows_count: Some(existing.1),
            deleted_rows_count: Some(deleted.1),
            partitions: sound.then_some(partitions),
            key_metadata: None,
            first_row_id: row_ids.and_then(|id| u64::try_from(id).ok()),
        };
        Ok((bytes, manifest))
    }
}

/// The values of one partition field over all entries.
#[derive(Clone, Debug, Default)]
struct Summary {
    null: bool,
    nan: bool,
    bounds: Option<(PrimitiveLiteral, PrimitiveLiteral)>,
}

impl Summary {
    fn add(&mut self, value: Option<&PrimitiveLiteral>) {
        let Some(value) = value else {
            self.null = true;
            return;
        };
        if value.is_nan() {
            self.nan = true;
            return;
        }
        match &mut self.bounds {
            None => self.bounds = Some((value.clone(), value.clone())),
            Some((low, high)) => {
                if *value < *low {
                    low.clone_from(value);
                }
                if *value > *high {
                    high.clone_from(value);
                }
            }
        }
    }

    /// Whether every reader orders the values between the bounds.
    fn is_sound(&self) -> bool {
        match self.bounds {
            Some((PrimitiveLiteral::UInt128(low), PrimitiveLiteral::UInt128(high))) => {
                value::uuid_bounds_hold(low, high)
            }
            _ => true,
        }
    }

    fn finish(self, ty: &PrimitiveType) -> FieldSummary {
        let floating = matches!(ty, PrimitiveType::Float | PrimitiveType::Double);
        let (low, high) = self.bounds.unzip();
        let bytes = |value: PrimitiveLiteral| value::single(&value).into();
        FieldSummary {
            contains_null: self.null,
            contains_nan: floating.then_some(self.nan),
            lower_bound: low.map(bytes),
            upper_bound: high.map(bytes),
        }
    }
}

/// A manifest as it lies in the store.
#[derive(Debug)]
pub(crate) struct Manifest<'a> {
    container: Container<'a>,
}

impl<'a> Manifest<'a> {
    /// # Errors
    /// Bytes that are no Avro file, or one of a codec that is not known here.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, ManifestError> {
        Ok(Self {
            container: Container::open(bytes)?,
        })
    }

    /// Whether an entry has nothing that would be lost by writing it again.
    pub(crate) fn is_known_whole(&self, form: &Form<'_>) -> bool {
        let fields: Vec<i32> = form.partition.fields().iter().map(|f| f.id).collect();
        form::knows_all(self.container.schema(), &fields)
    }

    /// Every entry in its order. `form`: what the partition values are read as; without it they are left out.
    ///
    /// # Errors
    /// Of `each`; bytes that are no entries, a value that its type does not take.
    pub(crate) fn entries<E: From<ManifestError>>(
        self,
        form: Option<&Form<'_>>,
        mut each: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let fields = form.map_or_else(|| Ok(Vec::new()), Form::fields)?;
        self.container
            .each(|value| each(Entry::decode(value, &fields)?))
    }
}

impl Entry {
    /// What the entry takes from the list where it says nothing itself. `next_row_id` counts on through the manifest.
    pub(crate) fn inherit(&mut self, list: &ManifestFile, next_row_id: &mut Option<i64>) {
        self.snapshot_id.get_or_insert(list.added_snapshot_id);
        if self.status == Status::Added || list.sequence_number == 0 {
            self.sequence_number.get_or_insert(list.sequence_number);
            self.file_sequence_number
                .get_or_insert(list.sequence_number);
        }
        if self.first_row_id.is_none()
            && self.status != Status::Deleted
            && let Some(next) = next_row_id
        {
            self.first_row_id = Some(*next);
            *next = next.saturating_add(self.record_count);
        }
    }

    pub(crate) fn is_data(&self) -> bool {
        self.content == DataContentType::Data as i32
    }
}

#[cfg(test)]
mod tests;
