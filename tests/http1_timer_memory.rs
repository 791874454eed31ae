//! Deadlines that are never met: nothing grows. Alone in its process: it counts all allocations.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::alloc::System;
use std::time::Duration;

use hyper_deferred::server::conn::http1::{Builder, Connection};
use hyper_util::rt::TokioIo;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{Desk, Peer, Task, pass};
use tokio::io::DuplexStream;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 100_000;
const RUNTIMES: usize = 1_000;
/// After so many everything has grown to what it needs.
const WARM_UP: usize = 100;
/// Less than a byte for each connection, and than seventy for each runtime: the smallest leak is larger.
const GROWTH_BYTES_MAX: usize = 64 * 1024;

#[test]
fn deadlines_that_are_dropped_or_lose_their_runtime_leave_nothing_behind() {
    let builder = Builder::new();
    connections_that_vanish(&builder);
    runtimes_that_end(&builder);
}

/// No time passes: whatever is kept until a deadline would stay.
fn connections_that_vanish(builder: &Builder) {
    let runtime = paused_runtime();
    let before_all = allocated_bytes();
    runtime.block_on(async {
        let (_peer, stays) = armed(builder);
        let mut warm = 0;
        for nth in 0..CONNECTIONS {
            if nth == WARM_UP {
                warm = allocated_bytes();
            }
            drop(armed(builder));
        }
        assert_no_growth_since(warm);
        drop(stays);
        // The task that looked after them finds nothing to do.
        pass(Duration::from_millis(200)).await;
    });
    assert_no_growth_since(before_all);
}

fn runtimes_that_end(builder: &Builder) {
    let mut warm = 0;
    for nth in 0..RUNTIMES {
        if nth == WARM_UP {
            warm = allocated_bytes();
        }
        let runtime = paused_runtime();
        let outlives = runtime.block_on(async {
            let (_peer, ends_before) = armed(builder);
            drop(ends_before);
            armed(builder)
        });
        drop(runtime);
        drop(outlives);
    }
    assert_no_growth_since(warm);
}

// ===== helpers =====

/// A connection that waits for its first byte.
fn armed(builder: &Builder) -> (Peer, Task<Connection<TokioIo<DuplexStream>, Desk>>) {
    let (peer, io) = Peer::new();
    let mut connection = Task::new(builder.serve_connection(io, Desk::default()));
    assert!(connection.run().is_pending());
    (peer, connection)
}

fn paused_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn allocated_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn assert_no_growth_since(before: usize) {
    let grown = allocated_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes are there that were not before");
}
