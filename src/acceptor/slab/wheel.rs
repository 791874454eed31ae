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

/// A deadline is late by its distance divided by this at the most, and by less than two milliseconds beside that.
const TICKS_PER_OCTAVE: u32 = 64;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Half of all ticks, in milliseconds: a tick that is further ahead than this is behind.
const HALF_ROUND_MILLIS: u32 = 1 << 30;

/// The longest distance, six days: with what it is rounded up by it is less than half a round, so that what has come
/// and what has not are told apart. What is further away comes after this time.
const DISTANCE_MILLIS_MAX: u32 = HALF_ROUND_MILLIS / 2;

/// A moment: milliseconds since the worker began in the upper 31 bits, which begin anew after 24 days, and a one. `0`
/// is never.
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

    fn at(millis: u64) -> Self {
        // The lower bits: a tick is compared with others near to it only.
        Self((millis as u32) << 1 | 1)
    }

    /// Milliseconds from `earlier` to this, or a round less what they are from this to `earlier`.
    fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0) >> 1
    }

    /// Whether this moment has come at `now`.
    pub(super) fn has_come(self, now: Self) -> bool {
        self.is_set() && now.since(self) < HALF_ROUND_MILLIS
    }

    /// Whether this moment is before `other`.
    pub(super) fn is_before(self, other: Self) -> bool {
        self != other && other.since(self) < HALF_ROUND_MILLIS
    }
}

// ===== impl Wheel =====

impl Wheel {
    pub(super) fn new(now: Alarm) -> Self {
        Self { began: now.nanos(), moments: BTreeMap::new() }
    }

    fn millis(&self, alarm: Alarm) -> u64 {
        // Rounded up: nothing is early.
        u64::try_from(alarm.nanos().saturating_sub(self.began).saturating_add(NANOS_PER_MILLI - 1) / NANOS_PER_MILLI)
            .unwrap_or(0)
    }

    /// The moment that it is.
    pub(super) fn now(&self, now: Alarm) -> Tick {
        let millis = now.nanos().saturating_sub(self.began) / NANOS_PER_MILLI;
        Tick::at(u64::try_from(millis).unwrap_or(0))
    }

    /// The moment for an alarm, coarse.
    pub(super) fn due(&self, alarm: Alarm, now: Alarm) -> Tick {
        let (at, now) = (self.millis(alarm), self.millis(now));
        let distance = at.saturating_sub(now).min(u64::from(DISTANCE_MILLIS_MAX));
        // The power of two below: one above it would be late by twice as much.
        let step = 1 << (distance / u64::from(TICKS_PER_OCTAVE)).max(1).ilog2();
        Tick::at((now + distance).next_multiple_of(step))
    }

    /// Has `key` looked at when `due` comes. `queued` is where it stands already, and may be good enough.
    pub(super) fn arm(&mut self, due: Tick, queued: &mut Tick, key: u32, now: Alarm) {
        if due.is_set() && (!queued.is_set() || due.is_before(*queued)) {
            self.insert(due, key, now);
            *queued = due;
        }
    }

    /// A moment of `key` has come. Says whether it is that of `due`; if `due` was put off, it will be.
    pub(super) fn ring(&mut self, due: Tick, queued: &mut Tick, key: u32, now: Alarm) -> bool {
        let tick = self.now(now);
        if queued.has_come(tick) {
            *queued = Tick::NEVER;
        }
        if due.has_come(tick) {
            return true;
        }
        self.arm(due, queued, key, now);
        false
    }

    fn insert(&mut self, due: Tick, key: u32, now: Alarm) {
        let now = self.millis(now);
        let ahead = due.since(Tick::at(now));
        // A moment that has passed is the next one.
        let ahead = if ahead < HALF_ROUND_MILLIS { ahead } else { 0 };
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
        Duration::from_millis(if due.has_come(now) { 0 } else { u64::from(due.since(now)) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLI: i64 = NANOS_PER_MILLI;
    const ROUND: i64 = HALF_ROUND_MILLIS as i64 * 2;

    /// What happens to one of a few entries, or to the clock. Times are in nanoseconds.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Arm { key: usize, after: i64 },
        Disarm { key: usize },
        Pass { nanos: i64 },
    }

    #[derive(Clone, Copy, Debug, Default)]
    struct Entry {
        due: Tick,
        queued: Tick,
        /// The naive model: when exactly it is due, and how much later it may be.
        exact: Option<(i64, i64)>,
    }

    struct Run {
        wheel: Wheel,
        entries: [Entry; 5],
        now: i64,
    }

    impl Run {
        /// A wheel that has been turning for so long with nothing in it.
        fn new(turned_millis: i64) -> Self {
            let began = 12_345_678;
            let mut run =
                Self { wheel: Wheel::new(Alarm::from_nanos(began)), entries: <[Entry; 5]>::default(), now: began };
            run.pass(turned_millis * MILLI);
            run
        }

        fn arm(&mut self, key: usize, after: i64) {
            let now = Alarm::from_nanos(self.now);
            let entry = &mut self.entries[key];
            let after = after.min(i64::from(DISTANCE_MILLIS_MAX) * MILLI);
            entry.due = self.wheel.due(Alarm::from_nanos(self.now + after), now);
            entry.exact = Some((self.now + after, after / i64::from(TICKS_PER_OCTAVE) + 2 * MILLI));
            self.wheel.arm(entry.due, &mut entry.queued, key as u32, now);
        }

        fn disarm(&mut self, key: usize) {
            (self.entries[key].due, self.entries[key].exact) = (Tick::NEVER, None);
        }

        /// Sleeps as the loop does. Returns how often it was woken.
        fn pass(&mut self, nanos: i64) -> usize {
            let until = self.now + nanos;
            let mut wakes = 0;
            while let Some(next) = self.wheel.next().map(|next| Alarm::at(next).nanos()).filter(|next| *next <= until) {
                self.now = self.now.max(next);
                self.wake();
                wakes += 1;
            }
            self.now = until;
            for entry in self.entries {
                let overdue = entry.exact.is_some_and(|(exact, tolerance)| self.now > exact + tolerance);
                assert!(!overdue, "at {} there is still {entry:?}", self.now);
            }
            wakes
        }

        fn wake(&mut self) {
            let now = Alarm::from_nanos(self.now);
            let mut keys = Vec::new();
            self.wheel.advance(now, 1, &mut keys);
            assert!(!keys.is_empty(), "woken for nothing");
            for key in keys {
                let entry = &mut self.entries[key as usize];
                if self.wheel.ring(entry.due, &mut entry.queued, key, now) {
                    let (exact, tolerance) = entry.exact.expect("only what is armed rings");
                    assert!(exact <= self.now, "rings {} ns too early", exact - self.now);
                    assert!(self.now <= exact + tolerance, "rings {} ns late", self.now - exact);
                    self.disarm(key as usize);
                }
            }
        }
    }

    /// Of all magnitudes.
    fn nanos() -> impl Strategy<Value = i64> {
        prop_oneof![0..3 * MILLI, 0..1000 * MILLI, 0..100_000 * MILLI, 0..(1 << 26) * MILLI, 0..(1 << 31) * MILLI,]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..5_usize, nanos()).prop_map(|(key, after)| Step::Arm { key, after }),
            1 => (0..5_usize).prop_map(|key| Step::Disarm { key }),
            4 => nanos().prop_map(|nanos| Step::Pass { nanos }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_deadline_is_never_early_and_late_by_little(
            turned in prop_oneof![Just(0), Just(ROUND / 2 - 50), ROUND - 100_000..ROUND + 10, 3 * ROUND - 10..3 * ROUND],
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut run = Run::new(turned);
            for step in steps {
                match step {
                    Step::Arm { key, after } => run.arm(key, after),
                    Step::Disarm { key } => run.disarm(key),
                    Step::Pass { nanos } => drop(run.pass(nanos)),
                }
            }
            run.pass(i64::from(DISTANCE_MILLIS_MAX) * 2 * MILLI);
            prop_assert!(run.entries.iter().all(|entry| entry.exact.is_none()), "all have rung: {:?}", run.entries);
            prop_assert!(run.wheel.moments.is_empty());
        }
    }

    #[test]
    fn what_is_put_off_again_and_again_wakes_once_for_each_of_its_distances() {
        let mut run = Run::new(0);
        let second = 1000 * MILLI;
        let wakes: usize = (0..1000)
            .map(|_| {
                run.arm(0, 30 * second);
                run.pass(second / 10)
            })
            .sum();
        assert!(wakes <= 100 / 30, "woken {wakes} times in 100 seconds");
        assert_eq!(run.wheel.moments.values().map(Vec::len).sum::<usize>(), 1);
    }

    #[test]
    fn seventeen_thousand_deadlines_wake_nobody_before_one_is_due() {
        let began = 1_000_000;
        let mut wheel = Wheel::new(Alarm::from_nanos(began));
        let wait = 30_000 * MILLI;
        // All within a second.
        for key in 0..17_000 {
            let now = began + i64::from(key) * MILLI / 17;
            let (now, at) = (Alarm::from_nanos(now), Alarm::from_nanos(now + wait));
            wheel.arm(wheel.due(at, now), &mut Tick::NEVER.clone(), key, now);
        }
        let next = Alarm::at(wheel.next().unwrap()).nanos();
        assert!(next >= began + wait, "woken {} ns before anything is due", began + wait - next);
        assert!(wheel.moments.len() <= 5, "they share {} moments", wheel.moments.len());
    }

    #[test]
    fn moments_are_as_coarse_as_they_may_be() {
        let now = Alarm::from_nanos(1_000_000);
        let wheel = Wheel::new(now);
        let due = |millis: i64| wheel.due(Alarm::from_nanos(now.nanos() + millis * MILLI), now);
        let moments: std::collections::BTreeSet<_> = (30_000..60_000).map(due).collect();
        assert!(moments.len() <= TICKS_PER_OCTAVE as usize + 1, "{} moments", moments.len());
    }
}
