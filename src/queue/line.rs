//! The two lines of a queue, of which one is always empty: values that wait for a request, requests that wait for a value.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::waiting::{List, NONE, Slots};

/// A value with its place among all values.
pub(super) struct Value<T> {
    pub(super) value: T,
    pub(super) seq: u64,
    pub(super) deliveries: u32,
}

/// Who and what waits. A value that is on its way back goes before all that came after it.
pub(super) struct Line<T> {
    // By sequence number, the oldest in front.
    values: VecDeque<Value<T>>,
    requests: Slots<Request<T>>,
    parked: List,
}

struct Request<T> {
    waker: Waker,
    // Has been given to this request, which has not come for it yet.
    given: Option<Value<T>>,
}

/// One request's place in the line. It belongs to a single future, which gives it back.
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

// ===== impl Line =====

impl<T> Line<T> {
    pub(super) const fn new() -> Self {
        Self { values: VecDeque::new(), requests: Slots::new(), parked: List::new() }
    }

    pub(super) fn values(&self) -> usize {
        self.values.len()
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Gives `value` to the request that has waited for longest, whose waker it returns, or puts it in line.
    pub(super) fn hand(&mut self, value: Value<T>) -> Option<Waker> {
        let Some(key) = self.parked.front() else {
            let place = self.values.partition_point(|other| other.seq < value.seq);
            self.values.insert(place, value);
            return None;
        };
        self.requests.unlink(&mut self.parked, key);
        let request = self.requests.get_mut(key);
        request.given = Some(value);
        Some(std::mem::replace(&mut request.waker, Waker::noop().clone()))
    }

    /// What the owner of `place` was given, or the oldest value if it has just come; else it stands in line.
    ///
    /// The waker that is not needed any more is for the caller to drop when no lock is held.
    pub(super) fn poll(&mut self, place: &mut Place, cx: &Context<'_>) -> (Poll<Value<T>>, Option<Waker>) {
        if place.is_none() {
            if let Some(value) = self.values.pop_front() {
                return (Poll::Ready(value), None);
            }
            place.0 = self.requests.insert(Request { waker: cx.waker().clone(), given: None });
            self.requests.push_back(&mut self.parked, place.0);
            return (Poll::Pending, None);
        }
        let request = self.requests.get_mut(place.0);
        if let Some(value) = request.given.take() {
            return (Poll::Ready(value), self.leave(place).1);
        }
        let renewed = !request.waker.will_wake(cx.waker());
        (Poll::Pending, renewed.then(|| std::mem::replace(&mut request.waker, cx.waker().clone())))
    }

    /// Takes the wakers of all who are parked; each has to be polled again to be woken once more.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut at = self.parked.front();
        while let Some(key) = at {
            wakers.push(std::mem::replace(&mut self.requests.get_mut(key).waker, Waker::noop().clone()));
            at = self.requests.next(key);
        }
        wakers
    }

    /// Gives the place back, and a value that was given to it and not fetched.
    pub(super) fn leave(&mut self, place: &mut Place) -> (Option<Value<T>>, Option<Waker>) {
        if place.is_none() {
            return (None, None);
        }
        let key = std::mem::replace(&mut place.0, NONE);
        let request = self.requests.remove(&mut self.parked, key);
        (request.given, Some(request.waker))
    }
}
