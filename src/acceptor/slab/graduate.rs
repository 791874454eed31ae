//! A connection that has to wait on IO, in a task of its own.
//!
//! Half a body, a full send buffer, a response that streams: hyper stays alive, and tokio watches the socket. When the
//! connection is dormant again it goes back to the slab.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::mem::replace;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::super::config::ShutdownResponse;
use super::super::service::own;
use super::super::share::Share;
use super::super::shutdown::Phase;
use super::engine::Engine;
use super::traffic::Traffic;
use super::{App, Waiting};
use crate::deferred::Outcome;
use crate::deferred::outcome::drop_because;
use crate::draining::while_draining;
use crate::server::conn::deadline::Deadline;
use crate::server::conn::io::End;
use crate::server::conn::settings::{Settings, Wait};

/// What the worker and the tasks know of each other: where connections come back to, and how far the shutdown is.
pub(super) struct Home<S: App> {
    returned: RefCell<Vec<Returned<S>>>,
    worker: RefCell<Option<Waker>>,
    phase: Cell<Phase>,
    // The tasks, by their connections' keys. To be told something is so rare that a task does not look out for it each
    // time that it is polled, as it would have to with a channel.
    tasks: RefCell<BTreeMap<u32, Waker>>,
    closed: Cell<bool>,
    registry: Registry,
    share: Share,
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

/// The promise that a place in the slab is given back, whatever becomes of the task; it is counted by being held.
pub(super) struct Place<S: App> {
    home: Rc<Home<S>>,
    key: u32,
    // The home knows the task.
    known: bool,
    // The place has been given back.
    given_back: bool,
}

/// The task: drives a connection until it is dormant again, or at its end.
///
/// What it touches each time that it is polled is in front and small: with very many streams the cache is what counts.
#[must_use = "futures do nothing unless polled"]
pub(super) struct Task<S: App> {
    // Before the place: what its drop runs finds the place taken.
    engine: Option<Box<Engine<S>>>,
    place: Place<S>,
    // The socket's.
    descriptor: RawFd,
    // For a head that hyper waits for though it is not put away.
    deadline: Deadline,
}

/// Why a connection needs its task no more.
enum Left {
    Ended,
    Rests,
    PeerGone,
}

// ===== impl Home =====

impl<S: App> Home<S> {
    pub(super) fn new(registry: Registry, share: Share) -> Self {
        Self {
            returned: RefCell::default(),
            worker: RefCell::default(),
            phase: Cell::new(Phase::Serving),
            tasks: RefCell::default(),
            closed: Cell::new(false),
            registry,
            share,
        }
    }

    /// The worker's poll shall not watch a socket that has been upgraded and will be someone else's. To be told before its
    /// engine is dropped: until then the descriptor is this socket's.
    pub(super) fn deregister(&self, descriptor: RawFd) {
        if let Err(error) = self.registry.deregister(&mut SourceFd(&descriptor)) {
            tracing::debug!(%error, "a connection that was upgraded was not watched any more");
        }
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

    /// Tells all tasks, and those that are yet to come.
    pub(super) fn tell(&self, phase: Phase) {
        self.phase.set(phase);
        // Not under the borrow: who knows what a wake does.
        let tasks: Vec<Waker> = self.tasks.borrow().values().cloned().collect();
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Whether what is left is to close, whatever it does.
    pub(super) fn is_closing(&self) -> bool {
        self.phase.get() == Phase::Closing
    }

    /// The worker has gone: the tasks end, and who comes back is dropped.
    pub(super) fn close(&self) {
        self.closed.set(true);
        drop(self.returned.take());
        self.tell(Phase::Closing);
    }
}

// ===== impl Place =====

impl<S: App> Place<S> {
    fn new(home: Rc<Home<S>>, key: u32) -> Self {
        home.share.counters.active.increment();
        Self { home, key, known: false, given_back: false }
    }

    /// Lets the home know the task that `cx` belongs to: a task has one waker for as long as it lives.
    fn make_known(&mut self, cx: &Context<'_>) {
        if !replace(&mut self.known, true) {
            self.home.tasks.borrow_mut().insert(self.key, cx.waker().clone());
        }
    }

    fn give_back(&mut self, connection: Option<Back<S>>) {
        if replace(&mut self.given_back, true) {
            return;
        }
        let home = &self.home;
        home.share.counters.active.decrement();
        let task = home.tasks.borrow_mut().remove(&self.key);
        drop(task);
        if home.closed.get() {
            return;
        }
        home.returned.borrow_mut().push(Returned { key: self.key, connection });
        let worker = home.worker.take();
        if let Some(worker) = worker {
            worker.wake();
        }
    }
}

impl<S: App> Drop for Place<S> {
    fn drop(&mut self) {
        self.give_back(None);
    }
}

// ===== impl Task =====

impl<S: App> Task<S> {
    /// For the connection that has its place at `key`. A head that it waits for has to be whole by `deadline`.
    pub(super) fn new(
        home: Rc<Home<S>>,
        key: u32,
        engine: Box<Engine<S>>,
        descriptor: RawFd,
        deadline: Deadline,
    ) -> Self {
        Self { engine: Some(engine), place: Place::new(home, key), descriptor, deadline }
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        let Self { engine: Some(engine), place, deadline, .. } = self else { return Poll::Ready(Left::Ended) };
        place.make_known(cx);
        let home = &*place.home;
        let phase = home.phase.get();
        let config = &*home.share.config;
        let draining = (phase != Phase::Serving).then_some(&config.shutdown_response);
        if let Poll::Ready(left) = poll_once(engine, draining, cx) {
            return Poll::Ready(left);
        }
        if is_overdue(engine, deadline, &config.settings, cx) {
            tracing::debug!("a client kept its connection waiting for too long");
            home.share.counters.timed_out.increment();
            return Poll::Ready(Left::Ended);
        }
        if phase == Phase::Closing { Poll::Ready(Left::Ended) } else { Poll::Pending }
    }
}

impl<S: App> Future for Task<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = ready!(self.poll_left(cx));
        let Some(mut engine) = self.engine.take() else { return Poll::Ready(()) };
        let end = match left {
            Left::Ended => {
                if engine.active().upgrade_asked() {
                    self.place.home.deregister(self.descriptor);
                }
                return Poll::Ready(());
            }
            Left::Rests => None,
            Left::PeerGone => Some(End::Eof),
        };
        if let Some((waiting, met)) = engine.into_waiting(&mut Traffic::new(0)) {
            self.place.give_back(Some(Back { waiting, end: met.or(end) }));
        }
        Poll::Ready(())
    }
}

// ===== helpers =====

fn poll_once<S: App>(
    engine: &mut Engine<S>,
    shutdown_response: Option<&ShutdownResponse>,
    cx: &mut Context<'_>,
) -> Poll<Left> {
    loop {
        let polled = match shutdown_response {
            Some(_) => while_draining(true, || engine.poll(cx)),
            None => engine.poll(cx),
        };
        if let Poll::Ready(result) = polled {
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
            Some(_)
                if !active.is_last() && active.has_large_head() && active.is_reading_head() && active.is_flushed() =>
            {
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
    // An answer that it was not sent yet is no time of its own.
    if !active.is_reading_head() || !active.is_flushed() {
        return false;
    }
    if !deadline.is_set() {
        let wait = if active.has_large_head() { Wait::Head } else { Wait::Idle };
        deadline.set(&settings.clock, settings.timeout(wait));
    }
    deadline.poll(&settings.clock, cx).is_ready()
}
