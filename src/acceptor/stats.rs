//! What an acceptor has done, and holds.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Tells what an acceptor does, from any thread, also while it serves and after it has ended. Cheap to clone.
///
/// Elsewhere than on Unix there is no slab: `graduated`, `resumed` and `slab_bytes` stay at zero there.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let acceptor = hyper_deferred::Acceptor::bind("127.0.0.1:8080")?;
/// let stats = acceptor.stats();
/// std::thread::spawn(move || println!("{} requests wait", stats.snapshot().parked));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stats {
    // One for each worker. None has begun before they are there.
    workers: Arc<OnceLock<Box<[Arc<Counters>]>>>,
    #[cfg(feature = "context")]
    loops: super::watched::Loops,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The numbers of one moment. Each is exact; together they may be a step apart, because the acceptor goes on.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The numbers as one worker counts them. Each worker has cache lines of its own for that.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Stats {
            /// The numbers now, of all workers together.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.sum(|counters| &counters.$name),)* }
            }
        }
    };
}

counters! {
    /// Connections accepted since the start.
    accepted,
    /// Connections with a live hyper now, in tasks of their own: those that wait on IO in the middle of a message.
    active,
    /// Requests that wait now, their connections dormant.
    parked,
    /// Connections dormant without a request now: kept alive, silent so far, or in the middle of a head.
    idle,
    /// How often a connection has moved to a task of its own.
    graduated,
    /// How often a dormant connection was given a hyper: one built for it, or another's.
    resumed,
    /// Parked requests whose service has answered.
    answered,
    /// Connections whose client left while its request was parked.
    hung_up,
    /// Connections closed because the client kept them waiting for too long.
    timed_out,
    /// Parked requests answered by the shutdown.
    shut_down,
    /// Requests refused because too many were parked.
    refused,
    /// Bytes that the slab holds now.
    slab_bytes,
}

/// A number with one writer: the worker's thread.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

// ===== impl Stats =====

impl Stats {
    /// What so many workers count with. To be called once.
    pub(super) fn hire(&self, workers: NonZeroUsize) -> &[Arc<Counters>] {
        self.workers.get_or_init(|| (0..workers.get()).map(|_| Arc::default()).collect())
    }

    /// What they count with, once they are hired.
    pub(super) fn hired(&self) -> &[Arc<Counters>] {
        self.workers.get().map_or(&[], |workers| workers)
    }

    /// Requests that wait now, of all workers.
    pub(super) fn parked(&self) -> u64 {
        self.sum(|counters| &counters.parked)
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.hired().iter().map(|counters| counter(counters).get()).sum()
    }

    /// How long the loop's turns took, and how often and for how long it stalled: all zero without a
    /// [watchdog](super::Acceptor::watchdog). A turn is one or two slices of each kind of work, of which only the
    /// slab's loop has any: elsewhere than on Unix no turns are counted, stalls are.
    #[cfg(feature = "context")]
    #[cfg_attr(docsrs, doc(cfg(feature = "context")))]
    pub fn loops(&self) -> crate::watchdog::LoopStats {
        self.loops.stats()
    }

    #[cfg(feature = "context")]
    pub(super) fn watched(&self) -> &super::watched::Loops {
        &self.loops
    }
}

// ===== impl Counter =====

impl Counter {
    #[inline]
    pub(super) fn increment(&self) {
        self.replace(0, 1);
    }

    #[inline]
    pub(super) fn decrement(&self) {
        self.replace(1, 0);
    }

    #[inline]
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn replace(&self, old: u64, new: u64) {
        // With one writer a load and a store are enough.
        self.0.store(self.get().wrapping_sub(old).wrapping_add(new), Ordering::Relaxed);
    }
}
