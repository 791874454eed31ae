//! The user's service as one connection sees it: it knows the client, survives a panic, and its responses may be the
//! acceptor's own.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::panics::log_panic;
use super::peer::PeerAddr;
use super::reply::Reply;
use super::watched;

/// The user's service, for one client.
pub(super) struct Served<S, P> {
    pub(super) service: Rc<S>,
    pub(super) peer: P,
}

/// How a client is known.
pub(super) trait Client {
    fn addr(&self) -> Option<std::net::SocketAddr>;
}

pin_project! {
    /// The user's future. A panic in it, or in the call that made it, becomes `500 Internal Server Error`.
    pub(super) struct Guarded<F> {
        // `None` after a panic, and once it is done: it is dropped before its response is written, as hyper does.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Guarded<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut future = this.project().future;
            // Whoever drops it has a response to write, or others to look after.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| future.set(None))) {
                log_panic(&*panic, "a service's future panicked when it was dropped");
            }
        }
    }
}

// ===== impl Served =====

impl<S, P, B> Service<Request<Incoming>> for Served<S, P>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    P: Client,
{
    type Response = Response<Reply<B>>;
    type Error = S::Error;
    type Future = Guarded<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(addr) = self.peer.addr() {
            request.extensions_mut().insert(PeerAddr(addr));
        }
        // A service that has panicked may be in disorder, but it is shared by all connections: to stop calling it would
        // be worse than a wrong answer, and a lock that it held says so by its poison.
        let _watched = watched::calling(&request);
        match catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
            Ok(future) => Guarded { future: Some(future) },
            Err(panic) => {
                log_panic(&*panic, "a service panicked, its client gets 500");
                Guarded { future: None }
            }
        }
    }
}

// ===== impl Guarded =====

impl<F, B, E> Future for Guarded<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Reply<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _watched = watched::polling();
        let mut this = self.project();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = this.future.as_mut().as_pin_mut().map(|future| future.poll(cx));
            if polled.as_ref().is_some_and(Poll::is_ready) {
                this.future.set(None);
            }
            polled
        }));
        match polled {
            Ok(Some(polled)) => {
                polled.map(|result| result.map(|response| response.map(|body| Reply::Service { body })))
            }
            Ok(None) => Poll::Ready(Ok(own(internal_server_error()))),
            Err(panic) => {
                log_panic(&*panic, "a service panicked, its client gets 500");
                // Its drop may panic too, of which nothing is left to tell the client.
                let _ = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
                Poll::Ready(Ok(own(internal_server_error())))
            }
        }
    }
}

// ===== helpers =====

/// A response of the acceptor's own.
pub(super) fn own<B>(response: Response<Bytes>) -> Response<Reply<B>> {
    response.map(|bytes| Reply::Own { body: Full::new(bytes) })
}

/// `503 Service Unavailable` that asks the client to come back in a second, when a restarted server may be there
/// (RFC 9110 sections 15.6.4 and 10.2.3).
pub(super) fn service_unavailable() -> Response<Bytes> {
    let mut response = status(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn internal_server_error() -> Response<Bytes> {
    status(StatusCode::INTERNAL_SERVER_ERROR)
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}
