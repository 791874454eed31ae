//! The service that fills an inbox.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use http::{Request, Response};

use super::Job;
use super::queue::Sender;
use crate::unavailable::unavailable;
use crate::{Deferred, deferred};

/// A hyper service that passes each request on to an [`InboxReceiver`](super::InboxReceiver), and waits for its answer.
///
/// Cheap to clone, and `Send`: each worker thread has one.
///
/// # What happens on drop
///
/// When the last one goes, the receiver becomes readable and is no longer [open](super::InboxReceiver::is_open).
pub struct Inbox<ReqB, B> {
    sender: Sender<ReqB, B>,
    retry_after: Duration,
}

// ===== impl Inbox =====

impl<ReqB, B> Inbox<ReqB, B> {
    /// What the `503` for a full queue says unless told otherwise.
    pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

    pub(super) fn new(sender: Sender<ReqB, B>) -> Self {
        Self { sender, retry_after: Self::RETRY_AFTER_DEFAULT }
    }

    /// What the `503` for a full queue says in `Retry-After`.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }
}

impl<ReqB, B: Default + 'static> hyper::service::Service<Request<ReqB>> for Inbox<ReqB, B> {
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Deferred<B>;

    fn call(&self, request: Request<ReqB>) -> Deferred<B> {
        let (responder, deferred) = deferred();
        let retry_after = self.retry_after;
        // What goes unanswered, because the foreign loop ends or drops it, is nobody's mistake to warn of.
        let deferred = deferred.or_else(move || unavailable(retry_after));
        if self.sender.send(Job { request, responder }).is_err() {
            tracing::warn!("the inbox's receiver has gone, its clients get 503");
        }
        deferred
    }
}

impl<ReqB, B> Clone for Inbox<ReqB, B> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), retry_after: self.retry_after }
    }
}

impl<ReqB, B> fmt::Debug for Inbox<ReqB, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("retry_after", &self.retry_after).finish_non_exhaustive()
    }
}
