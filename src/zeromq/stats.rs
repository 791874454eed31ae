//! What has happened so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// What [`Workers`](super::Workers) have done so far. Counts begin at 0 when they are bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkersStats {
    /// Workers that are known now.
    pub workers: u64,
    /// Jobs that wait for a worker now.
    pub queued: u64,
    /// Jobs that workers have in hand now.
    pub in_hand: u64,
    /// Jobs answered by a worker.
    pub answered: u64,
    /// Hand-overs of a job that had been handed over before.
    pub given_again: u64,
    /// Jobs whose client left first.
    pub cancelled: u64,
    /// Jobs that got `503`: the queue was full, or no worker became free in time.
    pub refused: u64,
    /// Jobs that got `504`: the worker was lost or hung, and the job might not be, or no longer be, given again.
    pub given_up: u64,
    /// Jobs that got `502`: the worker failed or answered nonsense.
    pub failed: u64,
    /// Workers whose connection or heartbeat was lost.
    pub workers_lost: u64,
    /// Replies that came late or twice, and were dropped.
    pub late: u64,
    /// Messages that were not the protocol's, and were dropped.
    pub malformed: u64,
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) workers: AtomicU64,
    pub(super) queued: AtomicU64,
    pub(super) in_hand: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) given_again: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) given_up: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) workers_lost: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) malformed: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn snapshot(&self) -> WorkersStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkersStats {
            workers: of(&self.workers),
            queued: of(&self.queued),
            in_hand: of(&self.in_hand),
            answered: of(&self.answered),
            given_again: of(&self.given_again),
            cancelled: of(&self.cancelled),
            refused: of(&self.refused),
            given_up: of(&self.given_up),
            failed: of(&self.failed),
            workers_lost: of(&self.workers_lost),
            late: of(&self.late),
            malformed: of(&self.malformed),
        }
    }
}
