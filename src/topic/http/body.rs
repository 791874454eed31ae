//! What a topic's service answers with.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::sse;
#[cfg(feature = "json")]
use super::sse_several;

/// The body of a [`TopicService`](super::TopicService)'s response: a piece of bytes, or events without an end.
///
/// # What happens on drop
///
/// The client has gone: a stream of events leaves the topic at once.
pub struct TopicBody<T>(Kind<T>);

enum Kind<T> {
    Full(Bytes),
    // Boxed: a stream is large, and most bodies are none.
    Events(Box<Stream<T>>),
}

enum Stream<T> {
    One(sse::Events<T>),
    #[cfg(feature = "json")]
    Several(sse_several::Events<T>),
}

impl<T> TopicBody<T> {
    pub(super) fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(bytes))
    }

    pub(super) fn events(events: sse::Events<T>) -> Self {
        Self(Kind::Events(Box::new(Stream::One(events))))
    }

    #[cfg(feature = "json")]
    pub(super) fn several(events: sse_several::Events<T>) -> Self {
        Self(Kind::Events(Box::new(Stream::Several(events))))
    }

    /// The bytes that are all there is of it, unless it is a stream.
    fn bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Kind::Full(bytes) => Some(bytes),
            Kind::Events(_) => None,
        }
    }
}

impl<T: 'static> Body for TopicBody<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Kind::Events(stream) => match &mut **stream {
                Stream::One(events) => events.poll_next(cx),
                #[cfg(feature = "json")]
                Stream::Several(events) => events.poll_next(cx),
            },
        };
        polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes().is_some_and(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes().map_or_else(SizeHint::default, |bytes| SizeHint::with_exact(bytes.len() as u64))
    }
}

/// A body of these bytes, for what else the service of an application answers.
impl<T> From<Bytes> for TopicBody<T> {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

/// Empty.
impl<T> Default for TopicBody<T> {
    fn default() -> Self {
        Self::full(Bytes::new())
    }
}

impl<T> fmt::Debug for TopicBody<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => f.debug_tuple("TopicBody").field(bytes).finish(),
            None => f.debug_tuple("TopicBody").field(&"events").finish(),
        }
    }
}
