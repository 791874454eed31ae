//! Very many requests that park and vanish: nothing grows. Alone in its process: it counts all allocations.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::alloc::System;
use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::task::{LocalSet, spawn_local};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 1_000;
const ROUND: usize = 100;
/// After so many the queues of the runtime have grown to what they need.
const WARM_UP_ROUNDS: usize = 10;
/// Less than a byte for each request: the smallest leak is larger.
const GROWTH_BYTES_MAX: usize = 64 * 1024;

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

#[tokio::test]
async fn a_hundred_thousand_that_park_and_vanish_leave_nothing_behind() {
    LocalSet::new().run_until(park_and_vanish()).await;
}

async fn park_and_vanish() {
    let builder = Builder::new();
    let parked = Rc::new(Cell::new(0));
    let mut warm = 0;
    for round in 0..ROUNDS {
        if round == WARM_UP_ROUNDS {
            warm = allocated_bytes();
        }
        let mut clients = Vec::with_capacity(ROUND);
        let mut connections = Vec::with_capacity(ROUND);
        for nth in 0..ROUND {
            let (mut client, io) = duplex(1024);
            let parked = parked.clone();
            let service = service_fn(move |request| park(request, Counted::new(&parked)));
            connections.push(spawn_local(builder.serve_connection(TokioIo::new(io), service)));
            // Every third leaves with the next request on its way.
            client.write_all(GET.repeat(1 + usize::from(nth % 3 == 0)).as_bytes()).await.unwrap();
            clients.push(client);
        }
        while parked.get() < ROUND {
            tokio::task::yield_now().await;
        }
        drop(clients);
        for connection in connections {
            assert!(connection.await.unwrap().unwrap_err().is_incomplete_message());
        }
        assert_eq!(parked.get(), 0, "every service's future is dropped");
    }
    let grown = allocated_bytes().saturating_sub(warm);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes are there that were not before");
}

// ===== helpers =====

/// Counts while it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Keeps its request for ever.
async fn park(_request: Request<Incoming>, _counted: Counted) -> Result<Response<Full<Bytes>>, Infallible> {
    std::future::pending().await
}

fn allocated_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
