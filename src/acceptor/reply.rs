//! The body of a response: the service's own, or the one that answers for it at shutdown.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use crate::BoxError;

pin_project! {
    /// One of two bodies. `http_body_util::Either` wants both to have the same data; a service's may be any.
    #[project = ReplyProjection]
    pub(super) enum Reply<B> {
        Service { #[pin] body: B },
        Shutdown { #[pin] body: Full<Bytes> },
    }
}

/// A piece of a [`Reply`].
pub(super) enum ReplyData<D> {
    Service(D),
    Shutdown(Bytes),
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
            ReplyProjection::Service { body } => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map(|f| f.map_data(ReplyData::Service)).map_err(Into::into))),
            ReplyProjection::Shutdown { body } => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map(|f| f.map_data(ReplyData::Shutdown)).map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Service { body } => body.is_end_stream(),
            Self::Shutdown { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Service { body } => body.size_hint(),
            Self::Shutdown { body } => body.size_hint(),
        }
    }
}

// ===== impl ReplyData =====

impl<D: Buf> Buf for ReplyData<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::Service(data) => data.remaining(),
            Self::Shutdown(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Service(data) => data.chunk(),
            Self::Shutdown(data) => data.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        match self {
            Self::Service(data) => data.chunks_vectored(slices),
            Self::Shutdown(data) => data.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Service(data) => data.advance(count),
            Self::Shutdown(data) => data.advance(count),
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        match self {
            Self::Service(data) => data.copy_to_bytes(count),
            Self::Shutdown(data) => data.copy_to_bytes(count),
        }
    }
}
