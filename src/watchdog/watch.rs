//! One loop's side: what it tells, and what is known of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::histogram::Histogram;
use super::shared::Shared;
use super::watching::Watching;

/// One watched loop's side of a [`Watchdog`](super::Watchdog). Cheap to clone.
///
/// A loop of one's own calls [`turn`](Self::turn) as each turn begins and [`idle`](Self::idle) before it sleeps. A
/// tokio runtime does so with [`on_runtime`](Self::on_runtime) or, when it is not ours to build, through a task with
/// [`heartbeat`](Self::heartbeat). On the loop's thread [`watch_thread`](Self::watch_thread) lets the log name the
/// request that was being polled.
///
/// # What happens on drop
///
/// The last one ends the watch.
#[derive(Clone)]
pub struct LoopWatch {
    shared: Arc<Shared>,
}

/// What is known of a loop so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopStats {
    /// How often it did not turn for the threshold or more.
    pub stalls: u64,
    /// The longest of these, over; a stall that goes on is not in it.
    pub longest_stall: Duration,
    /// How long its turns took, sleep not counted.
    pub turns: Histogram,
}

// ===== impl LoopWatch =====

impl LoopWatch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A turn begins: the loop has come back to its start, or has woken up.
    pub fn turn(&self) {
        let now = self.shared.now();
        self.shared.progress(now);
        self.shared.turn_ended(now, now);
    }

    /// The turn is over and the loop is about to wait for something to happen: it cannot stall until the next
    /// [`turn`](Self::turn).
    pub fn idle(&self) {
        let now = self.shared.now();
        self.shared.progress(now);
        self.shared.turn_ended(now, 0);
    }

    /// Has a runtime tell when its thread wakes up and goes to sleep. For a current-thread runtime; with more threads
    /// one that sleeps would speak for the others.
    pub fn on_runtime<'a>(&self, runtime: &'a mut tokio::runtime::Builder) -> &'a mut tokio::runtime::Builder {
        let (parks, wakes) = (self.clone(), self.clone());
        runtime.on_thread_park(move || parks.idle()).on_thread_unpark(move || wakes.turn())
    }

    /// A task that gives signs of life, four times in each threshold: for a loop that is not ours to build, or that has
    /// other tasks beside the one that tells of its turns. Whatever holds up the thread is a stall then, and may seem a
    /// quarter of the threshold longer than it was. A sign of life is no turn. Never resolves.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the loop counts as asleep, unless it is in a [`turn`](Self::turn).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime that has its timer enabled.
    pub async fn heartbeat(self) {
        struct Beating(LoopWatch);
        impl Drop for Beating {
            fn drop(&mut self) {
                let shared = &self.0.shared;
                shared.progress(shared.now());
                shared.beating.store(false, Ordering::SeqCst);
            }
        }
        let mut beats = tokio::time::interval((self.shared.threshold / 4).max(Duration::from_millis(1)));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let watch = Beating(self);
        let shared = &watch.0.shared;
        shared.progress(shared.now());
        shared.beating.store(true, Ordering::SeqCst);
        loop {
            beats.tick().await;
            shared.progress(shared.now());
        }
    }

    /// Makes the polls on this thread this loop's, until what it returns is dropped.
    pub fn watch_thread(&self) -> Watching {
        Watching::begin(self.shared.clone())
    }

    /// What is known of the loop so far. May be called on any thread.
    pub fn stats(&self) -> LoopStats {
        LoopStats {
            stalls: self.shared.stalls.load(Ordering::Relaxed),
            longest_stall: Duration::from_nanos(self.shared.longest_stall.load(Ordering::Relaxed)),
            turns: self.shared.turns.snapshot(),
        }
    }
}

impl fmt::Debug for LoopWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopWatch").field("name", &self.shared.name).field("stats", &self.stats()).finish()
    }
}

// ===== impl LoopStats =====

impl LoopStats {
    /// What is known of two loops, put together.
    #[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "an acceptor's"))]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            stalls: self.stalls + other.stalls,
            longest_stall: self.longest_stall.max(other.longest_stall),
            turns: self.turns.and(other.turns),
        }
    }
}
