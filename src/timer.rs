//! One deadline for a waiting future. Kept apart so that who waits never names the clock it waits on.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, RawWakerVTable, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A point in time that wakes the task which polls it.
///
/// It is eight bytes: nanoseconds since the process first asked. Whoever polls it provides the room for a timer, if
/// one is needed: an acceptor has one for all of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alarm(i64);

/// An alarm as a future keeps it: as small, and with bit patterns to spare, in which an enum around the future finds room
/// for its tag. That may be the sixteen bytes between one size of an allocation and the next.
///
/// It is rounded down to 16 nanoseconds, which no clock's user can tell, and reaches 36 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    magnitude: [u8; 7],
    past: bool,
}

/// The room that an [`Alarm`] may need.
pub(crate) type AlarmSleep = Option<Pin<Box<Sleep>>>;

/// A poll by someone who has a timer for many.
#[derive(Clone, Copy)]
struct Hosted {
    // Which it is, and not a clone: it lives for as long as it is hosted.
    waker: (*const (), &'static RawWakerVTable),
    now: Alarm,
    next: Option<Alarm>,
}

thread_local! {
    static HOSTED: Cell<Option<Hosted>> = const { Cell::new(None) };
}

// ===== impl Alarm =====

impl Alarm {
    /// So far away that the clock cannot express it.
    pub(crate) const NEVER: Self = Self(i64::MAX);

    /// An alarm `after` from now.
    pub(crate) fn after(after: Duration) -> Self {
        Instant::now().checked_add(after).map_or(Self::NEVER, Self::at)
    }

    /// An alarm at `instant`.
    pub(crate) fn at(instant: Instant) -> Self {
        let origin = origin();
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(origin) {
            Some(after) => Self(nanos(after)),
            // A paused clock may stand before the origin.
            None => Self(-nanos(origin.duration_since(instant))),
        }
    }

    /// When it is, if that can be expressed.
    pub(crate) fn instant(self) -> Option<Instant> {
        let nanos = Duration::from_nanos(self.0.unsigned_abs());
        match self {
            Self::NEVER => None,
            Self(0..) => origin().checked_add(nanos),
            Self(..0) => origin().checked_sub(nanos),
        }
    }

    /// An alarm that many nanoseconds after the origin.
    #[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "only an acceptor counts"))]
    #[inline]
    pub(crate) fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The alarm `after` this one.
    #[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "only an acceptor counts"))]
    #[inline]
    pub(crate) fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Nanoseconds since the origin.
    #[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "only an acceptor counts"))]
    #[inline]
    pub(crate) fn nanos(self) -> i64 {
        self.0
    }

    /// Whether the host of this poll, if there is one, will wake its waker for the alarm. Otherwise the caller needs a
    /// [sleep](Self::poll_sleep).
    ///
    /// A future that polls its parts with wakers of their own is not understood by a host, which knows of one waker.
    pub(crate) fn poll_hosted(self, cx: &Context<'_>) -> Option<Poll<()>> {
        let hosted = HOSTED.get().filter(|hosted| hosted.hosts(cx.waker()))?;
        if hosted.now.0 >= self.0 {
            return Some(Poll::Ready(()));
        }
        if hosted.next.is_none_or(|next| self.0 < next.0) {
            HOSTED.set(Some(Hosted { next: Some(self), ..hosted }));
        }
        Some(Poll::Pending)
    }

    /// Ready once the deadline has passed. Panics outside of a tokio runtime that has its timer enabled.
    pub(crate) fn poll_sleep(self, sleep: &mut AlarmSleep, cx: &mut Context<'_>) -> Poll<()> {
        let Some(instant) = self.instant() else { return Poll::Pending };
        sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(instant))).as_mut().poll(cx)
    }
}

// ===== impl Hosted =====

impl Hosted {
    fn hosts(&self, waker: &Waker) -> bool {
        let (data, vtable) = self.waker;
        waker.data() == data && std::ptr::eq(waker.vtable(), vtable)
    }
}

// ===== impl Packed =====

impl From<Alarm> for Packed {
    fn from(alarm: Alarm) -> Self {
        let [magnitude @ .., _] = (alarm.0.div_euclid(1 << Self::SHIFT)).unsigned_abs().to_le_bytes();
        let reaches = alarm.0.unsigned_abs() >> (Self::SHIFT + 56) == 0;
        Self { magnitude: if reaches { magnitude } else { Self::FAR }, past: alarm.0 < 0 }
    }
}

impl From<Packed> for Alarm {
    fn from(packed: Packed) -> Self {
        let [a, b, c, d, e, f, g] = packed.magnitude;
        let magnitude = i64::from_le_bytes([a, b, c, d, e, f, g, 0]) << Packed::SHIFT;
        match (packed.magnitude, packed.past) {
            (Packed::FAR, false) => Self::NEVER,
            (_, false) => Self(magnitude),
            (_, true) => Self(-magnitude),
        }
    }
}

impl Packed {
    const SHIFT: u32 = 4;
    const FAR: [u8; 7] = [u8::MAX; 7];
}

/// The time. In a poll that is hosted it is that of the host, which is a round of its loop old at most and costs nothing.
#[cfg_attr(not(feature = "topic"), allow(dead_code, reason = "only topics look at the time that often"))]
pub(crate) fn coarse_now() -> Instant {
    let hosted = HOSTED.get().and_then(|hosted| hosted.now.instant());
    hosted.unwrap_or_else(Instant::now)
}

/// The first moment that was asked for.
fn origin() -> Instant {
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    Instant::from_std(*ORIGIN.get_or_init(std::time::Instant::now))
}

/// Polls on behalf of `waker`: alarms inside register with the caller, who gets the next one of them and must poll
/// again when it is due.
#[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "only an acceptor hosts"))]
pub(crate) fn host<R>(waker: &Waker, now: Alarm, poll: impl FnOnce() -> R) -> (R, Option<Alarm>) {
    struct Restore(Option<Hosted>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HOSTED.set(self.0);
        }
    }
    let hosted = Hosted { waker: (waker.data(), waker.vtable()), now, next: None };
    let restore = Restore(HOSTED.replace(Some(hosted)));
    let polled = poll();
    let next = HOSTED.get().and_then(|hosted| hosted.next);
    drop(restore);
    (polled, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_alarm_is_the_same_but_for_nanoseconds() {
        for nanos in [0, 1, 15, 16, 1_000_000_007, i64::MAX >> 5, -1, -16, -1_000_000_007] {
            let alarm = Alarm::from(Packed::from(Alarm(nanos)));
            assert!((nanos - 15..=nanos).contains(&alarm.0), "{nanos} became {}", alarm.0);
        }
        assert_eq!(Alarm::from(Packed::from(Alarm::NEVER)), Alarm::NEVER);
    }

    #[test]
    fn an_enum_around_a_packed_alarm_is_no_larger() {
        enum Around {
            _Packed(Packed),
            _One,
            _Two,
        }
        assert_eq!(size_of::<Option<Around>>(), 8);
    }
}
