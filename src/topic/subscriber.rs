//! Those who read a topic.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::waiters::Place;
use super::{Batch, Cursor, Topic};

/// Reads a topic on and on.
///
/// # What happens on drop
///
/// It leaves the topic at once; [`cursor`](Self::cursor) says where another may go on.
pub struct Subscriber<T> {
    topic: Topic<T>,
    cursor: Cursor,
    place: Place,
}

/// The future of [`Topic::poll`]: one batch.
///
/// # What happens on drop
///
/// It leaves the topic at once, also when nobody ever publishes.
#[must_use = "futures do nothing unless polled"]
pub struct Waiting<T>(pub(super) Subscriber<T>);

// ===== impl Subscriber =====

impl<T> Subscriber<T> {
    pub(super) fn new(topic: Topic<T>, cursor: Cursor) -> Self {
        Self { topic, cursor, place: Place::none() }
    }

    /// Where the next batch begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The topic that it reads.
    pub fn topic(&self) -> &Topic<T> {
        &self.topic
    }

    /// The next batch, and the cursor moves behind it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when dropped before it is ready, nothing has been read.
    pub async fn next(&mut self) -> Batch<T> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) for those who write a future or a body by hand. The waker of the last call counts.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Batch<T>> {
        let polled = self.topic.poll_place(self.cursor, &mut self.place, cx);
        if let Poll::Ready(batch) = &polled {
            self.cursor = batch.next();
        }
        polled
    }

    /// Waits no more, until it is polled again.
    pub(super) fn leave(&mut self) {
        self.topic.leave(&mut self.place);
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

// ===== impl Waiting =====

impl<T> Waiting<T> {
    /// Where it waits, for an answer when its time is up.
    pub fn cursor(&self) -> Cursor {
        self.0.cursor()
    }
}

impl<T> Future for Waiting<T> {
    type Output = Batch<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Batch<T>> {
        self.0.poll_next(cx)
    }
}

impl<T> fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}
