//! What "caught up" means for one topic-partition.

use crate::record::Offset;

/// Where a partition ended when it was taken.
pub(super) struct Goal {
    pub(super) end: Offset,
    pub(super) from: Offset,
    /// Everything below `end` has gone to the worker.
    pub(super) read: bool,
}

impl Goal {
    pub(super) fn reached(&self, next: Option<Offset>) -> bool {
        self.from >= self.end || next.is_some_and(|next| next >= self.end)
    }
}
