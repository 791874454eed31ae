//! What the parts around hyper have seen, shared by them and free of IO.
//!
//! The wrapped IO, the service adapter, its future and the response body each report here; the connection asks
//! [`Flags::rest`] after every poll whether hyper may be put away.
//!
//! ```text
//!                    response ready, hang-up,
//!                   ┌──── shutdown ────────────────┐
//!                   ▼                              │
//!   ┌──────┐  bytes, end of file,  ┌────────┐  future pending  ┌────────┐
//!   │ Idle │ ────────────────────▶ │ Active │ ───────────────▶ │ Parked │
//!   └──────┘  deadline, shutdown   └────────┘                  └────────┘
//!      ▲                               │ │
//!      └── response written, nothing ──┘ └──▶ done: error, close, upgrade
//!          more to read
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

/// How a connection may rest without hyper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// A request waits for its response.
    Parked,
    /// Between two requests, or before the first; perhaps with a part of a head.
    Idle,
}

/// One fact about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Flag {
    /// The last thing that happened on the write side was a completed flush, or nothing has happened since hyper was
    /// renewed: its write buffer is empty.
    Flushed = 1,
    /// In this poll hyper asked for bytes, after the last call of the service, and there were none.
    ReadBlocked = 1 << 1,
    /// The service was called and its future is pending.
    Waiting = 1 << 2,
    /// The service was called in this poll.
    Called = 1 << 3,
    /// The request carries an upgrade that is still undecided.
    Upgrade = 1 << 4,
    /// The request has a body.
    Body = 1 << 5,
    /// At the end of a poll hyper had no body left to hand over: all of it is given, or nobody wants it.
    BodyReleased = 1 << 6,
    /// Nothing of the request's body is left on the wire.
    BodyDone = 1 << 7,
    /// The response was handed to hyper and its body has not ended.
    Responding = 1 << 8,
    /// hyper closes the IO.
    Closing = 1 << 9,
    /// hyper is being polled with a probe, see [`Flags::task_context`].
    Probing = 1 << 10,
    /// The peer has gone while a request waits, noticed by reading ahead of hyper.
    PeerGone = 1 << 11,
    /// No head that hyper has read has a `content-length` which may stand beside a `transfer-encoding`. That would
    /// close the connection (RFC 9112 section 6.1) and leaves no trace in the request.
    PlainFraming = 1 << 12,
    /// It is unknown whether hyper will keep the connection after this request.
    Ambiguous = 1 << 13,
    /// hyper had a body to hand over after the service had answered. If the response ends first, hyper holds on to the
    /// body's end until the next request, and tells the reader of the body that it failed if it is put away.
    BodyHeld = 1 << 14,
    /// A request has asked for an upgrade, whatever came of it.
    UpgradeAsked = 1 << 15,
    /// hyper has used all that it has read: it looked for the end of file while the request in hand waited, and has got
    /// nothing since.
    Drained = 1 << 16,
    /// In this poll the service's future was polled.
    ServicePolled = 1 << 17,
    /// In this poll the user's service was called: a call that is no replay.
    New = 1 << 18,
    /// The next call is a replay: its reply is there already.
    Replay = 1 << 19,
    /// The next request is likely to wait.
    ExpectsWait = 1 << 20,
    /// The request in hand has got an answer in its service's stead.
    Answered = 1 << 21,
    /// What services keep of a request while it waits keeps hyper's read buffer.
    Keeps = 1 << 22,
    /// The request that waits, or something that was made of it, keeps hyper's read buffer.
    Kept = 1 << 23,
    /// hyper is to be released from a request that has to wait, if it can be.
    Releases = 1 << 24,
    /// hyper was: it has got an answer that nobody reads. What it writes goes nowhere.
    Released = 1 << 25,
}

/// The facts of one connection. Written by its own task alone, so that plain loads and stores are enough.
///
/// What is called here is called from generic code, which is compiled in the user's crate: without `#[inline]` each
/// would stay a call.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    bits: AtomicU32,
    task: Mutex<Option<Waker>>,
}

impl Flags {
    #[inline]
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.bits.load(Ordering::Relaxed) & flag as u32 != 0
    }

    #[inline]
    pub(crate) fn set(&self, flag: Flag) {
        self.bits.store(self.bits.load(Ordering::Relaxed) | flag as u32, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn clear(&self, flag: Flag) {
        self.bits.store(self.bits.load(Ordering::Relaxed) & !(flag as u32), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn put(&self, flag: Flag, value: bool) {
        if value { self.set(flag) } else { self.clear(flag) }
    }

    /// Clears some and then sets some.
    #[inline]
    fn change(&self, clear: u32, set: u32) {
        self.bits.store(self.bits.load(Ordering::Relaxed) & !clear | set, Ordering::Relaxed);
    }

    /// Forgets what is only true for one poll.
    #[inline]
    pub(crate) fn begin_poll(&self) {
        self.change(union([Flag::ReadBlocked, Flag::Called, Flag::ServicePolled, Flag::New]), 0);
    }

    /// Forgets everything: hyper is as good as new, and has written nothing.
    pub(crate) fn reset(&self) {
        self.bits.store(Flag::Flushed as u32, Ordering::Relaxed);
    }

    /// Whether hyper is to be released from the request in hand, and can be: it would be put away, and holds nothing of the
    /// connection.
    #[inline]
    pub(crate) fn releases(&self) -> bool {
        self.has(Flag::Releases) && self.has(Flag::Drained) && self.rest() == Some(Rest::Parked)
    }

    /// hyper has asked for bytes, and has got some or none.
    #[inline]
    pub(crate) fn read(&self, blocked: bool) {
        if !blocked {
            self.change(union([Flag::ReadBlocked, Flag::PlainFraming, Flag::Drained]), 0);
        } else if self.has(Flag::Waiting) {
            self.change(0, union([Flag::ReadBlocked, Flag::Drained]));
        } else {
            self.set(Flag::ReadBlocked);
        }
    }

    /// Whether it is worth to find out whether requests are kept.
    #[inline]
    pub(crate) fn looks_for_kept(&self) -> bool {
        self.bits.load(Ordering::Relaxed) & union([Flag::ExpectsWait, Flag::Keeps]) == Flag::ExpectsWait as u32
    }

    /// Whether it shows in where hyper reads next that a request is kept.
    #[inline]
    pub(crate) fn shows_kept(&self) -> bool {
        self.has(Flag::Waiting) && !self.has(Flag::Body)
    }

    /// What is expected of the next request: that it waits, and keeps what it was read into.
    #[inline]
    pub(crate) fn expect(&self, wait: bool, kept: bool) {
        self.put(Flag::ExpectsWait, wait);
        self.put(Flag::Keeps, kept);
    }

    /// Whether the request that hyper hands over has to leave its buffer. Of a body it does not show what is kept.
    #[inline]
    pub(crate) fn rehomes(&self, body: bool) -> bool {
        self.has(Flag::ExpectsWait) && (body || self.has(Flag::Keeps))
    }

    /// It has become known that hyper will keep the connection after the request in hand as its head says.
    pub(crate) fn disambiguate(&self) {
        self.clear(Flag::Ambiguous);
    }

    /// A request is handed to the service.
    #[inline]
    pub(crate) fn call(&self, upgrade: bool, body: bool, ambiguous: bool) {
        let body_before = union([Flag::Body, Flag::BodyReleased, Flag::BodyDone, Flag::BodyHeld]);
        let before = union([
            Flag::ReadBlocked,
            Flag::Drained,
            Flag::Upgrade,
            Flag::Ambiguous,
            Flag::Replay,
            Flag::Answered,
            Flag::Kept,
        ]);
        let mut set = union([Flag::Called, Flag::Waiting]);
        if upgrade {
            set |= union([Flag::Upgrade, Flag::UpgradeAsked]);
        }
        if body {
            set |= union([Flag::Body]);
        }
        if ambiguous {
            set |= union([Flag::Ambiguous]);
        }
        self.change(body_before | before, set);
    }

    /// The response, or the service's error, is handed to hyper.
    #[inline]
    pub(crate) fn answered(&self) {
        self.change(union([Flag::Waiting, Flag::Upgrade]), 0);
    }

    /// Whether the response is done, or none is due.
    #[inline]
    pub(crate) fn responded(&self) -> bool {
        !self.has(Flag::Waiting) && !self.has(Flag::Responding)
    }

    /// Whether the end of the request's body has to be found out by probing before the connection may rest. Once the
    /// service has answered that must be found out at once.
    #[inline]
    pub(crate) fn wants_probe(&self) -> bool {
        let unknown = self.has(Flag::Body) && !self.has(Flag::BodyDone) && !self.has(Flag::BodyHeld);
        unknown && (!self.has(Flag::Waiting) || self.has(Flag::Flushed))
    }

    /// Whether, and how, hyper may be put away now that its poll returned `Pending`.
    #[inline]
    pub(crate) fn rest(&self) -> Option<Rest> {
        let body_left = self.has(Flag::Body) && !self.has(Flag::BodyDone);
        if self.has(Flag::Closing) || !self.has(Flag::Flushed) || body_left {
            None
        } else if self.has(Flag::Waiting) {
            (!self.has(Flag::Upgrade) && !self.has(Flag::Ambiguous)).then_some(Rest::Parked)
        } else if self.has(Flag::Responding) || !self.has(Flag::ReadBlocked) {
            None
        } else {
            Some(Rest::Idle)
        }
    }

    /// Whether hyper waits for a head or the rest of one, after a poll that returned `Pending`.
    #[inline]
    pub(crate) fn reading_head(&self) -> bool {
        self.responded() && self.has(Flag::ReadBlocked) && !self.has(Flag::Closing)
    }

    /// Until [`end_probe`](Self::end_probe), hyper is polled with a waker that nobody else may keep.
    pub(crate) fn begin_probe(&self, task: &Waker) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
        self.set(Flag::Probing);
    }

    pub(crate) fn end_probe(&self) {
        self.clear(Flag::Probing);
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Calls `poll` with the task's own context: what is not hyper's own must never see a probe's waker.
    #[inline]
    pub(crate) fn task_context<R>(&self, cx: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let task = if self.has(Flag::Probing) { self.task() } else { None };
        // In one place, so that it is compiled into it.
        poll(&mut Context::from_waker(task.as_ref().unwrap_or(cx.waker())))
    }

    #[cold]
    fn task(&self) -> Option<Waker> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const fn union<const N: usize>(flags: [Flag; N]) -> u32 {
    let (mut bits, mut at) = (0, 0);
    while at < N {
        bits |= flags[at] as u32;
        at += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(set: &[Flag]) -> Flags {
        let flags = Flags::default();
        for flag in set {
            flags.set(*flag);
        }
        flags
    }

    #[test]
    fn nothing_rests_before_a_completed_flush() {
        assert_eq!(flags(&[]).rest(), None);
        assert_eq!(flags(&[Flag::ReadBlocked]).rest(), None);
        assert_eq!(flags(&[Flag::Waiting]).rest(), None);
    }

    #[test]
    fn idle_needs_a_blocked_read_and_no_response_under_way() {
        assert_eq!(flags(&[Flag::Flushed]).rest(), None);
        assert_eq!(flags(&[Flag::Flushed, Flag::ReadBlocked]).rest(), Some(Rest::Idle));
        assert_eq!(flags(&[Flag::Flushed, Flag::ReadBlocked, Flag::Responding]).rest(), None);
        assert_eq!(flags(&[Flag::Flushed, Flag::ReadBlocked, Flag::Closing]).rest(), None);
    }

    #[test]
    fn a_waiting_request_parks_unless_it_may_upgrade_or_close() {
        assert_eq!(flags(&[Flag::Flushed, Flag::Waiting]).rest(), Some(Rest::Parked));
        assert_eq!(flags(&[Flag::Flushed, Flag::Waiting, Flag::Upgrade]).rest(), None);
        assert_eq!(flags(&[Flag::Flushed, Flag::Waiting, Flag::Ambiguous]).rest(), None);
    }

    #[test]
    fn a_body_must_be_done() {
        assert_eq!(flags(&[Flag::Flushed, Flag::Waiting, Flag::Body]).rest(), None);
        assert_eq!(flags(&[Flag::Flushed, Flag::Waiting, Flag::Body, Flag::BodyReleased]).rest(), None);
        assert_eq!(flags(&[Flag::Flushed, Flag::Waiting, Flag::Body, Flag::BodyDone]).rest(), Some(Rest::Parked));
        assert_eq!(flags(&[Flag::Flushed, Flag::ReadBlocked, Flag::Body]).rest(), None);
    }

    #[test]
    fn a_new_call_forgets_the_last_body() {
        let flags = flags(&[Flag::Flushed, Flag::Body, Flag::BodyDone, Flag::ReadBlocked]);
        flags.call(false, true, false);
        assert!(flags.wants_probe());
        assert_eq!(flags.rest(), None);
    }
}
