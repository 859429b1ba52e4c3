//! How large an Iceberg table's metadata have become, and the word when that is too much.

use serde::Serialize;

use super::Progress;

/// Beyond these, readers plan for seconds and every commit of every writer reads and writes what it does not need.
const SNAPSHOTS: u64 = 10_000;
const MANIFESTS: u64 = 2_000;
const METADATA_BYTES: u64 = 32 << 20;

/// An Iceberg table's metadata after the last commit, as `/status` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Extent {
    pub snapshots: u64,
    /// Of the current snapshot.
    pub manifests: u64,
    /// As the catalog gave them before the commit.
    pub metadata_bytes: u64,
    /// What to do where that is too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

impl Extent {
    pub fn new(snapshots: u64, manifests: u64, metadata_bytes: u64) -> Self {
        let advice = if snapshots > SNAPSHOTS || metadata_bytes > METADATA_BYTES {
            Some(
                "expire old snapshots: the table's metadata are large, and each commit reads and writes them",
            )
        } else if manifests > MANIFESTS {
            Some("compact the table's files: its list of manifests is long")
        } else {
            None
        };
        Self {
            snapshots,
            manifests,
            metadata_bytes,
            advice,
        }
    }
}

impl Progress {
    /// Says when the metadata have become too large, once each time.
    pub fn extends(&self, extent: Extent) {
        let before = self.inner.lock().extent.replace(extent);
        let Extent {
            snapshots,
            manifests,
            metadata_bytes,
            advice,
        } = extent;
        if let Some(advice) = advice
            && before.and_then(|before| before.advice) != Some(advice)
        {
            tracing::warn!(
                snapshots,
                manifests,
                metadata_bytes,
                advice,
                "large metadata"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_are_too_large_go_with_what_to_do() {
        for (snapshots, manifests, bytes, word) in [
            (0, 0, 0, None),
            (SNAPSHOTS, MANIFESTS, METADATA_BYTES, None),
            (SNAPSHOTS + 1, 1, 1, Some("expire")),
            (1, 1, METADATA_BYTES + 1, Some("expire")),
            (1, MANIFESTS + 1, 1, Some("compact")),
        ] {
            let advice = Extent::new(snapshots, manifests, bytes).advice;
            assert_eq!(advice.and_then(|advice| advice.split(' ').next()), word);
        }
    }
}
