//! Shutting down many connections together.
//!
//! The names are those of hyper-util's `server::graceful`, whose trait is sealed to its own connections.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::HttpService;
use pin_project_lite::pin_project;
use tokio::sync::watch;

use super::conn::auto::{self, HttpServerConnExec};
use super::conn::http1;
use crate::BoxError;

/// A connection that can be asked to finish.
///
/// Implemented by the connections of [`server::conn`](super::conn); a wrapper around one may implement it too.
pub trait GracefulConnection: Future<Output = Result<(), Self::Error>> {
    /// What the connection fails with.
    type Error;

    /// Starts a graceful shutdown. The connection must be polled on until it is done.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

/// Watches connections, and asks all of them to finish.
///
/// ```
/// # use std::{convert::Infallible, time::Duration};
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # use hyper::{body::Incoming, service::service_fn};
/// # use hyper_util::rt::TokioIo;
/// use hyper_deferred::server::{conn::http1::Builder, graceful::GracefulShutdown};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) });
/// # let (_client, io) = tokio::io::duplex(64);
/// let graceful = GracefulShutdown::new();
/// let connection = Builder::new().serve_connection(TokioIo::new(io), service);
/// tokio::spawn(graceful.watch(connection));
/// graceful.shutdown().await;
/// # });
/// ```
///
/// # What happens on drop
///
/// Its connections are asked to finish, as by [`shutdown`](Self::shutdown), and nobody waits for them.
// Not `Clone`: a watcher made while another half of it shuts down could miss the signal.
pub struct GracefulShutdown {
    signal: watch::Sender<()>,
}

/// Lets one connection be watched from elsewhere, see [`GracefulShutdown::watcher`].
pub struct Watcher {
    signal: watch::Receiver<()>,
}

pin_project! {
    /// A connection that finishes when it is asked to.
    struct Watched<C, F> {
        #[pin]
        connection: C,
        #[pin]
        signal: F,
        // Held until the connection is done: its drop is what the shutdown waits for.
        asked: Option<watch::Receiver<()>>,
    }
}

// ===== impl GracefulShutdown =====

impl GracefulShutdown {
    /// Watches nothing yet.
    pub fn new() -> Self {
        Self { signal: watch::Sender::new(()) }
    }

    /// Serves `connection` until it is done, or until it has finished after [`shutdown`](Self::shutdown).
    pub fn watch<C: GracefulConnection>(&self, connection: C) -> impl Future<Output = C::Output> + use<C> {
        self.watcher().watch(connection)
    }

    /// A watcher for one connection that is served by another task.
    pub fn watcher(&self) -> Watcher {
        Watcher { signal: self.signal.subscribe() }
    }

    /// Asks all connections to finish, and waits until they have.
    ///
    /// # Cancel safety
    ///
    /// When dropped, polled or not, the connections are asked all the same, and finish by themselves.
    pub async fn shutdown(self) {
        self.signal.send_replace(());
        self.signal.closed().await;
    }

    /// How many connections are watched.
    pub fn count(&self) -> usize {
        self.signal.receiver_count()
    }
}

impl Default for GracefulShutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for GracefulShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GracefulShutdown").field("count", &self.count()).finish()
    }
}

// ===== impl Watcher =====

impl Watcher {
    /// As [`GracefulShutdown::watch`].
    pub fn watch<C: GracefulConnection>(self, connection: C) -> impl Future<Output = C::Output> {
        let mut signal = self.signal;
        let signal = async move {
            // An error says that nobody is left who could ask; that is an answer too.
            let _ = signal.changed().await;
            signal
        };
        Watched { connection, signal, asked: None }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

// ===== impl Watched =====

impl<C, F> Future for Watched<C, F>
where
    C: GracefulConnection,
    F: Future<Output = watch::Receiver<()>>,
{
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.asked.is_none() {
            if let Poll::Ready(signal) = this.signal.poll(cx) {
                *this.asked = Some(signal);
                this.connection.as_mut().graceful_shutdown();
            }
        }
        this.connection.poll(cx)
    }
}

// ===== impl GracefulConnection =====

impl<I, B, S> GracefulConnection for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    type Error = hyper::Error;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

impl<I, B, S> GracefulConnection for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    type Error = hyper::Error;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

#[cfg(feature = "http2")]
impl<I, B, S, E> GracefulConnection for super::conn::http2::Connection<I, S, E>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    type Error = hyper::Error;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

impl<I, B, S, E> GracefulConnection for auto::Connection<'_, I, S, E>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Future: 'static,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: HttpServerConnExec<S::Future, B>,
{
    type Error = BoxError;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

impl<I, B, S, E> GracefulConnection for auto::UpgradeableConnection<'_, I, S, E>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Future: 'static,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: HttpServerConnExec<S::Future, B>,
{
    type Error = BoxError;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}
