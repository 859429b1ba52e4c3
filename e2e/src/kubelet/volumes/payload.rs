//! What the files of a volume are: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume,
};

use super::atomic::File;
use super::{Contents, Owner, volumes};
use crate::kubelet::objects::Reference;

/// What a token is asked for with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kubelet) struct TokenRequestFor {
    pub(in crate::kubelet) audience: Option<String>,
    pub(in crate::kubelet) seconds: i64,
}

impl TokenRequestFor {
    fn of(projection: &ServiceAccountTokenProjection) -> Self {
        TokenRequestFor {
            audience: projection
                .audience
                .clone()
                .filter(|audience| !audience.is_empty()),
            seconds: projection.expiration_seconds.unwrap_or(3600),
        }
    }
}

/// The tokens a pod's volumes hold.
pub(in crate::kubelet) fn tokens(pod: &Pod) -> BTreeSet<TokenRequestFor> {
    let projected = volumes(pod).filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|projected| projected.sources.iter().flatten());
    let tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    tokens.map(TokenRequestFor::of).collect()
}

const DEFAULT_MODE: i32 = 0o644;

/// The files of a volume, or why it cannot have them yet.
pub(super) fn files(
    volume: &Volume,
    contents: &Contents<'_>,
    owner: Owner,
) -> Result<BTreeMap<PathBuf, File>, String> {
    let mut payload = Payload {
        contents,
        owner,
        files: BTreeMap::new(),
        mode: DEFAULT_MODE,
    };
    if let Some(source) = &volume.config_map {
        payload.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let reference = Reference::config_map(&source.name);
        payload.object(&reference, source.items.as_deref(), source.optional)?;
    } else if let Some(source) = &volume.secret {
        payload.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let reference = Reference::secret(source.secret_name.as_deref().unwrap_or(""));
        payload.object(&reference, source.items.as_deref(), source.optional)?;
    } else if let Some(source) = &volume.downward_api {
        payload.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        payload.downward(source.items.as_deref())?;
    } else if let Some(projected) = &volume.projected {
        payload.mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let reference = Reference::config_map(&map.name);
                payload.object(&reference, map.items.as_deref(), map.optional)?;
            }
            if let Some(secret) = &source.secret {
                let reference = Reference::secret(&secret.name);
                payload.object(&reference, secret.items.as_deref(), secret.optional)?;
            }
            if let Some(downward) = &source.downward_api {
                payload.downward(downward.items.as_deref())?;
            }
            if let Some(token) = &source.service_account_token {
                payload.token(token)?;
            }
        }
    }
    Ok(payload.files)
}

struct Payload<'a> {
    contents: &'a Contents<'a>,
    owner: Owner,
    files: BTreeMap<PathBuf, File>,
    mode: i32,
}

impl Payload<'_> {
    fn add(&mut self, path: &str, contents: Vec<u8>, mode: Option<i32>) -> Result<(), String> {
        let inside = Path::new(path).components();
        let mut inside = inside.map(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || !inside.all(|normal| normal) {
            return Err(format!("path \"{path}\" leads out of the volume"));
        }
        let mut mode = u32::try_from(mode.unwrap_or(self.mode)).unwrap_or(0) & 0o777;
        if self.owner.group.is_some() {
            // The group may read what the owner may read.
            mode |= (mode & 0o400) >> 3;
        }
        let file = File {
            contents,
            mode,
            user: None,
            group: self.owner.group,
        };
        self.files.insert(PathBuf::from(path), file);
        Ok(())
    }

    /// All keys of a ConfigMap or Secret, or the items of it.
    fn object(
        &mut self,
        reference: &Reference,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), String> {
        let optional = optional == Some(true);
        let contents = self.contents;
        let data = match contents.objects.get(reference) {
            Some(Some(data)) => data,
            Some(None) if optional => return Ok(()),
            _ => return Err(format!("{} not found", reference.described())),
        };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, value) in data {
                self.add(key, value.clone(), None)?;
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(value) => self.add(&item.path, value.clone(), item.mode)?,
                None if optional => {}
                None => {
                    let object = reference.described();
                    return Err(format!(
                        "{object} references non-existent key: {}",
                        item.key
                    ));
                }
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: Option<&[DownwardAPIVolumeFile]>) -> Result<(), String> {
        let fields = self.contents.fields;
        for item in items.unwrap_or_default() {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => fields.field(&field.field_path)?,
                (None, Some(resource)) => fields.resource(resource, "")?,
                (None, None) => return Err(format!("item \"{}\" has no source", item.path)),
            };
            self.add(&item.path, value.into_bytes(), item.mode)?;
        }
        Ok(())
    }

    /// Readable for whoever runs the containers, and for nobody else when that is one user.
    fn token(&mut self, projection: &ServiceAccountTokenProjection) -> Result<(), String> {
        let wanted = TokenRequestFor::of(projection);
        let token = self
            .contents
            .tokens
            .get(&wanted)
            .ok_or("the token is not here yet")?;
        let alone = self.owner.user.is_some() || self.owner.group.is_some();
        let mode = alone.then_some(0o600);
        self.add(&projection.path, token.clone().into_bytes(), mode)?;
        if let Some(file) = self.files.get_mut(Path::new(&projection.path)) {
            file.user = self.owner.user;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
