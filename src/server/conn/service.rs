//! The service that hyper is given: it calls the user's own, and keeps the future where it outlives hyper.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http::header::TRANSFER_ENCODING;
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::{HttpService, Service};
use hyper::upgrade::OnUpgrade;

use super::body::ResBody;
use super::flags::{Flag, Flags};
use super::head::Head;
use super::rehome::rehome;
use crate::BoxError;

/// Where the response of the request in hand comes from.
pub(crate) enum Reply<F, B> {
    /// No request is in hand.
    None,
    /// The service's future.
    Waiting(Pin<Box<F>>),
    /// What that future gave while there was no hyper to take it.
    Ready(Result<Response<B>, BoxError>),
    /// Nobody waits for it any more.
    Never,
}

/// The place that is shared by hyper's future and the connection.
pub(crate) struct Slot<F, B> {
    reply: Mutex<Reply<F, B>>,
    head: Mutex<Head>,
}

/// The service under hyper. Calls the user's own, except for the first call when a request is replayed.
pub(crate) struct Adapter<S: HttpService<Incoming>> {
    // hyper calls it through `&mut`, but a `Service` only has `&self`.
    service: Mutex<S>,
    slot: Arc<Slot<S::Future, S::ResBody>>,
    flags: Arc<Flags>,
}

/// The future under hyper: looks into the slot.
pub(crate) struct Answer<F, B> {
    slot: Arc<Slot<F, B>>,
    flags: Arc<Flags>,
}

// ===== impl Slot =====

impl<F, B> Slot<F, B> {
    pub(crate) fn new(reply: Reply<F, B>, head: Head) -> Self {
        Self { reply: Mutex::new(reply), head: Mutex::new(head) }
    }

    fn reply(&self) -> MutexGuard<'_, Reply<F, B>> {
        // A panic in the service leaves a reply that is never polled again: nothing is half-done in it.
        self.reply.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request in hand.
    pub(crate) fn head(&self) -> Head {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a response in the place of the future that is waited for.
    pub(crate) fn answer(&self, response: Response<B>) {
        let future = std::mem::replace(&mut *self.reply(), Reply::Ready(Ok(response)));
        // Not under the lock: who knows what its drop does.
        drop(future);
    }

    /// Makes room for the next request, or for the answer to one that is replayed.
    pub(crate) fn renew(&self, reply: Reply<F, B>, head: Head) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
        let last = std::mem::replace(&mut *self.reply(), reply);
        drop(last);
    }

    /// Takes the reply; hyper's future then waits for ever.
    pub(crate) fn take(&self) -> Reply<F, B> {
        std::mem::replace(&mut *self.reply(), Reply::Never)
    }
}

// ===== impl Adapter =====

impl<S: HttpService<Incoming>> Adapter<S> {
    pub(crate) fn new(service: S, slot: Arc<Slot<S::Future, S::ResBody>>, flags: Arc<Flags>) -> Self {
        Self { service: Mutex::new(service), slot, flags }
    }

    pub(crate) fn into_service(self) -> S {
        self.service.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, mut request: Request<Incoming>) {
        // hyper takes an HTTP/1.0 `CONNECT` with an `upgrade` for no upgrade, and yet answers it as one.
        let upgrade = request.extensions().get::<OnUpgrade>().is_some() || request.method() == Method::CONNECT;
        let ambiguous = !self.flags.has(Flag::PlainFraming) && request.headers().contains_key(TRANSFER_ENCODING);
        self.flags.call(upgrade, !request.body().is_end_stream(), ambiguous);
        *self.slot.head.lock().unwrap_or_else(PoisonError::into_inner) = Head::of(&request);
        rehome(&mut request);
        let future = self.service.lock().unwrap_or_else(PoisonError::into_inner).call(request);
        *self.slot.reply() = Reply::Waiting(Box::pin(future));
    }
}

impl<S: HttpService<Incoming>> Service<Request<Incoming>> for Adapter<S> {
    type Response = Response<ResBody<S::ResBody>>;
    type Error = BoxError;
    type Future = Answer<S::Future, S::ResBody>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let replayed = !matches!(*self.slot.reply(), Reply::None);
        if replayed {
            // hyper parsed a stand-in; the service has seen the real one.
            self.flags.call(false, false, false);
        } else {
            self.start(request);
        }
        Answer { slot: self.slot.clone(), flags: self.flags.clone() }
    }
}

// The service is never pinned: it is called, and moved out in the end.
impl<S: HttpService<Incoming>> Unpin for Adapter<S> {}

impl<S: HttpService<Incoming>> fmt::Debug for Adapter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter").field("flags", &self.flags).finish_non_exhaustive()
    }
}

// ===== impl Answer =====

impl<F, B, E> Future for Answer<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.flags.set(Flag::ServicePolled);
        let mut reply = self.slot.reply();
        let output = match &mut *reply {
            Reply::Waiting(future) => {
                ready!(self.flags.task_context(cx, |cx| future.as_mut().poll(cx))).map_err(Into::into)
            }
            Reply::Ready(_) => match std::mem::replace(&mut *reply, Reply::None) {
                Reply::Ready(output) => output,
                _ => unreachable!("matched just above"),
            },
            Reply::None | Reply::Never => return Poll::Pending,
        };
        // The future is done with; what it holds is dropped before its response is written, as hyper does it.
        let done = std::mem::replace(&mut *reply, Reply::None);
        drop(reply);
        drop(done);
        self.flags.answered();
        Poll::Ready(output.map(|response| response.map(|body| ResBody::new(body, self.flags.clone()))))
    }
}
