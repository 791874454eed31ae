//! A connection with hyper, how one is built for a dormant one, and how it becomes dormant again.

mod reuse;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::Response;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::HttpService;

use super::dormant::{Dormant, Parked, Wake, is_plain, parsed_len};
use super::flags::{Flag, Flags, Rest};
use super::io::{End, Io, LEFTOVER_BYTES_MAX, Replay};
use super::machine::{Machine, Plain, Upgradeable};
use super::notes::Notes;
use super::probe::Probe;
use super::service::{Adapter, Reply, Slot};
use super::settings::Settings;
use crate::BoxError;

/// Probes in a row: one in which the service answers, one that tells that hyper has no body to hand over, and one that
/// tells that it goes on reading after it.
const PROBES_MAX: usize = 3;

/// A live hyper, and what it shares with us.
pub(crate) struct Active<I, S: HttpService<Incoming>, M> {
    pub(crate) machine: M,
    flags: Arc<Flags>,
    slot: Arc<Slot<S::Future, S::ResBody>>,
    notes: Notes,
    // A request has come since this was last asked.
    called: bool,
    // It was the first of the connection.
    first: bool,
    // No request has come since hyper was built.
    fresh: bool,
    // What hyper was given first.
    seen: usize,
    // The head in hand is larger than what is worth to be kept as bytes: hyper keeps it until it is whole.
    large_head: bool,
    // hyper has the builder's own settings, and no connection has ended with it.
    standard: bool,
    _io: std::marker::PhantomData<fn() -> I>,
}

impl<I, S, M> Active<I, S, M>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
    M: Machine<I, S>,
{
    /// Builds hyper for a dormant connection, because of `wake`. It must be polled before anything else.
    pub(crate) fn resume(dormant: Dormant<I, S>, wake: Wake<S::ResBody>, settings: &Settings) -> Self {
        let Dormant { io, service, parked, leftover, seen, notes } = dormant;
        let flags = Arc::new(Flags::default());
        let mut replay = Replay { leftover: leftover.into_vec(), seen, ..Replay::default() };
        let mut hyper = None;
        let mut shutdown = false;
        let head = parked.as_ref().map(|parked| parked.head);
        let reply = match (wake, parked) {
            (Wake::Answer(output), _) => Reply::Ready(output),
            (Wake::End(end), Some(_)) => {
                // hyper does not look for the end behind bytes that it still holds.
                replay.leftover = Vec::new();
                replay.seen = 0;
                replay.end = Some(end);
                Reply::Never
            }
            (Wake::End(end), None) => {
                replay.end = Some(end);
                Reply::None
            }
            (Wake::Deadline, _) => {
                hyper = Some(settings.timed_out());
                Reply::None
            }
            (Wake::Shutdown, _) => {
                shutdown = true;
                Reply::None
            }
            (Wake::Readable | Wake::Unread, parked) => {
                parked.map_or(Reply::None, |parked| Reply::Waiting(parked.future))
            }
        };
        if let Some(head) = head {
            replay.head = head.bytes();
        } else if is_plain(&replay.leftover) {
            flags.set(Flag::PlainFraming);
        }
        if notes.last && hyper.is_none() {
            hyper = Some(settings.last_request());
        }
        let large_head = replay.leftover.len() >= LEFTOVER_BYTES_MAX;
        let fresh = head.is_none();
        flags.expect(settings.expects_wait(notes), settings.expects_kept());
        let slot = Arc::new(Slot::new(flags.clone(), reply, head.unwrap_or_default()));
        let io = Io::new(io, replay, flags.clone(), settings.half_close);
        let adapter = Adapter::new(service, slot.clone());
        let standard = hyper.is_none() && !shutdown;
        let hyper = hyper.as_ref().unwrap_or(&settings.hyper).serve_connection(io, adapter);
        let mut machine = M::new(hyper);
        if shutdown {
            machine.graceful_shutdown();
        }
        Self {
            machine,
            flags,
            slot,
            notes,
            called: false,
            first: false,
            fresh,
            seen,
            large_head,
            standard,
            _io: std::marker::PhantomData,
        }
    }

    /// Drives hyper. `poll` is how: with or without closing the IO in the end.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl Fn(&mut M, &mut Context<'_>) -> Poll<hyper::Result<()>>,
    ) -> Poll<hyper::Result<()>> {
        self.flags.begin_poll();
        let mut result = poll(&mut self.machine, cx);
        self.note_call();
        for _ in 0..PROBES_MAX {
            if result.is_ready() || !self.flags.wants_probe() {
                break;
            }
            let waited = self.flags.has(Flag::Waiting);
            result = self.probe(cx, &poll);
            if !self.flags.has(Flag::BodyReleased) && waited == self.flags.has(Flag::Waiting) {
                break;
            }
        }
        result
    }

    /// Polls hyper with a waker that is new to it. Its body channel takes a clone in each poll for as long as a part
    /// of the request's body is not handed over (hyper 1.12, `body/chan.rs`), and nothing else in hyper does: what is
    /// ours, and the user's, gets the task's own. The channel gives the clone up only by waking it, because somebody
    /// has taken a part of the body or dropped it, perhaps on another thread; then nothing is known yet.
    fn probe(
        &mut self,
        cx: &Context<'_>,
        poll: impl Fn(&mut M, &mut Context<'_>) -> Poll<hyper::Result<()>>,
    ) -> Poll<hyper::Result<()>> {
        let released_before = self.flags.has(Flag::BodyReleased);
        let answered_before = !self.flags.has(Flag::Waiting);
        let probe = Probe::new(cx.waker());
        self.flags.begin_poll();
        self.flags.begin_probe(cx.waker());
        let result = poll(&mut self.machine, &mut Context::from_waker(&Waker::from(probe.clone())));
        self.flags.end_probe();
        self.note_call();
        if !self.flags.has(Flag::Called) {
            let released = probe.is_released();
            self.flags.put(Flag::BodyReleased, released);
            self.flags.put(Flag::BodyHeld, answered_before && !released);
            // A body that was dropped before its end may have closed hyper's reading side; then it never reads again,
            // and what is left of the body must not be taken for a request.
            self.flags.put(Flag::BodyDone, released_before && released && self.flags.has(Flag::ReadBlocked));
        }
        result
    }

    fn note_call(&mut self) {
        if self.flags.has(Flag::Called) {
            self.called = true;
            self.fresh = false;
            self.large_head = false;
        }
        if self.flags.has(Flag::New) {
            self.first |= !self.notes.served();
            self.notes.waited = Some(self.flags.has(Flag::Waiting));
        }
    }

    /// Whether a request has come since this was last asked.
    pub(crate) fn take_called(&mut self, settings: &Settings) -> bool {
        if self.called {
            let waits = settings.expects_wait(self.notes);
            if self.flags.has(Flag::Kept) {
                settings.expect_kept();
            }
            self.flags.expect(waits, settings.expects_kept());
            if std::mem::take(&mut self.first) {
                settings.expect_wait(waits);
            }
        }
        std::mem::take(&mut self.called)
    }

    /// Whether hyper may be put away.
    pub(crate) fn rest(&self) -> Option<Rest> {
        if self.is_released() {
            return Some(Rest::Parked);
        }
        match self.flags.rest()? {
            // Not while it holds a large head, nor after an HTTP/1.0 request: hyper answers a malformed head in the
            // version of the request before.
            Rest::Idle if self.large_head || self.slot.head().is_http_10() => None,
            rest => Some(rest),
        }
    }

    /// Whether hyper waits for a head though it is not put away.
    pub(crate) fn is_reading_head(&self) -> bool {
        self.flags.reading_head()
    }

    /// Whether all that hyper has written is sent.
    #[cfg_attr(not(unix), allow(dead_code, reason = "only a slab writes what is not sent at once"))]
    pub(crate) fn is_flushed(&self) -> bool {
        self.flags.has(Flag::Flushed)
    }

    /// Whether hyper would be between two requests, had it not been rebuilt since the last.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.fresh && self.notes.served() && self.flags.reading_head()
    }

    /// Whether a head has begun that is too large to be put away.
    pub(crate) fn has_large_head(&self) -> bool {
        self.large_head
    }

    /// Whether the service's future has the task's waker.
    pub(crate) fn service_polled(&self) -> bool {
        self.flags.has(Flag::ServicePolled)
    }

    /// Whether the client has gone, seen where hyper does not look.
    pub(crate) fn peer_gone(&self) -> bool {
        self.flags.has(Flag::PeerGone) && self.flags.has(Flag::Waiting)
    }

    /// Whether everything that was read from the client is known to be used and the IO known to be blocked.
    pub(crate) fn read_blocked(&self) -> bool {
        self.flags.has(Flag::ReadBlocked)
    }

    /// Whether a request waits for its service.
    pub(crate) fn is_waiting(&self) -> bool {
        self.flags.has(Flag::Waiting)
    }

    /// Whether a request that waits has no answer yet. hyper does not look for one before there is room for it.
    pub(crate) fn wants_answer(&self) -> bool {
        self.is_waiting() && !self.flags.has(Flag::Answered)
    }

    /// Whether a request has asked for an upgrade since hyper was built: the IO may be someone else's by now.
    pub(crate) fn upgrade_asked(&self) -> bool {
        self.flags.has(Flag::UpgradeAsked)
    }

    /// Whether a graceful shutdown has begun.
    pub(crate) fn is_last(&self) -> bool {
        self.notes.last
    }

    /// Answers a waiting request in the service's stead. Its future is dropped here.
    pub(crate) fn answer(&self, response: Response<S::ResBody>) {
        self.slot.answer(response);
    }

    pub(crate) fn graceful_shutdown(&mut self) {
        self.notes.last = true;
        self.machine.graceful_shutdown();
    }

    /// Notes what hyper has read first since it was [renewed](Self::renew): so much of a head it has parsed.
    pub(crate) fn note_first(&mut self, len: usize) {
        self.seen = len;
    }

    /// See [`Flags::disambiguate`].
    pub(crate) fn disambiguate(&self) {
        self.flags.disambiguate();
    }

    /// What is remembered of the connection.
    pub(crate) fn notes(&self) -> Notes {
        self.notes
    }

    /// Takes the request that waits. hyper then waits for ever, or for [an answer](Self::answer).
    pub(crate) fn take_parked(&self) -> Option<Parked<S::Future>> {
        self.slot.take().map(|future| Parked { future, head: self.slot.head() })
    }

    /// Takes hyper apart. `None` once it is upgraded.
    pub(crate) fn into_dormant(self) -> Option<(Dormant<I, S>, Option<End>)> {
        let http1::Parts { io, read_buf, service, .. } = self.machine.into_parts()?;
        let (io, Replay { leftover, seen, end, .. }) = io.into_parts(&read_buf);
        let parked = self.slot.take().map(|future| Parked { future, head: self.slot.head() });
        let seen = if parked.is_some() { seen } else { parsed_len(&leftover, self.fresh.then_some(self.seen)) };
        let leftover = leftover.into_boxed_slice();
        Some((Dormant { io, service: service.into_service(), parked, leftover, seen, notes: self.notes }, end))
    }
}

impl<I, S> Active<I, S, Plain<I, S>>
where
    I: Read + Write + Unpin + Send,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
{
    pub(crate) fn with_upgrades(self) -> Active<I, S, Upgradeable<I, S>> {
        let Self { machine, flags, slot, notes, called, first, fresh, seen, large_head, standard, _io } = self;
        Active {
            machine: machine.with_upgrades(),
            flags,
            slot,
            notes,
            called,
            first,
            fresh,
            seen,
            large_head,
            standard,
            _io,
        }
    }
}
