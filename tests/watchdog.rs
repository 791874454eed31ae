//! A loop that does not turn is logged while it is stuck, with the request that it polls, and once more when it goes on.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::service::{Service as _, service_fn};
use hyper_deferred::context::WithContext;
use hyper_deferred::watchdog::Watchdog;

#[path = "support/log_lines.rs"]
mod log_lines;

type Body = Empty<Bytes>;

const THRESHOLD: Duration = Duration::from_millis(10);
/// A test that waits for a line which never comes should fail, not hang.
const LINE_WITHIN: Duration = Duration::from_secs(20);

/// The lines that the loop `name` caused, from here on: several tests log to the one subscriber of the process.
fn lines_of(name: &str) -> Receiver<String> {
    use std::sync::{Mutex, Once};
    static LISTENERS: Mutex<Vec<(String, mpsc::Sender<String>)>> = Mutex::new(Vec::new());
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let (subscriber, logged) = log_lines::channel();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        std::thread::spawn(move || {
            for line in logged {
                for (name, listener) in &*LISTENERS.lock().unwrap() {
                    if line.contains(&format!("name=\"{name}\"")) {
                        let _test_has_ended = listener.send(line.clone());
                    }
                }
            }
        });
    });
    let (listener, lines) = mpsc::channel();
    LISTENERS.lock().unwrap().push((name.to_owned(), listener));
    lines
}

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
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let beating = tokio::task::spawn_local(watch.clone().heartbeat());
        while watch.stats().turns.count() < 2 {
            tokio::task::yield_now().await;
        }
        let line = lines.recv_timeout(LINE_WITHIN).unwrap();
        assert!(line.contains("it is doing something unknown"), "{line}");
        while watch.stats().stalls == 0 {
            tokio::task::yield_now().await;
        }
        beating.abort();
    });
    assert!(lines.recv_timeout(LINE_WITHIN).unwrap().contains("the loop turns again"));
}
