//! The accept loop: listens, owns the connections, shuts them down.
//!
//! | file | concept |
//! |---|---|
//! | `mod.rs` | [`Acceptor`]: what a user sets and calls |
//! | `listener.rs` | accepting, and what to do when that fails |
//! | `shutdown.rs` | the signal to end, and the count of who has not |
//! | `connection.rs` | one connection |
//! | `progress.rs` | how far it is: idle, in the middle of a head, in the service |
//! | `park.rs`, `reply.rs` | one request: the service's future or the shutdown, whichever is first, and its body |

mod connection;
mod listener;
mod park;
mod progress;
mod reply;
mod shutdown;

pub use shutdown::ShutdownHandle;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::task::LocalSet;

use crate::BoxError;
use listener::Listener;
use shutdown::Drain;

/// How long a shutdown waits for what is active unless [set](Acceptor::shutdown_timeout): long enough for a slow
/// response, and well within the 30 seconds that Kubernetes leaves and the 90 of systemd before they kill a process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes what a parked request is answered at shutdown.
type ShutdownResponse = Arc<dyn Fn() -> Response<Bytes> + Send + Sync>;

/// Listens on a socket and serves each connection on the thread that it runs on.
#[must_use = "an acceptor accepts nothing until it is served"]
pub struct Acceptor {
    listener: TcpListener,
    shutdown: ShutdownHandle,
    shutdown_timeout: Duration,
    shutdown_response: ShutdownResponse,
}

/// The address of the client, found in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

// ===== impl Acceptor =====

impl Acceptor {
    /// Listens on the first of `addr` that can be bound. Port 0 asks for any free port.
    ///
    /// # Errors
    ///
    /// Those of resolving and binding the address.
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::from_std(TcpListener::bind(addr)?)
    }

    /// Takes a listener made elsewhere.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made non-blocking.
    pub fn from_std(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            shutdown: ShutdownHandle::new(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            shutdown_response: Arc::new(park::service_unavailable),
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle that ends [`serve`](Self::serve) and [`run`](Self::run) in an orderly way, from any thread.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// How long a shutdown waits for what is active before it closes the rest. Ten seconds unless set.
    pub fn shutdown_timeout(mut self, after: Duration) -> Self {
        self.shutdown_timeout = after;
        self
    }

    /// What parked requests are answered at shutdown, instead of `503` with `Retry-After: 1`.
    ///
    /// `connection: close` is added. `make` is called once for each parked request, on the thread that serves it.
    pub fn shutdown_response(mut self, make: impl Fn() -> Response<Bytes> + Send + Sync + 'static) -> Self {
        self.shutdown_response = Arc::new(make);
        self
    }

    /// Accepts and serves until the [shutdown handle](Self::shutdown_handle) says stop. Runs inside a [`LocalSet`].
    ///
    /// # Errors
    ///
    /// When the listener cannot be registered with the runtime. Errors of connections never end it.
    pub async fn serve<S, B>(self, service: S) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        // Without a `LocalSet` this panics now and not at the first connection.
        tokio::task::spawn_local(std::future::ready(()));
        let mut listener = Listener::new(tokio::net::TcpListener::from_std(self.listener)?);
        let service = Rc::new(service);
        let drain = Drain::new();
        let mut stop = std::pin::pin!(self.shutdown.requested());
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = stop.as_mut() => break,
                accepted = listener.accept() => accepted,
            };
            let (service, respond) = (service.clone(), self.shutdown_response.clone());
            tokio::task::spawn_local(connection::serve(stream, peer, service, respond, drain.stop()));
        }
        // Closed before anything else, so that new clients are refused and go elsewhere.
        drop(listener);
        drain.finish(self.shutdown_timeout).await;
        Ok(())
    }

    /// Owns a current-thread runtime with a [`LocalSet`] and [serves](Self::serve) in it what `make_service` makes
    /// there. Returns when shut down.
    ///
    /// # Errors
    ///
    /// When the runtime cannot be built, and those of [`serve`](Self::serve).
    pub fn run<F, S, B>(self, make_service: F) -> io::Result<()>
    where
        F: FnOnce() -> S,
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async { self.serve(make_service()).await })
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("listener", &self.listener)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .finish_non_exhaustive()
    }
}
