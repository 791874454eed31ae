//! What those who wait share: the lists of who waits, and the tasks that look after deadlines.

#[cfg(any(feature = "server", feature = "topic"))]
mod calendar;
#[cfg(any(feature = "server", feature = "topic"))]
mod deadline;
mod driver;
#[cfg(any(feature = "queue", feature = "topic"))]
mod list;

#[cfg(any(feature = "server", feature = "topic"))]
pub(crate) use deadline::Deadline;
pub(crate) use driver::{Driven, drive};
#[cfg(any(feature = "queue", feature = "topic"))]
pub(crate) use list::{List, NONE, Slots};

use std::sync::{Mutex, MutexGuard, PoisonError};

use slab::Slab;

// A slab at its limit grows by an eighth, not to the double: the room is paid for by those who wait.
const GROWTH_DIVISOR: usize = 8;

// Room for so many items is kept for the next ones, of 32 bytes each: many lists have one or two who come and go.
const KEPT_MAX: usize = 2;

/// Locks also after a panic elsewhere: no code of a caller runs under these locks, and each leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds an item, whose key is smaller than the slab's own.
fn insert<T>(slab: &mut Slab<T>, item: T) -> u32 {
    if slab.len() == slab.capacity() {
        slab.reserve_exact((slab.len() / GROWTH_DIVISOR).max(1));
    }
    let key = slab.insert(item);
    u32::try_from(key).expect("items of 24 bytes fill the memory long before there are four thousand million")
}

/// Takes an item out.
fn remove<T>(slab: &mut Slab<T>, key: u32) -> T {
    let item = slab.remove(key as usize);
    if slab.is_empty() && slab.capacity() > KEPT_MAX {
        // Nobody waits: a crowd of the past must cost nothing.
        *slab = Slab::new();
    }
    item
}
