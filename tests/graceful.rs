//! Shutting down many connections together, of every type, in tasks that may move between threads and in those that may
//! not.
#![cfg(feature = "http2")]
#![allow(clippy::unwrap_used, reason = "a test fails with its reason")]

use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::sync::mpsc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::server::conn::{auto, http1, http2};
use hyper_deferred::server::graceful::GracefulShutdown;
use hyper_deferred::{Deferred, Responder, deferred};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::{JoinHandle, LocalSet};

type Body = Full<Bytes>;
type Io = TokioIo<DuplexStream>;

/// Parks every request and gives its other half to the test.
#[derive(Clone)]
struct Park(mpsc::Sender<Responder<Body>>);

/// An executor for the streams of HTTP/2 that need not be `Send`.
#[derive(Clone)]
struct LocalExecutor;

/// How a connection may be served.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Http1,
    Http1Upgradeable,
    Http2,
    Auto,
    AutoUpgradeable,
}

const HTTP1_KINDS: [Kind; 4] = [Kind::Http1, Kind::Http1Upgradeable, Kind::Auto, Kind::AutoUpgradeable];
const HTTP2_KINDS: [Kind; 3] = [Kind::Http2, Kind::Auto, Kind::AutoUpgradeable];

impl Service<Request<Incoming>> for Park {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Deferred<Body>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        let (responder, deferred) = deferred();
        self.0.send(responder).unwrap();
        deferred
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async { drop(future.await) });
    }
}

/// Serves a connection in a task of tokio's, which must be `Send`, and watches it.
fn spawn(graceful: &GracefulShutdown, kind: Kind, park: &Park) -> (DuplexStream, JoinHandle<bool>) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (io, park, watcher) = (TokioIo::new(server), park.clone(), graceful.watcher());
    let auto = auto::Builder::new(TokioExecutor::new());
    let served = match kind {
        Kind::Http1 => tokio::spawn(ends_well(watcher.watch(http1::Builder::new().serve_connection(io, park)))),
        Kind::Http1Upgradeable => {
            tokio::spawn(ends_well(watcher.watch(http1::Builder::new().serve_connection(io, park).with_upgrades())))
        }
        Kind::Http2 => {
            let builder = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(ends_well(watcher.watch(builder.serve_connection(io, park))))
        }
        Kind::Auto => tokio::spawn(ends_well(watcher.watch(auto.serve_connection(io, park).into_owned()))),
        Kind::AutoUpgradeable => {
            tokio::spawn(ends_well(watcher.watch(auto.serve_connection_with_upgrades(io, park).into_owned())))
        }
    };
    (client, served)
}

async fn ends_well<E>(connection: impl Future<Output = Result<(), E>>) -> bool {
    connection.await.is_ok()
}

/// Lets all tasks run until they wait.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

async fn parked(receiver: &mpsc::Receiver<Responder<Body>>) -> Responder<Body> {
    settle().await;
    receiver.try_recv().expect("a request is parked")
}

async fn is_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    settle().await;
    tokio::select! {
        biased;
        () = future => false,
        () = std::future::ready(()) => true,
    }
}

#[tokio::test]
async fn a_shutdown_is_done_when_parked_requests_are_answered() {
    for kind in HTTP1_KINDS {
        let (sender, receiver) = mpsc::channel();
        let graceful = GracefulShutdown::new();
        let mut clients = Vec::new();
        for count in 1..=3 {
            let (mut client, served) = spawn(&graceful, kind, &Park(sender.clone()));
            assert_eq!(graceful.count(), count);
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            clients.push((client, served, parked(&receiver).await));
        }
        let mut shutdown = Box::pin(graceful.shutdown());
        for (mut client, served, responder) in clients {
            assert!(is_pending(&mut shutdown).await, "{kind:?}: a request is parked");
            assert!(!served.is_finished());
            responder.send(Response::new("answered".into())).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("connection: close\r\n") && answer.ends_with("answered"), "{kind:?}: {answer}");
            assert!(served.await.unwrap(), "{kind:?}");
        }
        shutdown.await;
    }
}

#[tokio::test]
async fn a_shutdown_is_done_when_parked_streams_are_answered() {
    for kind in HTTP2_KINDS {
        let (sender, receiver) = mpsc::channel();
        let graceful = GracefulShutdown::new();
        let (client, served) = spawn(&graceful, kind, &Park(sender));
        let (mut requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let request = || Request::get("http://a/").body(Body::default()).unwrap();
        let answers = [requests.send_request(request()), requests.send_request(request())].map(tokio::spawn);
        let responders = [parked(&receiver).await, parked(&receiver).await];
        let mut shutdown = Box::pin(graceful.shutdown());
        for (responder, answer) in responders.into_iter().zip(answers) {
            assert!(is_pending(&mut shutdown).await, "{kind:?}: a stream is parked");
            responder.send(Response::new("answered".into())).unwrap();
            let body = answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "answered");
        }
        shutdown.await;
        assert!(served.await.unwrap(), "{kind:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_once() {
    for kind in HTTP1_KINDS {
        let (sender, receiver) = mpsc::channel();
        let graceful = GracefulShutdown::new();
        let (mut client, served) = spawn(&graceful, kind, &Park(sender));
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        parked(&receiver).await.send(Response::new("answered".into())).unwrap();
        settle().await;
        graceful.shutdown().await;
        assert!(served.await.unwrap(), "{kind:?}");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(!answer.contains("connection: close") && answer.ends_with("answered"), "{kind:?}: {answer}");
    }
}

#[tokio::test]
async fn whoever_is_gone_is_no_longer_counted() {
    let (sender, _receiver) = mpsc::channel();
    let graceful = GracefulShutdown::new();
    let (client, served) = spawn(&graceful, Kind::Auto, &Park(sender.clone()));
    let watcher = graceful.watcher();
    assert_eq!(graceful.count(), 2);
    drop(watcher);
    assert_eq!(graceful.count(), 1);
    drop(client);
    assert!(served.await.unwrap());
    assert_eq!(graceful.count(), 0);
    graceful.shutdown().await;
}

#[tokio::test]
async fn connections_finish_by_themselves_when_the_shutdown_is_dropped() {
    for polled in [false, true] {
        for kind in HTTP1_KINDS {
            let (sender, receiver) = mpsc::channel();
            let graceful = GracefulShutdown::new();
            let (mut client, served) = spawn(&graceful, kind, &Park(sender));
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let responder = parked(&receiver).await;
            let mut shutdown = Box::pin(graceful.shutdown());
            if polled {
                assert!(is_pending(&mut shutdown).await);
            }
            drop(shutdown);
            settle().await;
            assert!(!served.is_finished(), "{kind:?}: its request is still parked");
            responder.send(Response::new("answered".into())).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("connection: close\r\n") && answer.ends_with("answered"), "{kind:?}: {answer}");
            assert!(served.await.unwrap(), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_dropped_graceful_shutdown_asks_too() {
    let (sender, _receiver) = mpsc::channel();
    let graceful = GracefulShutdown::new();
    let (_client, served) = spawn(&graceful, Kind::Http1, &Park(sender));
    settle().await;
    drop(graceful);
    assert!(served.await.unwrap());
}

#[tokio::test]
async fn a_connection_watched_after_the_signal_ends_as_well() {
    let (sender, _receiver) = mpsc::channel();
    let graceful = GracefulShutdown::new();
    let watcher = graceful.watcher();
    let shutdown = tokio::spawn(graceful.shutdown());
    settle().await;
    let (_client, server) = tokio::io::duplex(64);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(server), Park(sender));
    watcher.watch(connection).await.unwrap();
    shutdown.await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_not_send_works_in_a_local_set() {
    let local = LocalSet::new();
    local.run_until(serve_local()).await;
}

async fn serve_local() {
    let graceful = GracefulShutdown::new();
    let state = Rc::new("not to be sent");
    let service = || {
        let state = state.clone();
        service_fn(move |_: Request<Incoming>| {
            let state = state.clone();
            async move {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Response::new(Body::from(*state)))
            }
        })
    };
    let auto = auto::Builder::new(LocalExecutor);
    let mut clients = Vec::new();
    for kind in HTTP1_KINDS {
        let (client, server) = tokio::io::duplex(1 << 16);
        let io: Io = TokioIo::new(server);
        let watcher = graceful.watcher();
        let served = match kind {
            Kind::Http1 => tokio::task::spawn_local(ends_well(
                watcher.watch(http1::Builder::new().serve_connection(io, service())),
            )),
            Kind::Http1Upgradeable | Kind::Http2 => {
                let connection = http1::Builder::new().serve_connection(io, service()).with_upgrades();
                tokio::task::spawn_local(ends_well(watcher.watch(connection)))
            }
            Kind::Auto => {
                let connection = auto.serve_connection(io, service()).into_owned();
                tokio::task::spawn_local(ends_well(watcher.watch(connection)))
            }
            Kind::AutoUpgradeable => {
                let connection = auto.serve_connection_with_upgrades(io, service()).into_owned();
                tokio::task::spawn_local(ends_well(watcher.watch(connection)))
            }
        };
        clients.push((client, served));
    }
    for (client, _) in &mut clients {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    }
    settle().await;

    let (client, server) = tokio::io::duplex(1 << 16);
    let connection = http2::Builder::new(LocalExecutor).serve_connection(TokioIo::new(server), service());
    let served = tokio::task::spawn_local(ends_well(graceful.watch(connection)));
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let response = requests.send_request(Request::get("http://a/").body(Body::default()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "not to be sent");

    graceful.shutdown().await;
    // hyper's client leaves as soon as it is told to, and hyper's server, which has more to say, calls that an error.
    let _well_or_not = served.await.unwrap();
    for (mut client, served) in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("not to be sent"), "{answer}");
        assert!(served.await.unwrap());
    }
}
