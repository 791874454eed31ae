//! A request that waits is moved out of hyper's read buffer if it is likely to be kept, and only then.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::convert::Infallible;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::server::conn::http1::Builder;
use support::{Peer, Task};
use tokio::sync::watch;

#[test]
fn a_request_of_which_nothing_is_kept_is_not_copied() {
    let (wake, _) = watch::channel(());
    let own = AtomicUsize::new(0);
    let keeps = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        if own_bytes(request.headers()) {
            own.fetch_add(1, Relaxed);
        }
        let kept = keeps.load(Relaxed).then(|| request.into_parts());
        let mut woken = wake.subscribe();
        async move {
            let _ = woken.changed().await;
            drop(kept);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("woken")))
        }
    });
    let (mut peer, io) = Peer::new();
    let mut connection = Task::new(Builder::new().serve_connection(io, &service));
    let mut polled = |peer: &mut Peer| {
        peer.send(HEAD);
        assert!(connection.poll().is_pending());
        assert!(connection.future.is_dormant());
        wake.send(()).unwrap();
        assert!(connection.poll_woken().is_pending());
        assert!(peer.received().ends_with("woken"));
    };
    (0..5).for_each(|_| polled(&mut peer));
    assert_eq!(own.load(Relaxed), 0, "copied though it is not kept");

    keeps.store(true, Relaxed);
    (0..5).for_each(|_| polled(&mut peer));
    assert_eq!(own.load(Relaxed), 4, "from the second that is kept");
}

// ===== helpers =====

const HEAD: &str = "GET /poll HTTP/1.1\r\nhost: chat.example\r\naccept: */*\r\naccept-language: en\r\n\r\n";

/// Whether one value stands right behind the other. In hyper's buffer there are names between them.
fn own_bytes(headers: &HeaderMap) -> bool {
    let values: Vec<_> = headers.values().map(|value| value.as_bytes().as_ptr_range()).collect();
    values.windows(2).all(|pair| pair[0].end == pair[1].start)
}
