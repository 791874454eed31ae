//! The half that completes.

use std::fmt;
use std::future::Future;

use futures_channel::oneshot;
use http::Response;
use http::response::Parts;

use super::stream::{BodySender, StreamBody};

/// Completes a [`Deferred`](super::Deferred), once, from any task or thread.
///
/// It is `Send` when the body `B` is.
///
/// # What happens on drop
///
/// Without an answer, the client gets `503 Service Unavailable` and a warning is logged, unless the other half was
/// told [what to do instead](super::Deferred::or_else).
#[must_use = "a responder dropped without an answer becomes a 503"]
pub struct Responder<B> {
    sender: oneshot::Sender<Box<Response<B>>>,
}

impl<B> Responder<B> {
    pub(super) fn new(sender: oneshot::Sender<Box<Response<B>>>) -> Self {
        Self { sender }
    }

    /// Answers the request. Never waits.
    ///
    /// # Errors
    ///
    /// Gives the response back when nobody waits for it any more (the client has gone, the time was up, the server is
    /// shutting down), so that what it carries can go to someone else. `Ok` means that the response was accepted; if
    /// the client leaves before it is taken, it goes to [`on_undelivered`](super::Deferred::on_undelivered).
    #[allow(clippy::result_large_err, reason = "handing the response back by value is the purpose")]
    pub fn send(self, response: Response<B>) -> Result<(), Response<B>> {
        self.sender.send(Box::new(response)).map_err(|response| *response)
    }

    /// Whether nobody waits any more. A `false` may be outdated when it returns; [`send`](Self::send) decides.
    pub fn is_closed(&self) -> bool {
        self.sender.is_canceled()
    }

    /// Resolves when nobody waits any more: the client has gone, the time was up, or the server answered in the
    /// service's stead.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when this future is dropped, and it can be called again.
    pub fn closed(&mut self) -> impl Future<Output = ()> + '_ {
        self.sender.cancellation()
    }

    /// Sends the head now and gives a sender for the body, which then goes out as it comes.
    ///
    /// Frames wait in a buffer of [`BodySender::BUFFER_FRAMES`] until the client takes them. For a body type that
    /// has no [`From<StreamBody>`], see [`stream_with`](Self::stream_with).
    ///
    /// # Errors
    ///
    /// Gives the parts back when nobody waits for them any more, as [`send`](Self::send) does.
    #[allow(clippy::result_large_err, reason = "handing the head back by value is the purpose")]
    pub fn stream(self, parts: Parts) -> Result<BodySender, Parts>
    where
        B: From<StreamBody>,
    {
        self.stream_with(parts, B::from)
    }

    /// [`stream`](Self::stream) for any body type: `into_body` makes it from the [`StreamBody`].
    ///
    /// # Errors
    ///
    /// Gives the parts back when nobody waits for them any more, as [`send`](Self::send) does.
    #[allow(clippy::result_large_err, reason = "handing the head back by value is the purpose")]
    pub fn stream_with(self, parts: Parts, into_body: impl FnOnce(StreamBody) -> B) -> Result<BodySender, Parts> {
        let (sender, body) = StreamBody::channel();
        match self.send(Response::from_parts(parts, into_body(body))) {
            Ok(()) => Ok(sender),
            Err(response) => Err(response.into_parts().0),
        }
    }
}

impl<B> fmt::Debug for Responder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("is_closed", &self.is_closed()).finish()
    }
}
