//! Offloaded work: on other threads, within the request's context, bounded, and not begun for nobody.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::task::{Context as TaskContext, Poll, Waker};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Method, StatusCode, Version};
use http_body_util::Full;
use hyper_deferred::context::Context;
use hyper_deferred::offload;
use hyper_deferred::offload::{Offload, Pool};

#[tokio::test]
async fn work_runs_on_another_thread_within_the_callers_context() {
    let context = Context::new(Method::GET, "/work".parse().unwrap(), Version::HTTP_11);
    let here = std::thread::current().id();
    let work = context.saved().enter(|| offload(move || (std::thread::current().id() == here, Context::current())));
    let (same_thread, seen) = work.await.unwrap();
    assert!(!same_thread);
    assert_eq!(seen.unwrap().id(), context.id());
}

#[tokio::test]
async fn past_the_bound_the_caller_is_told_at_once_and_the_client_when_to_come_again() {
    let pool = Pool::new(1, 1).retry_after(std::time::Duration::from_secs(7));
    let (go, gate) = mpsc::channel::<()>();
    let mut runs = pool.offload(move || gate.recv().unwrap());
    assert!(poll(&mut runs).is_pending());
    let waits = pool.offload(|| ());
    assert_eq!(pool.in_hand(), 2);

    let Poll::Ready(Err(error)) = poll(&mut pool.offload(|| ())) else { panic!("there was room") };
    assert!(error.is_full() && !error.is_panic());
    assert_eq!(error.to_string(), "the work was not accepted: the pool's queue is full, try again later");
    let response = error.to_response::<Full<Bytes>>();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[RETRY_AFTER], "7");

    go.send(()).unwrap();
    runs.await.unwrap();
    waits.await.unwrap();
    pool.offload(|| ()).await.expect("there is room again");
}

#[tokio::test]
async fn no_more_runs_at_once_than_the_pool_has_threads() {
    const THREADS: usize = 3;
    let pool = Pool::new(THREADS, 100);
    let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let together = Arc::new(Barrier::new(THREADS));
    let tasks = (0..THREADS * 5).map(|_| {
        let (running, together) = (running.clone(), together.clone());
        tokio::spawn(pool.offload(move || {
            let at_once = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            // Each waits for as many as may run: with fewer it would hang, with more the count would show it.
            together.wait();
            running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            together.wait();
            at_once
        }))
    });
    for task in tasks.collect::<Vec<_>>() {
        assert!(task.await.unwrap().unwrap() <= THREADS);
    }
}

#[tokio::test]
async fn work_whose_client_has_gone_before_it_began_is_not_begun() {
    let pool = Pool::new(1, 10);
    let (go, gate) = mpsc::channel::<()>();
    let mut runs = pool.offload(move || gate.recv().unwrap());
    assert!(poll(&mut runs).is_pending());

    let (begun, began) = mpsc::channel();
    let mut abandoned = pool.offload(move || begun.send(()).unwrap());
    assert!(poll(&mut abandoned).is_pending());
    drop(abandoned);
    assert_eq!(pool.in_hand(), 1, "its place is free at once");

    go.send(()).unwrap();
    runs.await.unwrap();
    pool.offload(|| ()).await.unwrap();
    assert!(began.recv().is_err(), "it was begun");
}

#[test]
fn work_that_was_handed_over_and_not_begun_is_taken_back() {
    // The pool may run two, but the runtime has one thread for such work: the second waits inside tokio.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let pool = Pool::new(2, 0);
        let (go, gate) = mpsc::channel::<()>();
        let mut runs = pool.offload(move || gate.recv().unwrap());
        assert!(poll(&mut runs).is_pending());
        let (begun, began) = mpsc::channel();
        let mut abandoned = pool.offload(move || begun.send(()).unwrap());
        assert!(poll(&mut abandoned).is_pending());
        drop(abandoned);
        go.send(()).unwrap();
        runs.await.unwrap();
        pool.offload(|| ()).await.unwrap();
        assert!(began.recv().is_err(), "it was begun");
    });
}

#[tokio::test]
async fn work_that_was_begun_keeps_its_place_until_it_ends_also_when_nobody_waits() {
    let pool = Pool::new(1, 0);
    let (go, gate) = mpsc::channel::<()>();
    let (begun, began) = mpsc::channel();
    let mut runs = pool.offload(move || {
        begun.send(()).unwrap();
        gate.recv().unwrap();
    });
    assert!(poll(&mut runs).is_pending());
    began.recv().unwrap();
    drop(runs);
    assert!(matches!(poll(&mut pool.offload(|| ())), Poll::Ready(Err(error)) if error.is_full()));
    go.send(()).unwrap();
    while pool.in_hand() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn work_that_panics_gives_an_error_and_its_place_back() {
    let pool = Pool::new(1, 0);
    let error = pool.offload(|| panic!("on purpose")).await.unwrap_err();
    assert!(error.is_panic() && !error.is_full());
    assert_eq!(error.to_response::<Full<Bytes>>().status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(pool.offload(|| 1).await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_never_polled_gives_its_place_back() {
    let pool = Pool::new(1, 0);
    drop(pool.offload(|| ()));
    assert_eq!(pool.in_hand(), 0);
}

/// Polls once, with nobody to wake: enough to hand the work over.
fn poll<T>(work: &mut Offload<T>) -> Poll<Result<T, hyper_deferred::offload::OffloadError>> {
    std::pin::Pin::new(work).poll(&mut TaskContext::from_waker(Waker::noop()))
}
