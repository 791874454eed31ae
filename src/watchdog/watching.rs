//! Which loop this thread's polls belong to, and whose request is being polled.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;

use super::lock;
use super::polled::Polled;
use super::shared::Shared;

/// While it lives, polls on this thread are the watched loop's.
///
/// Of two loops that are watched on one thread the polls are those of the one that began last.
#[must_use = "polls are the loop's only while this lives"]
#[derive(Debug)]
pub struct Watching {
    watched: Arc<Shared>,
    former: Option<Arc<Shared>>,
    // It puts back a thread's own state, so that it must stay on that thread.
    _of_this_thread: PhantomData<*const ()>,
}

thread_local! {
    // Without a destructor, so that to ask it costs a load.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static WATCHED: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// Has a request known as the one being polled until what it gives is dropped, if a loop is watched on this thread.
///
/// It is for a stretch of code without an `.await`. Where nothing is watched it is a load and two branches.
#[inline]
#[must_use = "it is being polled only while this lives"]
pub(crate) fn polling(polled: impl FnOnce() -> Polled) -> Option<Polling> {
    if IS_WATCHED.get() { begin(polled()) } else { None }
}

/// Puts back what was being polled before.
pub(crate) struct Polling {
    of: Arc<Shared>,
    former: Option<Polled>,
}

#[cold]
fn begin(polled: Polled) -> Option<Polling> {
    // A thread that is ending has no locals any more.
    let of = WATCHED.try_with(|watched| watched.borrow().clone()).ok().flatten()?;
    of.progress(of.now());
    let former = lock(&of.polling).replace(polled);
    Some(Polling { of, former })
}

impl Drop for Polling {
    fn drop(&mut self) {
        // Time first: the request is still named if this turns out to have been a stall.
        self.of.progress(self.of.now());
        *lock(&self.of.polling) = self.former.take();
    }
}

// ===== impl Watching =====

impl Watching {
    pub(super) fn begin(watched: Arc<Shared>) -> Self {
        IS_WATCHED.set(true);
        let former = WATCHED.replace(Some(watched.clone()));
        Self { watched, former, _of_this_thread: PhantomData }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _thread_ends = WATCHED.try_with(|watched| {
            let mut watched = watched.borrow_mut();
            // Another one has begun since, and stays.
            if watched.as_ref().is_some_and(|watched| Arc::ptr_eq(watched, &self.watched)) {
                IS_WATCHED.set(self.former.is_some());
                *watched = self.former.take();
            }
        });
    }
}
