//! What a service keeps of a request keeps no read buffer of hyper's. Alone in its process: it counts all allocations.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::alloc::System;
use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::server::conn::http1::Builder;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{Peer, Task};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 100;

/// A quarter of hyper's read buffer. The request is in it.
const PARKED_BYTES_MAX: usize = 2048;

#[test]
fn a_parked_request_that_is_kept_keeps_no_read_buffer() {
    let (wake, _) = watch::channel(());
    let service = service_fn(|request| answer_when_woken(request, wake.subscribe()));
    let builder = Builder::new();
    let mut parked = Vec::with_capacity(CONNECTIONS);
    let (mut before, mut peers_bytes) = (0, 0);
    for nth in 0..CONNECTIONS {
        if nth == 2 {
            // From the first it is known that requests wait and from the second that they are kept. Neither is counted,
            // nor what the process allocates once and for all.
            (before, peers_bytes) = (allocated_bytes(), 0);
        }
        let unconnected = allocated_bytes();
        let (mut peer, io) = Peer::new();
        peer.send(HEAD);
        // The pipe between the two ends is not the connection's.
        peers_bytes += allocated_bytes() - unconnected;
        let mut connection = Task::new(builder.serve_connection(io, &service));
        assert!(connection.poll().is_pending());
        assert!(connection.future.is_dormant());
        parked.push((peer, connection));
    }
    let each = (allocated_bytes() - before - peers_bytes) / (CONNECTIONS - 2);
    assert!(each < PARKED_BYTES_MAX, "{each} bytes for each parked connection");

    wake.send(()).unwrap();
    for (peer, connection) in &mut parked {
        assert!(connection.poll_woken().is_pending());
        let received = peer.received();
        assert!(received.ends_with("\r\n\r\n/poll?cursor=12345 en-GB,en;q=0.5"), "{received:?}");
    }

    // Somebody new does not wait. That says nothing of those who have.
    let (mut peer, io) = Peer::new();
    peer.send("GET /now HTTP/1.1\r\nhost: test\r\n\r\n");
    let mut connection = Task::new(builder.serve_connection(io, &service));
    assert!(connection.poll().is_pending());
    assert!(peer.received().ends_with("\r\n\r\nnow"));
    let before = allocated_bytes();
    for (peer, connection) in &mut parked {
        peer.send(HEAD);
        assert!(connection.poll_woken().is_pending());
        assert!(connection.future.is_dormant());
    }
    let each = allocated_bytes().saturating_sub(before) / CONNECTIONS;
    assert!(each < PARKED_BYTES_MAX, "{each} bytes for each that is parked again");
}

// ===== helpers =====

const HEAD: &str = "GET /poll?cursor=12345 HTTP/1.1\r\nhost: chat.example\r\naccept: */*\r\n\
                    accept-language: en-GB,en;q=0.5\r\naccept-encoding: gzip, deflate, br\r\n\
                    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
                    referer: https://chat.example/room\r\ncookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";

/// Keeps the request's head, and tells of it.
fn answer_when_woken(
    request: Request<Incoming>,
    mut woken: watch::Receiver<()>,
) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> {
    let (head, _) = request.into_parts();
    async move {
        if head.uri == "/now" {
            return Ok(Response::new(Full::from("now")));
        }
        let _ = woken.changed().await;
        let language = head.headers["accept-language"].to_str().unwrap();
        Ok(Response::new(Full::from(format!("{} {language}", head.uri))))
    }
}

fn allocated_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
