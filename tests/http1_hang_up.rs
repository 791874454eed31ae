//! A client that leaves while its request is parked is noticed in one poll, and the service's future is dropped.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::future::Future;
use std::task::Poll;

use hyper::server::conn::http1 as theirs;
use hyper_deferred::server::conn::http1 as ours;
use hyper_util::rt::TokioIo;
use support::{Desk, PATIENCE, Peer, Task};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
const POST_WITH_A_PART_MISSING: &str = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc";
const CHUNKED_WITH_A_PART_MISSING: &str = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab";
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";

// ===== leaving =====

#[test]
fn who_has_one_request_parked_is_missed() {
    assert_missed_after(&[GET]);
}

#[test]
fn who_has_sent_the_next_request_too_is_missed() {
    assert_missed_after(&[&GET.repeat(2)]);
    assert_missed_after(&[GET, GET]);
    assert_missed_after(&[GET, GET, GET]);
    assert_not_missed_by_hyper(&GET.repeat(2));
}

#[test]
fn who_has_sent_a_stray_byte_is_missed() {
    assert_missed_after(&[&format!("{GET}x")]);
    assert_missed_after(&[GET, "x"]);
    assert_missed_after(&[GET, "x", "y"]);
    assert_not_missed_by_hyper(&format!("{GET}x"));
}

#[test]
fn who_leaves_in_the_middle_of_a_body_that_nobody_reads_is_missed() {
    for head_and_part in [POST_WITH_A_PART_MISSING, CHUNKED_WITH_A_PART_MISSING] {
        assert_missed_after(&[head_and_part]);
        let body_begins = head_and_part.find("\r\n\r\n").unwrap() + 4;
        assert_missed_after(&[&head_and_part[..body_begins], &head_and_part[body_begins..]]);
        assert_not_missed_by_hyper(head_and_part);
    }
}

#[test]
fn who_leaves_in_the_middle_of_a_body_that_was_dropped_is_missed() {
    for head_and_part in [POST_WITH_A_PART_MISSING, CHUNKED_WITH_A_PART_MISSING] {
        let (mut peer, desk, mut connection) = connection();
        peer.send(head_and_part);
        assert!(connection.run().is_pending());
        drop(desk.take_request());
        assert!(connection.run().is_pending());
        drop(peer);
        assert_missed(&desk, connection.poll_woken());
    }
}

#[test]
fn who_waits_for_an_upgrade_is_missed() {
    for tail in ["", "early data"] {
        let (mut peer, io) = Peer::new();
        let desk = Desk::default();
        let mut connection = Task::new(ours::Builder::new().serve_connection(io, desk.clone()).with_upgrades());
        peer.send(format!("{UPGRADE}{tail}"));
        assert!(connection.run().is_pending());
        assert_eq!(desk.waiting(), 1);
        drop(peer);
        let ended = connection.poll_woken();
        assert!(matches!(&ended, Poll::Ready(Err(error)) if error.is_incomplete_message()), "{ended:?}");
        // hyper, which has met the end itself, drops the future with the connection.
        drop(connection);
        assert_eq!(desk.waiting(), 0);
    }
}

#[test]
fn nothing_is_written_to_who_has_left_though_the_answer_is_there() {
    let (mut peer, desk, mut connection) = connection();
    peer.send(GET);
    assert!(connection.run().is_pending());
    desk.answer("too late");
    peer.close_sending_half();
    let ended = connection.poll_woken();
    assert!(matches!(&ended, Poll::Ready(Err(error)) if error.is_incomplete_message()), "{ended:?}");
    drop(connection);
    assert!(peer.is_closed());
}

#[tokio::test]
async fn who_closes_a_socket_is_missed() {
    let (mut client, connection, desk) = over_a_socket().await;
    client.write_all(GET.repeat(2).as_bytes()).await.unwrap();
    let client_leaves = async {
        desk.called().await;
        drop(client);
    };
    let (ended, ()) = patiently(async { tokio::join!(connection, client_leaves) }).await;
    assert!(ended.unwrap_err().is_incomplete_message());
    assert_eq!(desk.waiting(), 0);
}

#[tokio::test]
async fn who_resets_a_socket_is_missed() {
    let (mut client, connection, desk) = over_a_socket().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let client_leaves = async {
        desk.called().await;
        socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
    };
    let (ended, ()) = patiently(async { tokio::join!(connection, client_leaves) }).await;
    let ended = ended.unwrap_err();
    let cause = std::error::Error::source(&ended).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    assert_eq!(cause.map(std::io::Error::kind), Some(std::io::ErrorKind::ConnectionReset), "{ended:?}");
    assert_eq!(desk.waiting(), 0);
}

// ===== half_close =====

#[test]
fn a_client_that_only_ends_sending_gets_its_answer_with_half_close() {
    for requests in [GET.to_owned(), GET.repeat(2), format!("{GET}x")] {
        let outcomes = [hyper_half_closed(true, &requests), ours_half_closed(true, &requests)];
        assert!(outcomes[0].starts_with("HTTP/1.1 200 OK\r\n"), "{outcomes:?}");
        assert_eq!(outcomes[0], outcomes[1], "after {requests:?}");
    }
}

#[test]
fn a_client_that_ends_sending_gets_nothing_without_half_close() {
    let outcomes = [hyper_half_closed(false, GET), ours_half_closed(false, GET)];
    assert!(outcomes[0].contains("IncompleteMessage"), "{outcomes:?}");
    assert_eq!(outcomes[0], outcomes[1]);
}

// ===== helpers =====

type Ours = ours::Connection<TokioIo<DuplexStream>, Desk>;

fn connection() -> (Peer, Desk, Task<Ours>) {
    let (peer, io) = Peer::new();
    let desk = Desk::default();
    let connection = Task::new(ours::Builder::new().serve_connection(io, desk.clone()));
    (peer, desk, connection)
}

/// Sends these, each alone, and leaves.
fn assert_missed_after(sent: &[&str]) {
    let (mut peer, desk, mut connection) = connection();
    for bytes in sent {
        peer.send(bytes);
        assert!(connection.run().is_pending());
    }
    assert_eq!(desk.waiting(), 1, "one request is parked after {sent:?}");
    drop(peer);
    assert_missed(&desk, connection.poll_woken());
}

fn assert_missed(desk: &Desk, ended: Poll<hyper::Result<()>>) {
    assert!(matches!(&ended, Poll::Ready(Err(error)) if error.is_incomplete_message()), "{ended:?}");
    assert_eq!(desk.waiting(), 0, "the service's future is dropped");
}

/// hyper 1.12 looks for the end of file only when it holds no bytes: that ours does it is an improvement.
fn assert_not_missed_by_hyper(sent: &str) {
    let (mut peer, io) = Peer::new();
    let desk = Desk::default();
    let mut connection = Task::new(theirs::Builder::new().serve_connection(io, desk.clone()));
    peer.send(sent);
    assert!(connection.run().is_pending());
    drop(peer);
    assert!(connection.poll().is_pending());
    assert_eq!(desk.waiting(), 1);
}

fn hyper_half_closed(half_close: bool, requests: &str) -> String {
    let mut builder = theirs::Builder::new();
    builder.half_close(half_close).auto_date_header(false);
    half_closed(requests, |io, desk| builder.serve_connection(io, desk))
}

fn ours_half_closed(half_close: bool, requests: &str) -> String {
    let mut builder = ours::Builder::new();
    builder.half_close(half_close).auto_date_header(false);
    half_closed(requests, |io, desk| builder.serve_connection(io, desk))
}

/// What a client sees that ends sending while its first request is parked, and how its connection ends.
fn half_closed<C>(requests: &str, connect: impl FnOnce(TokioIo<DuplexStream>, Desk) -> C) -> String
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    let (mut peer, io) = Peer::new();
    let desk = Desk::default();
    let mut connection = Task::new(connect(io, desk.clone()));
    peer.send(requests);
    assert!(connection.run().is_pending());
    peer.close_sending_half();
    loop {
        match connection.run() {
            Poll::Ready(ended) => return format!("{}{ended:?}", peer.received()),
            Poll::Pending => desk.answer("here"),
        }
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("the client is missed")
}

async fn over_a_socket() -> (TcpStream, ours::Connection<TokioIo<TcpStream>, Desk>, Desk) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let desk = Desk::default();
    let connection = ours::Builder::new().serve_connection(TokioIo::new(accepted.unwrap().0), desk.clone());
    (client.unwrap(), connection, desk)
}
