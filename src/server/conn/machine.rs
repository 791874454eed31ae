//! hyper's two connections, with and without upgrades, as one.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::HttpService;

use super::io::Io;
use super::service::Adapter;
use crate::BoxError;

/// hyper's connection, over our IO and service.
pub(crate) type Plain<I, S> = http1::Connection<Io<I>, Adapter<S>>;
/// hyper's connection that may be upgraded.
pub(crate) type Upgradeable<I, S> = http1::UpgradeableConnection<Io<I>, Adapter<S>>;

/// Which of hyper's two connections is driven.
pub(crate) trait Machine<I, S: HttpService<Incoming>>: Sized {
    fn new(hyper: Plain<I, S>) -> Self;
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    fn graceful_shutdown(&mut self);
    /// `None` once it is upgraded.
    fn into_parts(self) -> Option<http1::Parts<Io<I>, Adapter<S>>>;
}

// ===== impl Machine =====

impl<I, S> Machine<I, S> for Plain<I, S>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
{
    fn new(hyper: Plain<I, S>) -> Self {
        hyper
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        std::future::Future::poll(Pin::new(self), cx)
    }

    fn graceful_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn into_parts(self) -> Option<http1::Parts<Io<I>, Adapter<S>>> {
        Some(http1::Connection::into_parts(self))
    }
}

impl<I, S> Machine<I, S> for Upgradeable<I, S>
where
    I: Read + Write + Unpin + Send + 'static,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
{
    fn new(hyper: Plain<I, S>) -> Self {
        hyper.with_upgrades()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        std::future::Future::poll(Pin::new(self), cx)
    }

    fn graceful_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn into_parts(self) -> Option<http1::Parts<Io<I>, Adapter<S>>> {
        http1::UpgradeableConnection::into_parts(self)
    }
}
