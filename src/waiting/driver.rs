//! A task that looks after deadlines for as long as there are any.
//!
//! One for many waiters: a timer of the runtime for each of them would cost more than the waiter.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::time::Instant;

/// What a driver looks after.
pub(crate) trait Driven: Send + Sync + 'static {
    /// Does what is due, in a bounded slice, and says when to come back; an instant that has passed means after
    /// everyone else had a turn. `None`: there is nothing to look after, and the next who has something calls
    /// [`drive`] again.
    fn step(&self) -> Option<Instant>;

    /// The driver's runtime has ended before the work: someone must call [`drive`] again.
    fn abandoned(&self);
}

/// Spawns the task on `runtime`. It ends with the work, with `driven`, or with the runtime.
pub(crate) fn drive<D: Driven>(driven: &Arc<D>, runtime: &Handle) {
    let guard = Guard { driven: Arc::downgrade(driven), done: false };
    runtime.spawn(run(guard));
}

async fn run<D: Driven>(mut guard: Guard<D>) {
    loop {
        // Not held over the pause: whoever drops the last handle ends this task too.
        let Some(driven) = guard.driven.upgrade() else { return };
        let Some(next) = driven.step() else {
            guard.done = true;
            return;
        };
        drop(driven);
        if next > Instant::now() {
            tokio::time::sleep_until(next).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

struct Guard<D: Driven> {
    driven: Weak<D>,
    done: bool,
}

impl<D: Driven> Drop for Guard<D> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(driven) = self.driven.upgrade() {
            driven.abandoned();
        }
    }
}
