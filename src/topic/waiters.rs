//! Who waits for a topic's next message, in the order in which they came.

use std::task::{Context, Waker};

use crate::waiting::{List, NONE, Slots};

/// The waiters of one topic. A waiter is its waker and two links: there may be very many.
pub(super) struct Waiters {
    slots: Slots<Waker>,
    // Those who came before the last message, and are to be woken.
    due: List,
    // Those who came after it.
    parked: List,
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
        Self { slots: Slots::new(), due: List::new(), parked: List::new() }
    }

    /// How many have a place: who is parked, and who was woken and has not come for the message yet.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// There is a message: all who are parked are to be woken.
    pub(super) fn make_due(&mut self) {
        self.slots.append(&mut self.due, &mut self.parked);
    }

    /// Whether someone is to be woken.
    pub(super) fn any_due(&self) -> bool {
        self.due.front().is_some()
    }

    /// Takes up to `count` wakers of those who are to be woken. They keep their place until they come for the message.
    pub(super) fn take_due(&mut self, count: usize) -> Vec<Waker> {
        if !self.any_due() {
            return Vec::new();
        }
        let mut wakers = Vec::with_capacity(count.min(self.slots.len()));
        while wakers.len() < count {
            let Some(key) = self.due.front() else { break };
            self.slots.unlink(&mut self.due, key);
            wakers.push(std::mem::replace(self.slots.get_mut(key), Waker::noop().clone()));
        }
        wakers
    }

    /// Whether the owner of `place` is parked already, with this waker.
    pub(super) fn is_parked(&self, place: &Place, cx: &Context<'_>) -> bool {
        // Who was woken and not parked anew has no waker here.
        !place.is_none() && self.slots.get(place.0).will_wake(cx.waker()) && self.slots.is_linked(place.0)
    }

    /// Parks the owner of `place`, at the end if it was not parked already. The waker that it had before is given back,
    /// because dropping one may run foreign code.
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn park(&mut self, place: &mut Place, cx: &Context<'_>) -> Option<Waker> {
        if place.is_none() {
            place.0 = self.slots.insert(cx.waker().clone());
            self.slots.push_back(&mut self.parked, place.0);
            return None;
        }
        if !self.slots.is_linked(place.0) {
            self.slots.push_back(&mut self.parked, place.0);
        }
        let waker = self.slots.get_mut(place.0);
        (!waker.will_wake(cx.waker())).then(|| std::mem::replace(waker, cx.waker().clone()))
    }

    /// Gives a place back. The waker is for the caller to drop, see [`park`](Self::park).
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn leave(&mut self, place: &mut Place) -> Option<Waker> {
        if place.is_none() {
            return None;
        }
        let key = std::mem::replace(&mut place.0, NONE);
        self.slots.unlink_from_either(&mut self.due, &mut self.parked, key);
        Some(self.slots.remove_detached(key))
    }
}
