//! One deadline for a waiting future. Kept apart so that who waits never names the clock it waits on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A point in time that wakes the task which polls it.
///
/// Nothing is registered before the first poll, so that building one costs no more than reading the clock.
pub(crate) struct Alarm {
    // `None` is so far away that the clock cannot express it: never.
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// An alarm `after` from now.
    pub(crate) fn after(after: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(after), sleep: None }
    }

    /// Ready once the deadline has passed. Panics outside of a tokio runtime that has its timer enabled.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline))).as_mut().poll(cx)
    }
}
