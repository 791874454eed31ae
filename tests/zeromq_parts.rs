//! Replies that come in parts: as fast as the client takes them, and broken off when somebody goes.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![cfg(unix)]

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::service::Service as _;

#[path = "support/raw_worker.rs"]
mod raw_worker;
#[path = "support/workers.rs"]
mod workers;
use raw_worker::RawWorker;
use workers::{bind, body, builder, get, request, settled, start, with_heartbeats};

#[tokio::test]
async fn a_reply_in_parts_streams_as_they_come() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/")));
    let (ticket, _) = worker.job().await;
    worker.send(&["HEAD", &ticket, "200", "content-type: text/event-stream"]);
    let response = response.await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for part in ["one", "two"] {
        worker.send(&["PART", &ticket, part]);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), part);
        assert_eq!(worker.receive().await, ["MORE", &ticket]);
    }
    worker.send(&["END", &ticket]);
    assert!(body.frame().await.is_none());
    assert_eq!(workers.stats().answered, 1);
}

#[tokio::test]
async fn a_client_that_does_not_take_them_holds_up_to_eight_parts_and_a_ninth_breaks_the_reply_off() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/")));
    let (ticket, _) = worker.job().await;
    worker.send(&["HEAD", &ticket, "200", ""]);
    for _ in 0..9 {
        worker.send(&["PART", &ticket, "x"]);
    }
    assert_eq!(worker.receive().await, ["CANCEL", &ticket]);
    let body = response.await.unwrap().into_body();
    let error = body.collect().await.unwrap_err();
    assert_eq!(error.to_string(), "the worker broke off in the middle of its reply");
    assert_eq!((workers.stats().malformed, workers.stats().failed), (1, 1));
}

#[tokio::test]
async fn a_client_that_is_slow_is_not_its_workers_fault() {
    let workers = bind(builder().deadline(Duration::from_millis(100)));
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/")));
    let (ticket, _) = worker.job().await;
    worker.send(&["HEAD", &ticket, "200", ""]);
    for _ in 0..8 {
        worker.send(&["PART", &ticket, "x"]);
    }
    let mut body = response.await.unwrap().into_body();
    assert!(worker.hears_nothing_for(Duration::from_millis(300)).await, "the deadline does not run meanwhile");
    body.frame().await.unwrap().unwrap();
    assert_eq!(worker.receive().await, ["MORE", &ticket]);
    worker.send(&["END", &ticket]);
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 7);
}

#[tokio::test]
async fn a_worker_that_dies_or_hangs_in_the_middle_breaks_the_reply_off() {
    for dies in [true, false] {
        let workers = bind(with_heartbeats().deadline(Duration::from_millis(200)));
        let mut worker = RawWorker::ready(workers.endpoint());
        let response = start(workers.call(get("/")));
        let (ticket, _) = worker.job().await;
        worker.send(&["HEAD", &ticket, "200", ""]);
        worker.send(&["PART", &ticket, "half"]);
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        let _hung = if dies {
            worker.die().await;
            None
        } else {
            Some(worker)
        };
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(workers.stats().given_again, 0, "its head was out");
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_has_its_worker_told() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/")));
    let (ticket, _) = worker.job().await;
    worker.send(&["HEAD", &ticket, "200", ""]);
    drop(response.await.unwrap());
    assert_eq!(worker.receive().await, ["CANCEL", &ticket]);
    settled(&workers, |stats| stats.cancelled == 1 && stats.in_hand == 0).await;
}

#[tokio::test]
async fn a_reply_to_head_has_its_length_and_no_body() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(request("HEAD", "/")));
    let (ticket, _) = worker.job().await;
    worker.send(&["REPLY", &ticket, "200", "content-length: 7000", "a body all the same"]);
    let response = response.await.unwrap();
    assert_eq!(response.headers()["content-length"], "7000");
    assert_eq!(body(response).await, "");
}
