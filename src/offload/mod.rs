//! Work that would hold up the loop, done by other threads.
//!
//! ```
//! use hyper_deferred::offload;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let digest = offload(|| (1..=20u64).product::<u64>()).await?;
//! assert_eq!(digest, 2_432_902_008_176_640_000);
//! # Ok::<_, hyper_deferred::offload::OffloadError>(()) }).unwrap();
//! ```
//!
//! # Compared with [`tokio::task::spawn_blocking`]
//!
//! The threads are tokio's own. What is added: a bound on what runs at once, so that CPU-bound work does not crowd the
//! loops out with hundreds of threads; a bound on what waits, and an answer at once past it; the request's
//! [`Context`](crate::Context) in force while the work runs; and work that nobody waits for any more is not begun.

mod error;
mod future;

pub use error::OffloadError;
pub use future::Offload;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;

/// Runs `work` on the [default pool](Pool::default), and gives a future of its result.
///
/// See [`Pool::offload`].
pub fn offload<T, F>(work: F) -> Offload<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    static DEFAULT: LazyLock<Pool> = LazyLock::new(Pool::default);
    DEFAULT.offload(work)
}

/// How much work may run at once and how much may wait. Cheap to clone; clones share the bounds.
///
/// One pool for each kind of work keeps them from starving one another: CPU-bound work wants as many threads as there
/// are cores, calls to a slow database want more.
///
/// # What happens on drop
///
/// Nothing: work that was accepted is done.
#[derive(Clone)]
pub struct Pool {
    threads_max: usize,
    queue_max: usize,
    retry_after: Duration,
    // A permit for each piece of work that runs or waits, and one for each that runs.
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

// ===== impl Pool =====

impl Pool {
    /// How many pieces of work wait unless told otherwise: enough for a burst, few enough that the last in the queue
    /// is still wanted when its turn comes.
    pub const QUEUE_MAX_DEFAULT: usize = 1024;

    /// What the `503` for a full queue says unless told otherwise.
    pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

    /// A pool that runs up to `threads_max` pieces of work at once and has up to `queue_max` more waiting. With a
    /// `threads_max` of 0 there is one thread all the same.
    ///
    /// The threads are those that tokio keeps for blocking work, and the bound holds over all runtimes that use the
    /// pool. A runtime has 512 of them unless told otherwise.
    pub fn new(threads_max: usize, queue_max: usize) -> Self {
        let threads_max = threads_max.clamp(1, Semaphore::MAX_PERMITS / 2);
        let queue_max = queue_max.min(Semaphore::MAX_PERMITS / 2);
        Self {
            threads_max,
            queue_max,
            retry_after: Self::RETRY_AFTER_DEFAULT,
            admitted: Arc::new(Semaphore::new(threads_max + queue_max)),
            running: Arc::new(Semaphore::new(threads_max)),
        }
    }

    /// What the `503` for a full queue says in `Retry-After`.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }

    /// Runs `work` on another thread with what is in force here (see [`Saved`](crate::context::Saved)) in force there.
    ///
    /// Whether there is room is decided by this call; that there was none is the future's first and only output.
    ///
    /// # Errors
    ///
    /// The future gives an [`OffloadError`] when the queue is full, when `work` panics, and when the runtime shuts
    /// down before it was begun.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the work began, as it is when the client goes, the future takes the work with it: it is not
    /// begun. Once begun it runs to its end, and its result is dropped.
    ///
    /// # Panics
    ///
    /// The future does when polled outside of a tokio runtime.
    pub fn offload<T, F>(&self, work: F) -> Offload<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.admitted.clone().try_acquire_owned() {
            Ok(admitted) => Offload::admitted(admitted, self.running.clone(), work),
            Err(_full) => Offload::refused(OffloadError::full(self.retry_after)),
        }
    }

    /// How many pieces of work run or wait at this moment.
    pub fn in_hand(&self) -> usize {
        self.threads_max + self.queue_max - self.admitted.available_permits()
    }
}

impl Default for Pool {
    /// As many threads as there are cores, and a queue of [`QUEUE_MAX_DEFAULT`](Self::QUEUE_MAX_DEFAULT).
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::new(cores, Self::QUEUE_MAX_DEFAULT)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads_max", &self.threads_max)
            .field("queue_max", &self.queue_max)
            .field("in_hand", &self.in_hand())
            .finish()
    }
}
