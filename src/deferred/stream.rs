//! A reply that goes on: head now, body as it comes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_channel::oneshot;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};

use crate::BoxError;

/// The receiving half of a [stream](super::Responder::stream): the body that the server writes.
///
/// # What happens on drop
///
/// The client has gone: [`BodySender::closed`] resolves and sending fails.
#[derive(Debug)]
pub struct StreamBody {
    frames: Channel<Bytes, BoxError>,
    // Nothing is ever sent here: its drop, together with the body, is what the sender can wait for.
    _gone: oneshot::Receiver<()>,
}

/// The sending half of a [stream](super::Responder::stream).
///
/// # What happens on drop
///
/// The body ends, complete. To end it as broken, [`abort`](Self::abort) it.
#[derive(Debug)]
pub struct BodySender {
    frames: Sender<Bytes, BoxError>,
    gone: oneshot::Sender<()>,
}

/// The client has gone; what was to be sent comes back.
#[derive(Debug)]
pub struct SendError<T>(pub T);

// ===== impl StreamBody =====

impl StreamBody {
    pub(super) fn channel() -> (BodySender, Self) {
        let (sender, frames) = Channel::new(BodySender::BUFFER_FRAMES);
        let (gone, watched) = oneshot::channel();
        (BodySender { frames: sender, gone }, Self { frames, _gone: watched })
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.frames).poll_frame(cx)
    }
}

impl From<StreamBody> for BoxBody<Bytes, BoxError> {
    fn from(body: StreamBody) -> Self {
        Self::new(body)
    }
}

impl From<StreamBody> for UnsyncBoxBody<Bytes, BoxError> {
    fn from(body: StreamBody) -> Self {
        Self::new(body)
    }
}

// ===== impl BodySender =====

impl BodySender {
    /// How many frames wait for a slow client before [`send_data`](Self::send_data) does: enough that the writer of
    /// small events seldom has to stop, and few enough that a stalled client holds little.
    pub const BUFFER_FRAMES: usize = 8;

    /// Sends a piece of the body; waits while the client is behind by [`BUFFER_FRAMES`](Self::BUFFER_FRAMES).
    ///
    /// # Errors
    ///
    /// Gives the piece back when the client has gone.
    ///
    /// # Cancel safety
    ///
    /// When dropped while it waits, the piece was not sent.
    pub async fn send_data(&mut self, data: Bytes) -> Result<(), SendError<Bytes>> {
        // A `Bytes` is counted by reference: keeping one to hand back copies nothing.
        self.frames.send_data(data.clone()).await.map_err(|_| SendError(data))
    }

    /// Sends a piece of the body if there is room for it now.
    ///
    /// # Errors
    ///
    /// Gives the piece back when the buffer is full or the client has gone; [`is_closed`](Self::is_closed) tells which.
    pub fn try_send_data(&mut self, data: Bytes) -> Result<(), SendError<Bytes>> {
        self.frames.try_send(Frame::data(data)).map_err(|frame| {
            SendError(frame.into_data().unwrap_or_else(|_| unreachable!("the frame was made from data")))
        })
    }

    /// Ends the body with trailers, which go out only if the client asked for them (`te: trailers`, RFC 9110 section
    /// 10.1.4).
    ///
    /// # Errors
    ///
    /// Gives the trailers back when the client has gone.
    pub async fn send_trailers(mut self, trailers: HeaderMap) -> Result<(), SendError<HeaderMap>> {
        self.frames.send_trailers(trailers.clone()).await.map_err(|_| SendError(trailers))
    }

    /// Breaks the body off: the client sees an incomplete response, and the connection ends with `error`.
    pub fn abort(self, error: impl Into<BoxError>) {
        self.frames.abort(error.into());
    }

    /// Whether the client has gone.
    pub fn is_closed(&self) -> bool {
        self.gone.is_canceled()
    }

    /// Resolves when the client has gone, also while nothing is being sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it can be dropped and called again.
    pub fn closed(&mut self) -> impl Future<Output = ()> + '_ {
        self.gone.cancellation()
    }
}

// ===== impl SendError =====

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was not sent: the client has gone or its buffer is full")
    }
}

impl<T: fmt::Debug> std::error::Error for SendError<T> {}
