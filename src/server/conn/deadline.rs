//! One deadline of a connection, on the timer that the builder was given.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// A point in time, and the sleep that wakes for it.
///
/// The sleep is kept while requests come and go and replaced only when it would fire too late, or has fired too early:
/// a busy connection sets a new deadline for each request and hardly ever touches the timer.
#[derive(Default)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    // With its end.
    sleep: Option<(Instant, Pin<Box<dyn Sleep>>)>,
}

/// tokio's timer, which is the default so that no deadline is silently off.
#[derive(Clone, Debug)]
pub(crate) struct DefaultTimer;

/// A sleep that is over before it begins: with it hyper meets a deadline that has passed.
#[derive(Clone, Debug)]
pub(crate) struct Elapsed;

/// A sleep that never ends, for a thread without a clock.
struct Never;

// ===== impl Deadline =====

impl Deadline {
    /// Sets it `after` from now, or to never.
    #[inline]
    pub(crate) fn set(&mut self, timer: &dyn Timer, after: Option<Duration>) {
        self.at = after.and_then(|after| timer.now().checked_add(after));
    }

    /// Whether, set now to be so much later, it would be later by no more than `span`: whether it was set within that.
    pub(crate) fn was_set_within(&self, timer: &dyn Timer, span: Duration, after: Duration) -> bool {
        let now = timer.now().checked_add(after);
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
    pub(crate) fn poll(&mut self, timer: &dyn Timer, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let (mut end, mut sleep) = self.sleep.take().unwrap_or_else(|| (at, timer.sleep_until(at)));
        if end > at {
            timer.reset(&mut sleep, at);
            end = at;
        }
        // Twice at the most: a sleep from an earlier deadline, and this one.
        while sleep.as_mut().poll(cx).is_ready() {
            if end == at {
                self.at = None;
                return Poll::Ready(());
            }
            timer.reset(&mut sleep, at);
            end = at;
        }
        self.sleep = Some((end, sleep));
        Poll::Pending
    }
}

// ===== impl DefaultTimer =====

impl Timer for DefaultTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        if has_clock() { TokioTimer::new().sleep(duration) } else { Box::pin(Never) }
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        if has_clock() { TokioTimer::new().sleep_until(deadline) } else { Box::pin(Never) }
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        if sleep.as_mut().downcast_mut_pin::<Never>().is_some() {
            *sleep = self.sleep_until(deadline);
        } else {
            TokioTimer::new().reset(sleep, deadline);
        }
    }

    fn now(&self) -> Instant {
        TokioTimer::new().now()
    }
}

fn has_clock() -> bool {
    let found = tokio::runtime::Handle::try_current().is_ok();
    if !found {
        tracing::warn!("no tokio runtime for the default timer, deadlines are off; set another with `Builder::timer`");
    }
    found
}

// ===== impl Elapsed =====

impl Timer for Elapsed {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Self)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Self)
    }
}

impl Future for Elapsed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Sleep for Elapsed {}

// ===== impl Never =====

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Sleep for Never {}
