//! Why a parked request ended.

use std::cell::Cell;
use std::fmt;

/// Why a [`Deferred`](super::Deferred) ended, as told to [`on_complete`](super::Deferred::on_complete).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A response was sent and taken. Whether it reached the client is then the connection's business.
    Answered,
    /// The [timeout](super::Deferred::timeout) answered.
    TimedOut,
    /// The [`Responder`](super::Responder) was dropped without an answer; the client got the substitute.
    Abandoned,
    /// The future was dropped while it waited: the client hung up, or the connection failed.
    ClientGone,
    /// The server is shutting down and answered in the service's stead.
    ShutDown,
    /// The server holds as many parked requests as it may and answered in the service's stead.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered => "answered",
            Self::TimedOut => "timed out",
            Self::Abandoned => "abandoned",
            Self::ClientGone => "client gone",
            Self::ShutDown => "shut down",
            Self::Refused => "refused",
        })
    }
}

thread_local! {
    // A future learns nothing from being dropped, so that whoever drops it for another reason than a lost client
    // says so here, for the length of the drop.
    static DROPPED_BECAUSE: Cell<Outcome> = const { Cell::new(Outcome::ClientGone) };
}

/// What a drop on this thread means at this moment.
pub(crate) fn drop_cause() -> Outcome {
    // The thread may be ending and its locals gone: then nothing but the default can be meant.
    DROPPED_BECAUSE.try_with(Cell::get).unwrap_or(Outcome::ClientGone)
}

/// Runs `drop`; each [`Deferred`](super::Deferred) dropped meanwhile on this thread ends with `cause`.
///
/// A closure and not a value, so that a pinned future can be dropped where it is.
#[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "only a server has a cause of its own"))]
pub(crate) fn drop_because<R>(cause: Outcome, drop: impl FnOnce() -> R) -> R {
    struct Restore(Outcome);
    impl Drop for Restore {
        fn drop(&mut self) {
            DROPPED_BECAUSE.set(self.0);
        }
    }
    let _restore = Restore(DROPPED_BECAUSE.replace(cause));
    drop()
}
