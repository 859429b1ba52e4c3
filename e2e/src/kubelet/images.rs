//! What an image is here: a local program, where the container finds it, and who it runs as.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A local stand-in for an image. Everything else of this machine's files is there as well.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// What runs when the container names no command.
    pub entrypoint: Vec<String>,
    /// Files of this machine, and where the container finds them.
    pub files: Vec<(PathBuf, String)>,
    /// Who it runs as, when the pod does not say.
    pub user: Option<u32>,
}

/// Images by repository, without registry, path, tag and digest: `ghcr.io/acme/tidewater:1.2` is `tidewater`.
#[derive(Debug, Clone, Default)]
pub struct Images {
    table: BTreeMap<String, Image>,
}

impl Images {
    /// Adds an image.
    pub fn with(mut self, repository: &str, image: Image) -> Self {
        self.table.insert(repository.to_owned(), image);
        self
    }

    /// The image of a reference, if all its files are there.
    pub(super) fn find(&self, reference: &str) -> Result<&Image, String> {
        let name = repository(reference);
        let image = self
            .table
            .get(name)
            .ok_or_else(|| format!("no image '{name}' on this machine, for '{reference}'"))?;
        match image.files.iter().find(|(file, _)| !file.is_file()) {
            Some((file, _)) => Err(format!("image '{name}' wants '{}'", file.display())),
            None => Ok(image),
        }
    }
}

fn repository(reference: &str) -> &str {
    let name = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    last.split_once(':').map_or(last, |(name, _)| name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_its_repository_whatever_registry_and_tag() {
        let images = Images::default().with("tidewater", Image::default());
        for reference in [
            "tidewater",
            "tidewater:dev",
            "localhost:5000/tidewater",
            "ghcr.io/acme/tidewater:1.2@sha256:00",
        ] {
            assert!(images.find(reference).is_ok(), "{reference}");
        }
        assert!(images.find("tidewater-operator:dev").is_err());
    }

    #[test]
    fn an_image_without_its_program_is_not_there() {
        let missing = Image {
            files: vec![(
                "/no/such/program".into(),
                "/usr/local/bin/program".to_owned(),
            )],
            ..Image::default()
        };
        let images = Images::default().with("program", missing);
        assert!(
            images
                .find("program")
                .unwrap_err()
                .contains("/no/such/program")
        );
    }
}
