//! What all connections of a worker have in common.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::Registry;
use tokio::time::Instant;

use super::super::share::Share;
use super::super::shutdown::Phase;
use super::super::stats::Counters;
use super::engine::Engine;
use super::entries::Entries;
use super::graduate::Home;
use super::ready::Registration;
use super::traffic::Traffic;
use super::vacant::Vacancies;
use super::wheel::{Tick, Wheel};
use super::{Answer, App, Waiting, Wake};
use crate::deferred::Outcome;
use crate::deferred::outcome::drop_because;
use crate::server::conn::settings::{Settings, Wait};
use crate::timer::Alarm;

/// The slab and what stands around it: all that serving one of its connections needs.
pub(super) struct Common<S: App> {
    pub(super) service: Rc<S>,
    pub(super) settings: Arc<Settings>,
    pub(super) entries: Entries<Answer<S>>,
    pub(super) wheel: Wheel,
    pub(super) registration: Registration,
    pub(super) home: Rc<Home<S>>,
    pub(super) traffic: Traffic,
    /// The hypers that no connection has.
    pub(super) vacant: Vacancies<S>,
    /// The time at the beginning of the round.
    pub(super) now: Alarm,
    pub(super) share: Share,
    draining: bool,
    slab_bytes: u64,
}

// ===== impl Common =====

impl<S: App> Common<S> {
    /// An empty slab, whose sockets `registry` is to watch, and of which so many are served in a row.
    pub(super) fn new(service: S, share: Share, registry: &Registry, row_len: usize) -> io::Result<Self> {
        let now = Alarm::at(Instant::now());
        Ok(Self {
            service: Rc::new(service),
            settings: share.config.settings.clone(),
            entries: Entries::new(share.room.clone()),
            wheel: Wheel::new(now),
            registration: Registration::new()?,
            home: Rc::new(Home::new(registry.try_clone()?, share.clone())),
            traffic: Traffic::new(row_len),
            vacant: Vacancies::new(),
            now,
            share,
            draining: false,
            slab_bytes: 0,
        })
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.share.counters
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// From now on what is there comes to its end.
    pub(super) fn begin_drain(&mut self) {
        self.draining = true;
        self.home.tell(Phase::Draining);
    }

    /// Why one more request may not be parked, if it may not.
    pub(super) fn refuses(&self) -> Option<Outcome> {
        if self.is_draining() { Some(Outcome::ShutDown) } else { self.share.is_full().then_some(Outcome::Refused) }
    }

    /// A connection goes dormant.
    pub(super) fn enter(&self, parked: bool) {
        let counters = self.counters();
        if parked { counters.parked.increment() } else { counters.idle.increment() }
    }

    /// A connection is dormant no more.
    pub(super) fn leave(&self, parked: bool) {
        let counters = self.counters();
        if parked { counters.parked.decrement() } else { counters.idle.decrement() }
    }

    /// The moment for an alarm.
    pub(super) fn due(&self, alarm: Alarm) -> Tick {
        self.wheel.due(alarm, self.now)
    }

    /// The moment at which a wait that begins now has lasted too long.
    pub(super) fn timeout(&self, wait: Wait) -> Tick {
        match self.settings.timeout(wait) {
            Some(timeout) => self.due(self.now.plus(timeout)),
            None => Tick::NEVER,
        }
    }

    /// A hyper for a connection: the last one's, if that can be. A future that is answered for is dropped with `cause`.
    pub(super) fn engine(&mut self, waiting: Waiting<S>, wake: Wake<S>, cause: Outcome) -> Box<Engine<S>> {
        if waiting.parked.is_none() {
            return self.engine_for(waiting, wake);
        }
        drop_because(cause, || self.engine_for(waiting, wake))
    }

    fn engine_for(&mut self, waiting: Waiting<S>, wake: Wake<S>) -> Box<Engine<S>> {
        let engine = match self.vacant.take(&waiting, &wake) {
            Some(vacant) => vacant.seat(waiting, wake, &mut self.traffic, &self.settings),
            None => Engine::build(waiting, wake, &mut self.traffic, &self.settings),
        };
        if self.vacant.has_enough_asked() && self.refuses().is_none() {
            engine.set_releases();
        }
        engine
    }

    pub(super) fn count_bytes(&mut self) {
        let bytes = self.entries.bytes() as u64;
        self.counters().slab_bytes.replace(self.slab_bytes, bytes);
        self.slab_bytes = bytes;
    }

    /// The slab is no more.
    pub(super) fn count_no_bytes(&mut self) {
        self.counters().slab_bytes.replace(self.slab_bytes, 0);
        self.slab_bytes = 0;
    }
}
