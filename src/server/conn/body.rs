//! The response body that hyper is given: the user's own, and a report of its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::flags::{Flag, Flags};

pin_project! {
    /// A response body on its way. hyper drops it when the response is over, whether it came to its end or not.
    pub(crate) struct ResBody<B> {
        // `None` is empty.
        #[pin]
        inner: Option<B>,
        flags: Arc<Flags>,
    }

    impl<B> PinnedDrop for ResBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.flags.clear(Flag::Responding);
            // The head, or the end of a chunked body, is buffered with its drop.
            this.flags.clear(Flag::Flushed);
        }
    }
}

impl<B> ResBody<B> {
    pub(crate) fn new(inner: B, flags: Arc<Flags>) -> Self {
        flags.set(Flag::Responding);
        Self { inner: Some(inner), flags }
    }

    /// The body of a response that has none.
    pub(crate) fn empty(flags: Arc<Flags>) -> Self {
        Self { inner: None, flags }
    }
}

impl<B: Body> Body for ResBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => this.flags.task_context(cx, |cx| inner.poll_frame(cx)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
