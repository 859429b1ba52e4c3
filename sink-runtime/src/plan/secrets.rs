//! Where the values come from that a spec names by `secretKeyRef`. The only part of `plan` that touches a disk.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use tidewater_crds::{FromSecret, SecretKeyRef};

use super::Secret;
use super::problem::Checks;

/// Values by the name of a Secret and a key in it.
pub trait Secrets {
    fn get(&self, name: &str, key: &str) -> Option<String>;
}

/// No secrets at all.
#[derive(Clone, Copy, Debug)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// Files `<folder>/<name>/<key>`, as a cluster mounts Secrets. One line break at a file's end is not part of the value.
#[derive(Clone, Debug)]
pub struct SecretFolder {
    folder: PathBuf,
}

impl SecretFolder {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }
}

impl Secrets for SecretFolder {
    fn get(&self, name: &str, key: &str) -> Option<String> {
        if !is_plain(name) || !is_plain(key) {
            return None;
        }
        let mut value = std::fs::read_to_string(self.folder.join(name).join(key)).ok()?;
        if value.ends_with('\n') {
            value.pop();
            if value.ends_with('\r') {
                value.pop();
            }
        }
        Some(value)
    }
}

/// A name that cannot lead out of the folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Secrets written down beside the resources, each in its namespace; what they lack comes from elsewhere.
#[derive(Clone, Default)]
pub(super) struct WrittenSecrets {
    values: BTreeMap<(String, String, String), String>,
}

impl fmt::Debug for WrittenSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl WrittenSecrets {
    pub(super) fn insert(&mut self, namespace: &str, name: &str, key: &str, value: String) {
        self.values
            .insert((namespace.into(), name.into(), key.into()), value);
    }

    pub(super) fn of<'a>(&'a self, namespace: &'a str, others: &'a dyn Secrets) -> Within<'a> {
        Within {
            written: self,
            namespace,
            others,
        }
    }
}

/// The secrets that a resource of one namespace may name.
pub(super) struct Within<'a> {
    written: &'a WrittenSecrets,
    namespace: &'a str,
    others: &'a dyn Secrets,
}

impl Secrets for Within<'_> {
    fn get(&self, name: &str, key: &str) -> Option<String> {
        let written = (self.namespace.to_owned(), name.to_owned(), key.to_owned());
        self.written
            .values
            .get(&written)
            .cloned()
            .or_else(|| self.others.get(name, key))
    }
}

/// The value that `reference` names; a problem at `path` where there is none.
pub(super) fn resolve(
    checks: &mut Checks,
    secrets: &dyn Secrets,
    path: &str,
    reference: &SecretKeyRef,
) -> Secret {
    let value = secrets.get(&reference.name, &reference.key);
    let named = format!("{}/{}", reference.name, reference.key);
    let path = format!("{path}.secretKeyRef");
    match value {
        Some(value) if !value.is_empty() => Secret::new(value),
        Some(_) => {
            checks.add(path, named, "the secret's key is empty: give it a value");
            Secret::new("")
        }
        None => {
            checks.add(
                path,
                named,
                "no such secret or key: create it, or correct the name",
            );
            Secret::new("")
        }
    }
}

pub(super) fn resolve_from(
    checks: &mut Checks,
    secrets: &dyn Secrets,
    path: &str,
    from: &FromSecret,
) -> Secret {
    resolve(checks, secrets, path, &from.secret_key_ref)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_files_and_nothing_outside_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kafka")).unwrap();
        std::fs::write(folder.path().join("kafka/password"), "open sesame\n").unwrap();
        std::fs::write(folder.path().join("outside"), "no").unwrap();
        let secrets = SecretFolder::new(folder.path());
        assert_eq!(
            secrets.get("kafka", "password").as_deref(),
            Some("open sesame")
        );
        assert_eq!(secrets.get("kafka", "user"), None);
        assert_eq!(secrets.get("kafka", "../outside"), None);
        assert_eq!(secrets.get("..", "outside"), None);
        assert_eq!(secrets.get("", "outside"), None);
    }

    #[test]
    fn a_written_secret_serves_its_own_namespace_and_is_never_printed() {
        let mut written = WrittenSecrets::default();
        written.insert("a", "kafka", "password", "open sesame".into());
        assert_eq!(
            written
                .of("a", &NoSecrets)
                .get("kafka", "password")
                .as_deref(),
            Some("open sesame")
        );
        assert_eq!(written.of("b", &NoSecrets).get("kafka", "password"), None);
        assert!(!format!("{written:?}").contains("sesame"));
    }
}
