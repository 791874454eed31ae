//! Waiting for a value, and holding it until it has arrived.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::line::{Place, Value};
use super::{Queue, TakenBody};
use crate::waiting::lock;

/// The future of [`Queue::take`].
///
/// # What happens on drop
///
/// It leaves the line at once; a value that it was given goes to the next.
#[must_use = "futures do nothing unless polled"]
pub struct Take<T> {
    queue: Queue<T>,
    place: Place,
}

/// A value on its way to a client. It dereferences to the value.
///
/// # What happens on drop
///
/// The value was not delivered: it goes to the next in line, before all that came after it.
#[must_use = "a value that is dropped goes to the next in line"]
pub struct Taken<T> {
    queue: Queue<T>,
    // `None` only once it has been taken out, after which nothing looks here.
    value: Option<Value<T>>,
}

// ===== impl Queue =====

impl<T: Send + 'static> Queue<T> {
    /// Waits in line, from the first poll on, for a value.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the line at once. A value that it was given goes to the next: nothing is lost.
    pub fn take(&self) -> Take<T> {
        Take::new(self.clone())
    }
}

// ===== impl Take =====

impl<T> Take<T> {
    pub(super) fn new(queue: Queue<T>) -> Self {
        Self { queue, place: Place::none() }
    }

    pub(super) fn queue(&self) -> &Queue<T> {
        &self.queue
    }
}

impl<T> Future for Take<T> {
    type Output = Taken<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Taken<T>> {
        let this = &mut *self;
        let (polled, waker) = lock(&this.queue.inner.state).line.poll(&mut this.place, cx);
        drop(waker);
        polled.map(|value| Taken { queue: this.queue.clone(), value: Some(value) })
    }
}

impl<T> Drop for Take<T> {
    fn drop(&mut self) {
        if self.place.is_none() {
            return;
        }
        let (given, waker) = lock(&self.queue.inner.state).line.leave(&mut self.place);
        drop(waker);
        if let Some(value) = given {
            self.queue.give_back(value);
        }
    }
}

impl<T> fmt::Debug for Take<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Take").finish_non_exhaustive()
    }
}

// ===== impl Taken =====

impl<T> Taken<T> {
    /// Accepts the value: from now on it is the caller's, and the queue has room for another.
    pub fn into_inner(self) -> T {
        let (queue, value) = self.into_parts();
        lock(&queue.inner.state).held -= 1;
        value.value
    }

    /// A response body of these `bytes`, that stand for the value. The value is accepted when the connection has taken the
    /// body; when the response is dropped before, the value goes to the next in line.
    pub fn into_body(self, bytes: impl Into<Bytes>) -> TakenBody<T> {
        TakenBody::new(self, bytes.into())
    }

    pub(super) fn into_parts(mut self) -> (Queue<T>, Value<T>) {
        let value = self.value.take().expect("there until it is taken out, which consumes it");
        (self.queue.clone(), value)
    }
}

impl<T> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value.as_ref().expect("there until it is taken out, which consumes it").value
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.queue.give_back(value);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&**self).finish()
    }
}
