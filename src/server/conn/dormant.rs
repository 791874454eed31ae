//! A connection without hyper.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use hyper::body::Incoming;
use hyper::rt::Read;
use hyper::service::HttpService;

use super::head::Head;
use super::io::{End, poll_leftover};
use crate::BoxError;

/// What is left of a connection while it waits: no buffer, no parser, and no task of its own.
///
/// Dropping it closes the connection and ends a parked request without an answer.
pub(crate) struct Dormant<I, S: HttpService<Incoming>> {
    pub(crate) io: I,
    pub(crate) service: S,
    pub(crate) parked: Option<Parked<S::Future>>,
    // Bytes of the client that hyper has read, or would have, and not used.
    pub(crate) leftover: Box<[u8]>,
    pub(crate) notes: Notes,
}

/// A request that waits.
pub(crate) struct Parked<F> {
    pub(crate) future: Pin<Box<F>>,
    pub(crate) head: Head,
}

/// What must be remembered of a connection's past.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notes {
    /// A response has been written: hyper closes such a connection at once when it is shut down while idle.
    pub(crate) served: bool,
    /// A graceful shutdown has begun: the request in hand is the last.
    pub(crate) last: bool,
}

/// Why a dormant connection needs hyper again.
pub(crate) enum Wake<B> {
    /// The service has answered.
    Answer(Result<Response<B>, BoxError>),
    /// The client has sent something; it is in `leftover`.
    Readable,
    /// The client has gone, or the IO has failed.
    End(End),
    /// The client has kept the connection waiting for too long.
    Deadline,
    /// The connection shall close.
    Shutdown,
}

impl<I, S> Dormant<I, S>
where
    I: Read + Unpin,
    S: HttpService<Incoming>,
{
    pub(crate) fn new(io: I, service: S) -> Self {
        Self { io, service, parked: None, leftover: Box::default(), notes: Notes::default() }
    }

    /// Waits for the client or the service. The client is looked at first, as hyper does it: who has left gets no
    /// answer.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, half_close: bool) -> Poll<Wake<S::ResBody>> {
        if let Poll::Ready(wake) = self.poll_client(cx, half_close) {
            return Poll::Ready(wake);
        }
        self.poll_service(cx)
    }

    /// Looks at the client alone.
    pub(crate) fn poll_client(&mut self, cx: &mut Context<'_>, half_close: bool) -> Poll<Wake<S::ResBody>> {
        if self.parked.is_some() && half_close {
            return Poll::Pending;
        }
        let before = self.leftover.len();
        let mut leftover = std::mem::take(&mut self.leftover).into_vec();
        let end = poll_leftover(&mut self.io, cx, &mut leftover);
        self.leftover = leftover.into_boxed_slice();
        match end {
            Some(end) => Poll::Ready(Wake::End(end)),
            None if self.parked.is_none() && self.leftover.len() > before => Poll::Ready(Wake::Readable),
            None => Poll::Pending,
        }
    }

    fn poll_service(&mut self, cx: &mut Context<'_>) -> Poll<Wake<S::ResBody>> {
        match &mut self.parked {
            Some(parked) => parked.future.as_mut().poll(cx).map(|output| Wake::Answer(output.map_err(Into::into))),
            None => Poll::Pending,
        }
    }
}
