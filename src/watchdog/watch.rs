//! One loop's side: what it tells, and what is known of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::histogram::{Counts, Histogram};
use super::lock;
use super::polled::{Polled, Watching};

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
    pub(super) shared: Arc<Shared>,
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

pub(super) struct Shared {
    name: String,
    threshold: Duration,
    epoch: Instant,
    // Nanoseconds since the epoch, 0 for asleep.
    turn_began: AtomicU64,
    // When it last showed a sign of life: a turn, or a poll that began or ended.
    progressed: AtomicU64,
    // The watchdog has logged the stall that goes on.
    reported: AtomicBool,
    // A task of the loop gives signs of life: it cannot sleep for long.
    beating: AtomicBool,
    pub(super) polling: Mutex<Option<Polled>>,
    stalls: AtomicU64,
    longest_stall: AtomicU64,
    turns: Counts,
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
        Watching::begin(self.clone())
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

// ===== impl Shared =====

impl Shared {
    pub(super) fn new(name: String, threshold: Duration) -> Self {
        Self {
            name,
            threshold,
            epoch: Instant::now(),
            turn_began: AtomicU64::new(0),
            progressed: AtomicU64::new(0),
            reported: AtomicBool::new(false),
            beating: AtomicBool::new(false),
            polling: Mutex::new(None),
            stalls: AtomicU64::new(0),
            longest_stall: AtomicU64::new(0),
            turns: Counts::default(),
        }
    }

    /// Never 0, which means asleep.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// A sign of life, by the loop's thread. If the last one is too long ago, a stall has ended here.
    pub(super) fn progress(&self, now: u64) {
        let before = self.progressed.swap(now, Ordering::SeqCst);
        if self.is_asleep() {
            return;
        }
        let stalled = Duration::from_nanos(now.saturating_sub(before));
        if stalled < self.threshold {
            return;
        }
        self.stalls.fetch_add(1, Ordering::Relaxed);
        self.longest_stall.fetch_max(now.saturating_sub(before), Ordering::Relaxed);
        if self.reported.swap(false, Ordering::SeqCst) {
            let polling = lock(&self.polling).clone();
            self.log_end(stalled, polling.as_ref());
        }
    }

    fn is_asleep(&self) -> bool {
        self.turn_began.load(Ordering::SeqCst) == 0 && !self.beating.load(Ordering::SeqCst)
    }

    fn turn_ended(&self, now: u64, next_began: u64) {
        let began = self.turn_began.swap(next_began, Ordering::SeqCst);
        if began != 0 {
            self.turns.add(Duration::from_nanos(now.saturating_sub(began)));
        }
    }

    /// The watchdog's look at the loop, from its own thread.
    pub(super) fn look(&self) {
        let progressed = self.progressed.load(Ordering::SeqCst);
        if self.is_asleep() {
            return;
        }
        let stalled = Duration::from_nanos(self.now().saturating_sub(progressed));
        if stalled < self.threshold || self.reported.swap(true, Ordering::SeqCst) {
            return;
        }
        // Held while logging: a loop that goes on meanwhile waits here with its own line, which comes second.
        let polling = lock(&self.polling);
        let went_on = self.progressed.load(Ordering::SeqCst) != progressed;
        // Went on and took the mark: it will log the end, so that this has to be logged. Went on before the mark was
        // there: nobody will.
        if went_on && self.reported.swap(false, Ordering::SeqCst) {
            return;
        }
        self.log_begin(stalled, polling.as_ref());
    }

    fn log_begin(&self, stalled: Duration, polling: Option<&Polled>) {
        let (name, stalled_ms) = (self.name.as_str(), stalled.as_millis());
        match polling {
            Some(Polled::Known(request)) => tracing::warn!(
                name, stalled_ms, method = %request.method(), path = request.uri().path(), id = request.id(),
                "the loop does not turn: it is polling a request"
            ),
            Some(Polled::Called { method, uri }) => tracing::warn!(
                name, stalled_ms, %method, path = uri.path(), "the loop does not turn: it is polling a request"
            ),
            Some(Polled::Unknown) => tracing::warn!(
                name,
                stalled_ms,
                "the loop does not turn: it is polling a request, and `WithContext` would tell which"
            ),
            None => tracing::warn!(name, stalled_ms, "the loop does not turn: it is doing something unknown"),
        }
    }

    fn log_end(&self, stalled: Duration, polling: Option<&Polled>) {
        let (name, stalled_ms) = (self.name.as_str(), stalled.as_millis());
        match polling {
            Some(Polled::Known(request)) => tracing::warn!(
                name, stalled_ms, method = %request.method(), path = request.uri().path(), id = request.id(),
                "the loop turns again"
            ),
            Some(Polled::Called { method, uri }) => {
                tracing::warn!(name, stalled_ms, %method, path = uri.path(), "the loop turns again");
            }
            Some(Polled::Unknown) | None => tracing::warn!(name, stalled_ms, "the loop turns again"),
        }
    }
}
