//! A response body that knows whether it was taken.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Taken;

/// The body of a response that delivers a value, made by [`Taken::into_body`].
///
/// The response needs a status that has a body: that of a `204` or `304` is never taken.
///
/// # What happens on drop
///
/// When the connection has not taken it (the client has gone, the response was replaced by another, or it answers a `HEAD`),
/// the value goes to the next in line.
#[must_use = "a value that is dropped goes to the next in line"]
pub struct TakenBody<T> {
    // `None` once the connection has taken the bytes.
    taken: Option<Taken<T>>,
    bytes: Bytes,
}

impl<T> TakenBody<T> {
    pub(super) fn new(taken: Taken<T>, bytes: Bytes) -> Self {
        Self { taken: Some(taken), bytes }
    }
}

impl<T> Unpin for TakenBody<T> {}

impl<T> Body for TakenBody<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(taken) = self.taken.take() else { return Poll::Ready(None) };
        let bytes = std::mem::take(&mut self.bytes);
        drop(taken.into_inner());
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    // Not even an empty body has ended before it was polled: nothing but the poll tells that it was taken.
    fn is_end_stream(&self) -> bool {
        self.taken.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.bytes.len() {
            // A body that is known to be empty would not be polled.
            0 if self.taken.is_some() => SizeHint::default(),
            length => SizeHint::with_exact(length as u64),
        }
    }
}

impl<T> fmt::Debug for TakenBody<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakenBody").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
