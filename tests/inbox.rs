//! Requests passed to a foreign loop: a descriptor that is readable exactly while something is there.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![cfg(unix)]

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::Service as _;
use hyper_deferred::inbox::{Inbox, InboxReceiver, inbox};

type Ends = (Inbox<&'static str, Full<Bytes>>, InboxReceiver<&'static str, Full<Bytes>>);

#[tokio::test]
async fn a_foreign_thread_answers_what_it_takes_out() {
    let (service, receiver): Ends = inbox(4).unwrap();
    let foreign = std::thread::spawn(move || {
        let mut taken = Vec::new();
        while receiver.is_open() {
            wait_readable(&receiver);
            for job in receiver.drain() {
                taken.push(*job.request.body());
                job.responder.send(Response::new((*job.request.body()).into())).unwrap();
            }
        }
        taken
    });
    for word in ["one", "two", "three"] {
        let response = service.call(Request::new(word)).await.unwrap();
        assert_eq!(body(response).await, word);
    }
    drop(service);
    assert_eq!(foreign.join().unwrap(), ["one", "two", "three"]);
}

#[tokio::test]
async fn the_descriptor_is_readable_exactly_while_something_is_there() {
    let (service, receiver): Ends = inbox(4).unwrap();
    assert!(!is_readable(&receiver));
    let (_a, _b) = (service.call(Request::new("a")), service.call(Request::new("b")));
    assert!(is_readable(&receiver));
    assert!(is_readable(&receiver), "asking takes nothing away");
    assert_eq!(receiver.drain().map(|job| *job.request.body()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(!is_readable(&receiver));
    let _c = service.call(Request::new("c"));
    assert!(is_readable(&receiver));
    assert_eq!(receiver.drain().count(), 1);
    let other = service.clone();
    drop(service);
    assert!(!is_readable(&receiver) && receiver.is_open());
    drop(other);
    assert!(is_readable(&receiver) && !receiver.is_open());
    assert_eq!(receiver.drain().count(), 0);
    assert!(is_readable(&receiver), "the end stays readable");
}

#[tokio::test]
async fn past_the_bound_a_request_is_answered_503_and_told_when_to_come_again() {
    let (service, receiver): Ends = inbox(1).unwrap();
    let service = service.retry_after(std::time::Duration::from_secs(3));
    let _waits = service.call(Request::new("a"));
    let refused = service.call(Request::new("b")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[RETRY_AFTER], "3");
    assert_eq!(receiver.drain().count(), 1);
}

#[tokio::test]
async fn a_request_whose_client_has_gone_takes_no_place_and_is_not_given_out() {
    let (service, receiver): Ends = inbox(2).unwrap();
    drop(service.call(Request::new("gone")));
    let _waits = service.call(Request::new("waits"));
    assert_eq!(receiver.drain().map(|job| *job.request.body()).collect::<Vec<_>>(), ["waits"]);

    let (service, receiver): Ends = inbox(1).unwrap();
    drop(service.call(Request::new("gone")));
    let mut stays = service.call(Request::new("stays"));
    assert!(std::pin::Pin::new(&mut stays).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(receiver.drain().map(|job| *job.request.body()).collect::<Vec<_>>(), ["stays"]);
}

#[tokio::test]
async fn what_waits_when_the_receiver_goes_is_answered_503_and_so_is_what_comes_later() {
    let (service, receiver): Ends = inbox(4).unwrap();
    let waits = service.call(Request::new("a"));
    drop(receiver);
    assert_eq!(waits.await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(service.call(Request::new("b")).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn many_threads_fill_it_and_nothing_is_lost() {
    const THREADS: usize = 4;
    const EACH: usize = 2_000;
    let (service, receiver): Ends = inbox(THREADS * EACH).unwrap();
    let senders: Vec<_> = (0..THREADS)
        .map(|_| {
            let service = service.clone();
            std::thread::spawn(move || (0..EACH).map(|_| service.call(Request::new("x"))).collect::<Vec<_>>())
        })
        .collect();
    drop(service);
    let mut taken = Vec::new();
    while receiver.is_open() {
        wait_readable(&receiver);
        taken.extend(receiver.drain());
    }
    let parked: Vec<_> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
    // Those dropped before they were taken would be passed over; none was.
    assert_eq!((taken.len(), parked.len()), (THREADS * EACH, THREADS * EACH));
}

// ===== Helpers =====

/// Waits as a foreign loop would, through the descriptor alone.
fn wait_readable<ReqB, B>(receiver: &InboxReceiver<ReqB, B>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let descriptor = UnixStream::from(receiver.as_fd().try_clone_to_owned().unwrap());
    runtime.block_on(async { tokio::net::UnixStream::from_std(descriptor).unwrap().readable().await.unwrap() });
}

fn is_readable<ReqB, B>(receiver: &InboxReceiver<ReqB, B>) -> bool {
    let peek = UnixStream::from(receiver.as_fd().try_clone_to_owned().unwrap());
    let mut byte = [std::mem::MaybeUninit::uninit()];
    socket2::SockRef::from(&peek).peek(&mut byte).is_ok()
}

async fn body(response: Response<Full<Bytes>>) -> Bytes {
    http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes()
}
