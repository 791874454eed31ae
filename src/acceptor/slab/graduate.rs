//! A connection that has to wait on IO, in a task of its own.
//!
//! Half a body, a full send buffer, a response that streams: hyper stays alive, and tokio watches the socket. When the
//! connection is dormant again it goes back to the slab.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::os::fd::RawFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::super::config::ShutdownResponse;
use super::super::service::own;
use super::super::shutdown::Stop;
use super::super::stats::Counters;
use super::engine::Engine;
use super::{App, Waiting};
use crate::deferred::Outcome;
use crate::deferred::outcome::drop_because;
use crate::draining::while_draining;
use crate::server::conn::deadline::Deadline;
use crate::server::conn::io::End;
use crate::server::conn::settings::{Settings, Wait};

/// Where connections come back to.
pub(super) struct Home<S: App> {
    returned: RefCell<Vec<Returned<S>>>,
    worker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    registry: Registry,
    counters: Arc<Counters>,
}

/// A connection that has come back, or a place whose connection has ended.
pub(super) struct Returned<S: App> {
    pub(super) key: u32,
    pub(super) connection: Option<Back<S>>,
}

/// What a task gives back.
pub(super) struct Back<S: App> {
    pub(super) waiting: Waiting<S>,
    /// The client has gone.
    pub(super) end: Option<End>,
}

/// What a connection takes along.
pub(super) struct Luggage {
    pub(super) stop: Stop,
    pub(super) shutdown_response: ShutdownResponse,
    pub(super) settings: Arc<Settings>,
    /// For a head that hyper waits for though it is not put away.
    pub(super) deadline: Deadline,
    /// The socket's.
    pub(super) descriptor: RawFd,
}

/// The promise that a place in the slab is given back, whatever becomes of the task; it is counted by being held.
pub(super) struct Place<S: App> {
    home: Rc<Home<S>>,
    key: u32,
    connection: Option<Back<S>>,
}

// ===== impl Home =====

impl<S: App> Home<S> {
    pub(super) fn new(registry: Registry, counters: Arc<Counters>) -> Self {
        Self { returned: RefCell::default(), worker: RefCell::default(), closed: Cell::new(false), registry, counters }
    }

    /// The worker's poll shall not watch a socket that has been upgraded and is someone else's now. It may be closed
    /// already: then it is not watched, and the error says so.
    pub(super) fn deregister(&self, descriptor: RawFd) {
        let _ = self.registry.deregister(&mut SourceFd(&descriptor));
    }

    /// Has the worker's poll tell again what it would tell of a socket that is new to it.
    pub(super) fn watch_anew(&self, descriptor: RawFd, key: u32) -> io::Result<()> {
        self.registry.reregister(&mut SourceFd(&descriptor), Token(key as usize), Interest::READABLE)
    }

    /// Takes all who have come back; `waker` is woken by the next.
    pub(super) fn take(&self, waker: &Waker) -> Vec<Returned<S>> {
        self.worker.replace(Some(waker.clone()));
        self.returned.take()
    }

    /// The worker has gone: who comes back is dropped.
    pub(super) fn close(&self) {
        self.closed.set(true);
        drop(self.returned.take());
    }
}

// ===== impl Place =====

impl<S: App> Place<S> {
    pub(super) fn new(home: Rc<Home<S>>, key: u32) -> Self {
        home.counters.active.increment();
        Self { home, key, connection: None }
    }
}

impl<S: App> Drop for Place<S> {
    fn drop(&mut self) {
        self.home.counters.active.decrement();
        let returned = Returned { key: self.key, connection: self.connection.take() };
        if self.home.closed.get() {
            return;
        }
        self.home.returned.borrow_mut().push(returned);
        let worker = self.home.worker.take();
        if let Some(worker) = worker {
            worker.wake();
        }
    }
}

// ===== helpers =====

/// Drives a connection until it is dormant again, or at its end.
pub(super) async fn drive<S: App>(mut engine: Engine<S>, mut place: Place<S>, mut luggage: Luggage) {
    let mut stop = luggage.stop.clone();
    let mut draining = pin!(luggage.stop.draining());
    let mut closing = pin!(stop.closing());
    let mut drained = false;
    let left = poll_fn(|cx| {
        if !drained {
            drained = draining.as_mut().poll(cx).is_ready();
        }
        let polled = poll_once(&mut engine, drained.then_some(&luggage.shutdown_response), cx);
        if polled.is_ready() {
            return polled;
        }
        if is_overdue(&mut engine, &mut luggage.deadline, &luggage.settings, cx) {
            tracing::debug!("a client kept its connection waiting for too long");
            place.home.counters.timed_out.increment();
            return Poll::Ready(Left::Ended);
        }
        closing.as_mut().poll(cx).map(|()| Left::Ended)
    })
    .await;
    let end = match left {
        Left::Ended => {
            if engine.active().upgrade_asked() {
                place.home.deregister(luggage.descriptor);
            }
            return;
        }
        Left::Rests => None,
        Left::PeerGone => Some(End::Eof),
    };
    if let Some((waiting, met)) = engine.into_waiting() {
        place.connection = Some(Back { waiting, end: met.or(end) });
    }
}

/// Why a connection needs its task no more.
enum Left {
    Ended,
    Rests,
    PeerGone,
}

fn poll_once<S: App>(
    engine: &mut Engine<S>,
    shutdown_response: Option<&ShutdownResponse>,
    cx: &mut Context<'_>,
) -> Poll<Left> {
    loop {
        if let Poll::Ready(result) = while_draining(shutdown_response.is_some(), || engine.poll(cx)) {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended with an error");
            }
            return Poll::Ready(Left::Ended);
        }
        let active = engine.active();
        if active.peer_gone() {
            return Poll::Ready(Left::PeerGone);
        }
        match shutdown_response {
            // hyper would close a kept-alive connection in the middle of a head; here the request is awaited.
            Some(response) if active.wants_answer() => {
                active.graceful_shutdown();
                drop_because(Outcome::ShutDown, || active.answer(own(response())));
            }
            // For a hyper that knows from the start that this request is the last.
            Some(_) if !active.is_last() && active.has_large_head() && active.is_reading_head() => {
                return Poll::Ready(Left::Rests);
            }
            Some(_) if !active.is_last() && !active.has_large_head() => active.graceful_shutdown(),
            _ if active.rest().is_some() => return Poll::Ready(Left::Rests),
            _ => return Poll::Pending,
        }
    }
}

/// Whether a client has kept a connection waiting for too long that hyper has in hand.
fn is_overdue<S: App>(
    engine: &mut Engine<S>,
    deadline: &mut Deadline,
    settings: &Settings,
    cx: &mut Context<'_>,
) -> bool {
    let active = engine.active();
    if active.take_called(settings) {
        deadline.clear();
    }
    if !active.is_reading_head() {
        return false;
    }
    if !deadline.is_set() {
        let wait = if active.has_large_head() { Wait::Head } else { Wait::Idle };
        deadline.set(&settings.clock, settings.timeout(wait));
    }
    deadline.poll(&settings.clock, cx).is_ready()
}
