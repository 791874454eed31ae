//! What a shutdown does to a connection in each of its states.
#![cfg(feature = "acceptor")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper_deferred::{Acceptor, Outcome};
use support::{Client, PATIENCE, Park, Server};

/// So long that a test which waited for the deadline would fail.
const NEVER: Duration = Duration::from_secs(3600);

fn acceptor() -> Acceptor {
    Acceptor::bind("127.0.0.1:0").unwrap().shutdown_timeout(NEVER)
}

#[test]
fn parked_requests_get_503_and_when_to_come_back() {
    let (park, responders, outcomes) = Park::new();
    let server = Server::run(acceptor(), || park);
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(server.addr)).collect();
    let mut held = Vec::new();
    for client in &mut clients {
        client.get("/");
        held.push(responders.recv_timeout(PATIENCE).unwrap());
    }

    server.handle.shutdown();
    for client in &mut clients {
        let head = client.read_head();
        assert_eq!(head.status, 503);
        assert_eq!(head.field("retry-after"), Some("1"));
        assert_eq!(head.field("connection"), Some("close"));
        assert_eq!(head.field("content-length"), Some("0"));
        assert_eq!(client.read_to_end(), b"");
        assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::ShutDown));
    }
    for responder in held {
        assert!(responder.send(Response::default()).is_err(), "a response comes back after the shutdown");
    }
    server.join();
}

#[test]
fn the_application_says_what_parked_requests_get() {
    let (park, responders, _outcomes) = Park::new();
    let acceptor = acceptor().shutdown_response(|| {
        let mut response = Response::new(Bytes::from_static(b"see you"));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response
    });
    let server = Server::run(acceptor, || park);
    let mut client = Client::connect(server.addr);
    client.get("/");
    let _held = responders.recv_timeout(PATIENCE).unwrap();

    server.handle.shutdown();
    let head = client.read_head();
    assert_eq!(head.status, 418);
    assert_eq!(head.field("connection"), Some("close"));
    assert_eq!(head.field("retry-after"), None);
    assert_eq!(client.read_to_end(), b"see you");
    server.join();
}

#[test]
fn idle_connections_are_closed_at_once() {
    let (park, _responders, _outcomes) = Park::new();
    let server = Server::run(acceptor(), || park);
    let mut silent = Client::connect(server.addr);
    let mut kept_alive = Client::connect(server.addr);
    assert_eq!(kept_alive.round_trip("/now").0.status, 200);
    let mut posted = Client::connect(server.addr);
    posted.write("POST /now HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello");
    let head = posted.read_head();
    assert_eq!(posted.read_body(&head), b"now");

    server.handle.shutdown();
    assert_eq!(silent.read_to_end(), b"");
    assert_eq!(kept_alive.read_to_end(), b"");
    assert_eq!(posted.read_to_end(), b"");
    let addr = server.addr;
    server.join();
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}

#[test]
fn a_half_read_head_is_awaited_and_served() {
    let (park, responders, outcomes) = Park::new();
    let server = Server::run(acceptor(), || park);
    let mut kept_alive = Client::connect(server.addr);
    kept_alive.round_trip("/now");
    kept_alive.write("GET /now HT");
    let mut fresh = Client::connect(server.addr);
    fresh.write("GET /now HT");
    let mut parks = Client::connect(server.addr);
    parks.write("GET /park HT");
    // The server reads in order: when it has answered this one, it has read the three halves.
    let mut idle = Client::connect(server.addr);
    idle.round_trip("/now");

    server.handle.shutdown();
    assert_eq!(idle.read_to_end(), b"", "the shutdown has begun");
    for mut client in [kept_alive, fresh] {
        client.write("TP/1.1\r\nhost: test\r\n\r\n");
        let head = client.read_head();
        assert_eq!(head.status, 200);
        assert_eq!(head.field("connection"), Some("close"));
        assert_eq!(client.read_to_end(), b"now");
    }
    parks.write("TP/1.1\r\nhost: test\r\n\r\n");
    let _held = responders.recv_timeout(PATIENCE).unwrap();
    assert_eq!(parks.read_head().status, 503);
    assert_eq!(parks.read_to_end(), b"");
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::ShutDown));
    server.join();
}

#[test]
fn a_streaming_response_is_finished() {
    let (park, responders, outcomes) = Park::new();
    let server = Server::run(acceptor(), || park);
    let mut client = Client::connect(server.addr);
    client.get("/");
    let responder = responders.recv_timeout(PATIENCE).unwrap();
    let mut body = responder.stream(Response::new(()).into_parts().0).unwrap();
    assert_eq!(client.read_head().status, 200);
    body.try_send_data("before".into()).unwrap();
    assert_eq!(client.read_chunk(), b"before");

    let mut idle = Client::connect(server.addr);
    idle.round_trip("/now");
    server.handle.shutdown();
    assert_eq!(idle.read_to_end(), b"", "the shutdown has begun");
    assert!(TcpStream::connect(server.addr).is_err(), "new clients are refused meanwhile");
    body.try_send_data("after".into()).unwrap();
    assert_eq!(client.read_chunk(), b"after");
    assert!(server.is_running());
    drop(body);
    assert_eq!(client.read_chunk(), b"");
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Answered));
    server.join();
}

#[test]
fn the_deadline_closes_what_is_still_active() {
    let (park, responders, _outcomes) = Park::new();
    let server = Server::run(acceptor().shutdown_timeout(Duration::from_millis(50)), || park);
    let mut streaming = Client::connect(server.addr);
    streaming.get("/");
    let responder = responders.recv_timeout(PATIENCE).unwrap();
    let body = responder.stream(Response::new(()).into_parts().0).unwrap();
    assert_eq!(streaming.read_head().status, 200);
    let mut half_read = Client::connect(server.addr);
    half_read.write("GET / HT");
    Client::connect(server.addr).round_trip("/now");

    server.handle.shutdown();
    server.join();
    assert_eq!(streaming.read_to_end(), b"");
    assert!(body.is_closed());
    // What was read and not answered may turn the close into a reset.
    half_read.expect_closed();
}

#[test]
fn a_shutdown_before_the_start_ends_it_at_its_start() {
    let acceptor = acceptor();
    acceptor.shutdown_handle().shutdown();
    acceptor.shutdown_handle().shutdown();
    let (park, _responders, _outcomes) = Park::new();
    Server::run(acceptor, || park).join();
}
