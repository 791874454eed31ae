//! HTTP/1 connections.
//!
//! The names, arguments and defaults are those of hyper 1.12's [`server::conn::http1`](hyper::server::conn::http1), and
//! so are the bytes on the wire. What differs is told on [`Builder`].

mod builder;
mod upgradeable;

pub use builder::Builder;
pub use upgradeable::UpgradeableConnection;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::HttpService;

use super::connection::{self, Core};
use super::machine::Plain;
use crate::BoxError;

/// A future that serves one HTTP/1 connection, returned from [`Builder::serve_connection`].
///
/// It must be polled, or nothing happens. It resolves with hyper's result and hyper's error.
///
/// While it waits for a service's future, or for the client's next request, it is dormant: it holds the IO, the
/// service, that future and a few bytes, and no buffer. It is `Send` when all of these are.
///
/// # What happens on drop
///
/// The IO is dropped, and with it the connection closed; the future of a parked request is dropped.
#[must_use = "futures do nothing unless polled"]
pub struct Connection<I, S>
where
    S: HttpService<Incoming>,
{
    core: Core<I, S, Plain<I, S>>,
}

/// What a [`Connection`] was made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts<I, S> {
    /// The IO as it was given to [`Builder::serve_connection`].
    pub io: I,
    /// Bytes that were read from the IO and not used: look here before reading on.
    pub read_buf: Bytes,
    /// The service as it was given to [`Builder::serve_connection`].
    pub service: S,
}

// ===== impl Connection =====

impl<I, B, S> Connection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    /// Whether the connection holds no hyper now. For tests.
    #[doc(hidden)]
    pub fn is_dormant(&self) -> bool {
        self.core.is_dormant()
    }

    /// Starts a graceful shutdown: the request in hand is finished, parked or not, and its response says
    /// `connection: close`; an idle connection is closed.
    ///
    /// The connection must be polled on until it is done. Does nothing once it is.
    pub fn graceful_shutdown(mut self: Pin<&mut Self>) {
        self.core.graceful_shutdown();
    }

    /// Takes the connection apart.
    ///
    /// To be called when [`poll_without_shutdown`](Self::poll_without_shutdown) has said that it is done: before that,
    /// what hyper has not yet written is lost, and a parked request ends without an answer.
    pub fn into_parts(self) -> Parts<I, S> {
        match self.core.into_parts() {
            Some((io, read_buf, service)) => Parts { io, read_buf, service },
            None => unreachable!("only a connection with upgrades gives its parts away"),
        }
    }

    /// Polls the connection to its end without closing the IO, which [`into_parts`](Self::into_parts) then gives back.
    ///
    /// # Errors
    ///
    /// hyper's.
    pub fn poll_without_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>
    where
        S: Unpin,
        S::Future: Unpin,
    {
        self.core.poll(cx, connection::without_shutdown)
    }

    /// Serves the connection to its end without closing the IO, and takes it apart.
    ///
    /// # Errors
    ///
    /// hyper's.
    pub fn without_shutdown(self) -> impl Future<Output = hyper::Result<Parts<I, S>>> {
        let mut connection = Some(self);
        std::future::poll_fn(move |cx| {
            const DONE: &str = "the future must not be polled after it was ready";
            ready!(connection.as_mut().expect(DONE).core.poll(cx, connection::without_shutdown))?;
            Poll::Ready(Ok(connection.take().expect(DONE).into_parts()))
        })
    }

    /// Lets the connection be upgraded, see [`hyper::upgrade`].
    ///
    /// The IO of an [`Upgraded`](hyper::upgrade::Upgraded) is then found with
    /// [`upgrade::downcast`](crate::server::conn::auto::upgrade::downcast), not with its own method.
    pub fn with_upgrades(self) -> UpgradeableConnection<I, S>
    where
        I: Send,
    {
        UpgradeableConnection::new(self.core.with_upgrades())
    }
}

impl<I, B, S> Future for Connection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.core.poll(cx, connection::to_end)
    }
}

// The service is moved and called, never pinned, and its future is boxed.
impl<I: Unpin, S: HttpService<Incoming>> Unpin for Connection<I, S> {}

impl<I, S> fmt::Debug for Connection<I, S>
where
    S: HttpService<Incoming>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Shared, Socket, Stateless, assert_send};
    use super::*;

    // What a waiting connection costs: growth is seen in review.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn its_size_is_known() {
        assert_eq!(size_of::<Connection<Socket, Stateless>>(), 152);
        assert_eq!(size_of::<Connection<Socket, Shared>>(), 160);
    }

    #[test]
    fn it_is_send_when_its_parts_are() {
        assert_send::<Connection<Socket, Stateless>>();
        assert_send::<Connection<Socket, Shared>>();
    }
}
