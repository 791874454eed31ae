//! Connections that become something else.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_deferred::server::conn::auto::upgrade::downcast;
use hyper_deferred::server::conn::http1::{Builder, Connection, UpgradeableConnection};
use hyper_util::rt::TokioIo;
use support::{Desk, PATIENCE, Peer, Task, now_or_never};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";
const CONNECT: &str = "CONNECT test:80 HTTP/1.1\r\nhost: test:80\r\n\r\n";

// ===== WebSocket =====

#[tokio::test]
async fn a_websocket_opens_at_once() {
    let (wake, woken) = oneshot::channel();
    wake.send(()).unwrap();
    echo_over_websocket(woken, async {}).await;
}

#[tokio::test]
async fn a_websocket_opens_after_a_wait() {
    let (wake, woken) = oneshot::channel();
    let later = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        wake.send(()).unwrap();
    };
    echo_over_websocket(woken, later).await;
}

/// A client's handshake and a message there and back, while `meanwhile` happens.
async fn echo_over_websocket(woken: oneshot::Receiver<()>, meanwhile: impl Future<Output = ()>) {
    let (client, server) = duplex(64 * 1024);
    let woken = std::sync::Mutex::new(Some(woken));
    let service = service_fn(move |request| {
        let woken = woken.lock().unwrap().take();
        open_websocket(request, woken.expect("one request comes"))
    });
    let connection = tokio::spawn(Builder::new().serve_connection(TokioIo::new(server), service).with_upgrades());
    let client = async {
        let (mut socket, _) = tokio_tungstenite::client_async("ws://test/", client).await.unwrap();
        send(&mut socket, "there").await;
        assert_eq!(receive(&mut socket).await.unwrap().to_text().unwrap(), "there and back");
    };
    let all = async { tokio::join!(client, meanwhile) };
    tokio::time::timeout(PATIENCE, all).await.expect("the message comes back");
    connection.await.unwrap().unwrap();
}

/// Agrees when it is woken, and answers one message.
async fn open_websocket(
    mut request: Request<Incoming>,
    woken: oneshot::Receiver<()>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    woken.await.unwrap();
    let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let message = receive(&mut socket).await.unwrap();
        send(&mut socket, &format!("{message} and back")).await;
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", accept);
    Ok(response.body(Full::default()).unwrap())
}

// ===== by hand =====

#[test]
fn early_data_arrives_in_order() {
    for request in [UPGRADE, CONNECT] {
        for (with_head, later) in [("early", " late"), ("", "early late"), ("early late", "")] {
            let (mut peer, desk, mut connection) = upgradeable();
            peer.send(format!("{request}{with_head}"));
            assert!(connection.run().is_pending());
            peer.send(later);
            assert!(connection.run().is_pending());
            let mut upgraded = TokioIo::new(upgrade(request, &mut peer, &desk, &mut connection));
            let mut read = [0; 10];
            now_or_never(upgraded.read_exact(&mut read)).expect("all is there").unwrap();
            assert_eq!(&read, b"early late");
            now_or_never(upgraded.write_all(b"back")).unwrap().unwrap();
            assert_eq!(peer.received(), "back");
        }
    }
}

#[test]
fn early_data_behind_an_answer_that_was_parked_arrives_in_order() {
    // The connection has been dormant before: what is replayed is hyper's to hand over.
    let (mut peer, desk, mut connection) = upgradeable();
    peer.send(format!("{GET}{UPGRADE}early"));
    assert!(connection.run().is_pending());
    assert!(connection.future.is_dormant());
    peer.send(" late");
    desk.answer("first");
    assert!(connection.run().is_pending());
    assert!(peer.received().ends_with("\r\n\r\nfirst"));
    let mut upgraded = TokioIo::new(upgrade(UPGRADE, &mut peer, &desk, &mut connection));
    let mut read = [0; 10];
    now_or_never(upgraded.read_exact(&mut read)).expect("all is there").unwrap();
    assert_eq!(&read, b"early late");
}

#[test]
fn downcast_gives_the_io_and_what_was_read_ahead() {
    let (mut peer, desk, mut connection) = upgradeable();
    peer.send(format!("{GET}{UPGRADE}early"));
    assert!(connection.run().is_pending());
    desk.answer("first");
    assert!(connection.run().is_pending());
    peer.received();
    let upgraded = upgrade(UPGRADE, &mut peer, &desk, &mut connection);
    let upgraded = downcast::<TokioIo<tokio::net::TcpStream>>(upgraded).expect_err("it is not a socket");
    let parts = downcast::<TokioIo<DuplexStream>>(upgraded).unwrap();
    assert_eq!(parts.read_buf, "early");
    let mut stream = parts.io.into_inner();
    now_or_never(stream.write_all(b"raw")).unwrap().unwrap();
    assert_eq!(peer.received(), "raw");
}

#[test]
fn a_refused_upgrade_leaves_the_connection_usable() {
    for request in [UPGRADE.to_owned(), format!("{GET}{UPGRADE}")] {
        let (mut peer, desk, mut connection) = upgradeable();
        peer.send(&request);
        assert!(connection.run().is_pending());
        while desk.waiting() > 0 {
            desk.answer("no");
            assert!(connection.run().is_pending());
            assert!(peer.received().ends_with("\r\n\r\nno"));
        }
        assert!(connection.future.is_dormant());
        peer.send(GET);
        assert!(connection.run().is_pending());
        assert!(connection.future.is_dormant());
        desk.answer("here");
        assert!(connection.run().is_pending());
        assert!(peer.received().ends_with("\r\n\r\nhere"));
    }
}

#[tokio::test]
async fn an_upgrade_that_was_refused_is_over_when_the_connection_rests() {
    let (upgrades, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |mut request: Request<Incoming>| {
        upgrades.send(hyper::upgrade::on(&mut request)).unwrap();
        async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("no"))) }
    });
    let (mut client, server) = duplex(64 * 1024);
    let served = tokio::spawn(Builder::new().serve_connection(TokioIo::new(server), service).with_upgrades());
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    // hyper would let it wait until the connection closes, and then hand over what is left of that.
    let error = taken.recv().await.unwrap().await.unwrap_err();
    assert!(error.is_canceled());
    client.shutdown().await.unwrap();
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    assert!(received.ends_with("\r\n\r\nno"));
    served.await.unwrap().unwrap();
}

#[test]
fn an_upgraded_connection_is_over() {
    let (mut peer, desk, mut connection) = upgradeable();
    peer.send(UPGRADE);
    assert!(connection.run().is_pending());
    let _upgraded = upgrade(UPGRADE, &mut peer, &desk, &mut connection);
    assert!(!connection.future.is_dormant());
    assert!(connection.future.into_parts().is_none());
    peer.send("for the application");
    assert!(!peer.is_closed());
}

// ===== old style =====

#[test]
fn poll_without_shutdown_leaves_the_io_open() {
    let (mut peer, io) = Peer::new();
    let desk = Desk::default();
    let mut connection = Task::new(Builder::new().serve_connection(io, desk.clone()));
    peer.send(format!("{UPGRADE}early"));
    assert!(connection.poll_with(Connection::poll_without_shutdown).is_pending());
    desk.respond(switching(UPGRADE));
    let done = connection.poll_with(Connection::poll_without_shutdown);
    assert!(matches!(done, Poll::Ready(Ok(()))), "{done:?}");
    let parts = connection.future.into_parts();
    assert_eq!(parts.read_buf, "early");
    assert_eq!(parts.service.waiting(), 0);
    assert_is_open(&mut peer, parts.io);
}

#[test]
fn without_shutdown_gives_the_parts() {
    let (mut peer, io) = Peer::new();
    let desk = Desk::default();
    let mut parts = pin!(Builder::new().serve_connection(io, desk.clone()).without_shutdown());
    peer.send(format!("{GET}{UPGRADE}early"));
    let mut served = Task::new(poll_fn(|cx| parts.as_mut().poll(cx)));
    assert!(served.run().is_pending());
    desk.answer("first");
    assert!(served.run().is_pending());
    assert!(peer.received().ends_with("\r\n\r\nfirst"));
    desk.respond(switching(UPGRADE));
    let Poll::Ready(parts) = served.run() else { panic!("the connection is done") };
    let parts = parts.unwrap();
    assert_eq!(parts.read_buf, "early");
    assert_is_open(&mut peer, parts.io);
}

#[test]
fn into_parts_of_a_parked_connection_has_what_was_read_ahead() {
    let (mut peer, io) = Peer::new();
    let desk = Desk::default();
    let mut connection = Task::new(Builder::new().serve_connection(io, desk.clone()));
    peer.send(format!("{GET}{GET}"));
    assert!(connection.run().is_pending());
    let parts = connection.future.into_parts();
    assert_eq!(parts.read_buf, GET);
    assert_eq!(desk.waiting(), 0, "the parked request has ended");
}

// ===== helpers =====

type Served = Task<UpgradeableConnection<TokioIo<DuplexStream>, Desk>>;

fn upgradeable() -> (Peer, Desk, Served) {
    let (peer, io) = Peer::new();
    let desk = Desk::default();
    let connection = Task::new(Builder::new().serve_connection(io, desk.clone()).with_upgrades());
    (peer, desk, connection)
}

/// What a service answers that agrees.
fn switching(request: &str) -> Response<Full<Bytes>> {
    if request == CONNECT {
        return Response::default();
    }
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    response.header("connection", "upgrade").header("upgrade", "test").body(Full::default()).unwrap()
}

/// Agrees to the upgrade that is waited for.
fn upgrade(request: &str, peer: &mut Peer, desk: &Desk, connection: &mut Served) -> Upgraded {
    let on_upgrade: OnUpgrade = hyper::upgrade::on(desk.take_request());
    desk.respond(switching(request));
    let done = connection.run();
    assert!(matches!(done, Poll::Ready(Ok(()))), "{done:?}");
    let status = if request == CONNECT { "HTTP/1.1 200 " } else { "HTTP/1.1 101 " };
    let received = peer.received();
    assert!(received.starts_with(status) && received.ends_with("\r\n\r\n"), "{received:?}");
    now_or_never(on_upgrade).expect("it is upgraded").unwrap()
}

fn assert_is_open(peer: &mut Peer, io: TokioIo<DuplexStream>) {
    assert!(peer.received().starts_with("HTTP/1.1 101 "));
    assert!(!peer.is_closed());
    let mut stream = io.into_inner();
    now_or_never(stream.write_all(b"raw")).unwrap().unwrap();
    assert_eq!(peer.received(), "raw");
}

async fn send<T: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<T>, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

async fn receive<T: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<T>) -> Option<Message> {
    socket.next().await.map(Result::unwrap)
}
