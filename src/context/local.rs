//! Locals of the application's own that are saved and restored with the context.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Something that belongs to a thread or a task, and comes along when a context is saved and entered elsewhere.
///
/// [`ThreadLocal`] and [`TaskLocal`] are the usual ones; implement it for what a library keeps in a way of its own.
pub trait Local: Send + Sync + 'static {
    /// What is kept of it. Cloned for each [`Saved::enter`](super::Saved::enter), which leaves the saved one as it was.
    type Value: Clone + Send + Sync + 'static;

    /// What is in force on this thread, in this task, now.
    fn save(&self) -> Self::Value;

    /// Runs `inside` exactly once with `value` in force, and puts back what was there, also when `inside` panics.
    ///
    /// What `inside` has changed goes into `value`: a service's future finds it at its next poll.
    fn enter(&self, value: &mut Self::Value, inside: &mut dyn FnMut());
}

/// Has `local` saved and restored with every context from now on, for the rest of the process.
///
/// Register before serving: what was saved earlier does not have it.
///
/// ```
/// use std::cell::RefCell;
/// use hyper_deferred::context::{self, Context, ThreadLocal};
///
/// thread_local!(static TENANT: RefCell<Option<&'static str>> = const { RefCell::new(None) });
/// context::register(ThreadLocal::new(&TENANT));
///
/// TENANT.set(Some("acme"));
/// let later = Context::save().bind(|| TENANT.take());
/// assert_eq!(std::thread::spawn(later).join().unwrap(), Some("acme"));
/// ```
pub fn register(local: impl Local) {
    let local = Arc::new(local);
    let capture: Capture = Box::new(move || Box::new(Slot { local: local.clone(), value: local.save() }));
    REGISTERED.write().unwrap_or_else(PoisonError::into_inner).push(capture);
    ANY_REGISTERED.store(true, Ordering::Release);
}

/// A thread-local that comes along: saved by cloning, entered by swapping.
pub struct ThreadLocal<T: 'static> {
    key: &'static std::thread::LocalKey<RefCell<T>>,
}

/// A [`tokio::task_local!`] that comes along.
///
/// Where it has no value, `unset` stands for it: tokio cannot take a task-local away, so that another request's value
/// is covered by this one. What is changed inside, through a cell in the value, is changed for all that share the cell.
pub struct TaskLocal<T: 'static> {
    key: &'static tokio::task::LocalKey<T>,
    unset: T,
}

type Capture = Box<dyn Fn() -> Box<dyn Captured> + Send + Sync>;

static REGISTERED: RwLock<Vec<Capture>> = RwLock::new(Vec::new());

/// So that processes without any write to no lock for each request.
static ANY_REGISTERED: AtomicBool = AtomicBool::new(false);

/// One local's value, saved; its type erased so that different ones stand in one list.
pub(super) trait Captured: Send + Sync {
    fn clone_box(&self) -> Box<dyn Captured>;
    fn enter(&mut self, inside: &mut dyn FnMut());
}

struct Slot<L: Local> {
    local: Arc<L>,
    value: L::Value,
}

/// Saves every registered local; allocates nothing when there is none.
pub(super) fn capture_all() -> Vec<Box<dyn Captured>> {
    if !ANY_REGISTERED.load(Ordering::Acquire) {
        return Vec::new();
    }
    REGISTERED.read().unwrap_or_else(PoisonError::into_inner).iter().map(|capture| capture()).collect()
}

/// Runs `inside` within each of `slots`, the first outermost.
pub(super) fn enter_all(slots: &mut [Box<dyn Captured>], inside: &mut dyn FnMut()) {
    match slots.split_first_mut() {
        Some((first, rest)) => first.enter(&mut || enter_all(rest, inside)),
        None => inside(),
    }
}

impl<L: Local> Captured for Slot<L> {
    fn clone_box(&self) -> Box<dyn Captured> {
        Box::new(Self { local: self.local.clone(), value: self.value.clone() })
    }

    fn enter(&mut self, inside: &mut dyn FnMut()) {
        self.local.enter(&mut self.value, inside);
    }
}

// ===== impl ThreadLocal =====

impl<T: Clone + Send + Sync + 'static> ThreadLocal<T> {
    /// For a `thread_local!(static KEY: RefCell<T> = ...)`.
    pub fn new(key: &'static std::thread::LocalKey<RefCell<T>>) -> Self {
        Self { key }
    }
}

impl<T: Clone + Send + Sync + 'static> Local for ThreadLocal<T> {
    type Value = T;

    fn save(&self) -> T {
        self.key.with_borrow(Clone::clone)
    }

    fn enter(&self, value: &mut T, inside: &mut dyn FnMut()) {
        struct SwapBack<'a, T: 'static>(&'static std::thread::LocalKey<RefCell<T>>, &'a mut T);
        impl<T: 'static> Drop for SwapBack<'_, T> {
            fn drop(&mut self) {
                self.0.with_borrow_mut(|here| std::mem::swap(here, self.1));
            }
        }
        self.key.with_borrow_mut(|here| std::mem::swap(here, value));
        let _swap_back = SwapBack(self.key, value);
        inside();
    }
}

impl<T> fmt::Debug for ThreadLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadLocal").finish_non_exhaustive()
    }
}

// ===== impl TaskLocal =====

impl<T: Clone + Send + Sync + 'static> TaskLocal<T> {
    /// For a `tokio::task_local!(static KEY: T)`; `unset` stands for it where it has no value.
    pub fn new(key: &'static tokio::task::LocalKey<T>, unset: T) -> Self {
        Self { key, unset }
    }
}

impl<T: Clone + Send + Sync + 'static> Local for TaskLocal<T> {
    type Value = T;

    fn save(&self) -> T {
        self.key.try_with(Clone::clone).unwrap_or_else(|_unset| self.unset.clone())
    }

    fn enter(&self, value: &mut T, inside: &mut dyn FnMut()) {
        self.key.sync_scope(value.clone(), inside);
    }
}

impl<T> fmt::Debug for TaskLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLocal").finish_non_exhaustive()
    }
}
