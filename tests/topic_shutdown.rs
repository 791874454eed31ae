//! Streams of events have no end of their own: a shutdown ends them, and waits for nothing.
#![cfg(all(feature = "acceptor", feature = "topic"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::time::Duration;

use hyper_deferred::topic::http::Builder;
use hyper_deferred::{Acceptor, Topic};
use support::{Client, Server};

/// So long that a test which waited for the deadline, or for a heartbeat, would fail.
const NEVER: Duration = Duration::from_secs(3600);

const STREAMS: usize = 100;

fn stream(server: &Server) -> Client {
    let mut client = Client::connect(server.addr);
    client.write("GET / HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\r\n");
    assert_eq!(client.read_head().status, 200);
    assert!(client.read_chunk().starts_with(b"retry: "));
    client
}

#[test]
fn a_shutdown_ends_streams_of_events_at_once_and_in_order() {
    let topic = Topic::raw();
    let service = Builder::new(topic.clone()).heartbeat(NEVER).build();
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap().shutdown_timeout(NEVER);
    let server = Server::run(acceptor, || service);
    let mut clients: Vec<_> = (0..STREAMS).map(|_| stream(&server)).collect();
    topic.publish("first".into()).unwrap();
    for client in &mut clients {
        assert!(client.read_chunk().ends_with(b"data: first\n\n"));
    }

    topic.publish("last".into()).unwrap();
    server.handle.shutdown();
    for client in &mut clients {
        assert!(client.read_chunk().ends_with(b"data: last\n\n"), "what is there is told before the end");
        assert_eq!(client.read_to_end(), b"0\r\n\r\n");
    }
    server.join();
    assert_eq!(topic.waiting(), 0);
}

#[test]
fn streams_of_another_server_on_the_same_thread_go_on() {
    let topic = Topic::raw();
    let service = Builder::new(topic.clone()).heartbeat(NEVER).build();
    let (ending, lasting) = (Acceptor::bind("127.0.0.1:0").unwrap(), Acceptor::bind("127.0.0.1:0").unwrap());
    let ending = ending.shutdown_timeout(NEVER);
    let (ending_addr, ends) = (ending.local_addr().unwrap(), ending.shutdown_handle());
    let other = service.clone();
    let server = Server::run(lasting, move || {
        tokio::task::spawn_local(ending.serve(other));
        service
    });
    let mut goes_on = stream(&server);
    let mut ended = Client::connect(ending_addr);
    ended.write("GET / HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\r\n");
    ended.read_head();
    ended.read_chunk();
    ends.shutdown();
    assert_eq!(ended.read_to_end(), b"0\r\n\r\n");
    topic.publish("news".into()).unwrap();
    assert!(goes_on.read_chunk().ends_with(b"data: news\n\n"));
    server.handle.shutdown();
    assert_eq!(goes_on.read_to_end(), b"0\r\n\r\n");
    server.join();
}
