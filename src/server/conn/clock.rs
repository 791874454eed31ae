//! What a builder's deadlines are measured with.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// Whose time it is.
#[derive(Clone)]
pub(crate) enum Clock {
    /// tokio's, which is the default so that no deadline is silently off. Those of [`COARSE_FROM`] and more stand in a
    /// calendar.
    Tokio,
    /// The user's own, exact in whatever way it is.
    Given(Arc<dyn Timer + Send + Sync>),
}

/// tokio's timer, which stands still without a runtime.
#[derive(Clone, Debug)]
pub(crate) struct DefaultTimer;

/// A sleep that is over before it begins: with it hyper meets a deadline that has passed.
#[derive(Clone, Debug)]
pub(crate) struct Elapsed;

/// A sleep that never ends, for a thread without a clock.
struct Never;

/// A deadline of this length that is met a tick of a calendar late is late by a twentieth.
const COARSE_FROM: Duration = Duration::from_secs(2);

// ===== impl Clock =====

impl Clock {
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.timer().now()
    }

    #[inline]
    pub(crate) fn timer(&self) -> &dyn Timer {
        match self {
            Self::Tokio => &DefaultTimer,
            Self::Given(timer) => &**timer,
        }
    }

    /// Whether time passes: without a runtime tokio's stands still.
    pub(crate) fn is_running(&self) -> bool {
        match self {
            Self::Tokio => tokio::runtime::Handle::try_current().is_ok(),
            Self::Given(_) => true,
        }
    }

    /// Whether a deadline at `at` may be met a little later than that.
    pub(crate) fn is_coarse(&self, at: Instant) -> bool {
        match self {
            Self::Tokio => at.saturating_duration_since(self.now()) >= COARSE_FROM && self.is_running(),
            Self::Given(_) => false,
        }
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
        warn_of_no_runtime();
    }
    found
}

#[cold]
pub(crate) fn warn_of_no_runtime() {
    tracing::warn!("no tokio runtime for the default timer, deadlines are off; set another with `Builder::timer`");
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
