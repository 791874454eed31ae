//! Who waits for a topic's next message, in the order in which they came.

use std::task::{Context, Waker};

use crate::waiting::{List, NONE, Slots};

/// The waiters of one topic. Those at the front that came before the last message are due to be woken.
pub(super) struct Waiters {
    slots: Slots<Waiter>,
    parked: List,
    // Counts messages. It wraps, which matters to nobody who is woken within four thousand million of them.
    round: u32,
}

struct Waiter {
    waker: Waker,
    round: u32,
}

/// One waiter's place. It belongs to a single future, which gives it back.
pub(super) struct Place(u32);

// ===== impl Place =====

impl Place {
    /// No place yet.
    pub(super) const fn none() -> Self {
        Self(NONE)
    }

    pub(super) fn is_none(&self) -> bool {
        self.0 == NONE
    }
}

// ===== impl Waiters =====

impl Waiters {
    pub(super) const fn new() -> Self {
        Self { slots: Slots::new(), parked: List::new(), round: 0 }
    }

    /// How many have a place: who is parked, and who was woken and has not come for the message yet.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Everyone here is due.
    pub(super) fn next_round(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Whether someone is due to be woken.
    pub(super) fn any_due(&self) -> bool {
        self.parked.front().is_some_and(|key| self.slots.get(key).round != self.round)
    }

    /// Takes up to `count` wakers of those who are due. They keep their place until they come for the message.
    pub(super) fn take_due(&mut self, count: usize) -> Vec<Waker> {
        if !self.any_due() {
            return Vec::new();
        }
        let mut wakers = Vec::with_capacity(count.min(self.slots.len()));
        while wakers.len() < count {
            let Some(key) = self.parked.front() else { break };
            let waiter = self.slots.get_mut(key);
            if waiter.round == self.round {
                break;
            }
            wakers.push(std::mem::replace(&mut waiter.waker, Waker::noop().clone()));
            self.slots.unlink(&mut self.parked, key);
        }
        wakers
    }

    /// Parks the owner of `place`, at the end if it was not parked already. The waker that it had before is given back,
    /// because dropping one may run foreign code.
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn park(&mut self, place: &mut Place, cx: &Context<'_>) -> Option<Waker> {
        if place.is_none() {
            place.0 = self.slots.insert(Waiter { waker: cx.waker().clone(), round: self.round });
            self.slots.push_back(&mut self.parked, place.0);
            return None;
        }
        if !self.slots.is_linked(place.0) {
            self.slots.get_mut(place.0).round = self.round;
            self.slots.push_back(&mut self.parked, place.0);
        }
        let waker = &mut self.slots.get_mut(place.0).waker;
        (!waker.will_wake(cx.waker())).then(|| std::mem::replace(waker, cx.waker().clone()))
    }

    /// Gives a place back. The waker is for the caller to drop, see [`park`](Self::park).
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn leave(&mut self, place: &mut Place) -> Option<Waker> {
        if place.is_none() {
            return None;
        }
        let key = std::mem::replace(&mut place.0, NONE);
        Some(self.slots.remove(&mut self.parked, key).waker)
    }
}
