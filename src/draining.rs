//! Whether the server that polls is about to end.
//!
//! A future that waits is answered in its stead then, but the body of a response that has begun is its own: one without an
//! end asks here, each time that it is polled. A server that drains polls it once more.

use std::cell::Cell;

thread_local! {
    static DRAINING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this poll is on behalf of a server that waits for the last of its responses.
#[cfg_attr(not(feature = "topic"), allow(dead_code, reason = "only topics have bodies without an end"))]
pub(crate) fn is_draining() -> bool {
    DRAINING.get()
}

/// Polls on behalf of a server that is `draining`, or is not.
#[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "only an acceptor drains"))]
pub(crate) fn while_draining<R>(draining: bool, poll: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            DRAINING.set(self.0);
        }
    }
    let _restore = Restore(DRAINING.replace(draining));
    poll()
}
