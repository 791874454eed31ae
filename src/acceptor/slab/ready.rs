//! Which requests want to be polled: wakes come in here, from any thread.
//!
//! No wake is lost, by this order. A waker first marks its entry as queued and only the one that did so puts the key
//! into the queue. The loop takes keys out, and *then* clears the mark, and *then* polls. A wake before the clearing is
//! answered by that poll; one after it queues the key anew. Likewise for the loop's own waker: it is put in place under
//! the same lock under which the queue was emptied, and a loop that has not emptied it in a round comes round again.
//! All orders of two threads and a loop are tried by the model at the end of this file.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::task::{Wake, Waker};

use sync::{AtomicBool, Mutex, MutexGuard, Ordering};

#[cfg(not(all(test, hyper_deferred_loom)))]
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use std::sync::{Mutex, MutexGuard};
}

/// What is modelled: the mark of an entry, and the queue. The list of workers is not, it is the same all along.
#[cfg(all(test, hyper_deferred_loom))]
mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

/// Room for so many keys is kept between two rounds: what is usual, and no more.
const KEYS_KEPT_MAX: usize = 64;

/// The queue of one worker. An entry is in it once, and a few times more at the most if it is woken while it is being
/// served, so that the slab's size is its bound.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    keys: Vec<u32>,
    idle_loop: Option<Waker>,
}

/// What a loop has taken out of its queue and not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Taken {
    // The next is the last.
    keys: Vec<u32>,
    // In this round, with the loop's waker left in it.
    emptied: bool,
}

/// The waker of one entry: 24 bytes, and so it names its worker by number.
#[derive(Debug)]
pub(super) struct EntryWaker {
    queued: AtomicBool,
    worker: u16,
    key: u32,
}

/// A worker's place among all of the process.
#[derive(Debug)]
pub(super) struct Registration {
    ready: Arc<Ready>,
    worker: u16,
}

static WORKERS: RwLock<Vec<Weak<Ready>>> = RwLock::new(Vec::new());

// ===== impl Ready =====

impl Ready {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock can panic half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, key: u32) {
        let idle_loop = {
            let mut queue = self.queue();
            queue.keys.push(key);
            queue.idle_loop.take()
        };
        if let Some(waker) = idle_loop {
            waker.wake();
        }
    }

    /// Takes all that is ready, into a list that is empty. `waker` is woken by the next.
    fn take(&self, keys: &mut Vec<u32>, waker: &Waker) {
        let mut queue = self.queue();
        queue.idle_loop = Some(waker.clone());
        std::mem::swap(keys, &mut queue.keys);
    }
}

// ===== impl Taken =====

impl Taken {
    /// Begins a round of the loop, which `waker` wakes: takes what is ready, if nothing is left from the last.
    pub(super) fn begin_round(&mut self, ready: &Ready, waker: &Waker) {
        self.emptied = self.keys.is_empty();
        if self.emptied {
            ready.take(&mut self.keys, waker);
            // In the order of the wakes.
            self.keys.reverse();
        }
    }

    /// Those that are next, in whatever order.
    pub(super) fn next_ones(&self, count_max: usize) -> impl Iterator<Item = u32> {
        self.keys.iter().rev().take(count_max).copied()
    }

    /// The next that wants to be polled. Its waker has to be [cleared](EntryWaker::clear) before that.
    pub(super) fn next(&mut self) -> Option<u32> {
        self.keys.pop()
    }

    /// Ends a round. Says whether another is needed though nobody wakes the loop: who was woken since the queue was
    /// last emptied is in it, and has found no waker there.
    pub(super) fn end_round(&mut self) -> bool {
        if !self.keys.is_empty() {
            return true;
        }
        if self.keys.capacity() > KEYS_KEPT_MAX {
            self.keys = Vec::new();
        }
        !self.emptied
    }
}

// ===== impl Registration =====

impl Registration {
    /// Takes a number. Those of workers that have ended are given out again: a waker that outlives its worker then
    /// wakes a stranger, who finds nothing to do.
    pub(super) fn new() -> std::io::Result<Self> {
        let ready = Arc::new(Ready::default());
        let mut workers = WORKERS.write().unwrap_or_else(PoisonError::into_inner);
        let free = workers.iter().position(|worker| worker.strong_count() == 0).unwrap_or(workers.len());
        let worker = u16::try_from(free)
            .map_err(|_| std::io::Error::other("the process has 65536 acceptors already, end one before the next"))?;
        match workers.get_mut(free) {
            Some(place) => *place = Arc::downgrade(&ready),
            None => workers.push(Arc::downgrade(&ready)),
        }
        Ok(Self { ready, worker })
    }

    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// A waker for the entry with that key.
    pub(super) fn waker(&self, key: u32) -> Arc<EntryWaker> {
        Arc::new(EntryWaker { queued: AtomicBool::new(false), worker: self.worker, key })
    }
}

// ===== impl EntryWaker =====

impl EntryWaker {
    /// Forgets an earlier wake; to be called before the poll that answers it. Says whether there was one.
    #[inline]
    pub(super) fn clear(&self) -> bool {
        // Mostly there is none, and a look costs less than a swap. A wake that is not seen here comes after it.
        self.queued.load(Ordering::Acquire) && self.queued.swap(false, Ordering::AcqRel)
    }

    /// Brings it into the cache. Unlike the others it waits for nothing and orders nothing.
    pub(super) fn peek(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }

    /// Whether it has been woken since it was cleared.
    pub(super) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire)
    }
}

impl Wake for EntryWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let workers = WORKERS.read().unwrap_or_else(PoisonError::into_inner);
        let ready = workers.get(usize::from(self.worker)).and_then(Weak::upgrade);
        drop(workers);
        if let Some(ready) = ready {
            ready.push(self.key);
        }
    }
}

#[cfg(all(test, not(hyper_deferred_loom)))]
mod tests {
    use super::*;

    fn taken(ready: &Ready) -> Vec<u32> {
        let mut taken = Taken::default();
        taken.begin_round(ready, Waker::noop());
        std::iter::from_fn(|| taken.next()).collect()
    }

    #[test]
    fn a_round_that_does_not_empty_the_queue_is_followed_by_another() {
        let registration = Registration::new().unwrap();
        let entries: Vec<_> = (0..3).map(|key| registration.waker(key)).collect();
        entries[0].wake_by_ref();
        entries[1].wake_by_ref();
        let mut taken = Taken::default();
        taken.begin_round(registration.ready(), Waker::noop());
        assert_eq!(taken.next(), Some(0));
        assert!(taken.end_round(), "one is left");
        entries[2].wake_by_ref();
        taken.begin_round(registration.ready(), Waker::noop());
        assert_eq!(taken.next(), Some(1));
        assert_eq!(taken.next(), None);
        assert!(taken.end_round(), "another is in the queue");
        taken.begin_round(registration.ready(), Waker::noop());
        assert_eq!(taken.next(), Some(2));
        assert!(!taken.end_round());
    }

    #[test]
    fn an_entry_is_queued_once_until_it_is_cleared() {
        let registration = Registration::new().unwrap();
        let entry = registration.waker(7);
        entry.wake_by_ref();
        entry.wake_by_ref();
        assert_eq!(taken(registration.ready()), [7]);
        entry.wake_by_ref();
        assert!(taken(registration.ready()).is_empty(), "not cleared yet");
        assert!(entry.clear());
        entry.wake_by_ref();
        assert_eq!(taken(registration.ready()), [7]);
    }

    #[test]
    fn a_waker_is_as_small_as_an_allocation_can_be() {
        // Two counts and eight bytes: glibc's smallest chunk.
        assert_eq!(size_of::<EntryWaker>(), 8);
    }
}

/// Every order of wakes from two threads and the rounds of a loop. A wake that is lost is a loop that sleeps for ever,
/// which loom finds.
#[cfg(all(test, hyper_deferred_loom))]
mod model {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    /// A future that is ready when what it waits for has happened so many times.
    struct Entry {
        waker: Arc<EntryWaker>,
        happened: AtomicUsize,
        awaited: usize,
    }

    impl Entry {
        fn happen(&self) {
            self.happened.fetch_add(1, Ordering::Relaxed);
            self.waker.wake_by_ref();
        }

        /// As a connection is served: cleared before each poll, and polled on a few times if it was woken meanwhile.
        fn serve(&self, polls_max: usize) -> bool {
            for _ in 0..polls_max {
                self.waker.clear();
                if self.happened.load(Ordering::Relaxed) == self.awaited {
                    return true;
                }
                if !self.waker.is_queued() {
                    break;
                }
            }
            false
        }
    }

    /// Wakes each entry as often as it wants to be, from a thread for each list of them, and runs a loop that looks at
    /// `slice` of them in a round until all are ready.
    fn check(awaited: &'static [usize], threads: &'static [&'static [usize]], slice: usize, polls_max: usize) {
        let mut model = loom::model::Builder::new();
        // More switches in the middle of a thread's steps than a mistake needs; without a bound it takes hours.
        model.preemption_bound = Some(3);
        model.check(move || {
            let registration = Registration::new().unwrap();
            let entries: Arc<Vec<Entry>> = Arc::new(
                (0..)
                    .zip(awaited)
                    .map(|(key, awaited)| Entry {
                        waker: registration.waker(key),
                        happened: AtomicUsize::new(0),
                        awaited: *awaited,
                    })
                    .collect(),
            );
            let waking: Vec<_> = threads
                .iter()
                .map(|wakes| {
                    let entries = entries.clone();
                    thread::spawn(move || wakes.iter().for_each(|key| entries[*key].happen()))
                })
                .collect();
            let mut taken = Taken::default();
            let mut ready = vec![false; entries.len()];
            loom::future::block_on(poll_fn(|cx| {
                taken.begin_round(registration.ready(), cx.waker());
                for _ in 0..slice {
                    let Some(key) = taken.next() else { break };
                    let key = key as usize;
                    ready[key] |= entries[key].serve(polls_max);
                }
                if taken.end_round() {
                    cx.waker().wake_by_ref();
                }
                if ready.iter().all(|ready| *ready) { Poll::Ready(()) } else { Poll::Pending }
            }));
            waking.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn no_wake_of_two_entries_is_lost() {
        check(&[1, 1], &[&[0], &[1]], 2, 1);
    }

    #[test]
    fn no_wake_is_lost_when_a_round_leaves_some_for_the_next() {
        check(&[1, 1], &[&[0], &[1]], 1, 1);
    }

    #[test]
    fn no_wake_of_one_entry_by_two_threads_is_lost() {
        check(&[2], &[&[0], &[0]], 2, 1);
    }

    #[test]
    fn no_wake_is_lost_while_an_entry_is_polled_on() {
        check(&[2], &[&[0], &[0]], 1, 2);
    }

    #[test]
    fn no_wake_after_another_is_lost() {
        check(&[2, 1], &[&[0, 0], &[1]], 1, 1);
    }
}
