//! The body of a response: the service's own, or the one that answers for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::panics::log_panic;
use crate::BoxError;

pin_project! {
    /// One of two bodies. `http_body_util::Either` wants both to have the same data; a service's may be any.
    #[project = ReplyProjection]
    pub(super) enum Reply<B> {
        Service { #[pin] body: B },
        Own { #[pin] body: Full<Bytes> },
    }
}

/// A piece of a [`Reply`].
pub(super) enum ReplyData<D> {
    Service(D),
    Own(Bytes),
}

// ===== impl Reply =====

impl<B> Body for Reply<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = ReplyData<B::Data>;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project() {
            // A panic breaks this response off and nothing else.
            ReplyProjection::Service { body } => match catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx))) {
                Ok(polled) => polled
                    .map(|frame| frame.map(|frame| frame.map(|f| f.map_data(ReplyData::Service)).map_err(Into::into))),
                Err(panic) => {
                    log_panic(&*panic, "a response's body panicked, its connection is closed");
                    Poll::Ready(Some(Err("the response's body panicked".into())))
                }
            },
            ReplyProjection::Own { body } => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map(|f| f.map_data(ReplyData::Own)).map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Service { body } => body.is_end_stream(),
            Self::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Service { body } => body.size_hint(),
            Self::Own { body } => body.size_hint(),
        }
    }
}

// ===== impl ReplyData =====

impl<D: Buf> Buf for ReplyData<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::Service(data) => data.remaining(),
            Self::Own(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Service(data) => data.chunk(),
            Self::Own(data) => data.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        match self {
            Self::Service(data) => data.chunks_vectored(slices),
            Self::Own(data) => data.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Service(data) => data.advance(count),
            Self::Own(data) => data.advance(count),
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        match self {
            Self::Service(data) => data.copy_to_bytes(count),
            Self::Own(data) => data.copy_to_bytes(count),
        }
    }
}
