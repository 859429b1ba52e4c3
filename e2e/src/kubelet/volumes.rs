//! A pod's volumes on disk: ConfigMaps, Secrets, projections and the downward API as files that change in one step,
//! empty folders, and folders of this machine.

mod atomic;
mod payload;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::fields::Fields;
use super::objects::Objects;

pub(super) use payload::{TokenRequestFor, tokens};

/// Tokens of service accounts, by what was asked for.
pub(super) type Tokens = BTreeMap<TokenRequestFor, String>;

/// Everything the files are made of.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) fields: Fields<'a>,
    pub(super) objects: &'a Objects,
    pub(super) tokens: &'a Tokens,
}

/// Who owns the files.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Owner {
    /// The one user of all containers, for tokens.
    pub(super) user: Option<u32>,
    /// The pod's `fsGroup`.
    pub(super) group: Option<u32>,
}

/// The volumes of one pod, below a folder.
#[derive(Debug)]
pub(super) struct Volumes {
    folder: PathBuf,
    owner: Owner,
}

impl Volumes {
    pub(super) fn at(folder: PathBuf, owner: Owner) -> Self {
        Volumes { folder, owner }
    }

    /// Writes every volume; later calls change only what differs. The error is the message a user reads.
    pub(super) fn write(&self, contents: &Contents<'_>) -> Result<(), String> {
        for volume in volumes(contents.fields.pod) {
            let folder = self.folder.join(&volume.name);
            let described =
                |error: &dyn std::fmt::Display| format!("volume \"{}\": {error}", volume.name);
            if volume.empty_dir.is_some() {
                self.empty_folder(&folder)
                    .map_err(|error| described(&error))?;
            } else if volume.host_path.is_none() {
                let files =
                    payload::files(volume, contents, self.owner).map_err(|e| described(&e))?;
                atomic::write(&folder, &files).map_err(|error| described(&error))?;
            }
        }
        Ok(())
    }

    fn empty_folder(&self, folder: &Path) -> std::io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        chown(folder, None, self.owner.group)?;
        // setgid, so that what is made in it belongs to the group.
        let mode = if self.owner.group.is_some() {
            0o2777
        } else {
            0o777
        };
        fs::set_permissions(folder, fs::Permissions::from_mode(mode))
    }

    /// What to mount for a volume, or a part of it, and whether it may be written to.
    pub(super) fn source(
        &self,
        pod: &Pod,
        name: &str,
        part: Option<&str>,
    ) -> Result<(PathBuf, bool), String> {
        let volume = volumes(pod)
            .find(|volume| volume.name == name)
            .ok_or_else(|| format!("there is no volume \"{name}\""))?;
        let writable = volume.empty_dir.is_some() || volume.host_path.is_some();
        let whole = match &volume.host_path {
            Some(path) => host_path(&path.path, path.type_.as_deref().unwrap_or(""))?,
            None => self.folder.join(name),
        };
        let Some(part) = part.filter(|part| !part.is_empty()) else {
            return Ok((whole, writable));
        };
        let inside = Path::new(part).components();
        if inside
            .clone()
            .any(|part| !matches!(part, Component::Normal(_)))
        {
            return Err(format!(
                "subPath \"{part}\" of volume \"{name}\" leads out of it"
            ));
        }
        let source = whole.join(part);
        if writable && !source.exists() {
            fs::create_dir_all(&source).map_err(|error| format!("volume \"{name}\": {error}"))?;
        }
        // The file itself, not the link that is turned on a change: a part is not updated.
        let source = source
            .canonicalize()
            .map_err(|error| format!("subPath \"{part}\" of volume \"{name}\": {error}"))?;
        Ok((source, writable))
    }
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
}

fn host_path(path: &str, kind: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(path);
    let made = match kind {
        "DirectoryOrCreate" => fs::create_dir_all(&file),
        "FileOrCreate" if !file.exists() => fs::File::create(&file).map(drop),
        _ => Ok(()),
    };
    made.map_err(|error| format!("hostPath \"{path}\": {error}"))?;
    let fits = match kind {
        "Directory" | "DirectoryOrCreate" => file.is_dir(),
        "File" | "FileOrCreate" => file.is_file(),
        _ => file.exists(),
    };
    if fits {
        Ok(file)
    } else {
        Err(format!("hostPath \"{path}\" is not there, or no {kind}"))
    }
}
