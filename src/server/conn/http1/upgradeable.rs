//! The connection that may become something else.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::HttpService;

use super::super::connection::{self, Core};
use super::super::machine::Upgradeable;
use super::Parts;
use crate::BoxError;

/// A [`Connection`](super::Connection) that may be upgraded.
///
/// A request that asks for an upgrade is never dormant while it waits; an upgraded connection is the application's.
///
/// # What happens on drop
///
/// As for [`Connection`](super::Connection). Once upgraded there is nothing to drop.
#[must_use = "futures do nothing unless polled"]
pub struct UpgradeableConnection<I, S>
where
    S: HttpService<Incoming>,
{
    core: Core<I, S, Upgradeable<I, S>>,
}

impl<I, S: HttpService<Incoming>> UpgradeableConnection<I, S> {
    pub(super) fn new(core: Core<I, S, Upgradeable<I, S>>) -> Self {
        Self { core }
    }
}

impl<I, B, S> UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    /// Whether the connection holds no hyper now. For tests.
    #[doc(hidden)]
    pub fn is_dormant(&self) -> bool {
        self.core.is_dormant()
    }

    /// As [`Connection::graceful_shutdown`](super::Connection::graceful_shutdown).
    pub fn graceful_shutdown(mut self: Pin<&mut Self>) {
        self.core.graceful_shutdown();
    }

    /// See [`Core::drain`].
    #[allow(dead_code, reason = "for platforms without a slab")]
    pub(crate) fn drain(&mut self, answer: impl FnOnce() -> Response<B>) -> bool {
        self.core.drain(answer)
    }

    /// Takes the connection apart, unless it has been upgraded.
    pub fn into_parts(self) -> Option<Parts<I, S>> {
        let (io, read_buf, service) = self.core.into_parts()?;
        Some(Parts { io, read_buf, service })
    }
}

impl<I, B, S> Future for UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.core.poll(cx, connection::to_end)
    }
}

// The service is moved and called, never pinned, and its future is boxed.
impl<I: Unpin, S: HttpService<Incoming>> Unpin for UpgradeableConnection<I, S> {}

impl<I, S> fmt::Debug for UpgradeableConnection<I, S>
where
    S: HttpService<Incoming>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeableConnection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample::{Shared, Socket, Stateless, assert_send};
    use super::*;

    // What a waiting connection costs: growth is seen in review.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn its_size_is_known() {
        assert_eq!(size_of::<UpgradeableConnection<Socket, Stateless>>(), 152);
        assert_eq!(size_of::<UpgradeableConnection<Socket, Shared>>(), 160);
    }

    #[test]
    fn it_is_send_when_its_parts_are() {
        assert_send::<UpgradeableConnection<Socket, Stateless>>();
        assert_send::<UpgradeableConnection<Socket, Shared>>();
    }
}
