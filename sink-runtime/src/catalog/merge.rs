//! Small manifests of a partition spec become one in the commit that adds another, so that readers open few files and
//! the list stays short, by the table's usual properties. An aid: what goes wrong here is said and left, and the commit
//! goes on without it.
//!
//! Bounded: one merge per commit, of at most [`MOST`] manifests and [`LARGEST`] bytes. Nothing is lost by it: a manifest
//! with a field that is not known here stays as it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use iceberg::io::FileIO;
use iceberg::spec::{
    FormatVersion, ManifestContentType, ManifestFile, PartitionSpecRef, SchemaRef,
};
use parking_lot::Mutex;

use super::manifest::{Entry, Form, Manifest, ManifestError, Status, Writer};
use super::metadata_file::{io_error, metadata_error};
use super::{CatalogError, snapshot};

/// What one merge reads at most, whatever the table says.
const LARGEST: u64 = 32 << 20;
const MOST: usize = 1000;
/// Manifests that are fetched at a time.
const ABREAST: usize = 8;

/// `commit.manifest-merge.enabled`, `commit.manifest.min-count-to-merge` and `commit.manifest.target-size-bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    enabled: bool,
    min_count: usize,
    target: u64,
}

impl Rules {
    /// What cannot be read is as if it were not there.
    fn of(properties: &HashMap<String, String>) -> Self {
        let number = |key: &str| properties.get(key).and_then(|v| v.parse::<u64>().ok());
        let enabled = properties.get("commit.manifest-merge.enabled");
        let min_count = number("commit.manifest.min-count-to-merge").unwrap_or(100);
        let target = number("commit.manifest.target-size-bytes").unwrap_or(8 << 20);
        Self {
            enabled: enabled.is_none_or(|v| !v.eq_ignore_ascii_case("false")),
            min_count: usize::try_from(min_count).unwrap_or(usize::MAX).max(2),
            target: target.min(LARGEST),
        }
    }
}

/// Commits that go without a merge at most after one that could not be written.
const LONGEST_REST: u32 = 64;

/// What is left alone, so that it is not tried in each commit again.
#[derive(Debug, Default)]
pub struct LeftAlone(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    manifests: BTreeSet<String>,
    /// Commits that go without a merge yet.
    rest: u32,
    /// And after the last failure had to.
    rested: u32,
}

impl Left {
    /// What of these is left alone. No more is remembered than the table has.
    fn of(&mut self, carried: &[ManifestFile]) -> &BTreeSet<String> {
        if !self.manifests.is_empty() {
            let paths: BTreeSet<&str> = carried.iter().map(|m| m.manifest_path.as_str()).collect();
            self.manifests.retain(|path| paths.contains(path.as_str()));
        }
        &self.manifests
    }

    /// Whether this commit goes without a merge.
    fn rests(&mut self) -> bool {
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        rests
    }

    fn failed(&mut self) {
        self.rested = (2 * self.rested).clamp(1, LONGEST_REST);
        self.rest = self.rested;
    }
}

/// Why manifests stay as they are.
enum NotMerged {
    /// These cannot be merged by this process.
    Of(BTreeSet<String>, CatalogError),
    /// The one that they would become could not be written: perhaps later.
    Unwritten(CatalogError),
}

/// What is merged into.
pub(super) struct Merge<'a> {
    pub(super) io: &'a FileIO,
    pub(super) version: FormatVersion,
    pub(super) schema: &'a SchemaRef,
    pub(super) properties: &'a HashMap<String, String>,
    pub(super) left_alone: &'a LeftAlone,
    /// Of the snapshot that the merged manifest is of.
    pub(super) snapshot_id: i64,
    /// Where it goes.
    pub(super) path: String,
}

impl Merge<'_> {
    /// `carried`: newest first. `added`: whether the commit brings one of its own. The path is in `paths` as soon as
    /// there may be a file.
    pub(super) async fn apply(
        self,
        carried: Vec<ManifestFile>,
        added: bool,
        spec: impl Fn(i32) -> Option<PartitionSpecRef>,
        paths: &mut Vec<String>,
    ) -> Vec<ManifestFile> {
        let rules = Rules::of(self.properties);
        let bin = {
            let mut left = self.left_alone.0.lock();
            if left.rests() {
                return carried;
            }
            bin(&carried, rules, usize::from(added), left.of(&carried))
        };
        let Some(first) = bin.first().copied() else {
            return carried;
        };
        let sources: Vec<ManifestFile> = bin.iter().map(|at| carried[*at].clone()).collect();
        let spec = spec(carried[first].partition_spec_id);
        let merged = self.merge(sources, spec, paths).await;
        match merged {
            Ok(Some((merged, used))) => {
                let mut manifests = Vec::with_capacity(carried.len());
                let mut merged = Some(merged);
                for manifest in carried {
                    if used.contains(&manifest.manifest_path) {
                        manifests.extend(merged.take());
                    } else {
                        manifests.push(manifest);
                    }
                }
                manifests
            }
            Ok(None) => carried,
            Err(not) => {
                let mut left = self.left_alone.0.lock();
                let error = match not {
                    NotMerged::Of(manifests, error) => {
                        left.manifests.extend(manifests);
                        error
                    }
                    NotMerged::Unwritten(error) => {
                        left.failed();
                        error
                    }
                };
                let error = crate::errors::OneLine(&error);
                tracing::warn!(%error, "manifests stay as they are: merging them failed");
                carried
            }
        }
    }

    async fn merge(
        &self,
        sources: Vec<ManifestFile>,
        spec: Option<PartitionSpecRef>,
        paths: &mut Vec<String>,
    ) -> Result<Option<(ManifestFile, BTreeSet<String>)>, NotMerged> {
        let operation = "merge manifests";
        let all: BTreeSet<String> = sources.iter().map(|m| m.manifest_path.clone()).collect();
        let none_of_them = |error| NotMerged::Of(all.clone(), error);
        let spec = spec.ok_or_else(|| {
            none_of_them(metadata_error(operation, "their partition spec is gone"))
        })?;
        // Nothing is read for a spec that no entry can be read by: its source columns may be dropped.
        Form::new(self.version, self.schema, &spec)
            .map_err(|e| none_of_them(metadata_error(operation, e)))?;
        let io = self.io;
        let fetched = futures::stream::iter(sources).map(|manifest: ManifestFile| async move {
            match snapshot::fetch_manifest(io, &manifest).await {
                Ok(bytes) => Ok((manifest, bytes)),
                Err(error) => Err(NotMerged::Of([manifest.manifest_path].into(), error)),
            }
        });
        let fetched: Vec<_> = fetched.buffered(ABREAST).try_collect().await?;
        let (schema, path) = (Arc::clone(self.schema), self.path.clone());
        let (version, snapshot_id) = (self.version, self.snapshot_id);
        let rewritten = tokio::task::spawn_blocking(move || {
            let form = Form::new(version, &schema, &spec)?;
            rewrite(&form, fetched, path, snapshot_id)
        });
        let rewritten = rewritten
            .await
            .map_err(|e| none_of_them(metadata_error(operation, e)))?;
        let rewritten = rewritten.map_err(|e| none_of_them(metadata_error(operation, e)))?;
        self.left_alone.0.lock().manifests.extend(rewritten.refused);
        let Some((bytes, manifest)) = rewritten.merged else {
            return Ok(None);
        };
        paths.push(self.path.clone());
        let written = match self.io.new_output(&self.path) {
            Ok(output) => output.write(bytes.into()).await,
            Err(error) => Err(error),
        };
        written.map_err(|e| NotMerged::Unwritten(io_error(operation, e)))?;
        self.left_alone.0.lock().rested = 0;
        Ok(Some((manifest, rewritten.used)))
    }
}

/// Which of the manifests, newest first, become one: their places. As the reference implementation packs them: per spec
/// and from the oldest on, so that what is full is not touched again; the bin with the newest waits until it has enough.
fn bin(
    manifests: &[ManifestFile],
    rules: Rules,
    added: usize,
    left_alone: &BTreeSet<String>,
) -> Vec<usize> {
    if !rules.enabled {
        return Vec::new();
    }
    let mut specs: BTreeMap<i32, Vec<Vec<usize>>> = BTreeMap::new();
    let mut weights: BTreeMap<i32, u64> = BTreeMap::new();
    for (at, manifest) in manifests.iter().enumerate().rev() {
        let plain = manifest.content == ManifestContentType::Data
            && manifest.key_metadata.is_none()
            && !left_alone.contains(&manifest.manifest_path);
        if !plain {
            continue;
        }
        let bins = specs.entry(manifest.partition_spec_id).or_default();
        let weight = weights.entry(manifest.partition_spec_id).or_default();
        let size = u64::try_from(manifest.manifest_length).unwrap_or_default();
        match bins.last_mut() {
            Some(last) if *weight + size <= rules.target && last.len() < MOST => {
                last.push(at);
                *weight += size;
            }
            _ => {
                bins.push(vec![at]);
                *weight = size;
            }
        }
    }
    let due = specs.into_values().flat_map(|bins| {
        let newest = bins.len() - 1;
        bins.into_iter().enumerate().filter(move |(at, bin)| {
            let enough = *at < newest || bin.len() + added >= rules.min_count;
            bin.len() > 1 && enough
        })
    });
    let most = due.map(|(_, bin)| bin).max_by_key(Vec::len);
    let mut bin = most.unwrap_or_default();
    bin.reverse();
    bin
}

struct Rewritten {
    merged: Option<(Vec<u8>, ManifestFile)>,
    used: BTreeSet<String>,
    refused: BTreeSet<String>,
}

/// Every live entry, as existing, with the snapshot, the sequence numbers and the first row id that it had.
fn rewrite(
    form: &Form<'_>,
    sources: Vec<(ManifestFile, Bytes)>,
    path: String,
    snapshot_id: i64,
) -> Result<Rewritten, ManifestError> {
    let mut writer = Writer::new(form)?;
    let (mut used, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for (source, bytes) in sources {
        // Once to see that all of it can be written, for what is written is not taken back.
        let looked = Manifest::open(&bytes).and_then(|manifest| {
            if !manifest.is_known_whole(form) {
                return Err(ManifestError::Foreign("unknown fields".to_owned()));
            }
            live(form, &source, &bytes, |entry| writer.check(&entry))
        });
        if let Err(error) = looked {
            tracing::info!(manifest = %source.manifest_path, %error, "a manifest stays as it is");
            refused.insert(source.manifest_path);
            continue;
        }
        live(form, &source, &bytes, |entry| writer.add(&entry))?;
        used.insert(source.manifest_path);
    }
    let merged = (used.len() > 1)
        .then(|| writer.finish(path, snapshot_id))
        .transpose()?;
    Ok(Rewritten {
        merged,
        used,
        refused,
    })
}

fn live(
    form: &Form<'_>,
    source: &ManifestFile,
    bytes: &[u8],
    mut each: impl FnMut(Entry) -> Result<(), ManifestError>,
) -> Result<(), ManifestError> {
    snapshot::each_entry(source, bytes, Some(form), |mut entry| {
        if entry.status == Status::Deleted {
            return Ok(());
        }
        entry.status = Status::Existing;
        each(entry)
    })
}

#[cfg(test)]
mod tests;
