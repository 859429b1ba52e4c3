//! Staged uploads of a directory tree: `_tidewater/uploads/<id>/` holds `manifest.json`, `data` with the parts that
//! came in order, and `part-<n>` for each that did not. The part tags say where each part lies, so whoever has them
//! can complete the upload, in whatever process: by one rename when all parts are in `data`, by a copy otherwise.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Failure, Tree, UPLOADS, sync_dir};
use crate::store::{Completed, ObjectKey, OpenUpload, PartTag, UploadId};

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    key: ObjectKey,
    metadata: BTreeMap<String, String>,
    /// Milliseconds since the epoch.
    initiated: u64,
}

/// Where the parts of the uploads begun by this process go in their `data` files. One entry per open upload.
#[derive(Debug, Default)]
pub(super) struct Assemblies(HashMap<String, Assembly>);

#[derive(Debug, Default)]
struct Assembly {
    /// Start and length of each part placed, from part 1 without a gap.
    placed: Vec<(u64, u64)>,
}

impl Assemblies {
    pub(super) fn begin(&mut self, id: &UploadId) {
        self.0.insert(id.0.clone(), Assembly::default());
    }

    pub(super) fn end(&mut self, id: &UploadId) {
        self.0.remove(&id.0);
    }

    /// Offset in `data`, if every earlier part has its place (or this very one had it in an earlier try).
    pub(super) fn place(&mut self, id: &UploadId, number: i32, length: u64) -> Option<u64> {
        let placed = &mut self.0.get_mut(&id.0)?.placed;
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        if let Some(&(start, before)) = placed.get(index) {
            return (before == length).then_some(start);
        }
        let start = placed.last().map_or(0, |(start, length)| start + length);
        (index == placed.len()).then(|| {
            placed.push((start, length));
            start
        })
    }
}

/// A part's place, as its tag spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Data { start: u64, length: u64 },
    Own { length: u64 },
}

impl Place {
    fn tag(self) -> String {
        match self {
            Self::Data { start, length } => format!("data+{start}+{length}"),
            Self::Own { length } => format!("part+{length}"),
        }
    }

    fn parse(tag: &str) -> Option<Self> {
        let mut fields = tag.split('+');
        let kind = fields.next()?;
        let mut number = || fields.next()?.parse().ok();
        match kind {
            "data" => Some(Self::Data {
                start: number()?,
                length: number()?,
            }),
            "part" => Some(Self::Own { length: number()? }),
            _ => None,
        }
    }
}

/// The file's length once the parts are joined, if `data` as it is has all of them one after another.
fn contiguous(places: &[(i32, Place)]) -> Option<u64> {
    places.iter().try_fold(0, |end, (_, place)| match place {
        Place::Data { start, length } if *start == end => Some(end + length),
        _ => None,
    })
}

impl Tree {
    /// `None` for a name that this store never gave.
    fn upload_dir(&self, id: &UploadId) -> Option<PathBuf> {
        uuid::Uuid::try_parse(&id.0).ok()?;
        Some(self.root.join(UPLOADS).join(&id.0))
    }

    fn manifest(&self, id: &UploadId) -> io::Result<Option<(PathBuf, Manifest)>> {
        let Some(dir) = self.upload_dir(id) else {
            return Ok(None);
        };
        match fs::read(dir.join("manifest.json")) {
            Ok(bytes) => Ok(Some((dir, serde_json::from_slice(&bytes)?))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) fn stage(
        &self,
        key: &str,
        metadata: BTreeMap<String, String>,
    ) -> io::Result<UploadId> {
        let id = UploadId(uuid::Uuid::new_v4().simple().to_string());
        let uploads = self.root.join(UPLOADS);
        let dir = uploads.join(&id.0);
        fs::create_dir_all(&dir)?;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let manifest = Manifest {
            key: key.to_owned(),
            metadata,
            initiated: since_epoch.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        };
        let mut file = File::create(dir.join("manifest.json"))?;
        file.write_all(&serde_json::to_vec(&manifest)?)?;
        file.sync_all()?;
        File::create(dir.join("data"))?;
        sync_dir(&dir)?;
        sync_dir(&uploads)?;
        Ok(id)
    }

    /// The part is durable when this returns.
    pub(super) fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        number: i32,
        body: &[u8],
        place: Option<u64>,
    ) -> Result<PartTag, Failure> {
        let (dir, _) = self
            .manifest(id)?
            .filter(|(_, manifest)| manifest.key == key && number >= 1)
            .ok_or(Failure::Vanished)?;
        let length = body.len() as u64;
        let place = match place {
            Some(start) => {
                let file = File::options().write(true).open(dir.join("data"))?;
                file.write_all_at(body, start)?;
                file.sync_data()?;
                Place::Data { start, length }
            }
            None => {
                let mut file = File::create(dir.join(format!("part-{number}")))?;
                file.write_all(body)?;
                file.sync_all()?;
                sync_dir(&dir)?;
                Place::Own { length }
            }
        };
        Ok(PartTag {
            number,
            etag: place.tag(),
            checksum: None,
        })
    }

    pub(super) fn complete(
        &self,
        key: &str,
        id: &UploadId,
        parts: &[PartTag],
    ) -> Result<Completed, Failure> {
        if parts.is_empty() || !parts.is_sorted_by(|a, b| a.number < b.number) {
            return Err(Failure::Refused("no parts, or out of order"));
        }
        let places: Vec<_> = parts
            .iter()
            .map(|tag| Some((tag.number, Place::parse(&tag.etag)?)))
            .collect::<Option<_>>()
            .ok_or(Failure::Refused("not a part tag of this store"))?;
        // Over the whole of it: the next owner may be completing the same upload.
        let _lock = self.lock()?;
        let Some((dir, _)) = self.manifest(id)?.filter(|(_, m)| m.key == key) else {
            return Ok(Completed::NoSuchUpload);
        };
        let data = dir.join("data");
        let target = self.path(key);
        if !data.exists() {
            // It was moved into place, and the clearing up did not follow.
            fs::remove_dir_all(&dir)?;
            let there = target.is_file();
            return Ok(if there {
                Completed::Done
            } else {
                Completed::NoSuchUpload
            });
        }
        let length = fs::metadata(&data)?.len();
        if contiguous(&places) == Some(length) {
            self.publish(&data, &target)?;
        } else {
            let whole = dir.join("whole");
            let mut file = File::create(&whole)?;
            for (number, place) in places {
                let (from, start, length) = match place {
                    Place::Data { start, length } => (data.clone(), start, length),
                    Place::Own { length } => (dir.join(format!("part-{number}")), 0, length),
                };
                let mut from = File::open(from)?;
                from.seek(SeekFrom::Start(start))?;
                if io::copy(&mut from.take(length), &mut file)? != length {
                    return Err(Failure::Refused("a part is not there"));
                }
            }
            file.sync_all()?;
            self.publish(&whole, &target)?;
            // From here on a repeated call finds the upload finished.
            fs::remove_file(&data)?;
        }
        fs::remove_dir_all(&dir)?;
        Ok(Completed::Done)
    }

    pub(super) fn abort(&self, key: &str, id: &UploadId) -> io::Result<()> {
        let _lock = self.lock()?;
        match self.manifest(id)? {
            Some((dir, manifest)) if manifest.key == key => fs::remove_dir_all(dir),
            _ => Ok(()),
        }
    }

    pub(super) fn list_uploads(&self, prefix: &str) -> io::Result<Vec<OpenUpload>> {
        let mut open = Vec::new();
        for entry in fs::read_dir(self.root.join(UPLOADS))? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            let id = UploadId(name);
            // An upload being begun or ended right now has no manifest, or half of one.
            if let Ok(Some((_, manifest))) = self.manifest(&id)
                && manifest.key.starts_with(prefix)
            {
                let initiated = Duration::from_millis(manifest.initiated);
                open.push(OpenUpload {
                    key: manifest.key,
                    id,
                    initiated: SystemTime::UNIX_EPOCH.checked_add(initiated),
                });
            }
        }
        open.sort_by(|a, b| (&a.key, &a.id.0).cmp(&(&b.key, &b.id.0)));
        Ok(open)
    }
}
