//! A reply that goes on: head now, body as it comes.
//!
//! It has the shape of http-body-util's `channel`, and not its code: that one looks whether its sender is gone after it
//! has found no frame (0.1.5), and a frame which is sent in between, as the sender's last, is lost; the client takes
//! the shortened body for a complete one. Here the end is known by the queue of frames alone.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_channel::oneshot;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use tokio::sync::mpsc;

use crate::BoxError;

/// The receiving half of a [stream](super::Responder::stream): the body that the server writes.
///
/// # What happens on drop
///
/// The client has gone: [`BodySender::closed`] resolves and sending fails. Frames that were waiting are dropped.
pub struct StreamBody {
    frames: mpsc::Receiver<Frame<Bytes>>,
    // Looked at when the frames are over, so that it needs no place in their bounded queue.
    aborted: oneshot::Receiver<BoxError>,
}

/// The sending half of a [stream](super::Responder::stream).
///
/// # What happens on drop
///
/// The body ends, complete, after the frames that wait. To end it as broken, [`abort`](Self::abort) it.
pub struct BodySender {
    frames: mpsc::Sender<Frame<Bytes>>,
    abort: oneshot::Sender<BoxError>,
}

/// The client has gone; what was to be sent comes back.
#[derive(Clone, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// A piece could not be sent at once; it comes back.
#[derive(Clone, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The client is behind by [`BodySender::BUFFER_FRAMES`].
    Full(T),
    /// The client has gone.
    Closed(T),
}

// ===== impl StreamBody =====

impl StreamBody {
    pub(super) fn channel() -> (BodySender, Self) {
        let (sender, frames) = mpsc::channel(BodySender::BUFFER_FRAMES);
        let (abort, aborted) = oneshot::channel();
        (BodySender { frames: sender, abort }, Self { frames, aborted })
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = ready!(self.frames.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(frame)));
        }
        // `abort` leaves its error before it gives up the queue, so that it is here by now.
        Poll::Ready(self.aborted.try_recv().ok().flatten().map(Err))
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

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBody").field("waiting_frames", &self.frames.len()).finish_non_exhaustive()
    }
}

// ===== impl BodySender =====

impl BodySender {
    /// How many frames wait for a slow client before [`send_data`](Self::send_data) does: enough that the writer of
    /// small events seldom has to stop, and few enough that a stalled client holds little.
    pub const BUFFER_FRAMES: usize = 8;

    /// Sends a piece of the body; waits while the client is behind by [`BUFFER_FRAMES`](Self::BUFFER_FRAMES).
    ///
    /// `Ok` means that the piece waits to be written; the client may still go before it is.
    ///
    /// # Errors
    ///
    /// Gives the piece back when the client has gone.
    ///
    /// # Cancel safety
    ///
    /// When dropped while it waits, the piece was not sent.
    pub async fn send_data(&mut self, data: Bytes) -> Result<(), SendError<Bytes>> {
        match self.frames.reserve().await {
            Ok(place) => {
                place.send(Frame::data(data));
                Ok(())
            }
            Err(_) => Err(SendError(data)),
        }
    }

    /// Sends a piece of the body if there is room for it now. Never waits, so that it can be called from any thread.
    ///
    /// # Errors
    ///
    /// Gives the piece back when the buffer is full or the client has gone.
    pub fn try_send_data(&mut self, data: Bytes) -> Result<(), TrySendError<Bytes>> {
        match self.frames.try_reserve() {
            Ok(place) => {
                place.send(Frame::data(data));
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(TrySendError::Full(data)),
            Err(mpsc::error::TrySendError::Closed(())) => Err(TrySendError::Closed(data)),
        }
    }

    /// Ends the body with trailers; waits like [`send_data`](Self::send_data).
    ///
    /// HTTP/1.1 sends them only to a client that asked for them (`te: trailers`, RFC 9110 section 10.1.4), and of them
    /// only those that the response's `trailer` field names.
    ///
    /// # Errors
    ///
    /// Gives the trailers back when the client has gone.
    ///
    /// # Cancel safety
    ///
    /// When dropped while it waits, the body ends without trailers.
    pub async fn send_trailers(self, trailers: HeaderMap) -> Result<(), SendError<HeaderMap>> {
        match self.frames.reserve().await {
            Ok(place) => {
                place.send(Frame::trailers(trailers));
                Ok(())
            }
            Err(_) => Err(SendError(trailers)),
        }
    }

    /// Breaks the body off: the client sees an incomplete response, and the connection ends with `error`.
    ///
    /// The body gives the frames that wait before it gives the error. hyper (1.12) then closes the connection without
    /// writing what is still in its buffer, so that the last of them may not arrive.
    pub fn abort(self, error: impl Into<BoxError>) {
        let Self { frames, abort } = self;
        // It fails when the client has gone, and then there is nobody to see it.
        let _ = abort.send(error.into());
        drop(frames);
    }

    /// Whether the client has gone.
    pub fn is_closed(&self) -> bool {
        self.frames.is_closed()
    }

    /// Resolves when the client has gone, also while nothing is being sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it can be dropped and called again.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }
}

impl fmt::Debug for BodySender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodySender").field("is_closed", &self.is_closed()).finish_non_exhaustive()
    }
}

// ===== impl SendError =====

// What was to be sent may be long and is not the error's to show, in either format.

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was not sent: the client has gone, stop streaming to it")
    }
}

impl<T> std::error::Error for SendError<T> {}

// ===== impl TrySendError =====

impl<T> TrySendError<T> {
    /// What was to be sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(data) | Self::Closed(data) => data,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the body was not sent: the client is behind, wait with `send_data` or leave it out",
            Self::Closed(_) => "the body was not sent: the client has gone, stop streaming to it",
        })
    }
}

impl<T> std::error::Error for TrySendError<T> {}
