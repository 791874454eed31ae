//! The service of one connection, whose requests are counted, and refused when too many wait.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::super::reply::Reply;
use super::super::service::{own, service_unavailable};
use super::super::share::Share;
use crate::deferred::Outcome;
use crate::deferred::outcome::{drop_because, drop_cause};

/// A service that counts what waits.
pub(super) struct Counted<S> {
    pub(super) service: S,
    pub(super) counts: Counts,
}

/// What the requests of a connection share.
#[derive(Clone)]
pub(super) struct Counts {
    pub(super) share: Rc<Share>,
    /// Whether a request of the connection waits.
    pub(super) waiting: Rc<Cell<bool>>,
}

pin_project! {
    /// A future that is counted once it has been pending.
    pub(super) struct Waiting<F> {
        // `None` once it is done, or refused.
        #[pin]
        future: Option<F>,
        counts: Counts,
        waits: bool,
    }

    impl<F> PinnedDrop for Waiting<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if *this.waits {
                this.counts.waiting.set(false);
                if drop_cause() == Outcome::ClientGone {
                    this.counts.share.counters.hung_up.increment();
                }
            }
        }
    }
}

// ===== impl Counted =====

impl<S, B> Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<Incoming>, Response = Response<Reply<B>>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Waiting<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Waiting { future: Some(self.service.call(request)), counts: self.counts.clone(), waits: false }
    }
}

// ===== impl Waiting =====

impl<F, B, E> Future for Waiting<F>
where
    F: Future<Output = Result<Response<Reply<B>>, E>>,
    B: Body,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let counters = &this.counts.share.counters;
        if let Poll::Ready(output) = future.poll(cx) {
            if std::mem::replace(this.waits, false) {
                this.counts.waiting.set(false);
                counters.answered.increment();
            }
            this.future.set(None);
            return Poll::Ready(output);
        }
        if !*this.waits && this.counts.share.is_full() {
            counters.refused.increment();
            drop_because(Outcome::Refused, || this.future.set(None));
            return Poll::Ready(Ok(own(service_unavailable())));
        }
        *this.waits = true;
        this.counts.waiting.set(true);
        Poll::Pending
    }
}
