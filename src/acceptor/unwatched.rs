//! Nothing, in place of `watched.rs`, where there is no watchdog.

use http::Request;

pub(super) struct Watched;

impl Watched {
    pub(super) fn turn<R>(&self, turn: impl FnOnce() -> R) -> R {
        turn()
    }
}

pub(super) fn calling<B, R>(request: Request<B>, call: impl FnOnce(Request<B>) -> R) -> R {
    call(request)
}

pub(super) fn polling<R>(poll: impl FnOnce() -> R) -> R {
    poll()
}
