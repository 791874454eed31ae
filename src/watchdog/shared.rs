//! What a loop and its watchdog share: when it has last shown a sign of life, and what it has come to.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::histogram::Counts;
use super::lock;
use super::polled::Polled;

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) threshold: Duration,
    epoch: Instant,
    // Nanoseconds since the epoch, 0 for asleep.
    turn_began: AtomicU64,
    // When it last showed a sign of life: a turn, or a poll that began or ended.
    progressed: AtomicU64,
    // The watchdog has logged the stall that goes on.
    reported: AtomicBool,
    // A task of the loop gives signs of life: it cannot sleep for long.
    pub(super) beating: AtomicBool,
    pub(super) polling: Mutex<Option<Polled>>,
    pub(super) stalls: AtomicU64,
    pub(super) longest_stall: AtomicU64,
    pub(super) turns: Counts,
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

    pub(super) fn turn_ended(&self, now: u64, next_began: u64) {
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

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}
