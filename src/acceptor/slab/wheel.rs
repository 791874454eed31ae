//! The deadlines of all entries of a worker.
//!
//! A coarse wheel: a deadline is rounded up to one of at most [`TICKS_PER_OCTAVE`] moments for each doubling of its
//! distance, so that thousands of deadlines share a moment and one timer waits for the first of them. Moving a deadline
//! further away, which is what each request on a kept connection does, costs nothing: the entry is looked at when its
//! old moment comes, and put off.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::timer::Alarm;

/// Half of these lie in an octave at the least, so that a deadline is late by its distance divided by 32 at the most, or
/// by a millisecond if that is more.
const TICKS_PER_OCTAVE: u32 = 64;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// The longest distance. A deadline beyond it is looked at after this time, and put off.
const DISTANCE_MILLIS_MAX: u32 = 1 << 24;

/// A moment, in milliseconds since the worker began; `0` is never. It lasts for 49 days and then begins anew, which the
/// distance above allows to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u32);

/// When which entries are to be looked at.
#[derive(Debug)]
pub(super) struct Wheel {
    // Nanoseconds on the alarms' scale.
    began: i64,
    // Milliseconds since then, at the last advance. In 64 bits, which do not wrap.
    moments: BTreeMap<u64, Vec<u32>>,
}

// ===== impl Tick =====

impl Tick {
    pub(super) const NEVER: Self = Self(0);

    pub(super) fn is_set(self) -> bool {
        self != Self::NEVER
    }

    /// Whether this moment has come at `now`.
    pub(super) fn has_come(self, now: Self) -> bool {
        self.is_set() && now.0.wrapping_sub(self.0) < u32::MAX / 2
    }

    /// Whether this moment is before `other`.
    pub(super) fn is_before(self, other: Self) -> bool {
        self != other && other.has_come_after(self)
    }

    fn has_come_after(self, earlier: Self) -> bool {
        self.0.wrapping_sub(earlier.0) < u32::MAX / 2
    }
}

// ===== impl Wheel =====

impl Wheel {
    pub(super) fn new(now: Alarm) -> Self {
        // One moment in the past, so that none is the number of never.
        Self { began: now.nanos() - NANOS_PER_MILLI, moments: BTreeMap::new() }
    }

    fn millis(&self, alarm: Alarm) -> u64 {
        // Rounded up: nothing is early.
        u64::try_from(alarm.nanos().saturating_sub(self.began).saturating_add(NANOS_PER_MILLI - 1) / NANOS_PER_MILLI)
            .unwrap_or(0)
    }

    fn tick(millis: u64) -> Tick {
        // The lower 32 bits: a tick is compared with others near to it only.
        Tick((millis as u32).max(1))
    }

    /// The moment that it is.
    pub(super) fn now(&self, now: Alarm) -> Tick {
        let millis = now.nanos().saturating_sub(self.began) / NANOS_PER_MILLI;
        Self::tick(u64::try_from(millis).unwrap_or(0))
    }

    /// The moment for an alarm, coarse.
    pub(super) fn due(&self, alarm: Alarm, now: Alarm) -> Tick {
        let (at, now) = (self.millis(alarm), self.millis(now));
        let distance = at.saturating_sub(now).min(u64::from(DISTANCE_MILLIS_MAX));
        let step = (distance / u64::from(TICKS_PER_OCTAVE)).next_power_of_two().max(1);
        Self::tick((now + distance).next_multiple_of(step))
    }

    /// Has `key` looked at when `due` comes.
    pub(super) fn insert(&mut self, due: Tick, key: u32, now: Alarm) {
        let now = self.millis(now);
        let ahead = due.0.wrapping_sub(Self::tick(now).0);
        // A moment that has passed is the next one.
        let ahead = if ahead < u32::MAX / 2 { ahead } else { 0 };
        self.moments.entry(now + u64::from(ahead)).or_default().push(key);
    }

    /// Takes those whose moment has come out, the earliest first, up to `max` of them or one moment's.
    pub(super) fn advance(&mut self, now: Alarm, max: usize, due: &mut Vec<u32>) {
        let now = u64::try_from(now.nanos().saturating_sub(self.began) / NANOS_PER_MILLI).unwrap_or(0);
        while due.len() < max {
            let Some(first) = self.moments.first_entry().filter(|first| *first.key() <= now) else { return };
            let mut keys = first.remove();
            if due.is_empty() { std::mem::swap(due, &mut keys) } else { due.append(&mut keys) }
        }
    }

    /// When the next moment comes.
    pub(super) fn next(&self) -> Option<Instant> {
        let (millis, _) = self.moments.first_key_value()?;
        let after = i64::try_from(*millis).unwrap_or(i64::MAX).saturating_mul(NANOS_PER_MILLI);
        Alarm::from_nanos(self.began.saturating_add(after)).instant()
    }

    /// How long it is until a moment.
    pub(super) fn until(&self, due: Tick, now: Alarm) -> Duration {
        let now = self.now(now);
        Duration::from_millis(if due.has_come(now) { 0 } else { u64::from(due.0.wrapping_sub(now.0)) })
    }
}
