//! Files that tests compare what is made with; `UPDATE_SNAPSHOTS=1` writes them instead.

use std::path::Path;

/// Compares with a file below this crate.
#[track_caller]
pub(crate) fn assert(path: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let folder = file.parent().unwrap_or(&file);
        assert!(std::fs::create_dir_all(folder).is_ok(), "{path}");
        assert!(std::fs::write(&file, made).is_ok(), "{path}");
        return;
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let difference = made
        .lines()
        .zip(kept.lines())
        .enumerate()
        .find(|(_, (made, kept))| made != kept);
    assert!(
        made == kept,
        "{path} is out of date (first at {difference:?}): if that is meant, run the test with UPDATE_SNAPSHOTS=1"
    );
}
