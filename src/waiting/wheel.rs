//! Coarse deadlines for very many waiters: a hashed timing wheel, 32 bytes for each.
//!
//! A deadline is met at most [`TICK`] late and never early.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Driven, List, NONE, Slots, drive, lock};
use crate::timer::{Alarm, Packed};

/// Waits are given in whole seconds (RFC 7240 section 4.3): a tenth of one more is not noticed.
const TICK: Duration = Duration::from_millis(100);

/// Buckets of the wheel. A longer wait than these ticks goes round more than once.
const BUCKETS: u32 = 512;

/// How many are woken before the loop has a turn.
const WAKES_IN_SLICE: usize = 256;

/// The deadlines of all waiters of one service.
pub(crate) struct Wheel {
    timers: Mutex<Timers>,
}

struct Timers {
    slots: Slots<Timer>,
    buckets: Box<[List]>,
    base: Instant,
    // The last tick whose bucket has been emptied.
    done: u32,
    // How many are still in a bucket.
    armed: usize,
    driven: bool,
}

struct Timer {
    waker: Waker,
    tick: u32,
}

/// One waiter's deadline. Dropping it takes it off the wheel at once.
///
/// It is on the wheel only where nobody else keeps the time for it: an acceptor has one timer for all that it polls.
pub(crate) struct Deadline {
    wheel: Arc<Wheel>,
    alarm: Packed,
    // `NONE` while it is not on the wheel.
    key: u32,
}

// ===== impl Wheel =====

impl Wheel {
    pub(crate) fn new() -> Arc<Self> {
        let timers = Timers {
            slots: Slots::new(),
            buckets: (0..BUCKETS).map(|_| List::new()).collect(),
            base: Instant::now(),
            done: 0,
            armed: 0,
            driven: false,
        };
        Arc::new(Self { timers: Mutex::new(timers) })
    }
}

impl Driven for Wheel {
    fn step(&self) -> Option<Instant> {
        let mut wakes = Vec::new();
        let next = lock(&self.timers).turn(&mut wakes);
        wakes.into_iter().for_each(Waker::wake);
        next
    }

    fn abandoned(&self) {
        // Each of them is polled again, and the first finds that nobody drives the wheel.
        let wakers: Vec<Waker> = {
            let mut timers = lock(&self.timers);
            timers.driven = false;
            timers.slots.iter_mut().map(|timer| std::mem::replace(&mut timer.waker, Waker::noop().clone())).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

// ===== impl Timers =====

impl Timers {
    fn tick_at(&self, at: Instant) -> u32 {
        let ticks = at.saturating_duration_since(self.base).as_millis() / TICK.as_millis();
        // Thirteen years of ticks: a deadline beyond that is never met.
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    fn arm(&mut self, key: u32, alarm: Alarm) {
        if self.armed == 0 {
            // The wheel stood still while it was empty.
            self.done = self.tick_at(Instant::now());
        }
        let tick = alarm.instant().map_or(u32::MAX, |at| self.tick_at(at).saturating_add(1));
        let tick = tick.max(self.done.saturating_add(1));
        self.slots.get_mut(key).tick = tick;
        self.slots.push_back(&mut self.buckets[(tick % BUCKETS) as usize], key);
        self.armed += 1;
    }

    fn disarm(&mut self, key: u32) {
        if self.slots.is_linked(key) {
            let tick = self.slots.get(key).tick;
            self.slots.unlink(&mut self.buckets[(tick % BUCKETS) as usize], key);
            self.armed -= 1;
        }
    }

    /// Empties the buckets that are due, or as many as a slice allows, and tells when to come back.
    fn turn(&mut self, wakes: &mut Vec<Waker>) -> Option<Instant> {
        let target = self.tick_at(Instant::now());
        // After a long pause each bucket is looked at once, with all of the ticks in mind.
        let first = self.done.saturating_add(1).max(target.saturating_sub(BUCKETS - 1));
        for tick in first..=target {
            if !self.empty_bucket(tick, target, wakes) {
                return Some(Instant::now());
            }
            self.done = tick;
        }
        if self.armed == 0 {
            self.driven = false;
            return None;
        }
        Some(self.base + TICK * (target + 1))
    }

    /// Whether the bucket was dealt with before the slice was used up.
    fn empty_bucket(&mut self, tick: u32, target: u32, wakes: &mut Vec<Waker>) -> bool {
        let bucket = (tick % BUCKETS) as usize;
        let mut at = self.buckets[bucket].front();
        while let Some(key) = at {
            at = self.slots.next(key);
            if self.slots.get(key).tick <= target {
                if wakes.len() == WAKES_IN_SLICE {
                    return false;
                }
                self.slots.unlink(&mut self.buckets[bucket], key);
                self.armed -= 1;
                wakes.push(std::mem::replace(&mut self.slots.get_mut(key).waker, Waker::noop().clone()));
            }
        }
        true
    }
}

// ===== impl Deadline =====

impl Deadline {
    /// A deadline `after` from now.
    pub(crate) fn after(wheel: &Arc<Wheel>, after: Duration) -> Self {
        Self { wheel: wheel.clone(), alarm: Alarm::after(after).into(), key: NONE }
    }

    /// Ready once the deadline has passed. Panics outside of a tokio runtime that has its timer enabled, unless whoever
    /// polls keeps the time.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Some(polled) = Alarm::from(self.alarm).poll_hosted(cx) {
            self.leave_wheel();
            return polled;
        }
        let mut timers = lock(&self.wheel.timers);
        if self.key == NONE {
            self.key = timers.slots.insert(Timer { waker: Waker::noop().clone(), tick: NONE });
            timers.arm(self.key, self.alarm.into());
        }
        if !timers.slots.is_linked(self.key) {
            return Poll::Ready(());
        }
        let waker = &mut timers.slots.get_mut(self.key).waker;
        let replaced = (!waker.will_wake(cx.waker())).then(|| std::mem::replace(waker, cx.waker().clone()));
        let driven = timers.driven;
        drop(timers);
        if !driven {
            self.drive();
        }
        // A waker may run foreign code when it is dropped, which must not find the lock taken.
        drop(replaced);
        Poll::Pending
    }

    /// Moves the deadline to `after` from now, also one that has passed.
    pub(crate) fn rearm(&mut self, after: Duration) {
        self.alarm = Alarm::after(after).into();
        if self.key != NONE {
            let mut timers = lock(&self.wheel.timers);
            timers.disarm(self.key);
            timers.arm(self.key, self.alarm.into());
        }
    }

    #[cold]
    fn drive(&self) {
        // Looked up before the flag is set: it panics outside of a runtime.
        let runtime = Handle::current();
        let taken = std::mem::replace(&mut lock(&self.wheel.timers).driven, true);
        if !taken {
            drive(&self.wheel, &runtime);
        }
    }

    fn leave_wheel(&mut self) {
        if self.key == NONE {
            return;
        }
        let key = std::mem::replace(&mut self.key, NONE);
        let mut timers = lock(&self.wheel.timers);
        timers.disarm(key);
        let timer = timers.slots.remove_detached(key);
        drop(timers);
        drop(timer);
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.leave_wheel();
    }
}
