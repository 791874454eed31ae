//! A waker that tells whether anybody keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Forwards to a task, and tells whether anybody else has, or had, a clone.
pub(super) struct Probe {
    task: Waker,
    woken: AtomicBool,
}

// ===== impl Probe =====

impl Probe {
    pub(super) fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Self { task: task.clone(), woken: AtomicBool::new(false) })
    }

    /// Whether nobody else has a clone, and nobody who had one has woken it.
    pub(super) fn is_released(self: Arc<Self>) -> bool {
        Arc::into_inner(self).is_some_and(|probe| !probe.woken.into_inner())
    }
}

impl Wake for Probe {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}
