//! The service that hyper is given: it calls the user's own, and keeps the future where it outlives hyper.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http::header::TRANSFER_ENCODING;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::{HttpService, Service};
use hyper::upgrade::OnUpgrade;

use super::body::ResBody;
use super::flags::{Flag, Flags};
use super::head::Head;
use super::rehome;
use crate::BoxError;
use crate::deferred::Outcome;
use crate::deferred::outcome::drop_because;

/// Where the response of a request that hyper is given a stand-in for comes from.
pub(crate) enum Reply<F, B> {
    /// There is no such request.
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
    pub(crate) flags: Arc<Flags>,
    // A head's bits. Like the flags it is written by the connection's own task alone.
    head: AtomicU8,
    request: Mutex<InHand<F, B>>,
}

/// The request in hand. Without either of the two its response never comes.
struct InHand<F, B> {
    future: Option<Pin<Box<F>>>,
    output: Option<Result<Response<B>, BoxError>>,
}

/// The service under hyper. Calls the user's own, except for the first call when a request is replayed.
pub(crate) struct Adapter<S: HttpService<Incoming>> {
    // hyper calls it through `&mut`, but a `Service` only has `&self`.
    service: Mutex<S>,
    slot: Arc<Slot<S::Future, S::ResBody>>,
}

/// The future under hyper: looks into the slot.
pub(crate) struct Answer<F, B> {
    slot: Arc<Slot<F, B>>,
    // The service's future until its first poll, so that one which is ready at once never gets into the slot.
    new: Option<Pin<Box<F>>>,
}

// ===== impl Slot =====

impl<F, B> Slot<F, B> {
    pub(crate) fn new(flags: Arc<Flags>, reply: Reply<F, B>, head: Head) -> Self {
        let slot = Self {
            flags,
            head: AtomicU8::new(head.bits()),
            request: Mutex::new(InHand { future: None, output: None }),
        };
        slot.replay(reply);
        slot
    }

    fn request(&self) -> MutexGuard<'_, InHand<F, B>> {
        // A panic in the service leaves a future that is never polled again: nothing is half-done in it.
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of the request in hand.
    pub(crate) fn head(&self) -> Head {
        Head::from_bits(self.head.load(Ordering::Relaxed))
    }

    fn set_head(&self, head: Head) {
        self.head.store(head.bits(), Ordering::Relaxed);
    }

    fn replay(&self, reply: Reply<F, B>) {
        let (future, output) = match reply {
            Reply::None => return,
            Reply::Waiting(future) => (Some(future), None),
            Reply::Ready(output) => (None, Some(output)),
            Reply::Never => (None, None),
        };
        self.flags.set(Flag::Replay);
        *self.request() = InHand { future, output };
    }

    /// Puts a response in the place of the future that is waited for.
    pub(crate) fn answer(&self, response: Response<B>) {
        let future = {
            let mut request = self.request();
            request.output = Some(Ok(response));
            request.future.take()
        };
        self.flags.set(Flag::Answered);
        // Not under the lock: who knows what its drop does.
        drop(future);
    }

    /// Gives an answer to the request that hyper waits for one to, which was another connection's, with an equal head.
    pub(crate) fn answer_with(&self, output: Result<Response<B>, BoxError>) {
        *self.request() = InHand { future: None, output: Some(output) };
        self.flags.set(Flag::Answered);
    }

    /// The answer that somebody else has given, an empty one if hyper is released, or none for ever.
    fn poll_answer(&self, mut request: MutexGuard<'_, InHand<F, B>>) -> Poll<Result<Response<ResBody<B>>, BoxError>> {
        let Some(output) = request.output.take() else {
            let is_released = self.flags.has(Flag::Released);
            return if is_released { Poll::Ready(Ok(nothing(&self.flags))) } else { Poll::Pending };
        };
        drop(request);
        self.flags.answered();
        Poll::Ready(output.map(|response| respond(response, &self.flags)))
    }

    /// A future has to wait here.
    fn put(&self, future: Pin<Box<F>>) {
        *self.request() = InHand { future: Some(future), output: None };
    }

    /// Makes room for the next request, or for the answer to one that is replayed. The last one has left nothing.
    pub(crate) fn renew(&self, reply: Reply<F, B>, head: Head) {
        self.set_head(head);
        self.replay(reply);
    }

    /// Takes the future, if it has ever been polled or hyper has been taken apart; hyper's own then waits for ever, or
    /// for [an answer](Self::answer).
    pub(crate) fn take(&self) -> Option<Pin<Box<F>>> {
        self.request().future.take()
    }
}

// ===== impl Adapter =====

impl<S: HttpService<Incoming>> Adapter<S> {
    pub(crate) fn new(service: S, slot: Arc<Slot<S::Future, S::ResBody>>) -> Self {
        Self { service: Mutex::new(service), slot }
    }

    pub(crate) fn into_service(self) -> S {
        self.service.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what has to be known of a request that is not a replayed one, and has it leave hyper's buffer if it has to.
    #[inline]
    fn take_in(&self, request: &mut Request<Incoming>) {
        let flags = &self.slot.flags;
        // hyper takes an HTTP/1.0 `CONNECT` with an `upgrade` for no upgrade, and yet answers it as one.
        let upgrade = request.extensions().get::<OnUpgrade>().is_some() || request.method() == Method::CONNECT;
        let body = !request.body().is_end_stream();
        // Whatever has a `transfer-encoding` has a body, perhaps an empty one of which the end has not come.
        let ambiguous = body && !flags.has(Flag::PlainFraming) && request.headers().contains_key(TRANSFER_ENCODING);
        flags.call(upgrade, body, ambiguous);
        flags.set(Flag::New);
        self.slot.set_head(Head::of(request));
        if flags.rehomes(body) {
            rehome(request);
        }
    }
}

impl<S: HttpService<Incoming>> Service<Request<Incoming>> for Adapter<S> {
    type Response = Response<ResBody<S::ResBody>>;
    type Error = BoxError;
    type Future = Answer<S::Future, S::ResBody>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let slot = self.slot.clone();
        if slot.flags.has(Flag::Replay) {
            // hyper parsed a stand-in; the service has seen the real one.
            slot.flags.call(false, false, false);
            return Answer { slot, new: None };
        }
        self.take_in(&mut request);
        let new = self.service.lock().unwrap_or_else(PoisonError::into_inner).call(request);
        Answer { slot, new: Some(Box::pin(new)) }
    }
}

// The service is never pinned: it is called, and moved out in the end.
impl<S: HttpService<Incoming>> Unpin for Adapter<S> {}

impl<S: HttpService<Incoming>> fmt::Debug for Adapter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter").field("flags", &self.slot.flags).finish_non_exhaustive()
    }
}

// ===== impl Answer =====

impl<F, B, E> Future for Answer<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResBody<B>>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { slot, new } = &mut *self;
        let flags = &slot.flags;
        flags.set(Flag::ServicePolled);
        let output = if let Some(mut future) = new.take() {
            if flags.has(Flag::Answered) {
                // Only a shutdown answers in the service's stead.
                drop_because(Outcome::ShutDown, || drop(future));
                return slot.poll_answer(slot.request());
            }
            let Poll::Ready(output) = flags.task_context(cx, |cx| future.as_mut().poll(cx)) else {
                slot.put(future);
                if !flags.releases() || !slot.head().leaves_no_trace() {
                    return Poll::Pending;
                }
                flags.set(Flag::Released);
                return Poll::Ready(Ok(nothing(flags)));
            };
            output
        } else {
            let mut request = slot.request();
            let Some(future) = &mut request.future else { return slot.poll_answer(request) };
            let output = ready!(flags.task_context(cx, |cx| future.as_mut().poll(cx)));
            let done = request.future.take();
            drop(request);
            // The future is done with; what it holds is dropped before its response is written, as hyper does it.
            drop(done);
            output
        };
        flags.answered();
        Poll::Ready(match output {
            Ok(response) => Ok(respond(response, flags)),
            Err(error) => Err(error.into()),
        })
    }
}

impl<F, B> Drop for Answer<F, B> {
    fn drop(&mut self) {
        if let Some(future) = self.new.take() {
            self.slot.put(future);
        }
    }
}

/// An answer that nobody reads, as little work for hyper as can be.
fn nothing<B>(flags: &Arc<Flags>) -> Response<ResBody<B>> {
    let mut response = Response::new(ResBody::empty(flags.clone()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn respond<B>(response: Response<B>, flags: &Arc<Flags>) -> Response<ResBody<B>> {
    response.map(|body| ResBody::new(body, flags.clone()))
}
