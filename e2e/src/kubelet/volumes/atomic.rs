//! Files that change together: they lie in a folder of their own, which one link names, and the link is replaced in one
//! step. A reader that keeps the folder open sees the old files or the new ones, never some of each.
//!
//! ```text
//! volume/..data -> ..3f9c…          the link that turns
//! volume/..3f9c…/a, b/c             the files
//! volume/a -> ..data/a, b -> ..data/b
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

const LINK: &str = "..data";

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) contents: Vec<u8>,
    pub(super) mode: u32,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

/// Makes `folder` hold these files, by relative path, and no others.
pub(super) fn write(folder: &Path, files: &BTreeMap<PathBuf, File>) -> io::Result<()> {
    make_folder(folder)?;
    let current = fs::read_link(folder.join(LINK)).ok();
    if let Some(current) = &current
        && holds(&folder.join(current), files)
    {
        return Ok(());
    }
    let fresh = format!("..{:016x}", rand::random::<u64>());
    let home = folder.join(&fresh);
    make_folder(&home)?;
    for (path, file) in files {
        let path = home.join(path);
        for parent in path
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != home)
        {
            make_folder(parent)?;
        }
        fs::write(&path, &file.contents)?;
        chown(&path, file.user, file.group)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    let draft = folder.join("..data_tmp");
    // A leftover of an attempt that failed half way.
    let _ = fs::remove_file(&draft);
    symlink(&fresh, &draft)?;
    fs::rename(&draft, folder.join(LINK))?;
    show(folder, files)?;
    match current {
        Some(current) => fs::remove_dir_all(folder.join(current)),
        None => Ok(()),
    }
}

/// A link for each first component, and none for what is gone.
fn show(folder: &Path, files: &BTreeMap<PathBuf, File>) -> io::Result<()> {
    let wanted: BTreeSet<&Path> = files
        .keys()
        .filter_map(|path| path.iter().next().map(Path::new))
        .collect();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = Path::new(&name);
        if !name.to_string_lossy().starts_with("..") && !wanted.contains(name) {
            fs::remove_file(folder.join(name))?;
        }
    }
    for name in wanted {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(LINK).join(name), link)?;
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)
}

fn holds(home: &Path, files: &BTreeMap<PathBuf, File>) -> bool {
    let mut found = 0;
    let mut open = vec![home.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            return false;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else {
                return false;
            };
            if metadata.is_dir() {
                open.push(path);
                continue;
            }
            let wanted = path
                .strip_prefix(home)
                .ok()
                .and_then(|path| files.get(path));
            let same = wanted.is_some_and(|wanted| {
                wanted.mode == metadata.mode() & 0o7777
                    && fs::read(&path).is_ok_and(|contents| contents == wanted.contents)
            });
            if !same {
                return false;
            }
            found += 1;
        }
    }
    found == files.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<PathBuf, File> {
        let file = |text: &str| File {
            contents: text.as_bytes().to_vec(),
            mode: 0o640,
            user: None,
            group: None,
        };
        let pairs = pairs.iter();
        pairs
            .map(|(path, text)| (PathBuf::from(path), file(text)))
            .collect()
    }

    #[test]
    fn files_are_replaced_together_and_the_same_ones_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("v");
        let text = |path: &str| fs::read_to_string(volume.join(path)).ok();
        write(&volume, &files(&[("a", "1"), ("b/c", "2"), ("b/d", "3")])).unwrap();
        assert_eq!(
            (text("a"), text("b/c")),
            (Some("1".to_owned()), Some("2".to_owned()))
        );
        let first = fs::read_link(volume.join(LINK)).unwrap();
        write(&volume, &files(&[("a", "1"), ("b/c", "2"), ("b/d", "3")])).unwrap();
        assert_eq!(fs::read_link(volume.join(LINK)).unwrap(), first);

        let old = fs::File::open(volume.join("a")).unwrap();
        write(&volume, &files(&[("a", "9"), ("e", "4")])).unwrap();
        assert_eq!(text("a"), Some("9".to_owned()));
        assert_eq!(text("e"), Some("4".to_owned()));
        assert_eq!(text("b/c"), None);
        assert_eq!(
            io::read_to_string(old).unwrap(),
            "1",
            "an open file stays what it was"
        );
        let names = fs::read_dir(&volume)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name());
        assert_eq!(names.count(), 4, "..data, its folder, a, e");
        let mode = fs::metadata(volume.join("a")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
