//! How large an Iceberg table's metadata have become, and the word when that is too much.

use std::time::Duration;

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

/// Whether commits take longer than they are apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slow(bool);

impl Slow {
    /// Whether they became so; they are no more when one takes less than half.
    fn became(&mut self, took: Duration, interval: Duration) -> bool {
        let before = self.0;
        self.0 = took > interval || before && took > interval / 2;
        self.0 && !before
    }
}

impl Progress {
    /// Says when commits take longer than they are to be apart, once each time.
    pub fn took(&self, took: Duration, interval: Duration) {
        if self.inner.lock().slow.became(took, interval) {
            let (seconds, advice) = (
                took.as_secs_f64(),
                "expire old snapshots and compact the table's files, keep fewer metrics with \
                 write.metadata.metrics.default, or give a longer commit.interval",
            );
            tracing::warn!(
                seconds,
                ?interval,
                advice,
                "a commit takes longer than commits are to be apart"
            );
        }
    }

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

    #[test]
    fn slow_commits_are_said_once_until_they_are_fast_again() {
        let mut slow = Slow::default();
        let interval = Duration::from_secs(60);
        let mut said = |seconds| slow.became(Duration::from_secs(seconds), interval);
        let each = [1, 60, 61, 200, 45, 61, 30, 60, 70];
        assert_eq!(
            each.map(&mut said),
            [false, false, true, false, false, false, false, false, true]
        );
    }
}
