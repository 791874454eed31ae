//! A loop that does not turn is logged while it is stuck, with the request that it polls, and once more when it goes on.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::service::{Service as _, service_fn};
use hyper_deferred::context::WithContext;
use hyper_deferred::watchdog::Watchdog;
use loop_lines::lines_of;

#[path = "support/loop_lines.rs"]
mod loop_lines;

type Body = Empty<Bytes>;

const THRESHOLD: Duration = Duration::from_millis(50);
/// A test that waits for a line which never comes should fail, not hang.
const LINE_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_stalled_loop_is_logged_with_the_request_that_it_polls_and_again_when_it_goes_on() {
    let lines = lines_of("stalled");
    let watchdog = Watchdog::start_with(THRESHOLD).unwrap();
    let watch = watchdog.watch("stalled");
    let seen = RefCell::new(String::new());
    // The service blocks until the watchdog has spoken: there is no time to guess.
    let service = WithContext::new(service_fn(|_request: Request<Body>| {
        *seen.borrow_mut() = lines.recv_timeout(LINE_WITHIN).unwrap();
        async { Ok::<_, Infallible>(Response::new(Body::new())) }
    }));

    let mut runtime = tokio::runtime::Builder::new_current_thread();
    watch.on_runtime(&mut runtime).build().unwrap().block_on(async {
        let _watching = watch.watch_thread();
        watch.turn();
        let request = Request::builder().method("PUT").uri("/slow?x").body(Body::new()).unwrap();
        service.call(request).await.unwrap();
        watch.idle();
    });

    let begin = seen.borrow();
    assert!(begin.contains("the loop does not turn: it is polling a request"), "{begin}");
    assert!(begin.contains(r#"method=PUT path="/slow" id="#), "{begin}");
    let end = lines.try_recv();
    // Lines pass through a thread; the loop itself has gone on.
    let end = end.or_else(|_| lines.recv_timeout(LINE_WITHIN)).unwrap();
    assert!(end.contains("the loop turns again") && end.contains(r#"path="/slow""#), "{end}");
    assert!(lines.try_recv().is_err(), "one line for each end of a stall");
    let stats = watch.stats();
    assert_eq!(stats.stalls, 1);
    assert!(stats.longest_stall >= THRESHOLD, "{stats:?}");
    assert!(stats.turns.count() >= 1, "{stats:?}");
    assert!(stats.turns.quantile(1.0) >= THRESHOLD, "{stats:?}");
}

#[test]
fn a_loop_that_sleeps_or_turns_is_not_logged() {
    let lines = lines_of("healthy");
    let others = lines_of("stuck");
    let watchdog = Watchdog::start_with(THRESHOLD).unwrap();
    let (asleep, stuck) = (watchdog.watch("healthy"), watchdog.watch("stuck"));
    asleep.turn();
    asleep.idle();
    stuck.turn();
    // By the time that the stuck one is logged, the other has been silent for just as long.
    others.recv_timeout(LINE_WITHIN).unwrap();
    stuck.idle();
    asleep.turn();
    assert!(lines.try_recv().is_err());
    assert_eq!(asleep.stats().stalls, 0);
    assert_eq!(asleep.stats().turns.count(), 1);
    assert_eq!(stuck.stats().stalls, 1);
}

#[test]
fn a_runtime_that_waits_for_a_timer_is_asleep() {
    let watchdog = Watchdog::start_with(THRESHOLD).unwrap();
    let watch = watchdog.watch("timer");
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    watch.on_runtime(runtime.enable_time()).build().unwrap().block_on(async {
        // Real time is the subject here, not a means to wait for something.
        tokio::time::sleep(THRESHOLD * 3).await;
    });
    assert_eq!(watch.stats().stalls, 0);
    assert!(watch.stats().turns.count() >= 1);
}

#[test]
fn a_heartbeat_tells_of_a_loop_that_nothing_else_tells_of() {
    let lines = lines_of("beating");
    let watchdog = Watchdog::start_with(THRESHOLD).unwrap();
    let watch = watchdog.watch("beating");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut beating = pin!(watch.clone().heartbeat());
        poll_fn(|cx| {
            assert!(beating.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let line = lines.recv_timeout(LINE_WITHIN).unwrap();
        assert!(line.contains("it is doing something unknown"), "{line}");
        assert_eq!(watch.stats().stalls, 0, "it goes on");
    });
    assert!(lines.recv_timeout(LINE_WITHIN).unwrap().contains("the loop turns again"));
    assert_eq!(watch.stats().stalls, 1);
    assert_eq!(watch.stats().turns.count(), 0, "a sign of life is no turn");
}

#[test]
fn of_two_loops_on_a_thread_the_last_to_begin_has_the_polls_whichever_ends_first() {
    let first_lines = lines_of("first of two");
    let last_lines = lines_of("last of two");
    let watchdog = Watchdog::start_with(THRESHOLD).unwrap();
    let (first, last) = (watchdog.watch("first of two"), watchdog.watch("last of two"));
    let watching_first = first.watch_thread();
    let watching_last = last.watch_thread();
    drop(watching_first);
    let seen = RefCell::new(String::new());
    let service = WithContext::new(service_fn(|_request: Request<Body>| {
        *seen.borrow_mut() = last_lines.recv_timeout(LINE_WITHIN).unwrap();
        async { Ok::<_, Infallible>(Response::new(Body::new())) }
    }));
    last.turn();
    drop(service.call(Request::new(Body::new())));
    last.idle();
    assert!(seen.borrow().contains("it is polling a request"), "{}", seen.borrow());
    drop(watching_last);
    assert!(first_lines.try_recv().is_err());
}
