//! One loop's side: what it tells, and what is known of it.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::histogram::{Counts, Histogram};
use super::lock;
use crate::context::Context;

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

/// While it lives, polls on this thread are the watched loop's.
#[must_use = "polls are the loop's only while this lives"]
#[derive(Debug)]
pub struct Watching {
    former: Option<LoopWatch>,
    // It puts back a thread's own state, so that it must stay on that thread.
    _of_this_thread: PhantomData<*const ()>,
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
    polling: Mutex<Option<Context>>,
    stalls: AtomicU64,
    longest_stall: AtomicU64,
    turns: Counts,
}

thread_local! {
    static WATCHED: RefCell<Option<LoopWatch>> = const { RefCell::new(None) };
}

/// Whether a loop is watched on this thread, so that it is worth telling what is polled.
pub(crate) fn is_watched() -> bool {
    WATCHED.with_borrow(Option::is_some)
}

/// Has `context`'s request known as the one being polled while `poll` runs, if a loop is watched on this thread.
pub(crate) fn polling<R>(context: Option<&Context>, poll: impl FnOnce() -> R) -> R {
    struct Ended(LoopWatch, Option<Context>);
    impl Drop for Ended {
        fn drop(&mut self) {
            // Time first: the request is still named if this turns out to have been a stall.
            self.0.shared.progress(self.0.shared.now());
            *lock(&self.0.shared.polling) = self.1.take();
        }
    }
    let watched = WATCHED.with_borrow(Clone::clone);
    let _ended = watched.zip(context).map(|(watch, context)| {
        watch.shared.progress(watch.shared.now());
        let former = lock(&watch.shared.polling).replace(context.clone());
        Ended(watch, former)
    });
    poll()
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

    /// A task for a loop that nothing else tells of: a turn begins each time its timer gets to run, four times in
    /// each threshold, so that a stall may seem a quarter of it longer than it was. Its turns are the times between two of these, sleep
    /// included. Never resolves.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the loop counts as asleep.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime that has its timer enabled.
    pub async fn heartbeat(self) {
        struct Asleep(LoopWatch);
        impl Drop for Asleep {
            fn drop(&mut self) {
                self.0.idle();
            }
        }
        let watch = Asleep(self);
        let mut beats = tokio::time::interval((watch.0.shared.threshold / 4).max(Duration::from_millis(1)));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            watch.0.turn();
        }
    }

    /// Makes the polls on this thread this loop's, until what it returns is dropped.
    pub fn watch_thread(&self) -> Watching {
        let former = WATCHED.replace(Some(self.clone()));
        Watching { former, _of_this_thread: PhantomData }
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

// ===== impl Watching =====

impl Drop for Watching {
    fn drop(&mut self) {
        WATCHED.replace(self.former.take());
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
            polling: Mutex::new(None),
            stalls: AtomicU64::new(0),
            longest_stall: AtomicU64::new(0),
            turns: Counts::default(),
        }
    }

    /// Never 0, which means asleep.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// A sign of life, by the loop's thread. If the last one is too long ago, a stall has ended here.
    fn progress(&self, now: u64) {
        let before = self.progressed.swap(now, Ordering::SeqCst);
        if self.turn_began.load(Ordering::SeqCst) == 0 {
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

    fn turn_ended(&self, now: u64, next_began: u64) {
        let began = self.turn_began.swap(next_began, Ordering::SeqCst);
        if began != 0 {
            self.turns.add(Duration::from_nanos(now.saturating_sub(began)));
        }
    }

    /// The watchdog's look at the loop, from its own thread.
    pub(super) fn look(&self) {
        let progressed = self.progressed.load(Ordering::SeqCst);
        if self.turn_began.load(Ordering::SeqCst) == 0 {
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

    fn log_begin(&self, stalled: Duration, polling: Option<&Context>) {
        let (name, stalled_ms) = (self.name.as_str(), stalled.as_millis());
        match polling {
            Some(request) => tracing::warn!(
                name, stalled_ms, method = %request.method(), path = request.uri().path(), id = request.id(),
                "the loop does not turn: it is polling a request"
            ),
            None => tracing::warn!(name, stalled_ms, "the loop does not turn: it is doing something unknown"),
        }
    }

    fn log_end(&self, stalled: Duration, polling: Option<&Context>) {
        let (name, stalled_ms) = (self.name.as_str(), stalled.as_millis());
        match polling {
            Some(request) => tracing::warn!(
                name, stalled_ms, method = %request.method(), path = request.uri().path(), id = request.id(),
                "the loop turns again"
            ),
            None => tracing::warn!(name, stalled_ms, "the loop turns again"),
        }
    }
}
