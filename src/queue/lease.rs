//! Values that must be confirmed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::handle::Inner;
use super::line::Value;
use super::{Queue, Take, Taken};
use crate::waiting::{Driven, drive, lock};

/// How late a lease may end: the task that looks after them is not woken for one that ends sooner than the rest.
const LATE_MAX: Duration = Duration::from_millis(100);

/// How many leases end before the loop has a turn.
const ENDS_IN_SLICE: usize = 64;

/// Stands for a duration that the clock cannot express.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The future of [`Queue::lease`].
///
/// # What happens on drop
///
/// It leaves the line at once; a value that it was given goes to the next and does not count as delivered.
///
/// # Panics
///
/// Polling it needs a tokio runtime with its timer enabled.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Leasing<T> {
    take: Take<T>,
    duration: Duration,
}

/// A value that is lent out until it is confirmed or its time is up. It dereferences to a clone of the value.
///
/// A client that confirms in another request is given the [id](Self::id), and the lease is [kept](Self::keep).
///
/// # What happens on drop
///
/// The value comes back now, as if the time was up: a worker that panics gives back what it worked on.
#[must_use = "a lease that is dropped ends"]
pub struct Lease<T: Send + 'static> {
    queue: Queue<T>,
    value: T,
    id: LeaseId,
    deliveries: u32,
    // Set when the end of this guard is not to be the end of the lease.
    kept: bool,
}

/// Names a lease. Its text is 16 hexadecimal digits that nobody can guess who has seen others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u64);

/// A text that is no [`LeaseId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseLeaseIdError(());

/// There is no such lease any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseExpired(());

/// A value that was leased too often without a confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter<T> {
    /// The value.
    pub value: T,
    /// How often it was leased.
    pub deliveries: u32,
}

/// The leases of one queue.
pub(super) struct Leases<T> {
    by_id: HashMap<LeaseId, Leased<T>>,
    // By end, then by the value's place among all values: those that end together come back in order.
    ends: BTreeMap<(Instant, u64), LeaseId>,
    // Its keys are random and secret, which makes its hashes such names.
    names: RandomState,
    next: u64,
    driven: bool,
}

struct Leased<T> {
    value: Value<T>,
    end: Instant,
}

// ===== impl Leasing =====

impl<T> Leasing<T> {
    pub(super) fn new(take: Take<T>, duration: Duration) -> Self {
        Self { take, duration }
    }
}

impl<T: Clone + Send + 'static> Future for Leasing<T> {
    type Output = Lease<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Lease<T>> {
        let polled = Pin::new(&mut self.take).poll(cx);
        if polled.is_pending() {
            // The runtime that looked after the leases may have ended.
            self.take.queue().look_after_leases(&Handle::current());
        }
        polled.map(|taken| Lease::begin(taken, self.duration))
    }
}

// ===== impl Lease =====

impl<T: Send + 'static> Lease<T> {
    fn begin(taken: Taken<T>, duration: Duration) -> Self
    where
        T: Clone,
    {
        // Looked up, and cloned, while the value would still go back to the queue: both may panic.
        let runtime = Handle::current();
        let clone = T::clone(&taken);
        let now = Instant::now();
        let end = now.checked_add(duration).unwrap_or_else(|| now + FAR);
        let (queue, mut value) = taken.into_parts();
        value.deliveries += 1;
        let deliveries = value.deliveries;
        let mut state = lock(&queue.inner.state);
        let id = state.leases.begin(value, end);
        drop(state);
        queue.look_after_leases(&runtime);
        Self { queue, value: clone, id, deliveries, kept: false }
    }

    /// The name to [confirm](Queue::confirm) it by.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// How often the value has been leased, this time included.
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// The value is done and does not come back.
    ///
    /// # Errors
    ///
    /// When the time was up before: the value has gone to someone else, or will.
    pub fn confirm(mut self) -> Result<(), LeaseExpired> {
        self.kept = true;
        self.queue.confirm(self.id)
    }

    /// Leaves the lease to be [confirmed](Queue::confirm) by its id, or to end with its time.
    pub fn keep(mut self) -> LeaseId {
        self.kept = true;
        self.id
    }
}

impl<T: Send + 'static> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Send + 'static> Drop for Lease<T> {
    fn drop(&mut self) {
        if !self.kept {
            // That it has ended already is what is wanted.
            let _ended = self.queue.release(self.id);
        }
    }
}

impl<T: fmt::Debug + Send + 'static> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, id, deliveries, .. } = self;
        f.debug_struct("Lease").field("value", value).field("id", id).field("deliveries", deliveries).finish()
    }
}

// ===== impl Leases =====

impl<T> Leases<T> {
    pub(super) fn new() -> Self {
        Self { by_id: HashMap::new(), ends: BTreeMap::new(), names: RandomState::new(), next: 0, driven: false }
    }

    fn begin(&mut self, value: Value<T>, end: Instant) -> LeaseId {
        let id = loop {
            let id = LeaseId(self.names.hash_one(self.next));
            self.next += 1;
            // Two numbers have the same hash once in 2^64.
            if !self.by_id.contains_key(&id) {
                break id;
            }
        };
        self.ends.insert((end, value.seq), id);
        self.by_id.insert(id, Leased { value, end });
        id
    }

    pub(super) fn end(&mut self, id: LeaseId) -> Option<Value<T>> {
        let leased = self.by_id.remove(&id)?;
        self.ends.remove(&(leased.end, leased.value.seq));
        Some(leased.value)
    }

    /// Ends the leases whose time is up, or as many as a slice allows.
    fn end_due(&mut self, now: Instant) -> Vec<Value<T>> {
        let mut values = Vec::new();
        while values.len() < ENDS_IN_SLICE {
            match self.ends.first_key_value() {
                Some((&(end, _), &id)) if end <= now => values.extend(self.end(id)),
                _ => break,
            }
        }
        values
    }
}

impl<T: Send + 'static> Driven for Inner<T> {
    fn step(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let values = state.leases.end_due(now);
        let aftermath = state.come_back(values, &self.settings);
        let next = state.leases.ends.first_key_value().map(|((end, _), _)| (*end).min(now + LATE_MAX));
        state.leases.driven = next.is_some();
        drop(state);
        self.settle(aftermath);
        next
    }

    /// Who waits for a lease finds that nobody looks after them.
    fn abandoned(&self) {
        let mut state = lock(&self.state);
        state.leases.driven = false;
        let wakes = state.line.take_wakers();
        drop(state);
        wakes.into_iter().for_each(Waker::wake);
    }
}

impl<T: Send + 'static> Queue<T> {
    fn look_after_leases(&self, runtime: &Handle) {
        let mut state = lock(&self.inner.state);
        if state.leases.driven || state.leases.ends.is_empty() {
            return;
        }
        state.leases.driven = true;
        drop(state);
        drive(&self.inner, runtime);
    }
}

// ===== impl LeaseId =====

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

impl FromStr for LeaseId {
    type Err = ParseLeaseIdError;

    /// Reads what [`Display`](fmt::Display) writes and nothing else.
    fn from_str(text: &str) -> Result<Self, ParseLeaseIdError> {
        let canonical = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| canonical);
        number.map(Self).ok_or(ParseLeaseIdError(()))
    }
}

// ===== impl errors =====

impl LeaseExpired {
    pub(super) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for LeaseExpired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such lease: its time was up or it was confirmed, drop what was made of it")
    }
}

impl std::error::Error for LeaseExpired {}

impl fmt::Display for ParseLeaseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the id of a lease: use it as it was given")
    }
}

impl std::error::Error for ParseLeaseIdError {}
