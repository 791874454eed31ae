//! The three deadlines of a client that keeps a connection waiting, on a paused clock.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::task::Poll;
use std::time::Duration;

use hyper_deferred::server::conn::http1::{Builder, Connection};
use hyper_util::rt::TokioIo;
use support::{Desk, Peer, Task, pass};
use tokio::io::DuplexStream;
use tokio::time::advance;

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
const DEFAULT: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);
/// More than a tick of tokio's clock.
const MOMENT: Duration = Duration::from_millis(2);
/// How late the default timer may be with a deadline of two seconds or more.
const LATE_MAX: Duration = Duration::from_millis(100);

// ===== each alone =====

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_disconnected_after_the_time_for_the_first_byte() {
    let (_peer, _desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(None).first_byte_timeout(Duration::from_secs(5));
    });
    assert!(connection.run().is_pending());
    assert_ends_after(&mut connection, Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_stops_is_disconnected_after_the_time_for_a_head() {
    let (mut peer, _desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(Duration::from_secs(5)).first_byte_timeout(None).idle_timeout(None);
    });
    assert!(connection.run().is_pending());
    assert_waits_for(&mut connection, HOUR).await;
    peer.send("GET / HT");
    assert!(connection.run().is_pending());
    assert_ends_after(&mut connection, Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_does_not_put_its_deadline_off() {
    for first in ["", GET] {
        let (mut peer, desk, mut connection) = connection(|builder| {
            builder.header_read_timeout(Duration::from_secs(5)).first_byte_timeout(None).idle_timeout(None);
        });
        peer.send(first);
        assert!(connection.run().is_pending());
        if !first.is_empty() {
            desk.answer("here");
            assert!(connection.run().is_pending());
        }
        assert_waits_for(&mut connection, HOUR).await;
        peer.send("G");
        assert!(connection.run().is_pending());
        for byte in "ET /".split_inclusive(|_: char| true) {
            advance(Duration::from_secs(1)).await;
            peer.send(byte);
            assert!(connection.run().is_pending(), "before {byte:?}");
        }
        assert_ends_after(&mut connection, Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn blank_lines_before_a_head_do_not_put_its_deadline_off() {
    let (mut peer, _desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(Duration::from_secs(5)).first_byte_timeout(None).idle_timeout(None);
    });
    for _ in 0..5 {
        peer.send("\r\n\r\n");
        assert!(connection.run().is_pending());
        advance(Duration::from_millis(900)).await;
    }
    assert_ends_after(&mut connection, Duration::from_millis(500)).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_head_that_dribbles_does_not_put_its_deadline_off() {
    let (mut peer, _desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(Duration::from_secs(5)).first_byte_timeout(None).idle_timeout(None);
    });
    peer.send("GET / HTTP/1.1\r\n");
    for _ in 0..4 {
        // More than is kept of a head without hyper.
        peer.send(format!("a: {}\r\n", "b".repeat(5_000)));
        assert!(connection.run().is_pending());
        advance(Duration::from_secs(1)).await;
    }
    assert_ends_after(&mut connection, Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_no_more_is_disconnected_after_the_time_between_two_requests() {
    let (mut peer, desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(None).first_byte_timeout(None).idle_timeout(Duration::from_secs(5));
    });
    for _ in 0..3 {
        assert_waits_for(&mut connection, Duration::from_secs(4)).await;
        peer.send(GET);
        assert!(connection.run().is_pending());
        desk.answer("here");
        assert!(connection.run().is_pending());
        assert!(peer.received().ends_with("\r\n\r\nhere"));
    }
    assert_ends_after(&mut connection, Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_requests_came_fast_has_the_same_time_between_two_requests() {
    let (mut peer, desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(None).idle_timeout(Duration::from_secs(5));
    });
    for _ in 0..3 {
        peer.send(GET);
        assert!(connection.run().is_pending());
        // The desk parks each; what comes back at once keeps hyper only if it is not parked first.
        desk.answer("here");
        assert!(connection.run().is_pending());
    }
    assert_ends_after(&mut connection, Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_after_a_long_one_is_kept() {
    let (mut peer, desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(Duration::from_secs(5)).first_byte_timeout(HOUR).idle_timeout(HOUR);
    });
    assert!(connection.run().is_pending());
    assert_waits_for(&mut connection, Duration::from_secs(60)).await;
    let (first, rest) = GET.split_at(10);
    peer.send(first);
    assert!(connection.run().is_pending());
    peer.send(rest);
    assert!(connection.run().is_pending());
    desk.answer("here");
    assert!(connection.run().is_pending());
    assert_waits_for(&mut connection, Duration::from_secs(60)).await;
    peer.send(first);
    assert!(connection.run().is_pending());
    assert_ends_after(&mut connection, Duration::from_secs(5)).await;
}

// ===== parked =====

#[tokio::test(start_paused = true)]
async fn none_runs_while_a_request_is_parked() {
    for request in [GET.to_owned(), GET.repeat(2), format!("{GET}GET /"), post()] {
        let (mut peer, desk, mut connection) = connection(|builder| {
            let short = Duration::from_millis(500);
            builder.header_read_timeout(short).first_byte_timeout(short).idle_timeout(short);
        });
        peer.send(&request);
        assert!(connection.run().is_pending());
        assert_eq!(desk.waiting(), 1);
        for _ in 0..5 {
            assert_waits_for(&mut connection, HOUR).await;
        }
        assert_eq!(desk.waiting(), 1);
        desk.answer("at last");
        assert!(connection.run().is_pending());
        assert!(peer.received().ends_with("\r\n\r\nat last"));
    }
}

// ===== defaults =====

#[tokio::test(start_paused = true)]
async fn all_are_thirty_seconds_by_default() {
    let (_peer, _desk, mut silent) = connection(|_| {});
    assert!(silent.run().is_pending());
    assert_ends_after(&mut silent, DEFAULT).await;

    let (mut peer, _desk, mut half) = connection(|_| {});
    assert!(half.run().is_pending());
    assert_waits_for(&mut half, DEFAULT - MOMENT).await;
    peer.send("G");
    assert!(half.run().is_pending());
    assert_ends_after(&mut half, DEFAULT).await;

    let (mut peer, desk, mut idle) = connection(|_| {});
    peer.send(GET);
    assert!(idle.run().is_pending());
    desk.answer("here");
    assert!(idle.run().is_pending());
    assert_ends_after(&mut idle, DEFAULT).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_for_a_head_is_that_for_the_others_unless_they_are_set() {
    let head = Duration::from_secs(7);
    let (_peer, _desk, mut silent) = connection(|builder| {
        builder.header_read_timeout(head);
    });
    assert!(silent.run().is_pending());
    assert_ends_after(&mut silent, head).await;

    let (_peer, _desk, mut silent) = connection(|builder| {
        builder.first_byte_timeout(Duration::from_secs(3)).header_read_timeout(head);
    });
    assert!(silent.run().is_pending());
    assert_ends_after(&mut silent, Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn none_turns_all_off() {
    let (mut peer, desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(None);
    });
    assert!(connection.run().is_pending());
    assert_waits_for(&mut connection, HOUR).await;
    let (first, rest) = GET.split_at(10);
    peer.send(first);
    assert!(connection.run().is_pending());
    assert_waits_for(&mut connection, HOUR).await;
    peer.send(rest);
    assert!(connection.run().is_pending());
    desk.answer("here");
    assert!(connection.run().is_pending());
    assert_waits_for(&mut connection, HOUR).await;
    assert!(peer.received().ends_with("\r\n\r\nhere"));
}

// ===== without a runtime =====

#[test]
fn without_a_runtime_a_connection_serves_all_the_same() {
    let (mut peer, desk, mut connection) = connection(|_| {});
    assert!(connection.run().is_pending());
    for _ in 0..3 {
        let (first, rest) = GET.split_at(10);
        peer.send(first);
        assert!(connection.run().is_pending());
        peer.send(rest);
        assert!(connection.run().is_pending());
        desk.answer("here");
        assert!(connection.run().is_pending());
        assert!(peer.received().ends_with("\r\n\r\nhere"));
    }
    peer.close_sending_half();
    assert!(matches!(connection.run(), Poll::Ready(Ok(()))));
}

#[test]
fn a_runtime_without_its_timer_is_told_from_none() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut peer, desk, mut connection) = connection(|builder| {
        builder.header_read_timeout(None);
    });
    runtime.block_on(async {
        peer.send(GET);
        assert!(connection.run().is_pending());
        desk.answer("here");
        assert!(connection.run().is_pending());
    });
    assert!(peer.received().ends_with("\r\n\r\nhere"));
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_runtime_without_its_timer_is_told_at_the_first_deadline() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (_peer, _desk, mut connection) = connection(|_| {});
    runtime.block_on(async { assert!(connection.run().is_pending()) });
}

// ===== helpers =====

type Served = Task<Connection<TokioIo<DuplexStream>, Desk>>;

fn connection(configure: impl FnOnce(&mut Builder)) -> (Peer, Desk, Served) {
    let (peer, io) = Peer::new();
    let desk = Desk::default();
    let mut builder = Builder::new();
    configure(&mut builder);
    let connection = Task::new(builder.serve_connection(io, desk.clone()));
    (peer, desk, connection)
}

fn post() -> String {
    "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello".to_owned()
}

/// Nothing happens for so long.
async fn assert_waits_for(connection: &mut Served, time: Duration) {
    advance(time).await;
    assert!(connection.run().is_pending(), "it ended within {time:?}");
}

/// The connection is woken and ends as a deadline's does, after so long, hardly later, and not before.
async fn assert_ends_after(connection: &mut Served, time: Duration) {
    assert_waits_for(connection, time - MOMENT).await;
    pass(MOMENT + LATE_MAX).await;
    let ended = connection.poll_woken();
    assert!(matches!(&ended, Poll::Ready(Err(error)) if error.is_timeout()), "{ended:?}");
}
