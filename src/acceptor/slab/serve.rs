//! One connection in place: hyper built, driven, and put away again.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::coop;

use super::super::service::{Served, own, service_unavailable};
use super::engine::{Engine, Left, Vacant};
use super::entries::{self, Leftover, Peer};
use super::graduate::{self, Luggage, Place};
use super::ready::EntryWaker;
use super::stream::{Input, Stream, in_place};
use super::wheel::Tick;
use super::worker::Worker;
use super::{App, Waiting, Wake};
use crate::deferred::Outcome;
use crate::deferred::outcome::drop_because;
use crate::server::conn::deadline::Deadline;
use crate::server::conn::dormant::{Dormant, Parked};
use crate::server::conn::flags::Rest;
use crate::server::conn::io::{End, LEFTOVER_BYTES_MAX};
use crate::server::conn::settings::Wait;
use crate::timer::{self, Alarm};

/// How often a hyper that has yielded in the middle of a pipeline is driven on before it gets a task of its own: one
/// client's pipeline of 64 requests is no more than two slices of others' wakes.
const DRIVES_MAX: usize = 4;

/// How hyper has left a connection.
enum Rested {
    /// A request waits, for itself or until an alarm rings.
    Parked {
        next: Option<Alarm>,
        read_blocked: bool,
        service_polled: bool,
    },
    Idle,
    /// The client has left.
    Gone(End),
}

/// A connection in the worker's hands.
pub(super) struct Held<S: App> {
    pub(super) key: u32,
    pub(super) dormant: Waiting<S>,
    pub(super) waker: Arc<EntryWaker>,
    /// Where it stands in the wheel.
    pub(super) queued: Tick,
    /// When it was to be looked at.
    pub(super) due: Tick,
}

// ===== impl Held =====

impl<S: App> Held<S> {
    /// Takes a connection out of the slab.
    pub(super) fn take(worker: &mut Worker<S>, key: u32) -> Option<Self> {
        let entry = worker.entries.take(key)?;
        let entries::Dormant { socket, input, head, notes, due, queued, peer, future, leftover, waker } = entry;
        worker.leave(future.is_some());
        let (leftover, seen) = leftover.map_or_else(Default::default, |leftover| (leftover.bytes, leftover.seen));
        let dormant = Dormant {
            io: Stream::new(socket, input),
            service: Served { service: worker.service.clone(), peer },
            parked: future.map(|future| Parked { future, head }),
            leftover,
            seen,
            notes,
        };
        let waker = waker.unwrap_or_else(|| worker.registration.waker(key));
        Some(Self { key, dormant, waker, queued, due })
    }

    /// A connection that is new, or has come back.
    pub(super) fn new(worker: &Worker<S>, key: u32, dormant: Waiting<S>) -> Self {
        Self { key, dormant, waker: worker.registration.waker(key), queued: Tick::NEVER, due: Tick::NEVER }
    }

    /// Puts it into the slab, to be looked at when `alarm` rings.
    pub(super) fn put(self, worker: &mut Worker<S>, alarm: Option<Alarm>) {
        let due = alarm.filter(|alarm| *alarm != Alarm::NEVER).map_or(Tick::NEVER, |alarm| worker.due(alarm));
        self.put_due(worker, due);
    }

    fn put_due(self, worker: &mut Worker<S>, due: Tick) {
        let Self { key, dormant, waker, mut queued, .. } = self;
        worker.wheel.arm(due, &mut queued, key, worker.now);
        let Dormant { io, service: Served { peer, .. }, parked, leftover, seen, notes } = dormant;
        let (socket, input) = io.into_socket();
        let (future, head) = parked.map(|Parked { future, head }| (future, head)).unzip();
        worker.enter(future.is_some());
        let leftover = (!leftover.is_empty()).then(|| Box::new(Leftover { bytes: leftover, seen }));
        let head = head.unwrap_or_default();
        let waker = Some(waker);
        let entry = entries::Dormant { socket, input, head, notes, due, queued, peer, future, leftover, waker };
        worker.entries.put(key, entry);
    }

    /// Looks at the client and then at the service, and serves the connection if there is something to do.
    pub(super) fn look(mut self, worker: &mut Worker<S>) {
        self.waker.clear();
        let waker = Waker::from(self.waker.clone());
        let descriptor = self.dormant.io.descriptor();
        let (polled, next) = timer::host(&waker, worker.now, || {
            let mut cx = Context::from_waker(&waker);
            in_place(descriptor, || with_own_budget(&mut cx, |cx| self.dormant.poll(cx, &worker.settings)))
        });
        match polled {
            Poll::Pending => self.put(worker, next),
            Poll::Ready(wake) => self.woken(worker, wake),
        }
    }

    /// Looks at the client alone.
    fn look_at_client(mut self, worker: &mut Worker<S>) {
        match self.poll_client(worker) {
            Poll::Pending => {
                let due = self.due;
                self.put_due(worker, due);
            }
            Poll::Ready(wake) => self.woken(worker, wake),
        }
    }

    fn poll_client(&mut self, worker: &Worker<S>) -> Poll<Wake<S>> {
        let descriptor = self.dormant.io.descriptor();
        let begun = !self.dormant.leftover.is_empty();
        // Nobody is woken: the worker's poll tells of the client.
        let polled = in_place(descriptor, || {
            self.dormant.poll_client(&mut Context::from_waker(Waker::noop()), &worker.settings)
        });
        if !begun && matches!(polled, Poll::Ready(Wake::<S>::Readable)) {
            // The wait for these bytes is over, and that for the rest of their head begins.
            self.due = Tick::NEVER;
        }
        polled
    }

    fn woken(self, worker: &mut Worker<S>, wake: Wake<S>) {
        match wake {
            Wake::<S>::End(end) => self.end(worker, end),
            wake => {
                if matches!(wake, Wake::<S>::Answer(_)) {
                    worker.counters().answered.increment();
                }
                self.serve(worker, wake);
            }
        }
    }

    /// Something has come from the client, or its end.
    pub(super) fn readable(mut self, worker: &mut Worker<S>, hung_up: bool) {
        self.dormant.io.set_readable(hung_up);
        let is_full = self.dormant.leftover.len() >= LEFTOVER_BYTES_MAX;
        if hung_up && is_full && self.dormant.parked.is_some() && !worker.settings.half_close {
            // The end of file lies behind bytes that nobody reads for now.
            return self.end(worker, End::Eof);
        }
        let is_idle = self.dormant.parked.is_none() && self.dormant.leftover.is_empty();
        if is_idle && !hung_up && !self.dormant.notes.last && worker.vacant.is_some() {
            // A hyper is there that may as well read it.
            return self.serve(worker, Wake::<S>::Unread);
        }
        self.look_at_client(worker);
    }

    /// Its moment has come: a parked request has an alarm, an idle connection is overdue.
    pub(super) fn overdue(mut self, worker: &mut Worker<S>) {
        if self.dormant.parked.is_some() {
            return self.look(worker);
        }
        // What it has sent may be there, and its event behind those of others.
        self.dormant.io.set_readable(false);
        if let Poll::Ready(wake) = self.poll_client(worker) {
            return self.woken(worker, wake);
        }
        worker.counters().timed_out.increment();
        if self.dormant.leftover.is_empty() {
            // hyper would close it without a word.
            tracing::debug!("a client kept its connection waiting for too long");
            return self.close(worker);
        }
        self.serve(worker, Wake::<S>::Deadline);
    }

    /// The acceptor is shutting down.
    pub(super) fn drain(mut self, worker: &mut Worker<S>) {
        if self.dormant.parked.is_some() {
            return self.refuse(worker, Outcome::ShutDown);
        }
        self.dormant.notes.last = true;
        let begun = !self.dormant.leftover.is_empty();
        match self.poll_client(worker) {
            Poll::Ready(wake) => self.woken(worker, wake),
            // The rest of a head is awaited.
            Poll::Pending if begun => {
                let due = self.due;
                self.put_due(worker, due);
            }
            Poll::Pending => self.serve(worker, Wake::<S>::Shutdown),
        }
    }

    /// Back from a task, where events were not looked at.
    pub(super) fn come_back(mut self, worker: &mut Worker<S>, end: Option<End>) {
        match end {
            Some(end) => self.end(worker, end),
            None if worker.is_draining() => self.drain(worker),
            None if self.dormant.parked.is_none() => {
                self.due = worker.timeout(if self.dormant.leftover.is_empty() { Wait::Idle } else { Wait::Head });
                self.look_at_client(worker);
            }
            None => match worker.refuses() {
                Some(cause) => self.refuse(worker, cause),
                None => self.look(worker),
            },
        }
    }

    /// The client has gone. Where hyper would have nothing to say to that, it is not asked.
    pub(super) fn end(self, worker: &mut Worker<S>, end: End) {
        if self.dormant.parked.is_some() {
            worker.counters().hung_up.increment();
            tracing::debug!("a client left while its request was parked");
            self.close(worker);
        } else if self.dormant.leftover.is_empty() {
            self.close(worker);
        } else {
            self.serve(worker, Wake::<S>::End(end));
        }
    }

    /// Drops the connection, and then gives its place up: what the drop runs finds the place taken.
    pub(super) fn close(self, worker: &mut Worker<S>) {
        let key = self.key;
        drop(self);
        worker.entries.remove(key);
    }

    /// Answers a parked request in the service's stead.
    pub(super) fn refuse(mut self, worker: &mut Worker<S>, cause: Outcome) {
        let wake = self.refusal(worker, cause);
        self.serve_because(worker, wake, cause);
    }

    fn refusal(&mut self, worker: &Worker<S>, cause: Outcome) -> Wake<S> {
        let response = if cause == Outcome::ShutDown {
            self.dormant.notes.last = true;
            worker.counters().shut_down.increment();
            (worker.shutdown_response)()
        } else {
            worker.counters().refused.increment();
            service_unavailable()
        };
        Wake::<S>::Answer(Ok(own(response)))
    }

    /// Builds hyper because of `wake` and drives it until it can be put away.
    pub(super) fn serve(self, worker: &mut Worker<S>, wake: Wake<S>) {
        self.serve_because(worker, wake, Outcome::ClientGone);
    }

    /// The same; a future that is no longer waited for is dropped with `cause`.
    fn serve_because(mut self, worker: &mut Worker<S>, mut wake: Wake<S>, mut cause: Outcome) {
        // A head that had begun keeps its deadline. That of a parked request is not one.
        let begun = self.dormant.parked.is_none() && !self.dormant.leftover.is_empty();
        let mut head_due = begun.then_some(self.due).filter(|due| due.is_set());
        loop {
            let Some((held, rested)) = self.drive(worker, wake, cause, &mut head_due) else { return };
            self = held;
            match rested {
                Rested::Gone(end) => return self.end(worker, end),
                Rested::Parked { next, read_blocked, service_polled } => match worker.refuses() {
                    // hyper 1.12 may forget to look at it, once a response before it is flushed.
                    None if !service_polled => return self.look(worker),
                    None => return self.park(worker, next, read_blocked),
                    Some(refused) => {
                        wake = self.refusal(worker, refused);
                        cause = refused;
                    }
                },
                Rested::Idle => match self.idle(worker, head_due) {
                    None => return,
                    Some((held, next_wake)) => {
                        self = held;
                        wake = next_wake;
                        cause = Outcome::ClientGone;
                    }
                },
            }
        }
    }

    /// Drives hyper until it can be put away. `None` when the connection has ended, or has got a task of its own.
    fn drive(
        self,
        worker: &mut Worker<S>,
        wake: Wake<S>,
        cause: Outcome,
        head_due: &mut Option<Tick>,
    ) -> Option<(Self, Rested)> {
        worker.counters().resumed.increment();
        let Self { key, dormant, waker, queued, due } = self;
        let descriptor = dormant.io.descriptor();
        let mut engine = worker.engine(dormant, wake, cause);
        let (ended, next) = drive(&mut engine, descriptor, &waker, worker.now);
        let active = engine.active();
        if let Poll::Ready(result) = ended {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended with an error");
            }
            if active.upgrade_asked() {
                worker.home.deregister(descriptor);
            }
            drop(engine);
            worker.entries.remove(key);
            return None;
        }
        if active.take_called(&worker.settings) {
            *head_due = None;
        }
        let gone = active.peer_gone();
        let Some(rest) = active.rest().or(gone.then_some(Rest::Parked)) else {
            let head_due = head_due.unwrap_or_else(|| worker.timeout(Wait::Head));
            worker.graduate(key, engine, descriptor, head_due);
            return None;
        };
        let (read_blocked, service_polled) = (active.read_blocked(), active.service_polled());
        let Some(Left { waiting: dormant, end, vacant }) = engine.leave() else {
            worker.entries.remove(key);
            return None;
        };
        worker.vacant = vacant.or(worker.vacant.take());
        let rested = match (end, rest) {
            (Some(end), _) => Rested::Gone(end),
            (None, _) if gone => Rested::Gone(End::Eof),
            (None, Rest::Parked) => Rested::Parked { next, read_blocked, service_polled },
            (None, Rest::Idle) => Rested::Idle,
        };
        Some((Self { key, dormant, waker, queued, due }, rested))
    }

    fn park(mut self, worker: &mut Worker<S>, next: Option<Alarm>, read_blocked: bool) {
        // Bytes that hyper has left are no reason not to look whether the client is still there.
        if !read_blocked {
            if let Poll::Ready(Wake::<S>::End(end)) = self.poll_client(worker) {
                return self.end(worker, end);
            }
        }
        self.put(worker, next);
    }

    /// Puts an idle connection into the slab; gives it back if it needs hyper at once.
    fn idle(mut self, worker: &mut Worker<S>, head_due: Option<Tick>) -> Option<(Self, Wake<S>)> {
        let begun = !self.dormant.leftover.is_empty();
        if self.dormant.leftover.len() >= LEFTOVER_BYTES_MAX {
            self.due = head_due.unwrap_or_else(|| worker.timeout(Wait::Head));
            return Some((self, Wake::<S>::Readable));
        }
        if worker.is_draining() && !begun {
            return Some((self, Wake::<S>::Shutdown));
        }
        let due = match head_due {
            Some(due) if begun => due,
            _ => worker.timeout(if begun { Wait::Head } else { Wait::Idle }),
        };
        self.put_due(worker, due);
        None
    }
}

// ===== helpers =====

/// Drives hyper until it waits for something.
fn drive<S: App>(
    engine: &mut Engine<S>,
    descriptor: RawFd,
    entry: &Arc<EntryWaker>,
    now: Alarm,
) -> (Poll<hyper::Result<()>>, Option<Alarm>) {
    let waker = Waker::from(entry.clone());
    timer::host(&waker, now, || {
        in_place(descriptor, || {
            for _ in 0..DRIVES_MAX {
                entry.clear();
                let polled = with_own_budget(&mut Context::from_waker(&waker), |cx| engine.poll(cx));
                // Woken meanwhile: hyper has yielded, or the service has answered on the way.
                if polled.is_ready() || !entry.is_queued() {
                    return polled;
                }
            }
            Poll::Pending
        })
    })
}

/// Polls what is a user's. However much of the task's cooperative budget it spends, the next has as much as this one.
fn with_own_budget<R>(cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
    // Its drop sets the budget to what it is now, because it is told of no progress (tokio 1.54).
    let _restore = coop::poll_proceed(cx);
    poll(cx)
}

impl<S: App> Worker<S> {
    /// Gives a connection a task of its own.
    fn graduate(&self, key: u32, mut engine: Engine<S>, descriptor: RawFd, head_due: Tick) {
        let mut deadline = Deadline::default();
        if engine.active().has_large_head() && head_due.is_set() {
            deadline.set(&*self.settings.timer, Some(self.wheel.until(head_due, self.now)));
        }
        let luggage = Luggage {
            stop: self.drain.stop(),
            shutdown_response: self.shutdown_response.clone(),
            settings: self.settings.clone(),
            deadline,
            descriptor,
        };
        self.counters().graduated.increment();
        let place = Place::new(self.home.clone(), key);
        tokio::task::spawn_local(graduate::drive(engine, place, luggage));
    }

    /// A hyper for a connection: the last one's, if that can be. A future that is answered for is dropped with `cause`.
    fn engine(&mut self, waiting: Waiting<S>, wake: Wake<S>, cause: Outcome) -> Engine<S> {
        if waiting.parked.is_none() {
            return self.engine_for(waiting, wake);
        }
        let mut engine = None;
        drop_because(cause, || engine = Some(self.engine_for(waiting, wake)));
        engine.expect("the closure has run")
    }

    fn engine_for(&mut self, waiting: Waiting<S>, wake: Wake<S>) -> Engine<S> {
        match self.vacant.take_if(|_| Vacant::suits(&waiting, &wake)) {
            Some(vacant) => vacant.seat(waiting, wake, &self.settings),
            None => Engine::build(waiting, wake, &self.settings),
        }
    }

    /// Takes a connection in that has just been accepted.
    pub(super) fn welcome(&mut self, key: u32, socket: socket2::Socket, peer: Peer) {
        let service = Served { service: self.service.clone(), peer };
        let held = Held::new(self, key, Dormant::new(Stream::new(socket, Input::Unknown), service));
        let due = self.timeout(Wait::FirstByte);
        held.put_due(self, due);
    }
}
