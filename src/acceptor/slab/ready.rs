//! Which requests want to be polled: wakes come in here, from any thread.
//!
//! No wake is lost, by this order. A waker first marks its entry as queued and only the one that did so puts the key
//! into the queue. The loop takes keys out, and *then* clears the mark, and *then* polls. A wake before the clearing is
//! answered by that poll; one after it queues the key anew. Likewise for the loop's own waker: it is put in place under
//! the same lock under which the queue was emptied, and a loop that has not emptied it in a round comes round again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::task::{Wake, Waker};

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

    /// Moves all that is ready to the end of `keys`. `waker` is woken by the next.
    pub(super) fn take(&self, keys: &mut Vec<u32>, waker: &Waker) {
        let mut queue = self.queue();
        queue.idle_loop = Some(waker.clone());
        if keys.is_empty() {
            std::mem::swap(keys, &mut queue.keys);
        } else {
            keys.append(&mut queue.keys);
        }
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
    pub(super) fn clear(&self) -> bool {
        self.queued.swap(false, Ordering::AcqRel)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ready: &Ready) -> Vec<u32> {
        let mut keys = Vec::new();
        ready.take(&mut keys, Waker::noop());
        keys
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
