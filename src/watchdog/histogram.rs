//! How often things took how long, in buckets of doubling width.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bucket `n` counts what took less than `2^n` microseconds and was not in one before; the last takes the rest.
const BUCKETS: usize = 26;

/// How often the loop's turns took how long.
///
/// The bounds of its 26 buckets are the powers of two from 1 µs to 2^24 µs (16.8 s), and none for the last.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
}

/// Counted into by one thread, read by any.
#[derive(Default)]
pub(super) struct Counts {
    buckets: [AtomicU64; BUCKETS],
}

// ===== impl Histogram =====

impl Histogram {
    /// How many turns were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The buckets that have something in them, from short to long: an upper bound (exclusive) and how many turns took
    /// less than it and not less than half of it. The longest bucket's bound is [`Duration::MAX`].
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.buckets.iter().enumerate().filter(|(_, count)| **count > 0).map(|(n, count)| (bound(n), *count))
    }

    #[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "an acceptor's"))]
    pub(super) fn and(self, other: Self) -> Self {
        Self { buckets: std::array::from_fn(|n| self.buckets[n] + other.buckets[n]) }
    }

    /// A bound that the given share of turns (`0.99` for 99 of 100) stayed under; zero when nothing was counted.
    pub fn quantile(&self, share: f64) -> Duration {
        let total = self.count();
        let mut seen = 0;
        for (bound, count) in self.buckets() {
            seen += count;
            if seen as f64 >= total as f64 * share {
                return bound;
            }
        }
        Duration::ZERO
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets().map(|(bound, count)| (Below(bound), count))).finish()
    }
}

struct Below(Duration);

impl fmt::Debug for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Duration::MAX { f.write_str("longer") } else { write!(f, "<{:?}", self.0) }
    }
}

// ===== impl Counts =====

impl Counts {
    pub(super) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let n = (u64::BITS - micros.leading_zeros()) as usize;
        self.buckets[n.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Histogram {
        Histogram { buckets: std::array::from_fn(|n| self.buckets[n].load(Ordering::Relaxed)) }
    }
}

fn bound(n: usize) -> Duration {
    if n == BUCKETS - 1 { Duration::MAX } else { Duration::from_micros(1 << n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_stands_under_the_next_power_of_two() {
        let counts = Counts::default();
        for micros in [0, 1, 2, 3, 4, 1_000_000, u64::MAX] {
            counts.add(Duration::from_micros(micros));
        }
        let micros = Duration::from_micros;
        let expected =
            [(micros(1), 1), (micros(2), 1), (micros(4), 2), (micros(8), 1), (micros(1 << 20), 1), (Duration::MAX, 1)];
        assert_eq!(counts.snapshot().buckets().collect::<Vec<_>>(), expected);
        assert_eq!(counts.snapshot().quantile(0.5), micros(4));
    }
}
