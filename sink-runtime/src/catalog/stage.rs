//! Turns a wished change into manifests, a manifest list and the next table metadata, all unpublished. Writes files
//! under the table's metadata directory; touches no catalog.
//!
//! Every stage makes a snapshot on `main`, without files too: a change of the ledger always shows as a new snapshot,
//! so that requiring `main`'s snapshot guards the ledger in the table's properties as well.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use iceberg::TableRequirement;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, ManifestFile, ManifestListWriter, Operation,
    PartitionSpecRef, Schema, SchemaRef, Snapshot, Struct, Summary, TableMetadata,
    TableMetadataBuildResult,
};
use uuid::Uuid;

use super::manifest::{Entry, Form, ManifestError, Writer};
use super::merge::{LeftAlone, Merge};
use super::metadata_file::{directory, io_error, metadata_error};
use super::{Base, CatalogError, snapshot};

/// What a commit changes.
#[derive(Clone, Debug)]
pub struct Change {
    /// Fresh for every attempt.
    pub snapshot_id: i64,
    /// Names the staged files.
    pub commit_uuid: Uuid,
    pub now_ms: i64,
    pub files: Vec<DataFile>,
    /// The partition spec `files` were written with.
    pub spec_id: i32,
    /// The new current schema, where it changes.
    pub schema: Option<Schema>,
    pub set_properties: BTreeMap<String, String>,
    pub remove_properties: Vec<String>,
    /// Computed keys (`added-*`, `total-*`) win over these.
    pub summary: BTreeMap<String, String>,
    /// Small manifests become one, but for these. `None`: all stay as they are.
    pub merge: Option<Arc<LeftAlone>>,
}

/// A change on a base, ready to be published.
#[derive(Debug)]
pub struct Staged {
    pub snapshot_id: i64,
    pub built: TableMetadataBuildResult,
    /// What must still hold when it is published.
    pub requirements: Vec<TableRequirement>,
    /// Files that were written; garbage if this is never published.
    pub paths: Vec<String>,
    /// How many the snapshot has.
    pub manifests: usize,
}

/// A random id that no snapshot of the table has.
pub fn fresh_snapshot_id(metadata: &TableMetadata) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let id = i64::try_from((high ^ low) >> 1).unwrap_or(i64::MAX);
        if id > 0 && metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

/// # Errors
/// What could not be read, written or built; nothing that was written stays then.
pub async fn stage(io: &FileIO, base: &Base, change: Change) -> Result<Staged, CatalogError> {
    let mut paths = Vec::new();
    let snapshot_id = change.snapshot_id;
    let staged = stage_into(io, base, change, &mut paths).await;
    match staged {
        Ok((built, requirements, manifests)) => Ok(Staged {
            snapshot_id,
            built,
            requirements,
            paths,
            manifests,
        }),
        Err(error) => {
            discard(io, &paths).await;
            Err(error)
        }
    }
}

/// Deletes staged files. Only for those that are certainly not referenced.
pub async fn discard(io: &FileIO, paths: &[String]) {
    for path in paths {
        if let Err(error) = io.delete(path).await {
            tracing::warn!(%path, %error, "could not delete staged metadata");
        }
    }
}

async fn stage_into(
    io: &FileIO,
    base: &Base,
    change: Change,
    paths: &mut Vec<String>,
) -> Result<(TableMetadataBuildResult, Vec<TableRequirement>, usize), CatalogError> {
    let table = &base.metadata;
    let mut requirements = vec![
        TableRequirement::UuidMatch { uuid: table.uuid() },
        TableRequirement::RefSnapshotIdMatch {
            r#ref: MAIN_BRANCH.to_owned(),
            snapshot_id: table.current_snapshot_id(),
        },
        TableRequirement::CurrentSchemaIdMatch {
            current_schema_id: table.current_schema_id(),
        },
    ];
    let building = |e: iceberg::Error| metadata_error("build metadata", e);
    let mut builder = TableMetadata::clone(table).into_builder(base.metadata_location.clone());
    let schema = match change.schema {
        None => table.current_schema().clone(),
        Some(schema) => {
            // Names of new columns are none of partition fields, which nothing above speaks of.
            requirements.extend([
                TableRequirement::LastAssignedFieldIdMatch {
                    last_assigned_field_id: table.last_column_id(),
                },
                TableRequirement::DefaultSpecIdMatch {
                    default_spec_id: table.default_partition_spec_id(),
                },
                TableRequirement::LastAssignedPartitionIdMatch {
                    last_assigned_partition_id: table.last_partition_id(),
                },
            ]);
            let id = schema_id(table, &schema);
            let schema = schema.into_builder().with_schema_id(id).build();
            let schema = schema.map_err(building)?;
            builder = builder
                .add_current_schema(schema.clone())
                .map_err(building)?;
            schema.into()
        }
    };

    let spec = table.partition_spec_by_id(change.spec_id).ok_or_else(|| {
        metadata_error(
            "find partition spec of the files",
            format!("the table has no partition spec {}", change.spec_id),
        )
    })?;
    let summary = summary(table, &change.files, change.summary);
    let schema_id = schema.schema_id();
    let (snapshot, manifests) = Stage {
        io,
        table,
        snapshot_id: change.snapshot_id,
        commit_uuid: change.commit_uuid,
        schema,
        spec: spec.clone(),
        merge: change.merge,
    }
    .write(change.files, summary, change.now_ms, paths)
    .await?;

    crate::failpoint::pass("iceberg.after-manifests");
    builder = builder
        .set_branch_snapshot(snapshot, MAIN_BRANCH)
        .map_err(building)?;
    if !change.set_properties.is_empty() {
        builder = builder
            .set_properties(change.set_properties.into_iter().collect())
            .map_err(building)?;
    }
    if !change.remove_properties.is_empty() {
        builder = builder
            .remove_properties(&change.remove_properties)
            .map_err(building)?;
    }
    let built = builder.build().map_err(building)?;
    if built.metadata.current_schema_id() != schema_id {
        return Err(metadata_error(
            "build metadata",
            format!("the schema has another id than {schema_id}"),
        ));
    }
    Ok((built, requirements, manifests))
}

/// The id that the builder will give a schema. It cannot be asked before there is a snapshot: what it builds then
/// bears the time of now, and is refused where the last writer's clock was ahead of ours.
fn schema_id(table: &TableMetadata, new: &Schema) -> i32 {
    let same = |schema: &&SchemaRef| {
        schema.as_struct() == new.as_struct()
            && schema.identifier_field_ids().eq(new.identifier_field_ids())
    };
    let known = table.schemas_iter().find(same).map(|s| s.schema_id());
    let highest = table.schemas_iter().map(|s| s.schema_id()).max();
    known.unwrap_or_else(|| highest.unwrap_or(table.current_schema_id()) + 1)
}

struct Stage<'a> {
    io: &'a FileIO,
    table: &'a TableMetadata,
    snapshot_id: i64,
    commit_uuid: Uuid,
    schema: SchemaRef,
    spec: PartitionSpecRef,
    merge: Option<Arc<LeftAlone>>,
}

impl Stage<'_> {
    async fn write(
        self,
        files: Vec<DataFile>,
        summary: Summary,
        now_ms: i64,
        paths: &mut Vec<String>,
    ) -> Result<(Snapshot, usize), CatalogError> {
        let mut manifests = Vec::new();
        if !files.is_empty() {
            manifests.push(self.write_manifest(&files, paths).await?);
        }
        let mut carried = self.carried_manifests().await?;
        if let Some(left_alone) = &self.merge {
            let merge = Merge {
                io: self.io,
                version: self.table.format_version(),
                schema: &self.schema,
                properties: self.table.properties(),
                left_alone,
                snapshot_id: self.snapshot_id,
                path: format!("{}/{}-m1.avro", directory(self.table), self.commit_uuid),
            };
            let spec = |id| self.table.partition_spec_by_id(id).cloned();
            let added = !manifests.is_empty();
            carried = Box::pin(merge.apply(carried, added, spec, paths)).await;
        }
        manifests.extend(carried);
        let count = manifests.len();

        let operation = "write manifest list";
        let path = format!(
            "{}/snap-{}-0-{}.avro",
            directory(self.table),
            self.snapshot_id,
            self.commit_uuid
        );
        paths.push(path.clone());
        let output = self
            .io
            .new_output(&path)
            .map_err(|e| metadata_error(operation, e))?;
        let file = output.writer().await.map_err(|e| io_error(operation, e))?;
        let parent = self.table.current_snapshot_id();
        let sequence = self.table.next_sequence_number();
        let first_row_id = self.table.next_row_id();
        let mut list = match self.table.format_version() {
            FormatVersion::V1 => ManifestListWriter::v1(file, self.snapshot_id, parent),
            FormatVersion::V2 => ManifestListWriter::v2(file, self.snapshot_id, parent, sequence),
            FormatVersion::V3 => {
                ManifestListWriter::v3(file, self.snapshot_id, parent, sequence, Some(first_row_id))
            }
        };
        list.add_manifests(manifests.into_iter())
            .map_err(|e| metadata_error(operation, e))?;
        let next_row_id = list.next_row_id();
        list.close().await.map_err(|e| io_error(operation, e))?;

        // Metadata refuses to step back in time; the clocks of writers differ.
        let timestamp = now_ms.max(self.table.last_updated_ms());
        let snapshot = Snapshot::builder()
            .with_snapshot_id(self.snapshot_id)
            .with_parent_snapshot_id(parent)
            .with_sequence_number(sequence)
            .with_timestamp_ms(timestamp)
            .with_manifest_list(path)
            .with_summary(summary)
            .with_schema_id(self.schema.schema_id());
        let snapshot = match next_row_id {
            Some(next) => snapshot
                .with_row_range(first_row_id, next - first_row_id)
                .build(),
            None => snapshot.build(),
        };
        Ok((snapshot, count))
    }

    async fn carried_manifests(&self) -> Result<Vec<ManifestFile>, CatalogError> {
        let Some(current) = self.table.current_snapshot() else {
            return Ok(Vec::new());
        };
        let version = self.table.format_version();
        let mut manifests = snapshot::manifests(self.io, current, version).await?;
        // Nothing alive in it and not of the parent: it has told its deletions.
        manifests.retain(|m| {
            m.has_added_files()
                || m.has_existing_files()
                || m.added_snapshot_id == current.snapshot_id()
        });
        Ok(manifests)
    }

    async fn write_manifest(
        &self,
        files: &[DataFile],
        paths: &mut Vec<String>,
    ) -> Result<ManifestFile, CatalogError> {
        let operation = "write manifest";
        let invalid = |e: ManifestError| metadata_error(operation, e);
        let version = self.table.format_version();
        let form = Form::new(version, &self.schema, &self.spec).map_err(invalid)?;
        let mut writer = Writer::new(&form).map_err(invalid)?;
        for file in files {
            let entry = Entry::added(file, self.snapshot_id).map_err(invalid)?;
            writer.add(&writer.widened(entry)).map_err(invalid)?;
        }
        let path = format!("{}/{}-m0.avro", directory(self.table), self.commit_uuid);
        let (bytes, manifest) = writer
            .finish(path.clone(), self.snapshot_id)
            .map_err(invalid)?;
        paths.push(path.clone());
        self.io
            .new_output(&path)
            .map_err(|e| metadata_error(operation, e))?
            .write(bytes.into())
            .await
            .map_err(|e| io_error(operation, e))?;
        Ok(manifest)
    }
}

fn summary(table: &TableMetadata, files: &[DataFile], own: BTreeMap<String, String>) -> Summary {
    let mut properties: HashMap<String, String> = own.into_iter().collect();
    let sum = |of: fn(&DataFile) -> u64| files.iter().map(of).fold(0, u64::saturating_add);
    let partitions: HashSet<&Struct> = files.iter().map(DataFile::partition).collect();
    for (key, count) in [
        ("added-data-files", files.len() as u64),
        ("added-records", sum(DataFile::record_count)),
        ("added-files-size", sum(DataFile::file_size_in_bytes)),
        ("changed-partition-count", partitions.len() as u64),
    ] {
        if count > 0 {
            properties.insert(key.to_owned(), count.to_string());
        }
    }
    let previous = table
        .current_snapshot()
        .map(|s| &s.summary().additional_properties);
    for (total, added) in [
        ("total-data-files", "added-data-files"),
        ("total-delete-files", "added-delete-files"),
        ("total-records", "added-records"),
        ("total-files-size", "added-files-size"),
        ("total-position-deletes", "added-position-deletes"),
        ("total-equality-deletes", "added-equality-deletes"),
    ] {
        let before = match previous {
            None => Some(0),
            // Unknown before, unknown after: a wrong total is worse than none.
            Some(p) => p.get(total).and_then(|v| v.parse::<u64>().ok()),
        };
        let added = properties
            .get(added)
            .and_then(|v| v.parse::<u64>().ok())
            .unwrap_or(0);
        if let Some(before) = before {
            properties.insert(total.to_owned(), (before + added).to_string());
        }
    }
    Summary {
        operation: Operation::Append,
        additional_properties: properties,
    }
}
