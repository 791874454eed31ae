//! Deadlines: of a connection that keeps the server waiting, and of a request that waits.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::server::conn::http1::Builder;
use hyper_deferred::{Acceptor, Deferred, Outcome, deferred};

use crate::support::{Client, PATIENCE, Park, TestBody, Watched, text, untimed};

const SHORT: Duration = Duration::from_millis(30);
const NEVER: Duration = Duration::from_secs(3600);

/// Which of the three is short; the others are as long as a test would not survive.
fn acceptor(first_byte: Duration, head: Duration, idle: Duration) -> Acceptor {
    let mut builder = Builder::new();
    builder.first_byte_timeout(first_byte).header_read_timeout(head).idle_timeout(idle);
    Acceptor::bind("127.0.0.1:0").unwrap().http1(&builder)
}

fn assert_closed_after(begun: Instant, client: &mut Client, timeout: Duration) {
    client.expect_closed();
    assert!(begun.elapsed() >= timeout, "it was closed too early");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let (park, _responders, _outcomes) = Park::new();
    let server = Watched::run(|| acceptor(SHORT, NEVER, NEVER), || park);
    let begun = Instant::now();
    let mut client = server.connect();
    assert_closed_after(begun, &mut client, SHORT);
    drop(client);
    assert_eq!(server.finish().timed_out, 1);
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_given_up() {
    let (park, _responders, _outcomes) = Park::new();
    let server = Watched::run(|| acceptor(NEVER, SHORT, NEVER), || park);
    let large = format!("GET / HTTP/1.1\r\nhost: test\r\nx-padding: {}", "p".repeat(20_000));
    // Of a new connection and of a kept one; as its bytes, and too large for that.
    for (first, half) in [("", "GET / HT"), ("/now", "GET / HT"), ("", &*large), ("/now", &*large)] {
        let mut client = server.connect();
        if !first.is_empty() {
            client.text(first);
        }
        let begun = Instant::now();
        client.write(half);
        assert_closed_after(begun, &mut client, SHORT);
    }
    assert_eq!(server.finish().timed_out, 4);
}

#[test]
fn bytes_that_dribble_in_do_not_put_the_end_of_a_head_off() {
    let (park, _responders, _outcomes) = Park::new();
    let server = Watched::run(|| acceptor(NEVER, SHORT, NEVER), || park);
    let mut client = server.connect();
    client.write("GET /");
    let mut control = server.connect();
    // Until the server has had enough of it: the loop ends because it does.
    while client.try_write("x").is_ok() {
        control.text("/now");
    }
    drop((client, control));
    assert_eq!(server.finish().timed_out, 1);
}

#[test]
fn a_kept_connection_that_says_nothing_is_closed() {
    let (park, _responders, _outcomes) = Park::new();
    let server = Watched::run(|| acceptor(NEVER, NEVER, SHORT), || park);
    let mut client = server.connect();
    let begun = Instant::now();
    client.text("/now");
    assert_closed_after(begun, &mut client, SHORT);
    drop(client);
    assert_eq!(server.finish().timed_out, 1);
}

#[test]
fn no_deadline_of_a_connection_runs_while_its_request_waits() {
    let server = Watched::run(
        || acceptor(SHORT, SHORT, SHORT),
        || {
            service_fn(|_| {
                let (responder, deferred) = deferred();
                deferred.timeout(4 * SHORT, || text("waited")).on_complete(move |_| drop(responder))
            })
        },
    );
    let mut client = server.connect();
    let begun = Instant::now();
    assert_eq!(client.text("/"), "waited");
    assert!(begun.elapsed() >= 4 * SHORT);
    drop(client);
    server.finish();
}

fn no_content() -> Response<TestBody> {
    let mut response = text("");
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<TestBody>, Infallible>>>>;

/// A request that waits for its timeout, polled through all kinds of others.
fn wrapped(path: &str, deferred: Deferred<TestBody>) -> Answer {
    match path {
        "/bare" => Box::pin(deferred),
        "/unordered" => Box::pin(async move {
            // Each of its futures gets a waker of its own.
            let mut all: FuturesUnordered<_> = [deferred].into_iter().collect();
            all.next().await.unwrap()
        }),
        "/select" => Box::pin(async move {
            let mut ticks = tokio::time::interval(SHORT / 7);
            let mut deferred = deferred;
            loop {
                tokio::select! {
                    answer = &mut deferred => return answer,
                    _ = ticks.tick() => {}
                }
            }
        }),
        "/never" => Box::pin(async move {
            tokio::select! {
                answer = deferred => answer,
                () = std::future::pending() => unreachable!("it is never ready"),
            }
        }),
        "/sleep" => Box::pin(async move {
            // A timer of tokio's before it, so that it is polled first in the middle of its life.
            tokio::time::sleep(SHORT / 2).await;
            deferred.await
        }),
        _ => unreachable!("the test asks for nothing else"),
    }
}

#[test]
fn a_request_that_waits_is_answered_by_its_timeout_whoever_polls_it() {
    let server = Watched::run(untimed, || {
        service_fn(|request: Request<Incoming>| {
            let (responder, deferred) = deferred();
            let path = request.uri().path();
            if path == "/now" {
                responder.send(text("now")).unwrap();
                return Box::pin(deferred) as Answer;
            }
            // Kept, so that nothing but the timeout ends it.
            let kept = move |_: Outcome| drop(responder);
            wrapped(path, deferred.timeout(SHORT, no_content).on_complete(kept))
        })
    });
    let paths = ["/bare", "/unordered", "/select", "/never", "/sleep"];
    for path in paths {
        let mut client = server.connect();
        for _ in 0..3 {
            let begun = Instant::now();
            assert_eq!(client.round_trip(path).0.status, 204, "{path}");
            assert!(begun.elapsed() >= SHORT);
        }
    }
    // Many at once, and those that leave before.
    let mut clients: Vec<_> = (0..500).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.get(paths[n % paths.len()]);
    }
    for (n, client) in clients.into_iter().enumerate() {
        let mut client = client;
        if n % 3 > 0 {
            assert_eq!(client.read_head().status, 204);
        }
    }
    let mut control = server.connect();
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

#[test]
fn an_answer_and_a_timeout_at_the_same_time_are_one_answer() {
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::run(untimed, || {
        service_fn(move |request: Request<Incoming>| {
            use hyper::service::Service;
            park.call(request).timeout(Duration::from_millis(1), no_content)
        })
    });
    let mut client = server.connect();
    for _ in 0..300 {
        client.get("/");
        let responder = responders.recv_timeout(PATIENCE).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(1000) {
            std::hint::spin_loop();
        }
        let sent = responder.send(text("woken")).is_ok();
        let head = client.read_head();
        client.read_body(&head);
        assert_eq!(head.status, if sent { 200 } else { 204 });
    }
    drop(client);
    server.finish();
}

#[test]
fn a_request_that_is_there_is_served_though_its_connection_is_overdue() {
    /// More than are looked at in a turn.
    const CLIENTS: usize = 200;
    const IDLE: Duration = Duration::from_millis(500);
    let (entered, is_busy) = mpsc::channel();
    let (all_asked, go_on) = mpsc::channel::<()>();
    let server = Watched::run(
        || acceptor(NEVER, NEVER, IDLE),
        move || {
            service_fn(move |request: Request<Incoming>| {
                if request.uri().path() == "/busy" {
                    entered.send(()).unwrap();
                    go_on.recv_timeout(PATIENCE).unwrap();
                    // Nothing is waited for: it is time alone that makes them overdue.
                    thread::sleep(IDLE);
                }
                std::future::ready(Ok::<_, Infallible>(text("now")))
            })
        },
    );
    let mut busy = server.connect();
    // Again if the machine was too slow for them to be there when the server gets busy.
    let mut clients = loop {
        let begun = Instant::now();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| drop(client.text("/now")));
        if begun.elapsed() < IDLE / 2 {
            break clients;
        }
    };
    busy.get("/busy");
    is_busy.recv_timeout(PATIENCE).unwrap();
    for client in &mut clients {
        client.get("/now");
    }
    all_asked.send(()).unwrap();
    for client in &mut clients {
        assert_eq!(client.read_head().status, 200);
    }
    drop((busy, clients));
    server.finish();
}

/// The loop is held up so that what the clients do comes to it all at once, and it looks at a part of it only before the
/// place of one who leaves is another's.
#[test]
fn a_new_client_is_not_taken_for_the_one_who_had_its_place() {
    const OTHERS: usize = 100;
    let (park, responders, _outcomes) = Park::new();
    let (blocking, blocked) = mpsc::channel();
    let (unblock, unblocked) = mpsc::channel();
    let long = Duration::from_secs(1);
    let server = Watched::run(
        || acceptor(long, NEVER, NEVER),
        || {
            service_fn(move |request: Request<Incoming>| {
                if request.uri().path() == "/block" {
                    blocking.send(()).unwrap();
                    unblocked.recv_timeout(PATIENCE).unwrap();
                    return Either::Left(ready(Ok(text("on"))));
                }
                Either::Right(park.call(request))
            })
        },
    );
    let mut clients: Vec<_> = (0..OTHERS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.text("/now");
    }
    let mut leaving = server.connect();
    leaving.get("/");
    let responder = responders.recv_timeout(PATIENCE).unwrap();

    clients[0].get("/block");
    blocked.recv_timeout(PATIENCE).unwrap();
    clients[1].get("/block");
    for client in &mut clients[2..] {
        client.get("/now");
    }
    leaving.write("more");
    let mut silent = server.connect();
    unblock.send(()).unwrap();
    blocked.recv_timeout(PATIENCE).unwrap();
    let mut last = text("last");
    last.headers_mut().insert("connection", "close".parse().unwrap());
    responder.send(last).unwrap();
    unblock.send(()).unwrap();

    silent.expect_closed();
    drop((clients, leaving, silent));
    assert_eq!(server.finish().timed_out, 1);
}
