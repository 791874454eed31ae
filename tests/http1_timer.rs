//! The timer that a builder has by default: how exact it is, and on which runtime.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::task::Poll;
use std::time::Duration;

use hyper_deferred::server::conn::http1::{Builder, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use support::{Desk, Logs, Peer, Task, pass};
use tokio::io::DuplexStream;
use tokio::runtime::Runtime;
use tokio::time::advance;
use tracing::Level;

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// More than a tick of tokio's clock.
const MOMENT: Duration = Duration::from_millis(2);
/// How late the default timer may be with a deadline of two seconds or more.
const LATE_MAX: Duration = Duration::from_millis(100);

// ===== how exact =====

#[tokio::test(start_paused = true)]
async fn a_deadline_of_less_than_two_seconds_is_met_to_the_millisecond() {
    let short = Duration::from_millis(1_999);
    let (mut peer, desk, mut connection) = connection(builder().idle_timeout(short));
    // What is left of the longer one before it is no reason to be late.
    assert!(connection.run().is_pending());
    advance(Duration::from_millis(50)).await;
    peer.send(GET);
    assert!(connection.run().is_pending());
    desk.answer("here");
    assert!(connection.run().is_pending());
    assert_ends_within(&mut connection, short, MOMENT).await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_was_given_is_as_exact_as_it_is() {
    let (_peer, _desk, mut connection) = connection(builder().timer(TokioTimer::new()));
    assert!(connection.run().is_pending());
    assert_ends_within(&mut connection, FIRST_BYTE, MOMENT).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_late_by_little_whenever_it_was_set() {
    let (_peer, _desk, mut first) = connection(&builder());
    assert!(first.run().is_pending());
    for millis in [1, 49, 50, 99, 100, 101] {
        advance(Duration::from_millis(millis)).await;
        let (_peer, _desk, mut connection) = connection(Builder::new().first_byte_timeout(Duration::from_secs(2)));
        assert!(connection.run().is_pending());
        assert_ends_within(&mut connection, Duration::from_secs(2), LATE_MAX).await;
    }
}

// ===== several runtimes =====

#[test]
fn a_deadline_does_not_need_a_runtime_that_is_not_driven() {
    let (first, second) = (paused_runtime(), paused_runtime());
    let builder = builder();
    let (_peer_of_one, _desk_of_one, mut one) = connection(&builder);
    let (_peer, _desk, mut other) = connection(&builder);
    // Both of its runtimes have a deadline, and from now on only the second runs.
    first.block_on(async { assert!(one.run().is_pending()) });
    second.block_on(async {
        assert!(other.run().is_pending());
        assert_ends_within(&mut other, FIRST_BYTE, LATE_MAX).await;
    });
    assert!(!one.is_woken());
    first.block_on(assert_ends_within(&mut one, FIRST_BYTE, LATE_MAX));
}

#[test]
fn a_deadline_moves_with_its_connection_to_another_runtime() {
    let (first, second) = (paused_runtime(), paused_runtime());
    let (_peer, _desk, mut connection) = connection(&builder());
    first.block_on(async { assert!(connection.run().is_pending()) });
    // Another task, as tasks do not leave their runtime.
    let mut connection = Task::new(connection.future);
    second.block_on(async {
        assert!(connection.run().is_pending());
        pass(Duration::from_secs(6)).await;
        assert_times_out(&mut connection);
    });
}

#[test]
fn a_deadline_outlives_the_runtime_that_it_was_set_in() {
    let (first, second) = (paused_runtime(), paused_runtime());
    let (_peer, _desk, mut connection) = connection(&builder());
    first.block_on(async { assert!(connection.run().is_pending()) });
    drop(first);
    assert!(connection.is_woken(), "nobody else would poll it again");
    second.block_on(async {
        assert!(connection.run().is_pending());
        pass(Duration::from_secs(6)).await;
        assert_times_out(&mut connection);
    });
}

#[test]
fn a_deadline_without_a_runtime_any_more_is_told_and_does_not_end_the_connection() {
    for entered in [false, true] {
        let runtime = paused_runtime();
        let handle = runtime.handle().clone();
        let (mut peer, desk, mut connection) = connection(&builder());
        runtime.block_on(async { assert!(connection.run().is_pending()) });
        drop(runtime);
        let _entered = entered.then(|| handle.enter());
        for _ in 0..3 {
            let (logs, polled) = Logs::during(|| connection.run());
            assert!(polled.is_pending());
            assert!(logs.at(Level::WARN)[0].contains("no tokio runtime"));
        }
        peer.send(GET);
        assert!(connection.run().is_pending());
        desk.answer("here");
        assert!(connection.run().is_pending());
        assert!(peer.received().ends_with("\r\n\r\nhere"));
    }
}

// ===== helpers =====

type Served = Task<Connection<TokioIo<DuplexStream>, Desk>>;

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.first_byte_timeout(FIRST_BYTE);
    builder
}

fn connection(builder: &Builder) -> (Peer, Desk, Served) {
    let (peer, io) = Peer::new();
    let desk = Desk::default();
    let connection = Task::new(builder.serve_connection(io, desk.clone()));
    (peer, desk, connection)
}

fn paused_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// The connection waits for so long, and then no longer than it may be late.
async fn assert_ends_within(connection: &mut Served, time: Duration, late: Duration) {
    pass(time - MOMENT).await;
    assert!(connection.run().is_pending(), "it ended within {time:?}");
    pass(MOMENT + late).await;
    assert_times_out(connection);
}

/// The connection is woken and ends as a deadline's does.
fn assert_times_out(connection: &mut Served) {
    let ended = connection.poll_woken();
    assert!(matches!(&ended, Poll::Ready(Err(error)) if error.is_timeout()), "{ended:?}");
}
