//! One request: the service's future, raced against the shutdown.
//!
//! The race needs no waker of its own: whoever polls this future is the connection's task, and the same task learns of
//! the shutdown, sets the [flag](Progress::stop) and polls the connection once more.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::progress::Progress;
use super::reply::Reply;
use super::{PeerAddr, ShutdownResponse};
use crate::deferred::Outcome;
use crate::deferred::outcome::drop_because;

/// The user's service as one connection sees it.
pub(super) struct ParkService<S> {
    pub(super) service: Rc<S>,
    pub(super) peer: PeerAddr,
    pub(super) progress: Arc<Progress>,
    pub(super) shutdown_response: ShutdownResponse,
}

pin_project! {
    /// The user's future. It is parked while it is pending.
    pub(super) struct Park<F> {
        // `None` once it is done, so that it is dropped before its response is written, as hyper does.
        #[pin]
        future: Option<F>,
        progress: Arc<Progress>,
        shutdown_response: ShutdownResponse,
    }
}

// ===== impl ParkService =====

impl<S, B> Service<Request<Incoming>> for ParkService<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<Reply<B>>;
    type Error = S::Error;
    type Future = Park<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        Park {
            future: Some(self.service.call(request)),
            progress: self.progress.clone(),
            shutdown_response: self.shutdown_response.clone(),
        }
    }
}

// ===== impl Park =====

impl<F, B, E> Future for Park<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Reply<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let future = this.future.as_mut().as_pin_mut().expect("hyper polls a future no further than its end");
        // The service goes first, so that an answer which is there at the shutdown is not thrown away.
        let answered = future.poll(cx);
        let stopping = this.progress.is_stopping();
        let mut reply = match answered {
            Poll::Pending if stopping => {
                drop_because(Outcome::ShutDown, || this.future.set(None));
                Ok((this.shutdown_response)().map(|bytes| Reply::Shutdown { body: Full::new(bytes) }))
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => {
                this.future.set(None);
                result.map(|response| response.map(|body| Reply::Service { body }))
            }
        };
        if let (true, Ok(response)) = (stopping, &mut reply) {
            announce_close(response);
        }
        Poll::Ready(reply)
    }
}

// ===== helpers =====

/// `503 Service Unavailable` that asks the client to come back in a second, when a restarted server may be there
/// (RFC 9110 sections 15.6.4 and 10.2.3).
pub(super) fn service_unavailable() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Says that no other request will be read (RFC 9112 section 9.6). An upgrade has no later requests, and its header
/// means something else.
fn announce_close<B>(response: &mut Response<B>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}
