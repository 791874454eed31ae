//! Values that must be confirmed.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::handle::{Inner, Queue};
use super::leases::{LeaseExpired, LeaseId};
use super::take::{Take, Taken};
use crate::waiting::{Driven, drive, lock};

/// How late a lease may end: the task that looks after them is not woken for one that ends sooner than the rest.
const LATE_MAX: Duration = Duration::from_millis(100);

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

// ===== impl Queue =====

impl<T: Send + 'static> Queue<T> {
    /// Waits in line for a value that must be confirmed within `duration` of being handed out. Unconfirmed it comes back,
    /// at most a tenth of a second late, before all values that came after it; past the [bound of
    /// deliveries](super::Builder::deliveries_max) it is a [dead letter](super::Builder::dead_letter).
    ///
    /// # Cancel safety
    ///
    /// As that of [`take`](Self::take).
    pub fn lease(&self, duration: Duration) -> Leasing<T>
    where
        T: Clone,
    {
        Leasing::new(self.take(), duration)
    }

    /// Confirms a [kept](super::Lease::keep) lease: the value is done and does not come back.
    ///
    /// # Errors
    ///
    /// When there is no such lease: its time was up, or it was confirmed before.
    pub fn confirm(&self, id: LeaseId) -> Result<(), LeaseExpired> {
        let mut state = lock(&self.inner.state);
        let leased = state.leases.end(id).ok_or_else(LeaseExpired::new)?;
        state.held -= 1;
        drop(state);
        drop(leased);
        Ok(())
    }

    /// Gives a [kept](super::Lease::keep) lease up: the value comes back now, as if the time was up.
    ///
    /// # Errors
    ///
    /// As those of [`confirm`](Self::confirm).
    pub fn release(&self, id: LeaseId) -> Result<(), LeaseExpired> {
        let mut state = lock(&self.inner.state);
        let value = state.leases.end(id).ok_or_else(LeaseExpired::new)?;
        let aftermath = state.come_back([value], &self.inner.settings);
        drop(state);
        self.inner.settle(aftermath);
        Ok(())
    }

    fn look_after_leases(&self, runtime: &Handle) {
        let mut state = lock(&self.inner.state);
        if state.leases.driven || state.leases.next_end().is_none() {
            return;
        }
        state.leases.driven = true;
        drop(state);
        drive(&self.inner, runtime);
    }
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

// ===== impl Inner =====

impl<T: Send + 'static> Driven for Inner<T> {
    fn step(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let values = state.leases.end_due(now);
        let aftermath = state.come_back(values, &self.settings);
        let next = state.leases.next_end().map(|end| end.min(now + LATE_MAX));
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
