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

/// Locks also after a panic elsewhere: no code of a caller runs under these locks, and each leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
