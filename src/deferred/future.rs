//! The half that waits.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;
use http::{Response, StatusCode};

use super::Outcome;
use super::outcome::drop_cause;
use crate::timer::{Alarm, AlarmSleep, Packed};

type Reply<B> = Box<dyn FnOnce() -> Response<B> + Send>;
type CompletionHook = Box<dyn FnOnce(Outcome) + Send>;

/// A response that comes later: what a service returns for a request that it parks.
///
/// A hyper service can name it as its `Future`, an `async fn` or an axum handler can await it. Its output is never an
/// error: whatever becomes of the [`Responder`](super::Responder), there is a response.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Full;
/// use hyper::{body::Incoming, service::Service};
/// use hyper_deferred::{Deferred, Responder, deferred};
///
/// struct Park(std::sync::mpsc::Sender<Responder<Full<Bytes>>>);
///
/// impl Service<Request<Incoming>> for Park {
///     type Response = Response<Full<Bytes>>;
///     type Error = Infallible;
///     type Future = Deferred<Full<Bytes>>;
///
///     fn call(&self, _request: Request<Incoming>) -> Self::Future {
///         let (responder, deferred) = deferred();
///         let _ = self.0.send(responder); // dropped if nobody listens: the client gets a 503
///         deferred.timeout(Duration::from_secs(25), || {
///             let mut response = Response::default();
///             *response.status_mut() = StatusCode::NO_CONTENT;
///             response
///         })
///     }
/// }
/// ```
///
/// # What happens on drop
///
/// The request has ended without an answer: [`Responder::closed`](super::Responder::closed) resolves, and an
/// [`on_complete`](Self::on_complete) hook is told [`Outcome::ClientGone`] (or [`Outcome::ShutDown`]). A response that
/// was accepted and not yet taken goes to [`on_undelivered`](Self::on_undelivered).
///
/// # Panics
///
/// When polled after it was ready. Polling one that has a [timeout](Self::timeout) needs a tokio runtime with its timer
/// enabled.
#[must_use = "futures do nothing unless polled"]
pub struct Deferred<B> {
    // `None` once the request has ended.
    reply: Option<oneshot::Receiver<Box<Response<B>>>>,
    timeout: Option<Reply<B>>,
    alarm: Packed,
    extra: Option<Box<Extra<B>>>,
}

/// What most requests do not have, boxed in one piece: what an application asked to be told or to decide, and a timer
/// of its own where no acceptor has one for it.
struct Extra<B> {
    sleep: AlarmSleep,
    or_else: Option<Reply<B>>,
    on_undelivered: Option<Box<dyn FnOnce(Response<B>) + Send>>,
    on_complete: Vec<CompletionHook>,
}

/// Runs the hooks of a request that has ended when it is dropped: after a reply has been made or a response handed
/// over, also when that panics.
struct Completion {
    outcome: Outcome,
    hooks: std::vec::IntoIter<CompletionHook>,
}

// ===== impl Deferred =====

impl<B> Deferred<B> {
    pub(super) fn new(reply: oneshot::Receiver<Box<Response<B>>>) -> Self {
        Self { reply: Some(reply), timeout: None, alarm: Alarm::NEVER.into(), extra: None }
    }

    /// Answers with `reply` when `after` has passed, counted from this call, and nobody else has answered.
    ///
    /// A [`send`](super::Responder::send) at the same instant either wins or gets its response back; never both,
    /// never neither. A second call replaces the first.
    ///
    /// It is never early. In an `Acceptor` on Unix it may be late by a sixty-fourth of `after` and two milliseconds
    /// beside that: one coarse timer serves all requests there.
    pub fn timeout(mut self, after: Duration, reply: impl FnOnce() -> Response<B> + Send + 'static) -> Self {
        self.timeout = Some(Box::new(reply));
        self.alarm = Alarm::after(after).into();
        if let Some(extra) = &mut self.extra {
            extra.sleep = None;
        }
        self
    }

    /// Answers with `reply`, and logs nothing, when the [`Responder`](super::Responder) is dropped without an answer.
    ///
    /// Without this the answer is `503 Service Unavailable` with an empty body. A second call replaces the first.
    pub fn or_else(mut self, reply: impl FnOnce() -> Response<B> + Send + 'static) -> Self {
        self.extra().or_else = Some(Box::new(reply));
        self
    }

    /// Calls `hook` once, with the reason, when this request has ended. Several hooks run in the order they were added.
    ///
    /// It runs inside the future's last poll or its drop, on the thread that does that, after the reply of
    /// [`timeout`](Self::timeout) or [`or_else`](Self::or_else) has been made: it must be quick. It should not panic:
    /// that goes on to whoever polls or drops the future, after the other hooks have run.
    pub fn on_complete(mut self, hook: impl FnOnce(Outcome) + Send + 'static) -> Self {
        self.extra().on_complete.push(Box::new(hook));
        self
    }

    /// Calls `hook` with a response that [`send`](super::Responder::send) had accepted and that was never taken,
    /// because the client left at that very moment. Without it such a response is dropped.
    ///
    /// It runs inside the future's drop, before the hooks of [`on_complete`](Self::on_complete), which are told why: it
    /// must be quick and should not panic. A second call replaces the first.
    pub fn on_undelivered(mut self, hook: impl FnOnce(Response<B>) + Send + 'static) -> Self {
        self.extra().on_undelivered = Some(Box::new(hook));
        self
    }

    fn extra(&mut self) -> &mut Extra<B> {
        self.extra.get_or_insert_with(|| {
            Box::new(Extra { sleep: None, or_else: None, on_undelivered: None, on_complete: Vec::new() })
        })
    }

    /// The one place where a request ends. The hooks run when what it returns is dropped.
    fn end(&mut self, outcome: Outcome) -> Completion {
        self.reply = None;
        self.timeout = None;
        let hooks = self.extra.take().map(|extra| extra.on_complete).unwrap_or_default();
        Completion { outcome, hooks: hooks.into_iter() }
    }

    /// Settles the race with the sender: a later `send` fails, and an earlier one has left its response here.
    fn close(&mut self) -> Option<Response<B>> {
        let reply = self.reply.as_mut()?;
        reply.close();
        reply.try_recv().ok().flatten().map(|response| *response)
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timeout.is_none() {
            return Poll::Pending;
        }
        let alarm = Alarm::from(self.alarm);
        match alarm.poll_hosted(cx) {
            Some(polled) => {
                if let Some(extra) = &mut self.extra {
                    extra.sleep = None;
                }
                polled
            }
            None => alarm.poll_sleep(&mut self.extra().sleep, cx),
        }
    }

    /// Answers with the timeout's reply, unless an answer came first.
    fn expire(&mut self, timeout: Reply<B>) -> Response<B> {
        if let Some(response) = self.close() {
            self.end(Outcome::Answered);
            return response;
        }
        let _completion = self.end(Outcome::TimedOut);
        timeout()
    }

    fn abandoned(&mut self) -> Response<B>
    where
        B: Default,
    {
        let or_else = self.extra.as_mut().and_then(|extra| extra.or_else.take());
        let _completion = self.end(Outcome::Abandoned);
        if let Some(reply) = or_else {
            return reply();
        }
        tracing::warn!("a responder was dropped without an answer, its client gets 503");
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    }
}

impl<B: Default> Future for Deferred<B> {
    type Output = Result<Response<B>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let reply = this.reply.as_mut().expect("a `Deferred` must not be polled after it was ready");
        match Pin::new(reply).poll(cx) {
            Poll::Ready(Ok(response)) => {
                this.end(Outcome::Answered);
                return Poll::Ready(Ok(*response));
            }
            Poll::Ready(Err(oneshot::Canceled)) => return Poll::Ready(Ok(this.abandoned())),
            Poll::Pending => {}
        }
        std::task::ready!(this.poll_alarm(cx));
        let timeout = this.timeout.take().expect("only a request with a timeout has an alarm that rings");
        Poll::Ready(Ok(this.expire(timeout)))
    }
}

// Nothing in it is ever pinned: the response moves through it by value.
impl<B> Unpin for Deferred<B> {}

impl<B> Drop for Deferred<B> {
    fn drop(&mut self) {
        if self.reply.is_none() {
            return;
        }
        let response = self.close();
        let on_undelivered = self.extra.as_mut().and_then(|extra| extra.on_undelivered.take());
        let _completion = self.end(drop_cause());
        if let (Some(response), Some(hook)) = (response, on_undelivered) {
            hook(response);
        }
    }
}

impl<B> fmt::Debug for Deferred<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("ended", &self.reply.is_none()).finish_non_exhaustive()
    }
}

// ===== impl Completion =====

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(hook) = self.hooks.next() {
            // The rest runs after this one, even if it panics: another hook may be what takes a waiter off a list.
            let _rest = Self { outcome: self.outcome, hooks: std::mem::take(&mut self.hooks) };
            hook(self.outcome);
        }
    }
}
