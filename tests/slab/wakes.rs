//! Wakes, in whatever order: none is lost, and each client gets one answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};

use crate::HAS_SLAB;
use crate::support::{PATIENCE, Park, TestBody, Watched, text};

#[test]
fn one_wake_after_the_other_is_noticed_while_nothing_else_happens() {
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut parked: Vec<_> = (0..5)
        .map(|_| {
            let mut client = server.connect();
            client.get("/");
            (client, responders.recv_timeout(PATIENCE).unwrap())
        })
        .collect();
    let mut control = server.connect();
    server.await_stats(&mut control, |stats| stats.parked == 5);
    let mut answered = Vec::new();
    while let Some((mut client, responder)) = parked.pop() {
        responder.send(text("woken")).unwrap();
        let head = client.read_head();
        assert_eq!(client.read_body(&head), b"woken");
        // It stays: a hang-up would be something else that happens.
        answered.push(client);
    }
    drop((answered, control));
    assert_eq!(server.finish().answered, 5);
}

#[test]
fn a_burst_from_eight_threads_reaches_each_client_once() {
    const THREADS: usize = 8;
    const EACH: usize = 200;
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut control = server.connect();
    let mut clients: Vec<_> = (0..THREADS * EACH).map(|_| server.connect()).collect();
    for round in 0..5 {
        for client in &mut clients {
            client.get("/");
        }
        let mut parked: Vec<_> = clients.iter().map(|_| responders.recv_timeout(PATIENCE).unwrap()).collect();
        // In some rounds all of them wait, in others some are answered before they do.
        if round % 2 == 0 {
            server.await_stats(&mut control, |stats| stats.parked == clients.len() as u64);
        }
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let responders = parked.split_off(parked.len() - EACH);
                scope.spawn(|| {
                    start.wait();
                    responders.into_iter().for_each(|responder| responder.send(text("woken")).unwrap());
                });
            }
        });
        for client in &mut clients {
            let head = client.read_head();
            assert_eq!(client.read_body(&head), b"woken");
        }
    }
    drop(clients);
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

/// Hypers are handed from one connection to the next, also while they wait for an answer.
#[test]
fn each_gets_the_answer_that_its_own_request_wants() {
    // A request, its answer up to the date, and what comes after that answer's head.
    const KINDS: [(&str, &str, &str); 5] = [
        ("GET / HTTP/1.1\r\nhost: test\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", "wokenHTTP/1.1 200 OK"),
        ("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", "HTTP/1.1 200 OK"),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n",
            "wokenHTTP/1.1 200 OK",
        ),
        (
            "GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n",
            "woken",
        ),
        ("HEAD / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n", ""),
    ];
    // More than hypers are kept for.
    const CLIENTS: usize = 20 * KINDS.len();
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut control = server.connect();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|nth| {
            let kind = nth % KINDS.len();
            let mut client = server.connect();
            client.write(KINDS[kind].0);
            (kind, client, Some(responders.recv_timeout(PATIENCE).unwrap()))
        })
        .collect();
    server.await_stats(&mut control, |stats| stats.parked == CLIENTS as u64);
    // 37 and 100 have no divisor in common, so that each has its turn.
    for turn in 0..CLIENTS {
        let (_, _, responder) = &mut clients[turn * 37 % CLIENTS];
        responder.take().unwrap().send(text("woken")).unwrap();
    }
    for (kind, client, _) in &mut clients {
        let (request, head, after) = KINDS[*kind];
        // Whoever is still there asks for something else.
        let _ = client.try_write("GET /now HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        let answer = String::from_utf8(client.try_read_to_end()).unwrap();
        assert!(answer.starts_with(head), "{request:?} got {answer:?}");
        let rest = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(rest.starts_with(after) && rest.is_empty() == after.is_empty(), "{request:?} got {answer:?}");
    }
    drop(clients);
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

/// For ever, with the budget of its task used up each time.
async fn spin(path: String) -> Result<Response<TestBody>, Infallible> {
    loop {
        match &*path {
            "/wakes-itself" => tokio::task::yield_now().await,
            "/wakes-at-once" => {
                let mut woken = false;
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            "/consumes" => tokio::task::coop::consume_budget().await,
            _ => return Ok(text("now")),
        }
    }
}

#[test]
fn futures_that_wake_themselves_for_ever_starve_nobody() {
    let server = Watched::on_loopback(|| {
        let park = tokio::sync::watch::Sender::new(0);
        service_fn(move |request: Request<Incoming>| {
            let path = request.uri().path().to_owned();
            let (park, mut changes) = (park.clone(), park.subscribe());
            async move {
                match &*path {
                    // Through channels that take from a budget.
                    "/park" => {
                        changes.changed().await.unwrap();
                        Ok(text("changed"))
                    }
                    "/change" => {
                        park.send_modify(|n| *n += 1);
                        Ok(text("now"))
                    }
                    _ => spin(path).await,
                }
            }
        })
    });
    let mut control = server.connect();
    let mut spinning = Vec::new();
    for path in ["/wakes-itself", "/wakes-at-once", "/consumes"] {
        for _ in 0..10 {
            let mut client = server.connect();
            client.get(path);
            spinning.push(client);
        }
    }
    server.await_stats(&mut control, |stats| stats.parked == 30);
    let mut parked: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for _ in 0..10 {
        for client in &mut parked {
            client.get("/park");
        }
        server.await_stats(&mut control, |stats| stats.parked == 130);
        control.text("/change");
        for client in &mut parked {
            let head = client.read_head();
            assert_eq!(client.read_body(&head), b"changed");
        }
    }
    drop((spinning, parked));
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

#[test]
fn wakers_may_be_kept_for_longer_than_their_connection_and_their_server() {
    let wakers = Arc::new(Mutex::new(Vec::<Waker>::new()));
    let wake_all = {
        let wakers = wakers.clone();
        move || wakers.lock().unwrap().iter().for_each(Waker::wake_by_ref)
    };
    for _ in 0..3 {
        let kept = wakers.clone();
        let (park, responders, _outcomes) = Park::new();
        let server = Watched::on_loopback(move || {
            service_fn(move |request: Request<Incoming>| {
                let mut answer = park.call(request);
                let kept = kept.clone();
                poll_fn(move |cx| {
                    kept.lock().unwrap().push(cx.waker().clone());
                    Pin::new(&mut answer).poll(cx)
                })
            })
        });
        for round in 0..50 {
            let mut client = server.connect();
            client.get("/");
            let responder = responders.recv_timeout(PATIENCE).unwrap();
            wake_all();
            if round % 2 == 0 {
                responder.send(text("woken")).unwrap();
                assert_eq!(client.read_head().status, 200);
            }
            wake_all();
            let other = wake_all.clone();
            let waking = thread::spawn(other);
            drop(client);
            waking.join().unwrap();
        }
        assert_eq!(server.connect().text("/now"), "now");
        if !HAS_SLAB {
            // A task's waker has its runtime's descriptors; one of an entry in the slab has nothing.
            wakers.lock().unwrap().clear();
        }
        server.finish();
        wake_all();
    }
}

#[test]
fn a_service_may_keep_its_request_while_it_waits() {
    let (sender, requests) = mpsc::channel();
    let server = Watched::on_loopback(|| {
        service_fn(move |request: Request<Incoming>| {
            let (responder, deferred) = hyper_deferred::deferred();
            if request.uri().path() == "/now" {
                responder.send(text("now")).unwrap();
            } else {
                sender.send((request, responder)).unwrap();
            }
            deferred
        })
    });
    let mut control = server.connect();
    let whole = "POST / HTTP/1.1\r\nhost: test\r\nx-kept: value\r\ncontent-length: 5\r\n\r\nhello";
    let get = "GET / HTTP/1.1\r\nhost: test\r\nx-kept: value\r\n\r\n";
    // hyper is needed for as long as there is more of a body to come.
    for (bytes, parks) in [(get, true), (whole, true), (&whole[..whole.len() - 1], false)] {
        // Answered, and left; the request dropped before that, and after it.
        for way in 0..4 {
            let mut client = server.connect();
            client.write(bytes);
            let (request, responder) = requests.recv_timeout(PATIENCE).unwrap();
            server.await_stats(&mut control, |stats| stats.parked + stats.active == 1);
            assert_eq!(server.stats().parked == 1, parks);
            let mut request = Some(request);
            if way % 2 == 0 {
                assert_eq!(request.take().unwrap().headers()["x-kept"], "value");
            }
            if way < 2 {
                responder.send(text("woken")).unwrap();
                assert_eq!(client.read_head().status, 200);
            }
            drop(client);
            if way == 1 && !parks {
                // hyper does not look for the end of a client that owes it a part of a body while nobody reads that.
                request = None;
            }
            server.await_rest(&mut control);
            if let Some(request) = request {
                assert_eq!(request.headers()["x-kept"], "value");
            }
        }
    }
    drop(control);
    server.finish();
}
