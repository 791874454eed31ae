//! When a connection holds no hyper, and that it serves again afterwards.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::server::conn::http1::{Builder, Connection};
use hyper_util::rt::TokioIo;
use rcgen::CertifiedKey;
use support::{Desk, PATIENCE, Peer, Task, now_or_never, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello";
const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\ntrailer: end\r\n\r\n\
                       5\r\nhello\r\n0\r\nend: here\r\n\r\n";
const EXPECT: &str = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";

// ===== dormant =====

#[test]
fn a_silent_connection_is_dormant() {
    let (_peer, _desk, mut connection) = connection();
    assert!(connection.poll().is_pending());
    assert!(connection.future.is_dormant());
}

#[test]
fn half_a_head_is_dormant() {
    let (mut peer, desk, mut connection) = connection();
    let (first, rest) = GET.split_at(20);
    peer.send(first);
    assert!(connection.poll().is_pending());
    assert!(connection.future.is_dormant());
    for byte in rest.split_inclusive(|_: char| true) {
        assert_eq!(desk.waiting(), 0);
        peer.send(byte);
        assert!(connection.poll_woken().is_pending());
        assert!(connection.future.is_dormant());
    }
    assert_answers(&mut peer, &desk, &mut connection);
}

#[test]
fn a_parked_get_is_dormant() {
    let (mut peer, desk, mut connection) = connection();
    peer.send(GET);
    assert!(connection.poll().is_pending());
    assert!(connection.future.is_dormant());
    assert_answers(&mut peer, &desk, &mut connection);
}

#[test]
fn a_parked_get_before_another_is_dormant() {
    let (mut peer, desk, mut connection) = connection();
    peer.send(GET.repeat(2));
    assert!(connection.poll().is_pending());
    assert!(connection.future.is_dormant());
    assert_answers(&mut peer, &desk, &mut connection);
    assert_eq!(desk.waiting(), 1, "the other one");
    assert!(connection.future.is_dormant());
    assert_answers(&mut peer, &desk, &mut connection);
}

#[test]
fn a_parked_request_whose_body_was_read_is_dormant() {
    for request in [POST, CHUNKED] {
        let (mut peer, mut connection, answer) = reading();
        peer.send(request);
        assert!(connection.poll().is_pending());
        assert!(connection.future.is_dormant(), "after {request:?}");
        answer.send(()).unwrap();
        assert!(connection.poll_woken().is_pending());
        let trailer = if request == CHUNKED { " here" } else { "" };
        let received = peer.received();
        assert!(received.ends_with(&format!("\r\n\r\nhello{trailer}")), "{received:?}");
    }
}

#[test]
fn a_parked_request_whose_body_was_dropped_unread_is_dormant() {
    let (mut peer, mut connection, answer) = dropping();
    peer.send(POST);
    assert!(connection.poll().is_pending());
    assert!(connection.future.is_dormant());
    answer.send(()).unwrap();
    assert!(connection.poll_woken().is_pending());
    assert!(peer.received().ends_with("\r\n\r\ndropped"));
    peer.send(POST);
    assert!(connection.poll_woken().is_pending(), "the connection is kept");
    assert!(peer.received().ends_with("\r\n\r\ndropped"));
}

#[test]
fn a_parked_request_whose_body_hyper_has_handed_over_is_dormant_though_unread() {
    let (mut peer, desk, mut connection) = connection();
    peer.send(POST);
    assert!(connection.poll().is_pending());
    assert!(connection.future.is_dormant());
    let body = now_or_never(desk.take_request().into_body().collect()).expect("all of it is there");
    assert_eq!(body.unwrap().to_bytes(), "hello");
    assert_answers(&mut peer, &desk, &mut connection);
}

#[test]
fn a_parked_request_whose_body_comes_in_parts_becomes_dormant() {
    for request in [POST, CHUNKED] {
        for cut in request.find("\r\n\r\n").unwrap() + 4..request.len() {
            let (mut peer, mut connection, answer) = reading();
            peer.send(&request[..cut]);
            assert!(connection.run().is_pending());
            assert!(!connection.future.is_dormant(), "a part is missing after {cut} bytes of {request:?}");
            peer.send(&request[cut..]);
            assert!(connection.run().is_pending());
            assert!(connection.future.is_dormant(), "all is there, cut after {cut} bytes of {request:?}");
            answer.send(()).unwrap();
            assert!(connection.run().is_pending());
            assert!(peer.received().contains("hello"));
        }
    }
}

#[test]
fn a_parked_request_that_expected_100_continue_is_dormant() {
    let (mut peer, mut connection, answer) = reading();
    peer.send(EXPECT);
    assert!(connection.run().is_pending());
    assert_eq!(peer.received(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(!connection.future.is_dormant());
    peer.send("hello");
    assert!(connection.run().is_pending());
    assert!(connection.future.is_dormant());
    answer.send(()).unwrap();
    assert!(connection.run().is_pending());
    assert!(peer.received().ends_with("\r\n\r\nhello"));
}

#[test]
fn a_connection_is_dormant_after_its_first_answer() {
    let (mut peer, desk, mut connection) = connection();
    peer.send(GET);
    assert!(connection.poll().is_pending());
    desk.answer("here");
    assert!(connection.poll_woken().is_pending());
    assert!(connection.future.is_dormant());
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_requests_come_one_right_after_the_other_is_dormant_after_a_pause() {
    let (mut peer, io) = Peer::new();
    let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("at once"))) });
    let mut connection = Task::new(Builder::new().serve_connection(io, service));
    for _ in 0..3 {
        peer.send(GET);
        assert!(connection.run().is_pending());
        assert!(peer.received().ends_with("\r\n\r\nat once"));
    }
    assert!(!connection.future.is_dormant(), "its next request is likely to come at once");
    tokio::time::advance(Duration::from_millis(9)).await;
    assert!(connection.poll().is_pending());
    assert!(!connection.future.is_dormant());
    tokio::time::advance(Duration::from_millis(2)).await;
    assert!(connection.poll_woken().is_pending());
    assert!(!connection.future.is_dormant(), "a request has come since it began to look at the clock");
    tokio::time::advance(Duration::from_millis(10)).await;
    assert!(connection.poll_woken().is_pending());
    assert!(connection.future.is_dormant());
    peer.send(GET);
    assert!(connection.poll_woken().is_pending());
    assert!(peer.received().ends_with("\r\n\r\nat once"));
}

// ===== not dormant =====

#[test]
fn a_request_that_asks_for_an_upgrade_is_not_dormant() {
    for request in [UPGRADE, "CONNECT test:80 HTTP/1.1\r\nhost: test\r\n\r\n"] {
        let (mut peer, io) = Peer::new();
        let desk = Desk::default();
        let mut connection = Task::new(Builder::new().serve_connection(io, desk.clone()).with_upgrades());
        peer.send(request);
        assert!(connection.run().is_pending());
        assert_eq!(desk.waiting(), 1);
        assert!(!connection.future.is_dormant());
    }
}

#[test]
fn a_request_whose_body_is_not_yet_read_is_not_dormant() {
    let (mut peer, desk, mut connection) = connection();
    peer.send(CHUNKED);
    assert!(connection.run().is_pending());
    assert!(!connection.future.is_dormant(), "hyper hands one part over, and holds the rest");
    let mut collected = pin!(desk.take_request().into_body().collect());
    // Read outside of the connection's task, which comes to know of it.
    let collected = loop {
        let read = collected.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        match read {
            Poll::Ready(collected) => break collected.unwrap(),
            Poll::Pending => assert!(connection.poll_woken().is_pending()),
        }
    };
    assert_eq!(collected.trailers().unwrap()["end"], "here");
    assert_eq!(collected.to_bytes(), "hello");
    assert!(connection.run().is_pending());
    assert!(connection.future.is_dormant());
    assert_answers(&mut peer, &desk, &mut connection);
}

#[test]
fn a_streaming_response_is_not_dormant() {
    let (mut peer, io) = Peer::new();
    let (chunks, body) = unbounded_channel();
    let body = RefCell::new(Some(Parts(body)));
    let service = service_fn(move |_| std::future::ready(Ok::<_, Infallible>(Response::new(body.take().unwrap()))));
    let mut connection = Task::new(Builder::new().serve_connection(io, service));
    peer.send(GET);
    assert!(connection.run().is_pending());
    assert!(!connection.future.is_dormant());
    chunks.send("part").unwrap();
    assert!(connection.poll_woken().is_pending());
    assert!(peer.received().ends_with("4\r\npart\r\n"));
    assert!(!connection.future.is_dormant());
    drop(chunks);
    assert!(connection.run().is_pending());
    assert_eq!(peer.received(), "0\r\n\r\n");
    assert!(connection.future.is_dormant());
}

// ===== other IO =====

#[tokio::test]
async fn a_tls_connection_goes_dormant_and_serves_again() {
    let (client, server) = duplex(64 * 1024);
    let (acceptor, connector) = tls();
    let name = ServerName::try_from("localhost").unwrap();
    let (server, client) = tokio::join!(acceptor.accept(server), connector.connect(name, client));
    let (server, mut client) = (server.unwrap(), client.unwrap());
    let desk = Desk::default();
    let mut connection = Builder::new().serve_connection(TokioIo::new(server), desk.clone());
    for _ in 0..3 {
        assert!(poll(&mut connection).is_pending());
        assert!(connection.is_dormant(), "between two requests");
        client.write_all(GET.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        drive(&mut connection, desk.called()).await;
        assert!(connection.is_dormant(), "parked");
        desk.answer("over TLS");
        let mut received = Vec::new();
        drive(&mut connection, async {
            while !received.ends_with(b"over TLS") {
                assert_ne!(client.read_buf(&mut received).await.unwrap(), 0);
            }
        })
        .await;
    }
}

// ===== helpers =====

fn connection() -> (Peer, Desk, Task<Connection<TokioIo<DuplexStream>, Desk>>) {
    let (peer, io) = Peer::new();
    let desk = Desk::default();
    let connection = Task::new(Builder::new().serve_connection(io, desk.clone()));
    (peer, desk, connection)
}

/// The parked request is answered, and the connection dormant again.
fn assert_answers<C>(peer: &mut Peer, desk: &Desk, connection: &mut Task<C>)
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    desk.answer("here");
    assert!(connection.poll_woken().is_pending());
    let received = peer.received();
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n") && received.ends_with("\r\n\r\nhere"), "{received:?}");
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>>>>;

/// Answers when the sender says so, and from then on at once.
struct Told {
    service: fn(Request<Incoming>, oneshot::Receiver<()>) -> Answering,
    told: RefCell<Option<oneshot::Receiver<()>>>,
}

impl Service<Request<Incoming>> for Told {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        (self.service)(request, self.told.take().unwrap_or_else(|| oneshot::channel().1))
    }
}

type ToldConnection = Task<Connection<TokioIo<DuplexStream>, Told>>;

fn told(
    service: fn(Request<Incoming>, oneshot::Receiver<()>) -> Answering,
) -> (Peer, ToldConnection, oneshot::Sender<()>) {
    let (peer, io) = Peer::new();
    let (tell, told) = oneshot::channel();
    let service = Told { service, told: RefCell::new(Some(told)) };
    (peer, Task::new(Builder::new().serve_connection(io, service)), tell)
}

/// Reads a request's body, waits, and answers with body and trailer.
fn reading() -> (Peer, ToldConnection, oneshot::Sender<()>) {
    told(|request, told| {
        Box::pin(async {
            let collected = request.into_body().collect().await.unwrap();
            let trailer = collected.trailers().map(|trailers| trailers["end"].clone());
            let mut text = collected.to_bytes().to_vec();
            if let Some(trailer) = trailer {
                text.push(b' ');
                text.extend(trailer.as_bytes());
            }
            let _ = told.await;
            Ok(Response::new(Full::from(text)))
        })
    })
}

/// Drops a request, waits, and answers.
fn dropping() -> (Peer, ToldConnection, oneshot::Sender<()>) {
    told(|request, told| {
        drop(request);
        Box::pin(async {
            let _ = told.await;
            Ok(Response::new(Full::from("dropped")))
        })
    })
}

/// A body whose parts come when they are sent.
struct Parts(UnboundedReceiver<&'static str>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part.into()))))
    }
}

/// Serves while `client` does something, and then for as long as there is something to do.
async fn drive<C>(connection: &mut C, client: impl Future<Output = ()>)
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    let mut client = pin!(client);
    let both = poll_fn(|cx| {
        assert!(Pin::new(&mut *connection).poll(cx).is_pending());
        client.as_mut().poll(cx)
    });
    tokio::time::timeout(PATIENCE, both).await.expect("the client gets what it waits for");
    assert!(poll(connection).is_pending());
}

fn tls() -> (TlsAcceptor, TlsConnector) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}
