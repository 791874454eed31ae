//! What topics and queues share: the lists of who waits, and the tasks that look after deadlines.

mod driver;
mod list;
#[cfg(feature = "topic")]
mod wheel;

pub(crate) use driver::{Driven, drive};
pub(crate) use list::{List, NONE, Slots};
#[cfg(feature = "topic")]
pub(crate) use wheel::{Deadline, Wheel};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks also after a panic elsewhere: no code of a caller runs under these locks, and each leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
