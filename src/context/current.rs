//! The context itself, and which one is in force on this thread.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use http::{Extensions, Method, Uri, Version};
use tracing::Span;

use super::Saved;
use super::target::Target;

/// The request in hand: what came in its head, who sent it and when, and what the application knows of it.
///
/// A handle to a shared value: cloning counts a reference. It keeps its own copy of the URI, so that it holds none of
/// the connection's buffers.
///
/// # What happens on drop
///
/// The last handle drops the application's [values](Self::insert) and closes the [span](Self::span).
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    arrived: Instant,
    method: Method,
    target: Target,
    version: Version,
    peer: Option<SocketAddr>,
    // Set once the rest is there, so that the span can be made from it.
    span: OnceLock<Span>,
    values: Mutex<Extensions>,
}

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

// ===== impl Context =====

impl Context {
    /// A context for a request that [`WithContext`](super::WithContext) does not serve: a job from a queue, a test.
    ///
    /// It has come now, has no peer, and no span.
    pub fn new(method: Method, uri: Uri, version: Version) -> Self {
        Self::with_peer(method, &uri, version, None)
    }

    pub(super) fn with_peer(method: Method, uri: &Uri, version: Version, peer: Option<SocketAddr>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let inner = Inner {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            arrived: Instant::now(),
            method,
            target: Target::new(uri),
            version,
            peer,
            span: OnceLock::new(),
            values: Mutex::new(Extensions::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The one in force here and now, if any.
    pub fn current() -> Option<Self> {
        // A thread that is ending has no locals any more: nothing is in force there.
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Saves what is in force here and now, also when that is no context at all.
    pub fn save() -> Saved {
        Saved::here(Self::current())
    }

    /// Saves this context together with what else is in force here and now.
    pub fn saved(&self) -> Saved {
        Saved::here(Some(self.clone()))
    }

    /// A closure that can be kept and called later, on any thread, after the service has returned, and runs as if this
    /// request were still in hand. What was in force where it is called is back when it returns, also when it panics.
    ///
    /// Registered locals and the span are those in force where `bind` is called. See [`Saved::bind_with`] for closures
    /// that take an argument.
    pub fn bind<R, F: FnOnce() -> R>(&self, closure: F) -> impl FnOnce() -> R + use<R, F> {
        self.saved().bind(closure)
    }

    /// Numbers the requests of this process from 1 on, for logs; never given twice.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// When the request's head had been read.
    pub fn arrived(&self) -> Instant {
        self.inner.arrived
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.inner.method
    }

    /// The request's target as it was sent: for most requests a path and a query without an authority.
    pub fn uri(&self) -> &Uri {
        self.inner.target.uri()
    }

    /// The request's HTTP version.
    pub fn version(&self) -> Version {
        self.inner.version
    }

    /// Who sent it, when the server told: see [`WithContext::peer`](super::WithContext::peer).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.inner.peer
    }

    /// The span that is entered while the context is in force; a disabled one when there is none.
    pub fn span(&self) -> Span {
        self.inner.span.get().cloned().unwrap_or_else(Span::none)
    }

    /// Keeps a value of the application's with the request, one of each type: the user, the tenant, the locale.
    /// Gives back the one that it replaces.
    pub fn insert<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.values().insert(value)
    }

    /// A copy of the value of this type.
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.values().get().cloned()
    }

    /// Takes the value of this type out.
    pub fn remove<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.values().remove()
    }

    pub(super) fn set_span(&self, span: Span) {
        let _already_set = self.inner.span.set(span);
    }

    /// The span without a count, for the way into a poll.
    pub(super) fn span_ref(&self) -> Option<&Span> {
        self.inner.span.get().filter(|span| !span.is_none())
    }

    fn values(&self) -> MutexGuard<'_, Extensions> {
        // A value's `clone` that panics under the lock leaves the map whole.
        self.inner.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.inner.id)
            .field("method", &self.inner.method)
            .field("uri", self.uri())
            .field("version", &self.inner.version)
            .field("peer", &self.inner.peer)
            .finish_non_exhaustive()
    }
}

/// Has `context` in force while `inside` runs, and gives it back. The only way in, so that whatever is entered is left
/// again.
///
/// It changes places with the one that is in force: to count references at each poll would cost more than all the rest.
pub(super) fn with_current<R>(context: &mut Option<Context>, inside: impl FnOnce() -> R) -> R {
    struct ChangeBack<'a>(&'a mut Option<Context>);
    impl Drop for ChangeBack<'_> {
        fn drop(&mut self) {
            change_places(self.0);
        }
    }
    change_places(context);
    let _change_back = ChangeBack(context);
    inside()
}

fn change_places(context: &mut Option<Context>) {
    // A thread that is ending has no locals any more: nothing is in force there.
    let _thread_ends = CURRENT.try_with(|current| std::mem::swap(&mut *current.borrow_mut(), context));
}
