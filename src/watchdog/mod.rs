//! Sees an event loop that has stopped turning, and says which request stopped it.
//!
//! A service that computes or blocks holds up everybody on its thread, and nothing in an asynchronous program shows it:
//! the thread that could tell is the one that is busy. A [`Watchdog`] is another thread. Each loop tells it, with a few
//! atomic stores, when a turn begins and when it goes to sleep ([`LoopWatch`]); [`WithContext`] tells whose request is
//! being polled. A loop that has not turned for the threshold is logged with that request while it is still stuck, and
//! once more when it goes on.
//!
#![cfg_attr(
    feature = "acceptor",
    doc = "An acceptor is watched with [`Acceptor::watchdog`](crate::Acceptor::watchdog)."
)]
//!
//! [`WithContext`]: crate::context::WithContext

mod histogram;
mod polled;
mod shared;
mod watch;
mod watching;

pub use histogram::Histogram;
pub use watch::{LoopStats, LoopWatch};
pub use watching::Watching;

pub(crate) use polled::Polled;
#[cfg(feature = "acceptor")]
pub(crate) use watching::Polling;
pub(crate) use watching::polling;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use shared::Shared;

/// A thread that watches event loops and logs those that do not turn. Cheap to clone: clones are the same thread.
///
/// # What happens on drop
///
/// With the last one the thread ends. Loops that are still watched keep their [`stats`](LoopWatch::stats), and nothing
/// is logged of them.
#[derive(Clone)]
pub struct Watchdog {
    threshold: Duration,
    loops: Arc<Mutex<Vec<Weak<Shared>>>>,
    // Nothing is ever sent: its drop ends the thread.
    _stop: mpsc::Sender<()>,
}

// ===== impl Watchdog =====

impl Watchdog {
    /// How long a loop may take for a turn unless told otherwise: long enough that no healthy one is logged, and a
    /// tenth of what a person notices.
    pub const THRESHOLD_DEFAULT: Duration = Duration::from_millis(100);

    // A stall is noticed at most a quarter late. The least keeps a silly threshold from burning a core.
    const LOOKS_PER_THRESHOLD: u32 = 4;
    const LOOK_EVERY_MIN: Duration = Duration::from_millis(1);

    /// Starts a watchdog that logs a loop after [`THRESHOLD_DEFAULT`](Self::THRESHOLD_DEFAULT).
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Self::THRESHOLD_DEFAULT)
    }

    /// Starts a watchdog that logs a loop that has not turned for `threshold`.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start_with(threshold: Duration) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let loops: Arc<Mutex<Vec<Weak<Shared>>>> = Arc::default();
        let look_every = (threshold / Self::LOOKS_PER_THRESHOLD).max(Self::LOOK_EVERY_MIN);
        let watched = loops.clone();
        thread::Builder::new().name("loop-watchdog".into()).spawn(move || {
            while stopped.recv_timeout(look_every) == Err(mpsc::RecvTimeoutError::Timeout) {
                lock(&watched).retain(|watched| watched.upgrade().inspect(|watched| watched.look()).is_some());
            }
        })?;
        Ok(Self { threshold, loops, _stop: stop })
    }

    /// Begins to watch a loop, under a name for the logs. It counts as asleep until its first
    /// [`turn`](LoopWatch::turn).
    pub fn watch(&self, name: impl Into<String>) -> LoopWatch {
        let shared = Arc::new(Shared::new(name.into(), self.threshold));
        lock(&self.loops).push(Arc::downgrade(&shared));
        LoopWatch::new(shared)
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("threshold", &self.threshold).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept under these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
