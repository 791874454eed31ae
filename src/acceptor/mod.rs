//! The accept loop: listens, owns the connections, shuts them down.

mod shutdown;

pub use shutdown::ShutdownHandle;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::LocalSet;

use crate::BoxError;

/// Listens on a socket and serves each connection on the thread that it runs on.
#[derive(Debug)]
#[must_use = "an acceptor accepts nothing until it is served"]
pub struct Acceptor {
    listener: TcpListener,
    shutdown: ShutdownHandle,
}

/// The address of the client, found in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

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
        Ok(Self { listener, shutdown: ShutdownHandle::new() })
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
    pub fn shutdown_timeout(self, _after: Duration) -> Self {
        self
    }

    /// What parked requests are answered at shutdown, instead of `503` with `Retry-After`.
    pub fn shutdown_response(self, _make: impl Fn() -> Response<Bytes> + Send + Sync + 'static) -> Self {
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
        let service = Rc::new(service);
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let mut stop = self.shutdown.subscribe();
        loop {
            let (stream, _peer) = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                accepted = listener.accept() => accepted?,
            };
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service.clone())
                .with_upgrades();
            tokio::task::spawn_local(connection);
        }
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
        let serve = async { self.serve(make_service()).await };
        run_until(&runtime, serve)
    }
}

fn run_until<F: Future>(runtime: &tokio::runtime::Runtime, future: F) -> F::Output {
    LocalSet::new().block_on(runtime, future)
}
