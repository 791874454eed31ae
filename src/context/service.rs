//! A service wrapper that makes a context for each request and has it in force while the service works.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use http::Request;
use pin_project_lite::pin_project;
use tracing::Span;

use super::future::{InContext, InContextExt as _};
use super::{Context, Saved};
use crate::watchdog::{self, Polled};

/// Has a [`Context`] in force while the service inside is called, and at each poll and the drop of its future.
///
/// It is a hyper service around a hyper service, and a tower service around a tower service. Adds two words to each
/// request's future, and the context itself on the heap.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use hyper::{body::Incoming, service::service_fn};
/// use hyper_deferred::context::{Context, WithContext};
///
/// let service = WithContext::new(service_fn(|_request: Request<Incoming>| async {
///     let context = Context::current().expect("a request is in hand");
///     Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(context.uri().path().to_owned()))))
/// }));
/// # let _ = service;
/// ```
#[derive(Clone, Debug)]
pub struct WithContext<S> {
    service: S,
    settings: ContextLayer,
}

/// [`WithContext`] as a [`tower_layer::Layer`].
#[derive(Clone, Default)]
pub struct ContextLayer {
    peer: Option<SocketAddr>,
    make_span: Option<Arc<MakeSpan>>,
}

type MakeSpan = dyn Fn(&Context) -> Span + Send + Sync;

pin_project! {
    /// The future of [`WithContext`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ContextFuture<F> {
        #[pin]
        future: InContext<F>,
    }
}

// ===== impl WithContext =====

impl<S> WithContext<S> {
    /// Wraps `service`. The span of each request is `request{method path id}` at level info.
    pub fn new(service: S) -> Self {
        Self { service, settings: ContextLayer::new() }
    }

    /// Who is at the other end, where a service is made for each connection. Without it the peer is what
    /// the `Acceptor` says, and unknown under another server.
    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.settings.peer = Some(peer);
        self
    }

    /// Makes the span of each request, in place of the default one.
    pub fn span(mut self, make: impl Fn(&Context) -> Span + Send + Sync + 'static) -> Self {
        self.settings.make_span = Some(Arc::new(make));
        self
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.service
    }

    /// The service inside, without the wrapper.
    pub fn into_inner(self) -> S {
        self.service
    }
}

impl<S, B> hyper::service::Service<Request<B>> for WithContext<S>
where
    S: hyper::service::Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ContextFuture<S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.settings.call(request, |request| self.service.call(request))
    }
}

impl<S, B> tower_service::Service<Request<B>> for WithContext<S>
where
    S: tower_service::Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ContextFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.settings.call(request, |request| self.service.call(request))
    }
}

// ===== impl ContextLayer =====

impl ContextLayer {
    /// A layer with the default span.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the span of each request, in place of the default one. See [`WithContext::span`].
    pub fn span(mut self, make: impl Fn(&Context) -> Span + Send + Sync + 'static) -> Self {
        self.make_span = Some(Arc::new(make));
        self
    }

    fn call<B, F: Future>(&self, request: Request<B>, service: impl FnOnce(Request<B>) -> F) -> ContextFuture<F> {
        let context = self.context(&request);
        let _polled = watchdog::polling(|| Polled::Known(context.clone()));
        let mut saved = Saved::at_arrival(context);
        let future = saved.enter_mut(|| service(request));
        ContextFuture { future: future.in_context(saved) }
    }

    fn context<B>(&self, request: &Request<B>) -> Context {
        let peer = self.peer.or_else(|| acceptors_peer(request));
        let context = Context::with_peer(request.method().clone(), request.uri(), request.version(), peer);
        context.set_span(match &self.make_span {
            Some(make) => make(&context),
            None => tracing::info_span!(
                "request",
                method = %context.method(),
                path = context.uri().path(),
                id = context.id()
            ),
        });
        context
    }
}

impl<S> tower_layer::Layer<S> for ContextLayer {
    type Service = WithContext<S>;

    fn layer(&self, service: S) -> WithContext<S> {
        WithContext { service, settings: self.clone() }
    }
}

impl fmt::Debug for ContextLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextLayer").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(feature = "acceptor")]
fn acceptors_peer<B>(request: &Request<B>) -> Option<SocketAddr> {
    request.extensions().get::<crate::PeerAddr>().map(|peer| peer.0)
}

#[cfg(not(feature = "acceptor"))]
fn acceptors_peer<B>(_request: &Request<B>) -> Option<SocketAddr> {
    None
}

// ===== impl ContextFuture =====

impl<F: Future> Future for ContextFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let future = self.project().future;
        let _polled = future.saved().context().and_then(|context| watchdog::polling(|| Polled::Known(context.clone())));
        future.poll(cx)
    }
}
