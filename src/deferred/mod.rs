//! A one-shot reply in two halves: a service returns the [`Deferred`], anyone completes the [`Responder`].
//!
//! # Compared with a plain one-shot channel
//!
//! A [`oneshot`] awaited in a service answers a request later too. What it leaves to each application is what this module
//! settles once:
//!
//! - a response that nobody waits for any more comes back to its sender, at every moment of the race;
//! - a [`Responder`] that is dropped becomes `503 Service Unavailable` and a warning, not a broken connection;
//! - a [timeout](Deferred::timeout) and an answer at the same instant have exactly one winner;
//! - [why it ended](Outcome) is told to whoever asks with [`Deferred::on_complete`];
//! - the reply may go on as a [stream](Responder::stream).
//!
//! # What happens on drop
//!
//! | dropped | the other half sees |
//! |---|---|
//! | [`Responder`], without an answer | [`Deferred`] answers `503`, or what [`or_else`](Deferred::or_else) gives |
//! | [`Deferred`], before the answer | [`Responder::closed`] resolves, [`Responder::send`] hands the response back |
//! | [`Deferred`], after the answer was accepted | the response goes to [`on_undelivered`](Deferred::on_undelivered) |

mod future;
pub(crate) mod outcome;
mod responder;
mod stream;

pub use future::Deferred;
pub use outcome::Outcome;
pub use responder::Responder;
pub use stream::{BodySender, SendError, StreamBody, TrySendError};

use futures_channel::oneshot;

/// A one-shot reply: the half that completes it, and the future that waits for it.
///
/// `B` is the response's body. It needs a [`Default`] (an empty body) for the `503` that stands in for a [`Responder`]
/// which was dropped without an answer.
///
/// The response is boxed on its way, so that waiting for it costs no room for it.
pub fn deferred<B>() -> (Responder<B>, Deferred<B>) {
    let (sender, receiver) = oneshot::channel();
    (Responder::new(sender), Deferred::new(receiver))
}
