//! When predicting pays. Pure.

/// Misses cost credit; without credit a growing number of objects goes to the general decoder unseen, so that objects
/// without pattern cost little more than without prediction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    credit: i32,
    pause: u32,
    /// Objects still to pass on.
    skip: u32,
}

impl Pace {
    const FULL: i32 = 32;
    const MISS: i32 = 8;
    const MIN_PAUSE: u32 = 64;
    const MAX_PAUSE: u32 = 4096;

    pub(super) fn new() -> Self {
        Self {
            credit: Self::FULL,
            pause: Self::MIN_PAUSE,
            skip: 0,
        }
    }

    /// Never pauses, however often the prediction fails.
    #[cfg(test)]
    pub(super) fn without_pause() -> Self {
        Self {
            credit: i32::MAX,
            ..Self::new()
        }
    }

    /// Whether the next object is worth a try, and worth learning from.
    #[inline]
    pub(super) fn attentive(&mut self) -> bool {
        if self.skip == 0 {
            return true;
        }
        self.skip -= 1;
        false
    }

    #[inline]
    pub(super) fn hit(&mut self) {
        if self.credit < Self::FULL {
            self.credit += 1;
            if self.credit == Self::FULL {
                self.pause = Self::MIN_PAUSE;
            }
        }
    }

    pub(super) fn miss(&mut self) {
        self.credit -= Self::MISS;
        if self.credit < 0 {
            self.credit = Self::FULL / 2;
            self.skip = self.pause;
            self.pause = (self.pause * 2).min(Self::MAX_PAUSE);
        }
    }
}
