//! A connection in the worker's hands, out of the slab, and back.

use std::sync::Arc;

use super::super::service::Served;
use super::common::Common;
use super::entries::{self, Leftover, Peer};
use super::ready::EntryWaker;
use super::stream::{Input, Stream};
use super::wheel::Tick;
use super::{App, Waiting};
use crate::server::conn::dormant::{Dormant, Parked};
use crate::server::conn::settings::Wait;
use crate::timer::Alarm;

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
    pub(super) fn take(common: &mut Common<S>, key: u32) -> Option<Self> {
        let entry = common.entries.take(key)?;
        let entries::Dormant { socket, input, head, notes, due, queued, peer, future, leftover, waker } = entry;
        common.leave(future.is_some());
        let (leftover, seen) = leftover.map_or_else(Default::default, |leftover| (leftover.bytes, leftover.seen));
        let dormant = Dormant {
            io: Stream::new(socket, input),
            service: Served { service: common.service.clone(), peer },
            parked: future.map(|future| Parked { future, head }),
            leftover,
            seen,
            notes,
        };
        let waker = waker.unwrap_or_else(|| common.registration.waker(key));
        Some(Self { key, dormant, waker, queued, due })
    }

    /// A connection that is new, or has come back.
    pub(super) fn new(common: &Common<S>, key: u32, dormant: Waiting<S>) -> Self {
        Self { key, dormant, waker: common.registration.waker(key), queued: Tick::NEVER, due: Tick::NEVER }
    }

    /// Puts it into the slab, to be looked at when `alarm` rings.
    pub(super) fn put(self, common: &mut Common<S>, alarm: Option<Alarm>) {
        let due = alarm.filter(|alarm| *alarm != Alarm::NEVER).map_or(Tick::NEVER, |alarm| common.due(alarm));
        self.put_due(common, due);
    }

    pub(super) fn put_due(self, common: &mut Common<S>, due: Tick) {
        let Self { key, dormant, waker, mut queued, .. } = self;
        common.wheel.arm(due, &mut queued, key, common.now);
        let Dormant { io, service: Served { peer, .. }, parked, leftover, seen, notes } = dormant;
        let (socket, input) = io.into_socket();
        let (future, head) = parked.map(|Parked { future, head }| (future, head)).unzip();
        common.enter(future.is_some());
        let leftover = (!leftover.is_empty()).then(|| Box::new(Leftover { bytes: leftover, seen }));
        let head = head.unwrap_or_default();
        let waker = Some(waker);
        let entry = entries::Dormant { socket, input, head, notes, due, queued, peer, future, leftover, waker };
        common.entries.put(key, entry);
        common.traffic.outgoing.put(key);
    }

    /// Takes a connection in that has just been accepted.
    pub(super) fn welcome(common: &mut Common<S>, key: u32, socket: socket2::Socket, peer: Peer) {
        let peer = if common.share.config.peer_addr { peer } else { Peer::Unnamed };
        let service = Served { service: common.service.clone(), peer };
        let held = Self::new(common, key, Dormant::new(Stream::new(socket, Input::Unknown), service));
        let due = common.timeout(Wait::FirstByte);
        held.put_due(common, due);
    }

    /// Drops the connection, and then gives its place up: what the drop runs finds the place taken.
    pub(super) fn close(self, common: &mut Common<S>) {
        // What has no room is lost: who closes does not wait.
        let mut written = Vec::new();
        common.traffic.outgoing.take_back(&mut written);
        let _sent = self.dormant.io.send_at_once(&written);
        let key = self.key;
        drop(self);
        common.entries.remove(key);
    }
}
