//! A request that waits is moved out of hyper's read buffer if it is likely to be kept, and only then.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::convert::Infallible;
use std::future::Future;
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

/// Parks each request, or answers `/now`, and counts those that have bytes of their own.
#[derive(Default)]
struct Server {
    own: AtomicUsize,
    // Whether a request is kept while it waits.
    keeps: AtomicBool,
    wake: watch::Sender<()>,
}

impl Server {
    async fn answer<T>(
        kept: Option<T>,
        mut woken: Option<watch::Receiver<()>>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        if let Some(woken) = &mut woken {
            let _ = woken.changed().await;
        }
        drop(kept);
        Ok(Response::new(Full::from("woken")))
    }

    fn call(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + use<> {
        if own_bytes(request.headers()) {
            self.own.fetch_add(1, Relaxed);
        }
        let woken = (request.uri().path() != "/now").then(|| self.wake.subscribe());
        let kept = self.keeps.load(Relaxed).then(|| request.into_parts());
        Self::answer(kept, woken)
    }

    /// How many of so many requests that wait one after the other are copied.
    fn copied_of(&self, builder: &Builder, count: usize) -> usize {
        let (mut peer, io) = Peer::new();
        let mut connection = Task::new(builder.serve_connection(io, service_fn(|request| self.call(request))));
        let before = self.own.load(Relaxed);
        for _ in 0..count {
            peer.send(head("/poll", ""));
            assert!(connection.poll().is_pending());
            assert!(connection.future.is_dormant());
            self.wake.send_replace(());
            assert!(connection.poll_woken().is_pending());
            assert!(peer.received().ends_with("woken"));
        }
        self.own.load(Relaxed) - before
    }
}

#[test]
fn a_request_of_which_nothing_is_kept_is_not_copied() {
    let (server, builder) = (Server::default(), Builder::new());
    assert_eq!(server.copied_of(&builder, 5), 0, "copied though it is not kept");
    server.keeps.store(true, Relaxed);
    assert_eq!(server.copied_of(&builder, 5), 4, "from the second that is kept");
}

#[test]
fn a_request_that_comes_in_two_reads_is_not_taken_to_be_kept() {
    let (server, builder) = (Server::default(), Builder::new());
    assert_eq!(server.copied_of(&builder, 1), 0);
    let (mut peer, io) = Peer::new();
    let mut connection = Task::new(builder.serve_connection(io, service_fn(|request| server.call(request))));
    // hyper's first buffer has room for all of the first and a part of the second.
    let padding = "p".repeat(6000);
    peer.send(head("/now", &padding) + &head("/poll", &padding));
    assert!(connection.run().is_pending());
    assert!(peer.received().ends_with("woken"));
    assert!(connection.future.is_dormant());
    server.wake.send_replace(());
    assert!(connection.run().is_pending());
    assert!(peer.received().ends_with("woken"));
    assert_eq!(server.copied_of(&builder, 5), 0, "copied though none was kept");
}

/// hyper does not read while a request waits then, so that it does not show.
#[test]
fn with_half_close_each_request_that_waits_is_taken_to_be_kept() {
    let (server, mut builder) = (Server::default(), Builder::new());
    builder.half_close(true);
    server.keeps.store(true, Relaxed);
    assert_eq!(server.copied_of(&builder, 5), 4, "from the second that waits");
}

// ===== helpers =====

fn head(path: &str, padding: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: chat.example\r\naccept: */*\r\nx-padding: {padding}\r\naccept-language: en\r\n\r\n"
    )
}

/// Whether one value stands right behind the other. In hyper's buffer there are names between them.
fn own_bytes(headers: &HeaderMap) -> bool {
    let values: Vec<_> = headers.values().map(|value| value.as_bytes().as_ptr_range()).collect();
    values.windows(2).all(|pair| pair[0].end == pair[1].start)
}
