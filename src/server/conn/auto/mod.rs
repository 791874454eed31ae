//! HTTP/1 or HTTP/2, whichever the client speaks.
//!
//! The names, arguments and defaults are those of hyper-util 0.1.21's `server::conn::auto`. An HTTP/1 connection goes
//! dormant while it waits, as those of [`http1`] do. An HTTP/2 connection stays active: its parked
//! streams share one hyper.

mod connection;
mod http1_builder;
#[cfg(feature = "http2")]
mod http2_builder;
pub mod upgrade;
mod version;

pub use connection::{Connection, UpgradeableConnection};
pub use http1_builder::Http1Builder;
#[cfg(feature = "http2")]
pub use http2_builder::Http2Builder;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
#[cfg(feature = "http2")]
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::rt::{Read, Write};
#[cfg(feature = "http2")]
use hyper::server::conn::http2;
use hyper::service::Service;

use self::version::Version;
use super::http1;
use crate::BoxError;

/// What an executor must be able to run: the tasks of HTTP/2 streams.
///
/// The same as hyper's `Http2ServerConnExec`; without the `http2` feature, anything at all.
#[cfg(feature = "http2")]
pub trait HttpServerConnExec<A, B: Body>: Http2ServerConnExec<A, B> {}

#[cfg(feature = "http2")]
impl<A, B: Body, T: Http2ServerConnExec<A, B>> HttpServerConnExec<A, B> for T {}

/// What an executor must be able to run: the tasks of HTTP/2 streams.
///
/// The same as hyper's `Http2ServerConnExec`; without the `http2` feature, anything at all.
#[cfg(not(feature = "http2"))]
pub trait HttpServerConnExec<A, B: Body> {}

#[cfg(not(feature = "http2"))]
impl<A, B: Body, T> HttpServerConnExec<A, B> for T {}

/// Builds connections that speak HTTP/1 or HTTP/2.
///
/// # Where it differs from hyper-util 0.1.21
///
/// - HTTP/1 connections differ from hyper's in what [`http1::Builder`] tells.
/// - The time for a connection's first byte, and for the preface of HTTP/2, is limited by
///   [`first_byte_timeout`](Http1Builder::first_byte_timeout). hyper-util waits for ever.
/// - With `http2_only`, the server's settings are written when the client's preface has come, not
///   before; and a graceful shutdown before that closes the connection, while hyper 1.12 goes on waiting for it.
/// - HTTP/2 has tokio's timer, so that its keep-alive settings work without another.
#[derive(Clone, Debug)]
pub struct Builder<E> {
    http1: http1::Builder,
    #[cfg(feature = "http2")]
    http2: http2::Builder<E>,
    version: Option<Version>,
    #[cfg(not(feature = "http2"))]
    _executor: E,
}

impl<E: Default> Default for Builder<E> {
    fn default() -> Self {
        Self::new(E::default())
    }
}

impl<E> Builder<E> {
    /// A builder whose HTTP/2 connections run their streams on `executor`.
    pub fn new(executor: E) -> Self {
        Self {
            http1: http1::Builder::new(),
            #[cfg(feature = "http2")]
            http2: {
                let mut http2 = http2::Builder::new(executor);
                http2.timer(super::clock::DefaultTimer);
                http2
            },
            version: None,
            #[cfg(not(feature = "http2"))]
            _executor: executor,
        }
    }

    /// The settings of HTTP/1.
    pub fn http1(&mut self) -> Http1Builder<'_, E> {
        Http1Builder { inner: self }
    }

    /// The settings of HTTP/2.
    #[cfg(feature = "http2")]
    pub fn http2(&mut self) -> Http2Builder<'_, E> {
        Http2Builder { inner: self }
    }

    /// Serves HTTP/2 only. Has no effect on
    /// [`serve_connection_with_upgrades`](Self::serve_connection_with_upgrades), as in hyper-util.
    ///
    /// # Panics
    ///
    /// When the version has been chosen already.
    #[cfg(feature = "http2")]
    pub fn http2_only(mut self) -> Self {
        assert!(self.version.is_none(), "only one of `http1_only` and `http2_only` can be meant, and once");
        self.version = Some(Version::H2);
        self
    }

    /// Serves HTTP/1 only. Has no effect on
    /// [`serve_connection_with_upgrades`](Self::serve_connection_with_upgrades), as in hyper-util.
    ///
    /// # Panics
    ///
    /// When the version has been chosen already.
    pub fn http1_only(mut self) -> Self {
        assert!(self.version.is_none(), "only one of `http1_only` and `http2_only` can be meant, and once");
        self.version = Some(Version::H1);
        self
    }

    /// Whether it serves HTTP/1.
    pub fn is_http1_available(&self) -> bool {
        self.version != Some(Version::H2)
    }

    /// Whether it serves HTTP/2.
    pub fn is_http2_available(&self) -> bool {
        self.version != Some(Version::H1)
    }

    /// As [`http1::Builder::title_case_headers`]. HTTP/2 has lower case only.
    pub fn title_case_headers(mut self, enabled: bool) -> Self {
        self.http1.title_case_headers(enabled);
        self
    }

    /// As [`http1::Builder::preserve_header_case`]. HTTP/2 has lower case only.
    pub fn preserve_header_case(mut self, enabled: bool) -> Self {
        self.http1.preserve_header_case(enabled);
        self
    }

    /// Serves one connection with a [`Service`].
    pub fn serve_connection<I, S, B>(&self, io: I, service: S) -> Connection<'_, I, S, E>
    where
        S: Service<Request<Incoming>, Response = Response<B>>,
        S::Future: 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
        I: Read + Write + Unpin + 'static,
        E: HttpServerConnExec<S::Future, B>,
    {
        Connection::new(self, io, service, self.version)
    }

    /// Serves one connection that may be upgraded.
    ///
    /// The IO of an [`Upgraded`](hyper::upgrade::Upgraded) is then found with [`upgrade::downcast`].
    pub fn serve_connection_with_upgrades<I, S, B>(&self, io: I, service: S) -> UpgradeableConnection<'_, I, S, E>
    where
        S: Service<Request<Incoming>, Response = Response<B>>,
        S::Future: 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
        I: Read + Write + Unpin + Send + 'static,
        E: HttpServerConnExec<S::Future, B>,
    {
        UpgradeableConnection::new(self, io, service, None)
    }
}
