//! The coarse deadline of one who waits.

use std::task::{Context, Poll};

use tokio::runtime::Handle;

use super::calendar::Place;
use crate::timer::{Alarm, Packed};

/// A deadline that is met at most a tenth of a second late and never early. Dropping it takes it out of its calendar at once.
///
/// It is in a calendar only where nobody else keeps the time for it: an acceptor has one timer for all that it polls.
pub(crate) struct Deadline {
    alarm: Packed,
    place: Option<Place>,
}

// ===== impl Deadline =====

impl Deadline {
    pub(crate) fn new(alarm: Alarm) -> Self {
        Self { alarm: alarm.into(), place: None }
    }

    /// Ready once the deadline has passed. Panics outside of a tokio runtime that has its timer enabled, unless whoever
    /// polls keeps the time.
    #[cfg(feature = "topic")]
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.poll_timed(cx).unwrap_or_else(|| panic!("to wait for a deadline needs a tokio runtime that runs"))
    }

    /// The same, and `None` where there is no runtime. Panics in one that does not have its timer enabled.
    pub(crate) fn poll_timed(&mut self, cx: &Context<'_>) -> Option<Poll<()>> {
        if let Some(polled) = Alarm::from(self.alarm).poll_hosted(cx) {
            self.place = None;
            return Some(polled);
        }
        if let Some(polled) = self.place.as_ref().and_then(|place| place.poll(cx)) {
            return Some(polled);
        }
        self.place = Place::take(self.alarm.into(), &Handle::try_current().ok()?);
        self.place.as_ref()?.poll(cx)
    }

    /// Whether it is `alarm`, or a few nanoseconds next to it.
    #[cfg(feature = "server")]
    pub(crate) fn is_at(&self, alarm: Alarm) -> bool {
        self.alarm == Packed::from(alarm)
    }

    #[cfg(feature = "server")]
    pub(crate) fn is_after(&self, alarm: Alarm) -> bool {
        Alarm::from(self.alarm) > alarm
    }

    /// Moves the deadline, also one that has passed.
    pub(crate) fn rearm(&mut self, alarm: Alarm) {
        self.alarm = alarm.into();
        if let Some(place) = &self.place {
            place.rearm(alarm);
        }
    }
}
