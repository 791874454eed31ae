//! A live hyper, and the next connection's when this one needs it no more.
//!
//! hyper knows a connection by its IO and its service. Both are given to it once, and here both are seats: a connection
//! that goes dormant leaves them, and the next one takes them. Nothing is allocated or freed for a request then, and
//! what hyper touches is in the cache. That is only done when hyper is where it would be if it had just been built, or had
//! just read a request like the one that is answered: without a byte in its buffers. It is known to be there because it
//! looks for the end of file while a request waits, and does that with an empty buffer only (hyper 1.12,
//! `Conn::mid_message_detect_eof`).

use std::cell::RefCell;
use std::mem::replace;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Response;

use super::super::service::{Client, Served, own};
use super::entries::Peer;
use super::seat::{Keeper, Seat};
use super::traffic::Traffic;
use super::{App, Waiting, Wake};
use crate::server::conn::active::Active;
use crate::server::conn::connection::to_end;
use crate::server::conn::dormant::Dormant;
use crate::server::conn::flags::Rest;
use crate::server::conn::head::Head;
use crate::server::conn::io::End;
use crate::server::conn::machine::Upgradeable;
use crate::server::conn::settings::Settings;

/// The client whose turn it is.
#[derive(Debug)]
pub(super) struct Turn(Rc<RefCell<Peer>>);

type Machine<S> = Upgradeable<Seat, Served<S, Turn>>;

/// A live hyper with a connection.
pub(super) struct Engine<S: App> {
    active: Active<Seat, Served<S, Turn>, Machine<S>>,
    keeper: Keeper,
    peer: Rc<RefCell<Peer>>,
    service: Rc<S>,
    // hyper has written an answer before.
    seasoned: bool,
}

/// A live hyper without one.
pub(super) struct Vacant<S: App> {
    engine: Box<Engine<S>>,
    /// hyper waits for an answer to a request with this head, whose connection has left.
    asked: Option<Head>,
}

/// What remains when a connection has left hyper.
pub(super) struct Left<S: App> {
    pub(super) waiting: Waiting<S>,
    /// The client has gone.
    pub(super) end: Option<End>,
    pub(super) vacant: Option<Vacant<S>>,
}

impl Client for Turn {
    fn addr(&self) -> Option<SocketAddr> {
        self.0.borrow().addr()
    }
}

// ===== impl Vacant =====

impl<S: App> Vacant<S> {
    /// Whether hyper can serve a connection that is woken like this: all that it has to be told is what it reads next.
    pub(super) fn suits(waiting: &Waiting<S>, wake: &Wake<S>) -> bool {
        waiting.leftover.is_empty()
            && !waiting.notes.last
            && match wake {
                Wake::<S>::Answer(_) => waiting.parked.is_some(),
                Wake::<S>::Unread => waiting.parked.is_none(),
                Wake::<S>::Readable | Wake::<S>::End(_) | Wake::<S>::Deadline | Wake::<S>::Shutdown => false,
            }
    }

    /// The head of the request that hyper waits for an answer to.
    pub(super) fn asked(&self) -> Option<Head> {
        self.asked
    }

    /// Lets hyper have an answer, which nobody reads, so that it waits for the next request. `None` if it does not.
    pub(super) fn finish(mut self) -> Option<Self> {
        if self.asked.take().is_some() {
            let active = &mut self.engine.active;
            active.release();
            // What hyper allocates for a body it keeps, so that its first answer has one.
            if !replace(&mut self.engine.seasoned, true) {
                active.answer(own(Response::new(Bytes::from_static(b"."))));
            }
            let polled = active.poll(&mut Context::from_waker(Waker::noop()), to_end);
            if polled.is_ready() || !active.is_at_rest() {
                return None;
            }
        }
        Some(self)
    }

    /// Gives the seats to a connection that it [suits](Self::suits). One that has [asked](Self::asked) takes the answer
    /// to a request with an equal head, and nothing else.
    pub(super) fn seat(
        self,
        waiting: Waiting<S>,
        wake: Wake<S>,
        traffic: &mut Traffic,
        settings: &Settings,
    ) -> Box<Engine<S>> {
        debug_assert!(Self::suits(&waiting, &wake));
        let Self { mut engine, asked } = self;
        let Dormant { io, service, parked, notes, .. } = waiting;
        debug_assert!(asked.is_none() || parked.as_ref().map(|parked| parked.head) == asked);
        let ahead = match (wake, parked) {
            (Wake::<S>::Answer(output), Some(_)) if asked.is_some() => {
                engine.active.renew_asked(notes, output, settings);
                &[]
            }
            (Wake::<S>::Answer(output), Some(parked)) => engine.active.renew_answered(notes, parked, output, settings),
            _ => {
                engine.active.renew(notes, settings);
                &[]
            }
        };
        engine.keeper.take_in(io, ahead, traffic);
        *engine.peer.borrow_mut() = service.peer;
        engine
    }
}

// ===== impl Engine =====

impl<S: App> Engine<S> {
    /// Builds hyper for a connection.
    pub(super) fn build(waiting: Waiting<S>, wake: Wake<S>, traffic: &mut Traffic, settings: &Settings) -> Box<Self> {
        let Dormant { io, service: Served { service, peer }, parked, leftover, seen, notes } = waiting;
        let mut keeper = Keeper::new();
        keeper.take_in(io, &[], traffic);
        if !leftover.is_empty() {
            keeper.set_begun();
        }
        let peer = Rc::new(RefCell::new(peer));
        let seated = Served { service: service.clone(), peer: Turn(peer.clone()) };
        let dormant = Dormant { io: keeper.seat(), service: seated, parked, leftover, seen, notes };
        let active = Active::resume(dormant, wake, settings);
        Box::new(Self { active, keeper, peer, service, seasoned: false })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let polled = self.keeper.lend(|| self.active.poll(cx, to_end));
        if self.active.is_released() {
            debug_assert!(polled.is_pending(), "an answer that leaves no trace ends nothing");
            return Poll::Pending;
        }
        if polled.is_pending() && self.active.is_waiting() && self.keeper.is_plain() {
            self.active.disambiguate();
        }
        polled
    }

    /// If the next request has to wait, hyper is not to wait for its answer. What hyper allocates for its first answer it
    /// has to have, see [`Vacant::finish`].
    pub(super) fn set_releases(&self) {
        self.active.set_releases(self.seasoned);
    }

    /// Whether hyper is free, and the request waits without it.
    pub(super) fn is_released(&self) -> bool {
        self.active.is_released()
    }

    /// The connection keeps hyper for longer: sends what is written, as far as there is room.
    pub(super) fn settle(&mut self, traffic: &mut Traffic) {
        self.active.set_releases(false);
        self.keeper.settle(traffic);
    }

    pub(super) fn active(&mut self) -> &mut Active<Seat, Served<S, Turn>, Machine<S>> {
        &mut self.active
    }

    /// The connection rests: it leaves, and hyper is there for the next if it can be. What is still to be sent goes into
    /// `traffic`. `None` once it is upgraded.
    pub(super) fn leave(mut self: Box<Self>, traffic: &mut Traffic) -> Option<Left<S>> {
        let rest = self.active.rest().filter(|_| self.active.is_reusable());
        let parked = if rest == Some(Rest::Parked) { self.active.take_parked() } else { None };
        // A request without a future is one whose future hyper has never looked at, and has still.
        if rest.is_none() || (rest == Some(Rest::Parked)) != parked.is_some() {
            return self.into_waiting(traffic).map(|(waiting, end)| Left { waiting, end, vacant: None });
        }
        let service = Served { service: self.service.clone(), peer: self.peer.replace(Peer::Unnamed) };
        let (io, notes) = (self.keeper.give_up(traffic)?, self.active.notes());
        let asked = parked.as_ref().map(|parked| parked.head).filter(|_| !self.is_released());
        let vacant = asked.is_none_or(Head::leaves_no_trace).then_some(Vacant { engine: self, asked });
        // What hyper allocates for its first answer it keeps. It has to do that at once: allocated while very many are
        // woken, it would stand above all that is freed then, and keep that from the system.
        let vacant = vacant.and_then(|vacant| if vacant.engine.seasoned { Some(vacant) } else { vacant.finish() });
        let waiting = Dormant { io, service, parked, leftover: Box::default(), seen: 0, notes };
        Some(Left { waiting, end: None, vacant })
    }

    /// Takes hyper apart. `None` once it is upgraded.
    pub(super) fn into_waiting(self: Box<Self>, traffic: &mut Traffic) -> Option<(Waiting<S>, Option<End>)> {
        let Self { mut active, mut keeper, peer, service, .. } = *self;
        if let Some(len) = keeper.first_len() {
            active.note_first(len);
        }
        let (dormant, end) = active.into_dormant()?;
        let Dormant { parked, leftover, seen, notes, .. } = dormant;
        let io = keeper.give_up(traffic)?;
        let service = Served { service, peer: peer.replace(Peer::Unnamed) };
        Some((Dormant { io, service, parked, leftover, seen, notes }, end))
    }
}
