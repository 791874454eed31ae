//! One connection in place: hyper built, driven, and put away again.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::coop;

use super::super::service::{own, service_unavailable};
use super::common::Common;
use super::engine::{Engine, Left};
use super::graduate::Task;
use super::held::Held;
use super::ready::EntryWaker;
use super::traffic::Arrived;
use super::wheel::Tick;
use super::{App, Wake};
use crate::deferred::Outcome;
use crate::server::conn::deadline::Deadline;
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

// ===== impl Held =====

impl<S: App> Held<S> {
    /// Looks at the client and then at the service, and serves the connection if there is something to do.
    pub(super) fn look(mut self, common: &mut Common<S>) {
        self.waker.clear();
        let waker = Waker::from(self.waker.clone());
        let (polled, next) = timer::host(&waker, common.now, || {
            with_own_budget(&mut Context::from_waker(&waker), |cx| self.dormant.poll(cx, &common.settings))
        });
        match polled {
            Poll::Pending => self.put(common, next),
            Poll::Ready(wake) => self.woken(common, wake),
        }
    }

    /// Looks at the client alone.
    fn look_at_client(mut self, common: &mut Common<S>) {
        match self.poll_client(common) {
            Poll::Pending => {
                let due = self.due;
                self.put_due(common, due);
            }
            Poll::Ready(wake) => self.woken(common, wake),
        }
    }

    fn poll_client(&mut self, common: &Common<S>) -> Poll<Wake<S>> {
        let begun = !self.dormant.leftover.is_empty();
        // Nobody is woken: the worker's poll tells of the client.
        let polled = self.dormant.poll_client(&mut Context::from_waker(Waker::noop()), &common.settings);
        if !begun && matches!(polled, Poll::Ready(Wake::<S>::Readable)) {
            // The wait for these bytes is over, and that for the rest of their head begins.
            self.due = Tick::NEVER;
        }
        polled
    }

    fn woken(self, common: &mut Common<S>, wake: Wake<S>) {
        match wake {
            Wake::<S>::End(end) => self.end(common, end),
            wake => {
                if matches!(wake, Wake::<S>::Answer(_)) {
                    common.counters().answered.increment();
                }
                self.serve(common, wake);
            }
        }
    }

    /// Something has come from an idle client, and is read already.
    pub(super) fn arrived(self, common: &mut Common<S>, arrived: Arrived) {
        common.traffic.incoming.set_current(arrived);
        self.serve(common, Wake::<S>::Unread);
    }

    /// What it was to be sent had no room: it waits for that in a task. Or its client has left.
    pub(super) fn unsent(self, common: &mut Common<S>, rest: io::Result<Vec<u8>>) {
        match rest {
            Ok(rest) => {
                common.traffic.outgoing.add(&rest);
                self.graduate(common);
            }
            Err(error) => self.end(common, End::Error(error)),
        }
    }

    /// Something has come from the client, or its end.
    pub(super) fn readable(mut self, common: &mut Common<S>, hung_up: bool) {
        self.dormant.io.set_readable(hung_up);
        let is_full = self.dormant.leftover.len() >= LEFTOVER_BYTES_MAX;
        if hung_up && is_full && self.dormant.parked.is_some() && !common.settings.half_close {
            // The end of file lies behind bytes that nobody reads for now.
            return self.end(common, End::Eof);
        }
        self.look_at_client(common);
    }

    /// Its moment has come: a parked request has an alarm, an idle connection is overdue.
    pub(super) fn overdue(mut self, common: &mut Common<S>) {
        if self.dormant.parked.is_some() {
            return self.look(common);
        }
        // What it has sent may be there, and its event behind those of others.
        self.dormant.io.set_readable(false);
        if let Poll::Ready(wake) = self.poll_client(common) {
            return self.woken(common, wake);
        }
        common.counters().timed_out.increment();
        if self.dormant.leftover.is_empty() {
            // hyper would close it without a word.
            tracing::debug!("a client kept its connection waiting for too long");
            return self.close(common);
        }
        self.serve(common, Wake::<S>::Deadline);
    }

    /// The acceptor is shutting down.
    pub(super) fn drain(mut self, common: &mut Common<S>) {
        if self.dormant.parked.is_some() {
            return self.refuse(common, Outcome::ShutDown);
        }
        self.dormant.notes.last = true;
        let begun = !self.dormant.leftover.is_empty();
        match self.poll_client(common) {
            Poll::Ready(wake) => self.woken(common, wake),
            Poll::Pending if common.home.is_closing() => self.close(common),
            // The rest of a head is awaited.
            Poll::Pending if begun => {
                let due = self.due;
                self.put_due(common, due);
            }
            Poll::Pending => self.serve(common, Wake::<S>::Shutdown),
        }
    }

    /// Back from a task, where events were not looked at.
    pub(super) fn come_back(mut self, common: &mut Common<S>, end: Option<End>) {
        match end {
            Some(end) => self.end(common, end),
            None if common.is_draining() => self.drain(common),
            None if self.dormant.parked.is_none() => {
                self.due = common.timeout(if self.dormant.leftover.is_empty() { Wait::Idle } else { Wait::Head });
                self.look_at_client(common);
            }
            None => match common.refuses() {
                Some(cause) => self.refuse(common, cause),
                None => self.look(common),
            },
        }
    }

    /// The client has gone. Where hyper would have nothing to say to that, it is not asked.
    pub(super) fn end(self, common: &mut Common<S>, end: End) {
        if self.dormant.parked.is_some() {
            common.counters().hung_up.increment();
            tracing::debug!("a client left while its request was parked");
            self.close(common);
        } else if self.dormant.leftover.is_empty() {
            self.close(common);
        } else {
            self.serve(common, Wake::<S>::End(end));
        }
    }

    /// Answers a parked request in the service's stead.
    pub(super) fn refuse(mut self, common: &mut Common<S>, cause: Outcome) {
        let wake = self.refusal(common, cause);
        self.serve_because(common, wake, cause);
    }

    fn refusal(&mut self, common: &Common<S>, cause: Outcome) -> Wake<S> {
        let response = if cause == Outcome::ShutDown {
            self.dormant.notes.last = true;
            common.counters().shut_down.increment();
            (common.share.config.shutdown_response)()
        } else {
            common.counters().refused.increment();
            service_unavailable()
        };
        Wake::<S>::Answer(Ok(own(response)))
    }

    /// Builds hyper because of `wake` and drives it until it can be put away.
    pub(super) fn serve(self, common: &mut Common<S>, wake: Wake<S>) {
        self.serve_because(common, wake, Outcome::ClientGone);
    }

    /// The same; a future that is no longer waited for is dropped with `cause`.
    fn serve_because(mut self, common: &mut Common<S>, mut wake: Wake<S>, mut cause: Outcome) {
        let mut head_due = self.head_due();
        loop {
            let Some((held, rested)) = self.drive(common, wake, cause, &mut head_due) else { return };
            self = held;
            match rested {
                Rested::Gone(end) => return self.end(common, end),
                Rested::Parked { next, read_blocked, service_polled } => match common.refuses() {
                    // hyper 1.12 may forget to look at it, once a response before it is flushed.
                    None if !service_polled => return self.look(common),
                    None => return self.park(common, next, read_blocked),
                    Some(refused) => {
                        wake = self.refusal(common, refused);
                        cause = refused;
                    }
                },
                Rested::Idle => match self.idle(common, head_due) {
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
        common: &mut Common<S>,
        wake: Wake<S>,
        cause: Outcome,
        head_due: &mut Option<Tick>,
    ) -> Option<(Self, Rested)> {
        common.counters().resumed.increment();
        let Self { key, dormant, waker, queued, due } = self;
        let descriptor = dormant.io.descriptor();
        let mut engine = common.engine(dormant, wake, cause);
        let (ended, next) = drive(&mut engine, &waker, common.now);
        let active = engine.active();
        if let Poll::Ready(result) = ended {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended with an error");
            }
            if active.upgrade_asked() {
                common.home.deregister(descriptor);
            }
            engine.settle(&mut common.traffic);
            drop(engine);
            common.entries.remove(key);
            return None;
        }
        if active.take_called(&common.settings) {
            *head_due = None;
        }
        let gone = active.peer_gone();
        let Some(rest) = active.rest().or(gone.then_some(Rest::Parked)) else {
            let head_due = head_due.unwrap_or_else(|| common.timeout(Wait::Head));
            graduate(common, key, engine, descriptor, head_due);
            return None;
        };
        let (read_blocked, service_polled) = (active.read_blocked(), active.service_polled());
        let Some(Left { waiting: dormant, end, vacant }) = engine.leave(&mut common.traffic) else {
            common.entries.remove(key);
            return None;
        };
        if let Some(vacant) = vacant {
            common.vacant.put(vacant);
        }
        let rested = match (end, rest) {
            (Some(end), _) => Rested::Gone(end),
            (None, _) if gone => Rested::Gone(End::Eof),
            (None, Rest::Parked) => Rested::Parked { next, read_blocked, service_polled },
            (None, Rest::Idle) => Rested::Idle,
        };
        Some((Self { key, dormant, waker, queued, due }, rested))
    }

    /// A head that had begun keeps its deadline. That of a parked request is not one.
    fn head_due(&self) -> Option<Tick> {
        let begun = self.dormant.parked.is_none() && !self.dormant.leftover.is_empty();
        begun.then_some(self.due).filter(|due| due.is_set())
    }

    /// Gives it a task as it is.
    fn graduate(self, common: &mut Common<S>) {
        let head_due = self.head_due().unwrap_or(Tick::NEVER);
        let Self { key, dormant, .. } = self;
        let descriptor = dormant.io.descriptor();
        common.counters().resumed.increment();
        let engine = common.engine(dormant, Wake::<S>::Unread, Outcome::ClientGone);
        graduate(common, key, engine, descriptor, head_due);
    }

    fn park(mut self, common: &mut Common<S>, next: Option<Alarm>, read_blocked: bool) {
        // Bytes that hyper has left are no reason not to look whether the client is still there.
        if !read_blocked {
            if let Poll::Ready(Wake::<S>::End(end)) = self.poll_client(common) {
                return self.end(common, end);
            }
        }
        self.put(common, next);
    }

    /// Puts an idle connection into the slab; gives it back if it needs hyper at once.
    fn idle(mut self, common: &mut Common<S>, head_due: Option<Tick>) -> Option<(Self, Wake<S>)> {
        let begun = !self.dormant.leftover.is_empty();
        if self.dormant.leftover.len() >= LEFTOVER_BYTES_MAX {
            self.due = head_due.unwrap_or_else(|| common.timeout(Wait::Head));
            return Some((self, Wake::<S>::Readable));
        }
        if common.is_draining() && !begun {
            return Some((self, Wake::<S>::Shutdown));
        }
        let due = match head_due {
            Some(due) if begun => due,
            _ => common.timeout(if begun { Wait::Head } else { Wait::Idle }),
        };
        self.put_due(common, due);
        None
    }
}

// ===== helpers =====

/// Drives hyper until it waits for something.
fn drive<S: App>(
    engine: &mut Engine<S>,
    entry: &Arc<EntryWaker>,
    now: Alarm,
) -> (Poll<hyper::Result<()>>, Option<Alarm>) {
    let waker = Waker::from(entry.clone());
    timer::host(&waker, now, || {
        for _ in 0..DRIVES_MAX {
            entry.clear();
            let polled = with_own_budget(&mut Context::from_waker(&waker), |cx| engine.poll(cx));
            // Woken meanwhile: hyper has yielded, or the service has answered on the way.
            if polled.is_ready() || !entry.is_queued() || engine.is_released() {
                return polled;
            }
        }
        Poll::Pending
    })
}

/// Polls what is a user's. However much of the task's cooperative budget it spends, the next has as much as this one.
fn with_own_budget<R>(cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
    // Its drop sets the budget to what it is now, because it is told of no progress (tokio 1.54).
    let _restore = coop::poll_proceed(cx);
    poll(cx)
}

/// Gives a connection a task of its own.
fn graduate<S: App>(common: &mut Common<S>, key: u32, mut engine: Box<Engine<S>>, descriptor: RawFd, head_due: Tick) {
    engine.settle(&mut common.traffic);
    let mut deadline = Deadline::default();
    if engine.active().has_large_head() && head_due.is_set() {
        deadline.set(&common.settings.clock, Some(common.wheel.until(head_due, common.now)));
    }
    common.counters().graduated.increment();
    tokio::task::spawn_local(Task::new(common.home.clone(), key, engine, descriptor, deadline));
}
