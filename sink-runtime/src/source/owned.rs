//! What librdkafka makes for its callers to destroy.

#![allow(unsafe_code, reason = "librdkafka's own destructors are called")]

use std::ptr::NonNull;

/// Something librdkafka made for us, destroyed with this.
pub(super) struct Owned<T> {
    made: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// Null, or ours alone and to be given to `destroy` once.
    pub(super) unsafe fn new(made: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(made).map(|made| Self { made, destroy })
    }

    pub(super) fn get(&self) -> *mut T {
        self.made.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: by the contract of `new`; nothing uses it any more.
        unsafe { (self.destroy)(self.made.as_ptr()) }
    }
}
