//! To whom a queue gives a value, and when it takes it back.
#![cfg(feature = "queue")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_deferred::Queue;
use hyper_deferred::queue::{Builder, LeaseId, TakenBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn is_parked<F: Future>(future: Pin<&mut F>) -> bool {
    poll_once(future).is_pending()
}

#[test]
fn who_has_waited_for_longest_gets_it() {
    let queue = Queue::new(10);
    let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(queue.take())).collect();
    for take in &mut waiting {
        assert!(is_parked(take.as_mut()));
    }
    drop(waiting.remove(0));
    assert_eq!(queue.waiting(), 3, "who has gone has left the line");
    queue.push("one").unwrap();
    queue.push("two").unwrap();
    // One who comes now does not overtake those who were given something and have not come for it.
    assert!(is_parked(pin!(queue.take())));
    assert!(is_parked(waiting[2].as_mut()));
    let Poll::Ready(two) = poll_once(waiting[1].as_mut()) else { panic!("given the second") };
    let Poll::Ready(one) = poll_once(waiting[0].as_mut()) else { panic!("given the first") };
    assert_eq!((*one, *two), ("one", "two"));
    drop(one);
    let Poll::Ready(one) = poll_once(waiting[2].as_mut()) else { panic!("the next in line gets it") };
    assert_eq!(one.into_inner(), "one");
}

#[test]
fn what_comes_back_goes_before_all_that_came_after_it() {
    let queue = Queue::new(10);
    (0..5).for_each(|n| queue.push(n).unwrap());
    let take = || match poll_once(pin!(queue.take())) {
        Poll::Ready(taken) => taken,
        Poll::Pending => panic!("there are values"),
    };
    let (zero, one, two) = (take(), take(), take());
    drop((one, zero));
    let mut rest = vec![take().into_inner(), take().into_inner(), take().into_inner()];
    drop(two);
    rest.push(take().into_inner());
    assert_eq!(rest, [0, 1, 3, 2]);
}

#[test]
fn a_full_queue_hands_the_value_back() {
    let queue = Queue::new(2);
    queue.push("one".to_owned()).unwrap();
    queue.push("two".to_owned()).unwrap();
    let error = queue.push("three".to_owned()).unwrap_err();
    assert!(error.to_string().contains("the queue is full"), "{error}");
    assert_eq!(error.0, "three");
    let Poll::Ready(taken) = poll_once(pin!(queue.take())) else { panic!("there is a value") };
    assert!(queue.push("three".to_owned()).is_err(), "what is on its way may come back");
    taken.into_inner();
    queue.push("three".to_owned()).unwrap();
}

#[test]
fn values_go_to_other_threads() {
    let queue = Queue::<u32>::new(1000);
    let takers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let mut taken = Vec::new();
                    while taken.len() < 250 {
                        taken.push(queue.take().await.into_inner());
                    }
                    taken
                })
            })
        })
        .collect();
    (0..1000).for_each(|n| queue.push(n).unwrap());
    let mut all: Vec<u32> = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
}

/// A connection to a server that answers each request with the next value of `queue`.
fn connect(queue: &Queue<&'static str>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(4096);
    let queue = queue.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let queue = queue.clone();
        async move {
            let taken = queue.take().await;
            let text = *taken;
            let mut response = Response::new(taken.into_body(text));
            if request.uri().path() == "/204" {
                *response.status_mut() = StatusCode::NO_CONTENT;
            }
            Ok::<_, Infallible>(match request.uri().path() {
                "/other" => Response::new(Either::Right(Full::from("something else"))),
                _ => response.map(Either::<TakenBody<&str>, Full<bytes::Bytes>>::Left),
            })
        }
    });
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));
    client
}

async fn exchange(client: &mut DuplexStream, request: &str, end: &str) -> String {
    client.write_all(format!("{request} HTTP/1.1\r\nhost: here\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut bytes = [0; 1024];
        let read = client.read(&mut bytes).await.unwrap();
        assert!(read > 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text
}

#[tokio::test]
async fn a_value_whose_response_was_taken_is_delivered() {
    let queue = Queue::new(10);
    let mut client = connect(&queue);
    queue.push("one").unwrap();
    assert!(exchange(&mut client, "GET /", "one").await.contains("content-length: 3\r\n"));
    assert_eq!(queue.held(), 0);
    // Also one that has no bytes.
    queue.push("").unwrap();
    exchange(&mut client, "GET /", "\r\n\r\n0\r\n\r\n").await;
    assert_eq!(queue.held(), 0);
}

#[tokio::test]
async fn a_value_whose_body_is_never_sent_comes_back() {
    let queue = Queue::new(10);
    queue.push("one").unwrap();
    for (request, end) in [("HEAD /", "\r\n\r\n"), ("GET /204", "\r\n\r\n"), ("GET /other", "something else")] {
        let mut client = connect(&queue);
        exchange(&mut client, request, end).await;
        drop(client);
        while queue.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!((queue.len(), queue.held()), (1, 1), "{request}");
    }
}

#[tokio::test]
async fn a_value_goes_to_the_next_when_its_client_has_gone() {
    let queue = Queue::new(10);
    let (mut first, mut second) = (connect(&queue), connect(&queue));
    first.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    while queue.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    let answer = tokio::spawn(async move { exchange(&mut second, "GET /", "one").await });
    while queue.waiting() < 2 {
        tokio::task::yield_now().await;
    }
    drop(first);
    // At this moment the first still stands in line.
    queue.push("one").unwrap();
    answer.await.unwrap();
    assert_eq!(queue.held(), 0);
}

#[tokio::test]
async fn a_body_that_is_dropped_half_way_gives_the_value_back() {
    let queue = Queue::new(10);
    queue.push("one").unwrap();
    let mut body = queue.take().await.into_body("text");
    assert_eq!(body.size_hint().exact(), Some(4));
    drop(body);
    assert_eq!(queue.len(), 1);
    body = queue.take().await.into_body("text");
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "text");
    assert!(body.is_end_stream());
    drop(body);
    assert_eq!(queue.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_confirmed_or_comes_back() {
    let dead = Arc::new(Mutex::new(Vec::new()));
    let buried = dead.clone();
    let queue =
        Builder::new(10).deliveries_max(3).dead_letter(move |letter| buried.lock().unwrap().push(letter)).build();
    queue.push("one").unwrap();
    queue.push("two").unwrap();
    let minute = Duration::from_secs(60);

    let lease = queue.lease(minute).await;
    assert_eq!((*lease, lease.deliveries()), ("one", 1));
    let id: LeaseId = lease.keep().to_string().parse().unwrap();
    tokio::time::sleep(minute - Duration::from_secs(1)).await;
    assert_eq!((queue.len(), queue.held()), (1, 2));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(queue.len(), 2, "its time was up");
    assert!(queue.confirm(id).unwrap_err().to_string().contains("there is no such lease"));

    let again = queue.lease(minute).await;
    assert_eq!((*again, again.deliveries()), ("one", 2), "before what came after it");
    drop(again);
    let third = queue.lease(minute).await;
    assert_eq!((*third, third.deliveries()), ("one", 3));
    queue.release(third.keep()).unwrap();
    {
        let dead = dead.lock().unwrap();
        assert_eq!((dead.len(), dead[0].value, dead[0].deliveries), (1, "one", 3));
    }
    assert_eq!((queue.len(), queue.held()), (1, 1));

    let two = queue.lease(minute).await;
    two.confirm().unwrap();
    assert_eq!(queue.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_short_lease_is_not_held_up_by_a_long_one() {
    let queue = Queue::new(10);
    queue.push(1).unwrap();
    queue.push(2).unwrap();
    queue.lease(Duration::from_secs(1000)).await.keep();
    queue.lease(Duration::MAX).await.keep();
    queue.push(3).unwrap();
    queue.lease(Duration::from_secs(1)).await.keep();
    let begin = tokio::time::Instant::now();
    assert_eq!(*queue.take().await, 3);
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited <= Duration::from_millis(1150), "{waited:?}");
}

#[tokio::test]
async fn a_worker_that_panics_gives_its_value_back() {
    let queue = Queue::new(10);
    queue.push("one").unwrap();
    let lease = queue.lease(Duration::from_secs(60)).await;
    let worker = std::thread::spawn(move || {
        let _lease = lease;
        std::panic::resume_unwind(Box::new("the worker dies"));
    });
    worker.join().unwrap_err();
    assert_eq!(queue.take().await.into_inner(), "one");
}

#[test]
fn leases_end_though_the_runtime_that_looked_after_them_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (first, second) = (runtime(), runtime());
    let queue = Queue::new(10);
    queue.push("one").unwrap();
    first.block_on(async { queue.lease(Duration::from_secs(5)).await.keep() });
    let (value, deliveries) = second.block_on(async {
        let waiting = queue.clone();
        let next = tokio::spawn(async move {
            let lease = waiting.lease(Duration::from_secs(5)).await;
            (*lease, lease.deliveries())
        });
        while queue.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        std::thread::spawn(move || drop(first)).join().unwrap();
        next.await.unwrap()
    });
    assert_eq!((value, deliveries), ("one", 2));
}

#[test]
fn garbage_names_no_lease() {
    for bad in ["", "0", "000000000000000g", "00000000000000000", "ABCDEF0123456789", "+00000000000000a"] {
        assert!(bad.parse::<LeaseId>().is_err(), "{bad:?}");
    }
    let queue = Queue::<u8>::new(1);
    assert!(queue.confirm("0123456789abcdef".parse().unwrap()).is_err());
}
