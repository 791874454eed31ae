//! What a watchdog is told: a loop's turns, and whose request is being polled.
//!
//! `unwatched.rs` stands in its place without the feature `context`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use http::Request;
use tokio::task::AbortHandle;

use crate::watchdog::{self, LoopStats, LoopWatch, Polled, Polling, Watchdog, Watching};

/// All loops of an acceptor that are or were watched.
#[derive(Clone, Default)]
pub(super) struct Loops {
    watches: Arc<Mutex<Vec<LoopWatch>>>,
}

/// One loop, on the thread where this was made, for as long as it is there.
pub(super) struct Watched {
    on: Option<On>,
}

struct On {
    watch: LoopWatch,
    heartbeat: AbortHandle,
    _watching: Watching,
}

// ===== impl Loops =====

impl Loops {
    pub(super) fn stats(&self) -> LoopStats {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.iter().fold(LoopStats::default(), |all, watch| all.and(watch.stats()))
    }

    fn add(&self, watch: LoopWatch) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).push(watch);
    }
}

impl fmt::Debug for Loops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

// ===== impl Watched =====

impl Watched {
    /// Has the loop of this thread watched until this is dropped, under the thread's name, if there is a watchdog.
    pub(super) fn begin(watchdog: Option<&Watchdog>, loops: &Loops) -> Self {
        let on = watchdog.map(|watchdog| {
            let watch = watchdog.watch(thread::current().name().unwrap_or("acceptor"));
            loops.add(watch.clone());
            // The runtime may be anybody's, and there are tasks beside the loop that could hold it up.
            let heartbeat = tokio::task::spawn_local(watch.clone().heartbeat()).abort_handle();
            On { _watching: watch.watch_thread(), watch, heartbeat }
        });
        Self { on }
    }

    /// One turn of the loop.
    pub(super) fn turn<R>(&self, turn: impl FnOnce() -> R) -> R {
        let Some(On { watch, .. }) = &self.on else { return turn() };
        watch.turn();
        let result = turn();
        watch.idle();
        result
    }
}

impl Drop for On {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

// ===== helpers =====

/// A service is called, until what it gives is dropped.
pub(super) fn calling<B>(request: &Request<B>) -> Option<Polling> {
    watchdog::polling(|| Polled::called(request))
}

/// A service's future is polled, until what it gives is dropped.
pub(super) fn polling() -> Option<Polling> {
    watchdog::polling(|| Polled::Unknown)
}
