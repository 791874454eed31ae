//! The connection that alternates between hyper and rest, inside one task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::HttpService;

use super::active::Active;
use super::deadline::Deadline;
use super::dormant::{Dormant, Wake};
use super::flags::Rest;
use super::io::LEFTOVER_BYTES_MAX;
use super::machine::{Machine, Plain, Upgradeable};
use super::settings::{LINGER, Settings, Wait};
use crate::BoxError;
use crate::deferred::Outcome;
use crate::deferred::outcome::drop_because;

/// One connection, whichever of hyper's machines drives it.
pub(crate) struct Core<I, S: HttpService<Incoming>, M> {
    settings: Arc<Settings>,
    state: State<I, S, M>,
    deadline: Deadline,
    // What the deadline is for; a head's goes on while its bytes come in.
    wait: Wait,
    // The client's requests have come one right after the other of late.
    brisk: bool,
    // A request has come since hyper's being kept at hand was last looked into.
    stirred: bool,
    shutdown: bool,
}

enum State<I, S: HttpService<Incoming>, M> {
    Dormant(Dormant<I, S>),
    Active(Box<Active<I, S, M>>),
    /// Nothing is left: it was upgraded, or is being moved.
    Gone,
}

impl<I, S, M> Core<I, S, M>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as Body>::Error: Into<BoxError>,
    M: Machine<I, S>,
{
    /// A connection over `io`, of which `leftover` has been read already.
    pub(crate) fn new(settings: Arc<Settings>, io: I, service: S, leftover: &[u8]) -> Self {
        let mut dormant = Dormant::new(io, service);
        dormant.leftover = Box::from(leftover);
        dormant.seen = leftover.len();
        Self::from_dormant(settings, dormant)
    }

    /// A connection that has kept us waiting for too long: hyper is left to say so.
    pub(crate) fn timed_out(settings: Arc<Settings>, io: I, service: S) -> Self {
        let dormant = Dormant::new(io, service);
        let state = State::Active(Box::new(Active::resume(dormant, Wake::Deadline, &settings)));
        Self::with_state(settings, state)
    }

    fn with_state(settings: Arc<Settings>, state: State<I, S, M>) -> Self {
        let (deadline, wait) = (Deadline::default(), Wait::FirstByte);
        Self { settings, state, deadline, wait, brisk: false, stirred: false, shutdown: false }
    }

    pub(crate) fn from_dormant(settings: Arc<Settings>, dormant: Dormant<I, S>) -> Self {
        let parked = dormant.parked.is_some();
        let mut core = Self::with_state(settings, State::Dormant(dormant));
        if !parked {
            core.begin(Wait::FirstByte, Duration::ZERO);
        }
        if matches!(&core.state, State::Dormant(dormant) if !dormant.leftover.is_empty()) {
            core.resume(Wake::Readable);
        }
        core
    }

    /// Whether it waits without hyper.
    pub(crate) fn is_dormant(&self) -> bool {
        matches!(self.state, State::Dormant(_))
    }

    /// Drives the connection. `poll` is how hyper is driven.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl Fn(&mut M, &mut Context<'_>) -> Poll<hyper::Result<()>>,
    ) -> Poll<hyper::Result<()>> {
        loop {
            match &mut self.state {
                State::Dormant(_) => {
                    let wake = ready!(self.poll_dormant(cx));
                    self.resume(wake);
                }
                State::Active(active) => {
                    if let Poll::Ready(result) = active.poll(cx, &poll) {
                        self.deadline.release();
                        return Poll::Ready(result);
                    }
                    if active.take_called(&self.settings) {
                        // A head is whole: its deadline has been met.
                        match self.wait {
                            Wait::Linger => self.stirred = true,
                            Wait::FirstByte | Wait::Head | Wait::Idle => self.deadline.clear(),
                        }
                    }
                    if active.peer_gone() {
                        self.end();
                        continue;
                    }
                    match active.rest() {
                        Some(Rest::Idle) if self.brisk => ready!(self.linger(cx)),
                        Some(rest) => ready!(self.go_dormant(rest, cx)),
                        None => ready!(self.poll_idle(cx)),
                    }
                }
                State::Gone => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_dormant(&mut self, cx: &mut Context<'_>) -> Poll<Wake<S::ResBody>> {
        let State::Dormant(dormant) = &mut self.state else { return Poll::Pending };
        if self.shutdown && dormant.parked.is_none() {
            return Poll::Ready(Wake::Shutdown);
        }
        if let Poll::Ready(wake) = dormant.poll(cx, &self.settings) {
            return Poll::Ready(wake);
        }
        self.poll_deadline(cx).map(|()| Wake::Deadline)
    }

    /// Begins a wait of which a part is over.
    fn begin(&mut self, wait: Wait, elapsed: Duration) {
        self.wait = wait;
        self.deadline.set(&self.settings.clock, Some(self.settings.limit(wait).saturating_sub(elapsed)));
    }

    /// Ready when the wait has lasted too long.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.settings.timeout(self.wait) {
            Some(_) => self.deadline.poll(&self.settings.clock, cx),
            None => Poll::Pending,
        }
    }

    /// Builds hyper.
    fn resume(&mut self, wake: Wake<S::ResBody>) {
        let State::Dormant(dormant) = std::mem::replace(&mut self.state, State::Gone) else { return };
        if matches!(wake, Wake::Readable) && self.wait != Wait::Head {
            self.brisk = self.wait == Wait::Idle
                && self.deadline.was_set_within(&self.settings.clock, LINGER, self.settings.limit(Wait::Idle))
                // Nobody may linger on a clock that stands still.
                && self.settings.clock.is_running();
            self.begin(Wait::Head, Duration::ZERO);
        }
        self.state = State::Active(Box::new(Active::resume(dormant, wake, &self.settings)));
    }

    /// Puts hyper away. Ready when it is needed again at once; pending when every waker is in place.
    fn go_dormant(&mut self, rest: Rest, cx: &mut Context<'_>) -> Poll<()> {
        let State::Active(active) = std::mem::replace(&mut self.state, State::Gone) else { return Poll::Ready(()) };
        let service_polled = active.service_polled();
        let Some((dormant, end)) = active.into_dormant() else { return Poll::Ready(()) };
        debug_assert_eq!(rest == Rest::Parked, dormant.parked.is_some());
        let begun = !dormant.leftover.is_empty();
        let large = dormant.leftover.len() >= LEFTOVER_BYTES_MAX;
        self.state = State::Dormant(dormant);
        if let Some(end) = end {
            self.resume(Wake::End(end));
            return Poll::Ready(());
        }
        match rest {
            Rest::Parked => {
                // The sleep is kept: made anew after each answer, it costs more bytes in the end than while it waits.
                self.deadline.clear();
                self.wait = Wait::Idle;
                self.brisk = false;
                // The last poll has left the task's waker with the IO, read by hyper or ahead of it. With the service's
                // future it has not where hyper 1.12 forgets to look at it, once a response before it is flushed.
                if service_polled { Poll::Pending } else { Poll::Ready(()) }
            }
            Rest::Idle => {
                self.begin_wait(begun);
                if large {
                    self.resume(Wake::Readable);
                    return Poll::Ready(());
                }
                ready!(self.poll_deadline(cx));
                self.resume(Wake::Deadline);
                Poll::Ready(())
            }
        }
    }

    /// Sets the deadline of an idle connection. A head that has begun keeps the one that it has.
    fn begin_wait(&mut self, head_begun: bool) {
        let wait = if head_begun { Wait::Head } else { Wait::Idle };
        if wait == Wait::Head && self.wait == Wait::Head && self.deadline.is_set() {
            return;
        }
        let lingered = if self.wait == Wait::Linger && !self.stirred { LINGER } else { Duration::ZERO };
        self.begin(wait, lingered);
    }

    /// Keeps hyper at hand for a client whose next request is likely to come at once. Whether it does is looked into
    /// now and then and not with each request: to ask for the time would be a good part of the work that those are.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wait != Wait::Linger || !self.deadline.is_set() {
            self.stirred = true;
        }
        loop {
            if self.wait == Wait::Linger && self.deadline.is_set() {
                ready!(self.poll_deadline(cx));
            }
            if !std::mem::take(&mut self.stirred) {
                self.brisk = false;
                return self.go_dormant(Rest::Idle, cx);
            }
            self.begin(Wait::Linger, Duration::ZERO);
        }
    }

    /// A connection that waits for a head and is not put away has its deadline as well.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Active(active) = &mut self.state else { return Poll::Ready(()) };
        if !active.is_reading_head() {
            return Poll::Pending;
        }
        if !self.deadline.is_set() || self.wait == Wait::Linger {
            let begun = active.has_large_head();
            self.begin_wait(begun);
        }
        ready!(self.poll_deadline(cx));
        self.replace_active(|_| Wake::Deadline);
        Poll::Ready(())
    }

    /// The client has gone: the service's future is dropped, and hyper shall meet the end.
    fn end(&mut self) {
        self.replace_active(|end| Wake::End(end.unwrap_or(super::io::End::Eof)));
    }

    fn replace_active(&mut self, wake: impl FnOnce(Option<super::io::End>) -> Wake<S::ResBody>) {
        let State::Active(active) = std::mem::replace(&mut self.state, State::Gone) else { return };
        if let Some((dormant, end)) = active.into_dormant() {
            self.state = State::Dormant(dormant);
            self.resume(wake(end));
        }
    }

    /// Finishes the request in hand and closes; closes at once if there is none.
    pub(crate) fn graceful_shutdown(&mut self) {
        match &mut self.state {
            State::Dormant(dormant) => {
                // hyper lets a first request come to its end of which a part has arrived.
                let begun = !dormant.leftover.is_empty() && !dormant.notes.served();
                dormant.notes.last = true;
                self.shutdown = !begun;
            }
            // hyper closes a connection between two requests at once, whatever has come of the next.
            State::Active(active) if active.is_between_requests() => self.replace_active(|_| Wake::Shutdown),
            State::Active(active) => active.graceful_shutdown(),
            State::Gone => {}
        }
    }

    /// A graceful shutdown that waits for no service: a request that is parked gets `answer`, and its future is dropped
    /// because of it. Unlike hyper's, it awaits a head of which a part is there on a kept connection too.
    ///
    /// To be called again after each poll; says whether another is needed.
    #[allow(dead_code, reason = "the slab does the same on its own")]
    pub(crate) fn drain(&mut self, answer: impl FnOnce() -> Response<S::ResBody>) -> bool {
        match &mut self.state {
            State::Dormant(dormant) if dormant.parked.is_some() => {
                dormant.notes.last = true;
                drop_because(Outcome::ShutDown, || self.resume(Wake::Answer(Ok(answer()))));
                true
            }
            State::Dormant(dormant) => {
                dormant.notes.last = true;
                let ends = dormant.leftover.is_empty() && !self.shutdown;
                self.shutdown |= ends;
                ends
            }
            State::Active(active) if active.wants_answer() => {
                active.graceful_shutdown();
                drop_because(Outcome::ShutDown, || active.answer(answer()));
                true
            }
            State::Active(active) if !active.is_last() && active.has_large_head() && active.is_reading_head() => {
                // For a hyper that knows from the start that this request is the last.
                active.graceful_shutdown();
                self.replace_active(|end| end.map_or(Wake::Readable, Wake::End));
                true
            }
            State::Active(active) if !active.is_last() && !active.has_large_head() => {
                active.graceful_shutdown();
                true
            }
            State::Active(_) | State::Gone => false,
        }
    }

    /// The IO, the bytes read from it and not used, and the service. A parked request ends. `None` once upgraded.
    pub(crate) fn into_parts(self) -> Option<(I, Bytes, S)> {
        let dormant = match self.state {
            State::Dormant(dormant) => dormant,
            State::Active(active) => active.into_dormant()?.0,
            State::Gone => return None,
        };
        Some((dormant.io, Bytes::from(dormant.leftover), dormant.service))
    }
}

impl<I, S> Core<I, S, Plain<I, S>>
where
    I: Read + Write + Unpin + Send,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as Body>::Error: Into<BoxError>,
{
    pub(crate) fn with_upgrades(self) -> Core<I, S, Upgradeable<I, S>> {
        let state = match self.state {
            State::Dormant(dormant) => State::Dormant(dormant),
            State::Active(active) => State::Active(Box::new(active.with_upgrades())),
            State::Gone => State::Gone,
        };
        Core {
            settings: self.settings,
            state,
            deadline: self.deadline,
            wait: self.wait,
            brisk: self.brisk,
            stirred: self.stirred,
            shutdown: self.shutdown,
        }
    }
}

/// Drives hyper to its end, the IO closed.
pub(crate) fn to_end<I, S, M>(machine: &mut M, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>
where
    S: HttpService<Incoming>,
    M: Machine<I, S>,
{
    machine.poll(cx)
}

/// Drives hyper to its end and leaves the IO open.
pub(crate) fn without_shutdown<I, S>(machine: &mut Plain<I, S>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as Body>::Error: Into<BoxError>,
{
    Pin::new(machine).get_mut().poll_without_shutdown(cx)
}
