//! The live hypers that no connection has.

use super::engine::Vacant;
use super::{App, Waiting, Wake};

/// How many there may be: as many requests as are served in a round may be parked, and as many answered in the next. Each
/// has two buffers of hyper's, of which a page or two is touched.
const VACANT_MAX: usize = 32;

/// How many of them may wait for an answer. One is left for all others: those who have to wait get none of their own.
const ASKED_MAX: usize = VACANT_MAX - 1;

/// Those that wait for a request, and those that wait for an answer to one whose connection has left.
///
/// The last to come are the first to go: what they touch is in the cache.
pub(super) struct Vacancies<S: App> {
    idle: Vec<Vacant<S>>,
    asked: Vec<Vacant<S>>,
}

impl<S: App> Vacancies<S> {
    pub(super) fn new() -> Self {
        // At once: what grows while all are woken stays above all that is freed then, and keeps it from the system.
        Self { idle: Vec::with_capacity(VACANT_MAX), asked: Vec::with_capacity(VACANT_MAX) }
    }

    /// Keeps one for the next, if there is room for it.
    pub(super) fn put(&mut self, vacant: Vacant<S>) {
        if self.has_room() {
            let list = if vacant.asked().is_some() { &mut self.asked } else { &mut self.idle };
            list.push(vacant);
        }
    }

    /// Takes one that can serve a connection which is woken like this. If there is none it has to be built.
    pub(super) fn take(&mut self, waiting: &Waiting<S>, wake: &Wake<S>) -> Option<Vacant<S>> {
        if !Vacant::suits(waiting, wake) {
            return None;
        }
        if let Some(parked) = &waiting.parked {
            if let Some(nth) = self.asked.iter().rposition(|vacant| vacant.asked() == Some(parked.head)) {
                return Some(self.asked.remove(nth));
            }
        }
        if let Some(vacant) = self.idle.pop() {
            return Some(vacant);
        }
        // To finish one is as much work as to build one, and then there is one less.
        if self.has_room() { None } else { self.asked.pop()?.finish() }
    }

    /// Whether so many wait for an answer that another is of no use.
    pub(super) fn has_enough_asked(&self) -> bool {
        self.asked.len() >= ASKED_MAX
    }

    fn has_room(&self) -> bool {
        self.idle.len() + self.asked.len() < VACANT_MAX
    }
}
