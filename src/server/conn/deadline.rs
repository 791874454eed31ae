//! One deadline of a connection, on the clock that the builder was given.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::Sleep;

use super::clock::{Clock, warn_of_no_runtime};
use crate::timer::Alarm;
use crate::waiting;

/// A point in time, and the sleep that wakes for it.
///
/// The sleep is kept while requests come and go and replaced only when it would fire too late, or has fired too early:
/// a busy connection sets a new deadline for each request and hardly ever touches the timer.
#[derive(Default)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    sleep: Kept,
}

/// A sleep, with its end.
#[derive(Default)]
enum Kept {
    #[default]
    None,
    /// A boxed sleep of tokio's would take 128 bytes more.
    Coarse(waiting::Deadline),
    Exact(Instant, Pin<Box<dyn Sleep>>),
}

// ===== impl Deadline =====

impl Deadline {
    /// Sets it `after` from now, or to never.
    #[inline]
    pub(crate) fn set(&mut self, clock: &Clock, after: Option<Duration>) {
        self.at = after.and_then(|after| clock.now().checked_add(after));
    }

    /// Whether, set now to be so much later, it would be later by no more than `span`: whether it was set within that.
    pub(crate) fn was_set_within(&self, clock: &Clock, span: Duration, after: Duration) -> bool {
        let now = clock.now().checked_add(after);
        self.at.zip(now).is_some_and(|(at, now)| now.saturating_duration_since(at) <= span)
    }

    /// Sets it to never. The sleep is kept for the next one.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.at = None;
    }

    /// Sets it to never and gives the memory back.
    #[inline]
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Ready once it has passed.
    pub(crate) fn poll(&mut self, clock: &Clock, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        if self.sleep.is_too_long(at) {
            self.sleep.aim(clock, at);
        }
        // Twice at the most: a sleep from an earlier deadline, and this one.
        while self.sleep.poll(cx).is_ready() {
            if self.sleep.ends_at(at) {
                self.release();
                return Poll::Ready(());
            }
            self.sleep.aim(clock, at);
        }
        Poll::Pending
    }
}

// ===== impl Kept =====

impl Kept {
    /// Makes it end at `at`.
    fn aim(&mut self, clock: &Clock, at: Instant) {
        let coarse = clock.is_coarse(at).then(|| alarm(at));
        match (&mut *self, coarse) {
            (Self::Coarse(sleep), Some(alarm)) => sleep.rearm(alarm),
            (_, Some(alarm)) => *self = Self::Coarse(waiting::Deadline::new(alarm)),
            (Self::Exact(end, sleep), None) => {
                clock.timer().reset(sleep, at);
                *end = at;
            }
            (_, None) => *self = Self::Exact(at, clock.timer().sleep_until(at)),
        }
    }

    fn is_too_long(&self, at: Instant) -> bool {
        match self {
            Self::None => true,
            Self::Coarse(sleep) => sleep.is_after(alarm(at)),
            Self::Exact(end, _) => *end > at,
        }
    }

    fn ends_at(&self, at: Instant) -> bool {
        match self {
            Self::None => false,
            Self::Coarse(sleep) => sleep.is_at(alarm(at)),
            Self::Exact(end, _) => *end == at,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::None => Poll::Pending,
            Self::Coarse(sleep) => sleep.poll_timed(cx).unwrap_or_else(|| {
                // The runtime that it was set in has ended since.
                warn_of_no_runtime();
                Poll::Pending
            }),
            Self::Exact(_, sleep) => sleep.as_mut().poll(cx),
        }
    }
}

fn alarm(at: Instant) -> Alarm {
    Alarm::at(at.into())
}
