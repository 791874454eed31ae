//! What the tests of ZeroMQ workers have in common: bound endpoints, requests, and waiting for what a thread does.
#![allow(dead_code, reason = "each of them needs a part of it")]

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_deferred::zeromq::{ReplyBody, Workers, WorkersBuilder, WorkersFuture, WorkersStats};

/// For tests in which a worker is lost: short, so that it is noticed soon. In all others nobody is missed, however busy
/// the machine is: the workers of these tests do not answer pings.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(50);

/// How long nothing is heard where nothing should be.
pub(crate) const SILENCE: Duration = Duration::from_millis(100);

pub(crate) fn builder() -> WorkersBuilder {
    Workers::builder().heartbeat(Duration::from_secs(3600)).deadline(Duration::from_secs(20))
}

pub(crate) fn with_heartbeats() -> WorkersBuilder {
    builder().heartbeat(HEARTBEAT)
}

pub(crate) fn bind(builder: WorkersBuilder) -> Workers {
    builder.bind("tcp://127.0.0.1:*").unwrap()
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    request("GET", path)
}

pub(crate) fn request(method: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path).body(Full::default()).unwrap()
}

pub(crate) fn with<T: Clone + Send + Sync + 'static>(
    mut request: Request<Full<Bytes>>,
    extension: T,
) -> Request<Full<Bytes>> {
    request.extensions_mut().insert(extension);
    request
}

/// Polls once, so that a body which is there already is collected and the job is on its way.
pub(crate) fn start(mut response: WorkersFuture) -> WorkersFuture {
    assert!(is_pending(&mut response));
    response
}

pub(crate) fn is_pending(response: &mut WorkersFuture) -> bool {
    poll(response).is_pending()
}

pub(crate) fn poll(response: &mut WorkersFuture) -> Poll<Response<ReplyBody>> {
    std::pin::Pin::new(response).poll(&mut Context::from_waker(Waker::noop())).map(Result::unwrap)
}

pub(crate) async fn body(response: Response<ReplyBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

/// Waits until the thread that keeps the workers has got so far.
pub(crate) async fn settled(workers: &Workers, reached: impl Fn(&WorkersStats) -> bool) {
    let wait = async {
        while !reached(&workers.stats()) {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(settled.is_ok(), "{:?}", workers.stats());
}
