//! What topics and waiters weigh, by the process's own memory: each number here may only be changed in review.
#![cfg(all(feature = "topic", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use ::http::Request;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::service::Service;
use hyper_deferred::topic::http::{self, ResponseFuture};
use hyper_deferred::topic::{Builder, Raw};
use hyper_deferred::{Topic, Topics};

const TOPIC_BYTES_MAX: usize = 400;
const WAITER_BYTES_MAX: usize = 64;

/// The memory that is the process's own (proc_pid_status(5)).
fn rss_anon() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Bytes for each of the last 90 % of `count` pieces, so that what is there once does not count.
fn slope(count: usize, mut make: impl FnMut(usize)) -> usize {
    let first = count / 10;
    (0..first).for_each(&mut make);
    let before = rss_anon();
    (first..count).for_each(&mut make);
    rss_anon().saturating_sub(before) / (count - first)
}

fn topics_of(count: usize) -> Topics<Bytes> {
    Builder::new(Raw).registry(count, Duration::from_secs(3600))
}

// One test, one after another: two at once would see each other's memory.
#[test]
fn topics_and_waiters_are_small() {
    const TOPICS: usize = 100_000;
    let topics = topics_of(TOPICS);
    let names: Vec<String> = (0..TOPICS).map(|n| format!("room/{n}")).collect();
    let bytes = slope(TOPICS, |n| drop(topics.open(&names[n]).unwrap()));
    println!("an unused topic: {bytes} bytes");
    assert_eq!(topics.len(), TOPICS);
    assert!(names.iter().all(|name| topics.get(name).is_some()), "each is found");
    assert!((100..=TOPIC_BYTES_MAX).contains(&bytes), "a topic has {bytes} bytes");

    // So many that the memory of the process shows each of their bytes.
    const WAITERS: usize = 200_000;
    let topic = Topic::raw();
    let service = http::Builder::new(topic.clone()).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    // The futures are the connections' own: their room is there before, and written to.
    let mut parked: Vec<Option<ResponseFuture<Bytes>>> = (0..WAITERS).map(|_| None).collect();
    let bytes = slope(WAITERS, |n| {
        let future = parked[n].insert(service.call(Request::new(Empty::<Bytes>::new())));
        assert!(Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
    println!("a long poll: {bytes} bytes beyond its future");
    assert_eq!(topic.waiting(), WAITERS);
    assert!((24..=WAITER_BYTES_MAX).contains(&bytes), "a waiter has {bytes} bytes");
}
