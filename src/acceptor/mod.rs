//! The accept loop: listens, owns the connections, shuts them down.
//!
//! | file | concept |
//! |---|---|
//! | `mod.rs` | [`Acceptor`]: what a user sets and calls |
//! | `config.rs` | what a user has set |
//! | `listener.rs` | binding, and what to do when accepting fails |
//! | `shutdown.rs` | the signal to end, and how far a shutdown is |
//! | `stats.rs` | what it has done, and holds |
//! | `workers.rs`, `share.rs` | a thread for each worker, and what they have in common |
//! | `watched.rs` | what a watchdog is told |
//! | `service.rs`, `reply.rs`, `panics.rs` | the user's service as a connection sees it, the body of a response, and what becomes of a panic |
//! | `peer.rs` | who a request comes from |
//! | `slab/` | on Unix: every connection that waits in one slab, served in place |
//! | `tasks/` | elsewhere: each connection in a task of its own |

mod config;
mod listener;
mod panics;
mod peer;
mod reply;
mod service;
mod share;
mod shutdown;
#[cfg(all(unix, not(hyper_deferred_tasks)))]
mod slab;
mod stats;
#[cfg(not(all(unix, not(hyper_deferred_tasks))))]
mod tasks;
#[cfg(not(feature = "context"))]
mod unwatched;
#[cfg(feature = "context")]
mod watched;
mod workers;

pub use peer::PeerAddr;
pub use shutdown::ShutdownHandle;
pub use stats::{Snapshot, Stats};

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use socket2::Socket;

use crate::BoxError;
use crate::server::conn::http1;
use config::Config;
#[cfg(not(feature = "context"))]
use unwatched as watched;
use workers::Worker;

/// Listens on a socket and serves each connection on the thread that it runs on, or on one of
/// [several](Self::run_workers).
///
/// The service is an ordinary hyper [`Service`]; neither it, its futures nor its bodies need be `Send`. A tower service
/// or an axum `Router` becomes one through `hyper_util::service::TowerToHyperService`. Each request carries the
/// client's address as an extension, [`PeerAddr`].
///
/// ```no_run
/// use std::{cell::RefCell, convert::Infallible, rc::Rc};
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use hyper::{body::Incoming, service::service_fn};
/// use hyper_deferred::{Acceptor, deferred};
///
/// # fn main() -> std::io::Result<()> {
/// Acceptor::bind("127.0.0.1:8080")?.run(|| {
///     let waiting = Rc::new(RefCell::new(Vec::new()));
///     service_fn(move |_request: Request<Incoming>| {
///         // Each request parks; every tenth answers them all.
///         let (responder, deferred) = deferred::<Full<Bytes>>();
///         waiting.borrow_mut().push(responder);
///         if waiting.borrow().len() == 10 {
///             for responder in waiting.take() {
///                 let _client_gone = responder.send(Response::new("ten are here".into()));
///             }
///         }
///         deferred
///     })
/// })
/// # }
/// ```
///
/// # Compared with a loop around hyper's `serve_connection`
///
/// - A connection that waits, for its service or for its client, has no hyper and no buffer, and on Unix no task either.
/// - Failing to accept never ends it. The error of one connection is skipped; when the process has run out of
///   descriptors or memory, that is logged once for each burst and accepting pauses, for a second at most, while the
///   connections that are there are served on.
/// - A shutdown answers the requests that wait instead of cutting them off, and waits for what is active.
/// - Nagle's algorithm is off, so that a small response leaves at once.
/// - An error or a panic in a service ends its connection and nothing else.
///
/// # Shutdown
///
/// After [`ShutdownHandle::shutdown`] the listener is closed first, and then
///
/// | a connection that | is |
/// |---|---|
/// | is idle: silent so far, or kept alive | closed at once |
/// | has a parked request: the service's future is pending | answered `503` with `Retry-After: 1`, or the [application's own](Self::shutdown_response) |
/// | has sent a part of a request's head | awaited, and the request is served |
/// | streams its response's body | awaited |
/// | streams the events of a topic | told what is there, and ended in order |
///
/// Responses then say `connection: close`. What is not done after the [timeout](Self::shutdown_timeout) is closed.
/// A future that waits for the rest of a request's body is pending too. A parked future is dropped, and a
/// [`Deferred`](crate::Deferred) in it ends with [`Outcome::ShutDown`](crate::Outcome::ShutDown).
///
/// A connection that was upgraded (`101`, or `CONNECT`) belongs to whom it was handed over; it is neither awaited nor
/// closed.
///
/// # What happens on drop
///
/// The listener is closed. For the future of [`serve`](Self::serve), see there.
#[must_use = "an acceptor accepts nothing until it is served"]
pub struct Acceptor {
    listener: Socket,
    shutdown: ShutdownHandle,
    config: Config,
}

// ===== impl Acceptor =====

impl Acceptor {
    /// Listens on the first of `addr` that can be bound. Port 0 asks for any free port,
    /// [`local_addr`](Self::local_addr) tells which.
    ///
    /// On Unix an address is free as soon as its last server has closed it (`SO_REUSEADDR`).
    ///
    /// # Errors
    ///
    /// Those of resolving the name, and of binding its last address.
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::from_socket(listener::bind(addr)?)
    }

    /// Takes a listener made elsewhere: with options of its own, or passed on by a service manager.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made non-blocking.
    pub fn from_std(listener: TcpListener) -> io::Result<Self> {
        Self::from_socket(listener.into())
    }

    /// Listens on a Unix socket at `path`, which must not be there yet. It stays when the acceptor has ended.
    ///
    /// Requests have no [`PeerAddr`] then.
    ///
    /// # Errors
    ///
    /// Those of binding the path.
    #[cfg(all(unix, not(hyper_deferred_tasks)))]
    pub fn bind_unix(path: impl AsRef<std::path::Path>) -> io::Result<Self> {
        Self::from_socket(std::os::unix::net::UnixListener::bind(path)?.into())
    }

    /// Takes a Unix listener made elsewhere.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made non-blocking.
    #[cfg(all(unix, not(hyper_deferred_tasks)))]
    pub fn from_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Self::from_socket(listener.into())
    }

    fn from_socket(listener: Socket) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, shutdown: ShutdownHandle::new(), config: Config::default() })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// Those of `getsockname(2)`, and one for a Unix socket, which has a path.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.listener.local_addr()?;
        addr.as_socket().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "a unix socket has no ip address"))
    }

    /// The settings of HTTP: deadlines, limits, and how bytes are written. Those of [`http1::Builder::new`] unless set.
    ///
    /// The deadlines run on tokio's clock, whatever the builder's timer.
    pub fn http1(mut self, builder: &http1::Builder) -> Self {
        self.config.settings = builder.shared().clone();
        self
    }

    /// The most connections that are there at once, on all workers together. When they are, no more is accepted until one leaves; the kernel keeps
    /// those that come meanwhile, up to 4096. No limit unless set: the process's descriptors are one.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.config.max_connections = max;
        self
    }

    /// The most requests that are parked at once. When they are, a request that would be the next is answered with
    /// `503 Service Unavailable` and `Retry-After: 1` as soon as its future turns out to be pending, and a
    /// [`Deferred`](crate::Deferred) in it ends with [`Outcome::Refused`](crate::Outcome::Refused). No limit unless set.
    ///
    /// [Several workers](Self::run_workers) count together, and each may be about to park one more: they pass the limit
    /// by one less than there are of them at the most.
    pub fn max_parked(mut self, max: usize) -> Self {
        self.config.max_parked = max as u64;
        self
    }

    /// Whether requests carry their client's address, [`PeerAddr`]. They do unless set otherwise; that costs three small
    /// allocations for each request. Without it a request's context (`context`) has no peer either.
    pub fn peer_addr(mut self, is_carried: bool) -> Self {
        self.config.peer_addr = is_carried;
        self
    }

    /// What it has done, and holds, on all workers together: readable from any thread.
    pub fn stats(&self) -> Stats {
        self.config.stats.clone()
    }

    /// Has `watchdog` notice when the loop does not turn, and log which request was being polled: a service computes or
    /// blocks. Off unless set, and then nothing is measured; [`Stats::loops`] has what was.
    ///
    /// The log names the loop by its thread's name, and the request by method, path and id if it is served through
    /// [`WithContext`](crate::context::WithContext). Without it a service that blocks when it is called is known by method
    /// and path, and one whose future blocks not at all. Whatever else blocks the thread is noticed too.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// # let service = hyper::service::service_fn(|_: http::Request<hyper::body::Incoming>| async {
    /// #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) });
    /// use hyper_deferred::{Acceptor, context::WithContext, watchdog::Watchdog};
    ///
    /// let acceptor = Acceptor::bind("127.0.0.1:8080")?.watchdog(Watchdog::start()?);
    /// let stats = acceptor.stats();
    /// acceptor.run(|| WithContext::new(service))?;
    /// println!("{:?}", stats.loops().longest_stall);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "context")]
    #[cfg_attr(docsrs, doc(cfg(feature = "context")))]
    pub fn watchdog(mut self, watchdog: crate::watchdog::Watchdog) -> Self {
        self.config.watchdog = Some(watchdog);
        self
    }

    /// A handle that ends [`serve`](Self::serve), [`run`](Self::run) and [`run_workers`](Self::run_workers) in an orderly
    /// way, from any thread.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// How long a shutdown waits for what is active before it closes the rest. Ten seconds unless set. Zero closes what
    /// cannot be finished without waiting; parked requests are answered all the same.
    pub fn shutdown_timeout(mut self, after: Duration) -> Self {
        self.config.shutdown_timeout = after;
        self
    }

    /// What parked requests are answered at shutdown, instead of `503` with `Retry-After: 1`.
    ///
    /// `connection: close` is added. `make` is called once for each parked request, on the thread that serves it. Where it
    /// panics, that is logged and the `503` is sent.
    pub fn shutdown_response(mut self, make: impl Fn() -> Response<Bytes> + Send + Sync + 'static) -> Self {
        self.config.set_shutdown_response(make);
        self
    }

    /// Accepts and serves until the [shutdown handle](Self::shutdown_handle) says stop, inside a [`LocalSet`](tokio::task::LocalSet) that is
    /// already there. Returns when every connection has ended.
    ///
    /// It may be awaited, or spawned with [`spawn_local`](tokio::task::spawn_local) beside others. On Unix it serves every
    /// connection itself; only those that wait on IO in the middle of a message, and elsewhere all, are tasks of their
    /// own on the `LocalSet`.
    ///
    /// # Errors
    ///
    /// When the listener cannot be registered with the runtime. Errors of connections never end it; they are logged at
    /// the level `debug`.
    ///
    /// # Panics
    ///
    /// Outside of a [`LocalSet`](tokio::task::LocalSet), or when the runtime's IO or timer is not enabled.
    ///
    /// # What happens on drop
    ///
    /// The listener is closed and the connections end as in a shutdown whose timeout is zero: parked requests are
    /// answered, all else is closed. That happens in the drop, and for connections in tasks of their own the next time
    /// that the `LocalSet` runs.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: it cannot be resumed, see above.
    pub async fn serve<S, B>(self, service: S) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        // Without a `LocalSet` this panics now and not at the first connection.
        tokio::task::spawn_local(std::future::ready(()));
        Worker::only(self.listener, self.config, self.shutdown).serve(service).await
    }

    /// Owns a current-thread runtime with a [`LocalSet`](tokio::task::LocalSet) and [serves](Self::serve) in it what `make_service` makes
    /// there. Blocks the thread, and returns when shut down.
    ///
    /// `make_service` runs inside the runtime: it may [spawn](tokio::task::spawn_local) tasks of its own, such as one
    /// that waits for a signal. They are dropped when this returns.
    ///
    /// # Errors
    ///
    /// When the runtime cannot be built, and those of [`serve`](Self::serve).
    ///
    /// # Panics
    ///
    /// When called from within a runtime, and when `make_service` panics.
    pub fn run<F, S, B>(self, make_service: F) -> io::Result<()>
    where
        F: FnOnce() -> S,
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        Worker::only(self.listener, self.config, self.shutdown).run(make_service)
    }

    /// [Runs](Self::run) several workers, each on a thread of its own with a runtime, a [`LocalSet`](tokio::task::LocalSet) and a service of its
    /// own, and returns when the last of them has ended.
    ///
    /// `make_service` is called once on each of the threads, so that the service, its futures and its bodies still need
    /// not be `Send`. A connection is served from its first byte to its last by the worker that has accepted it, which is
    /// whichever comes first: one that is busy leaves it to another. What requests of different workers shall know of each
    /// other has to be shared by the services: a [`Responder`](crate::Responder) may be completed on any thread.
    ///
    /// ```no_run
    /// # use std::{convert::Infallible, thread};
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// # use http_body_util::Full;
    /// # use hyper::{body::Incoming, service::service_fn};
    /// # use hyper_deferred::Acceptor;
    /// # fn main() -> std::io::Result<()> {
    /// Acceptor::bind("127.0.0.1:8080")?.run_workers(thread::available_parallelism()?, || {
    ///     service_fn(async |_request: Request<Incoming>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))))
    /// })
    /// # }
    /// ```
    ///
    /// # Shutdown
    ///
    /// As described [above](Self#shutdown), on each worker on its own. The address is free once the last of them has
    /// closed the listener, which one that is kept busy by its service does late.
    ///
    /// # Errors
    ///
    /// When the listener cannot be duplicated or a thread not be started, and those of [`run`](Self::run). One that
    /// happens to a worker shuts the others down, and is returned when they have ended.
    ///
    /// # Panics
    ///
    /// When `make_service` panics on one of the threads, after the others have been shut down.
    pub fn run_workers<F, S, B>(self, workers: NonZeroUsize, make_service: F) -> io::Result<()>
    where
        F: Fn() -> S + Sync,
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        workers::run_all(self.listener, self.config, &self.shutdown, workers, make_service)
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("listener", &self.listener)
            .field("shutdown_timeout", &self.config.shutdown_timeout)
            .finish_non_exhaustive()
    }
}
