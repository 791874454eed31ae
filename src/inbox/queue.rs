//! A bounded queue of which the receiving end is a descriptor.

use std::collections::{VecDeque, vec_deque};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Job;

/// The receiving end of an [`inbox`](super::inbox), for one foreign loop.
///
/// Its descriptor ([`AsFd`]) is readable exactly while [`drain`](Self::drain) would give something, and when all
/// services have gone. It is level-triggered: poll it as often as you like, and never read from it.
///
/// # What happens on drop
///
/// The requests in it, and those that come later, are answered with `503`.
pub struct InboxReceiver<ReqB, B> {
    queue: Arc<Queue<ReqB, B>>,
}

/// What was in the inbox, taken out at once. Those whose client has gone meanwhile are passed over.
///
/// # What happens on drop
///
/// What was not taken out of it is answered with `503`.
pub struct Drain<ReqB, B> {
    jobs: vec_deque::IntoIter<Job<ReqB, B>>,
}

/// Shared by both ends. Under the lock, always: a byte is in the socket pair if and only if something is queued or
/// nobody sends any more.
pub(super) struct Queue<ReqB, B> {
    capacity: usize,
    state: Mutex<State<ReqB, B>>,
    readable: UnixStream,
    writable: UnixStream,
}

struct State<ReqB, B> {
    jobs: VecDeque<Job<ReqB, B>>,
    signalled: bool,
    senders: usize,
    receiver_gone: bool,
}

/// A sending end; counted, so that the receiving one knows when there is none left.
pub(super) struct Sender<ReqB, B> {
    queue: Arc<Queue<ReqB, B>>,
}

/// Nobody receives any more.
pub(super) struct Closed;

// ===== impl Queue =====

impl<ReqB, B> Queue<ReqB, B> {
    pub(super) fn new(capacity: usize) -> io::Result<Arc<Self>> {
        let (readable, writable) = UnixStream::pair()?;
        readable.set_nonblocking(true)?;
        writable.set_nonblocking(true)?;
        let state = State { jobs: VecDeque::new(), signalled: false, senders: 0, receiver_gone: false };
        Ok(Arc::new(Self { capacity, state: Mutex::new(state), readable, writable }))
    }

    pub(super) fn sender(self: &Arc<Self>) -> Sender<ReqB, B> {
        self.lock().senders += 1;
        Sender { queue: self.clone() }
    }

    /// Queues the job, or drops it when there is no room.
    fn push(&self, job: Job<ReqB, B>) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.receiver_gone {
            return Err(Closed);
        }
        let mut gone = VecDeque::new();
        if state.jobs.len() >= self.capacity {
            // Those whose clients have left must not keep others out while the foreign loop is busy.
            (gone, state.jobs) = std::mem::take(&mut state.jobs).into_iter().partition(|job| job.responder.is_closed());
        }
        if state.jobs.len() < self.capacity {
            state.jobs.push_back(job);
            self.signal(&mut state);
        }
        // A job's drop runs the application's code and wakes who waits for the answer: not under the lock. (The
        // parameter is dropped after the guard, too.)
        drop(state);
        drop(gone);
        Ok(())
    }

    fn take(&self) -> VecDeque<Job<ReqB, B>> {
        let mut state = self.lock();
        let jobs = std::mem::take(&mut state.jobs);
        if state.signalled && state.senders > 0 {
            state.signalled = false;
            // One byte is there and nobody else reads: this neither waits nor comes short.
            let _one_byte = (&self.readable).read(&mut [0]);
        }
        jobs
    }

    /// Makes the descriptor readable, if it is not already.
    fn signal(&self, state: &mut State<ReqB, B>) {
        if !state.signalled {
            state.signalled = true;
            // An empty socket pair has room for a byte.
            let _one_byte = (&self.writable).write(&[1]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<ReqB, B>> {
        // Nothing of the application's runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Sender =====

impl<ReqB, B> Sender<ReqB, B> {
    /// Queues the job, or drops it when there is no room: its responder then says so.
    pub(super) fn send(&self, job: Job<ReqB, B>) -> Result<(), Closed> {
        self.queue.push(job)
    }
}

impl<ReqB, B> Clone for Sender<ReqB, B> {
    fn clone(&self) -> Self {
        self.queue.sender()
    }
}

impl<ReqB, B> Drop for Sender<ReqB, B> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.senders -= 1;
        if state.senders == 0 {
            self.queue.signal(&mut state);
        }
    }
}

// ===== impl InboxReceiver =====

impl<ReqB, B> InboxReceiver<ReqB, B> {
    pub(super) fn new(queue: Arc<Queue<ReqB, B>>) -> Self {
        Self { queue }
    }

    /// Takes out what is there. Never waits.
    ///
    /// Each is answered by its [`Responder`](crate::Responder), on this thread or any other, now or later.
    pub fn drain(&self) -> Drain<ReqB, B> {
        Drain { jobs: self.queue.take().into_iter() }
    }

    /// Whether anything may still come: a service is there, or requests wait.
    pub fn is_open(&self) -> bool {
        let state = self.queue.lock();
        state.senders > 0 || !state.jobs.is_empty()
    }
}

impl<ReqB, B> AsFd for InboxReceiver<ReqB, B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.readable.as_fd()
    }
}

impl<ReqB, B> AsRawFd for InboxReceiver<ReqB, B> {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.readable.as_raw_fd()
    }
}

impl<ReqB, B> Drop for InboxReceiver<ReqB, B> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.receiver_gone = true;
        let unanswered = std::mem::take(&mut state.jobs);
        drop(state);
        // A responder's drop wakes the one who waits: not under the lock.
        drop(unanswered);
    }
}

impl<ReqB, B> fmt::Debug for InboxReceiver<ReqB, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.queue.lock();
        f.debug_struct("InboxReceiver").field("waiting", &state.jobs.len()).field("services", &state.senders).finish()
    }
}

// ===== impl Drain =====

impl<ReqB, B> Iterator for Drain<ReqB, B> {
    type Item = Job<ReqB, B>;

    fn next(&mut self) -> Option<Self::Item> {
        self.jobs.find(|job| !job.responder.is_closed())
    }
}

impl<ReqB, B> fmt::Debug for Drain<ReqB, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("left", &self.jobs.len()).finish()
    }
}
