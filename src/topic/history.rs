//! What a topic keeps, bounded by count, bytes and age.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::Cursor;
use super::cursor::Epoch;
use super::message::{Batch, Gap, Message, Shared};
use super::settings::Settings;

/// The messages that are still there, numbered without a hole: the oldest goes first.
pub(super) struct History<T> {
    kept: VecDeque<Message<T>>,
    bytes: usize,
    // After when the oldest is outdated: kept here, because the message itself is seldom in the processor's cache.
    outdated_at: Option<Instant>,
    // The number that the next message gets.
    head: u64,
    // What was put together last. All who stand at the same place share it.
    last: Option<Arc<Shared<T>>>,
}

/// What has left, to be dropped when no lock is held: dropping a value runs foreign code.
pub(super) struct Evicted<T> {
    _messages: Vec<Message<T>>,
    _batch: Option<Arc<Shared<T>>>,
}

/// A batch that was put together before, to be dropped like what has left.
type Replaced<T> = Option<Arc<Shared<T>>>;

// ===== impl History =====

impl<T> History<T> {
    pub(super) fn new() -> Self {
        Self { kept: VecDeque::new(), bytes: 0, outdated_at: None, head: 0, last: None }
    }

    /// The number of the next message.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// The number of the oldest message that is kept, or that of the next when there is none.
    pub(super) fn oldest(&self) -> u64 {
        self.head - self.kept.len() as u64
    }

    /// Adds `message`, which has the number [`head`](Self::head) and fits.
    pub(super) fn push(&mut self, message: Message<T>, settings: &Settings<T>) -> Option<Evicted<T>> {
        debug_assert_eq!(message.seq(), self.head, "messages are numbered without a hole");
        let now = message.at();
        self.bytes += message.encoded().len();
        self.head += 1;
        self.kept.push_back(message);
        if self.kept.len() == 1 {
            self.note_oldest(settings);
        }
        self.evict(now, settings)
    }

    /// Drops what is over one of the bounds at `now`.
    #[inline]
    pub(super) fn evict(&mut self, now: Instant, settings: &Settings<T>) -> Option<Evicted<T>> {
        // Mostly there is nothing to drop, which everyone who waits finds out.
        self.is_over(now, settings).then(|| self.evict_oldest(now, settings))
    }

    /// Whether the oldest message has to go.
    #[inline]
    fn is_over(&self, now: Instant, settings: &Settings<T>) -> bool {
        self.outdated_at.is_some_and(|at| now > at)
            || self.kept.len() > settings.history_count_max
            || self.bytes > settings.history_bytes_max
    }

    fn evict_oldest(&mut self, now: Instant, settings: &Settings<T>) -> Evicted<T> {
        let mut evicted = Vec::new();
        while self.is_over(now, settings) {
            let Some(message) = self.kept.pop_front() else { break };
            self.bytes -= message.encoded().len();
            evicted.push(message);
            self.note_oldest(settings);
        }
        Evicted { _messages: evicted, _batch: None }
    }

    fn note_oldest(&mut self, settings: &Settings<T>) {
        let oldest = self.kept.front().zip(settings.history_age_max);
        self.outdated_at = oldest.and_then(|(message, age)| message.at().checked_add(age));
    }

    /// Drops everything: the next message has the number `head`, whatever was here before.
    pub(super) fn begin_anew(&mut self, head: u64) -> Evicted<T> {
        let former = std::mem::replace(self, Self { head, ..Self::new() });
        Evicted { _messages: former.kept.into(), _batch: former.last }
    }

    /// Gives up what is only there to be fast.
    pub(super) fn shrink(&mut self) -> Evicted<T> {
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        Evicted { _messages: Vec::new(), _batch: self.last.take() }
    }

    /// Gives up what was put together last: nobody is left who is likely to stand at the same place.
    pub(super) fn forget_last(&mut self) -> Replaced<T> {
        self.last.take()
    }

    /// What a reader who stands at `cursor` gets; `None` when there is nothing new.
    pub(super) fn read(
        &mut self,
        cursor: Cursor,
        epoch: Epoch,
        settings: &Arc<Settings<T>>,
    ) -> Option<(Batch<T>, Replaced<T>)> {
        let oldest = self.oldest();
        let (first, gap) = if cursor.epoch != epoch || cursor.seq > self.head {
            (oldest, Gap::Unknown)
        } else if cursor.seq == self.head {
            return None;
        } else if cursor.seq < oldest {
            (oldest, Gap::Missed(oldest - cursor.seq))
        } else {
            (cursor.seq, Gap::None)
        };
        let (shared, replaced) = self.share(Cursor { epoch, seq: first }, settings);
        Some((Batch { shared, gap }, replaced))
    }

    fn share(&mut self, first: Cursor, settings: &Arc<Settings<T>>) -> (Arc<Shared<T>>, Replaced<T>) {
        if let Some(last) = &self.last {
            if last.first == first.seq && last.head == self.head {
                return (last.clone(), None);
            }
        }
        let messages = self.batch(first.seq, settings);
        let shared = Arc::new(Shared::new(settings.clone(), messages, first, self.head));
        let replaced = self.last.replace(shared.clone());
        (shared, replaced)
    }

    fn batch(&self, first: u64, settings: &Settings<T>) -> Box<[Message<T>]> {
        let skipped = usize::try_from(first - self.oldest()).expect("what is skipped is in memory");
        let mut bytes = 0;
        self.kept
            .range(skipped..)
            .take(settings.batch_count_max)
            .enumerate()
            .take_while(|(n, message)| {
                bytes += message.encoded().len();
                *n == 0 || bytes <= settings.batch_bytes_max
            })
            .map(|(_, message)| message.clone())
            .collect()
    }
}
