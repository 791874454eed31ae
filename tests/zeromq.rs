//! Requests answered by workers: who gets which job, and what becomes of it when workers or clients go.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![cfg(unix)]

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::service::Service as _;
use hyper_deferred::zeromq::{Repeatable, Workers};

#[path = "support/raw_worker.rs"]
mod raw_worker;
#[path = "support/workers.rs"]
mod workers;
use raw_worker::RawWorker;
use workers::{
    HEARTBEAT, SILENCE, bind, body, builder, get, is_pending, poll, request, settled, start, with, with_heartbeats,
};

#[tokio::test]
async fn a_job_goes_out_with_the_requests_head_and_body_and_the_reply_completes_it() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let request = Request::builder()
        .method("POST")
        .uri("/a?b=c")
        .header("x-tenant", "acme")
        .header("connection", "keep-alive")
        .body(Full::<Bytes>::from("question"))
        .unwrap();
    let mut response = start(workers.call(request));
    let job = worker.receive().await;
    let ticket = &job[1];
    assert_eq!(job, ["JOB", ticket, "POST", "/a?b=c", "x-tenant: acme\r\n", "question"]);
    assert!(is_pending(&mut response));

    worker.send(&["REPLY", ticket, "201", "x-answer: 42\r\ncontent-length: 7000", "answer"]);
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["x-answer"], "42");
    assert!(!response.headers().contains_key("content-length"), "what comes has a length of its own");
    assert_eq!(body(response).await, "answer");
    assert_eq!(workers.stats().answered, 1);
}

#[tokio::test]
async fn jobs_go_to_the_worker_that_has_been_free_the_longest() {
    let workers = bind(builder());
    let mut pool = Vec::new();
    for n in 1..=3 {
        pool.push(RawWorker::ready(workers.endpoint()));
        settled(&workers, |stats| stats.workers == n).await;
    }
    for round in 0..2 {
        for worker in &mut pool {
            let response = start(workers.call(get("/")));
            let (ticket, _) = worker.job().await;
            worker.reply(&ticket, "");
            assert_eq!(response.await.unwrap().status(), 200, "round {round}");
        }
    }
}

#[tokio::test]
async fn a_worker_has_no_more_jobs_at_once_than_it_asked_for() {
    let workers = bind(builder());
    let mut worker = RawWorker::connect(workers.endpoint());
    worker.send(&["READY", "2"]);
    let mut responses: Vec<_> = ["/a", "/b", "/c"].map(|path| start(workers.call(get(path)))).into();
    let [a, b] = [worker.job().await, worker.job().await];
    assert_eq!((&*a.1, &*b.1), ("/a", "/b"));
    assert!(worker.hears_nothing_for(SILENCE).await);
    worker.reply(&b.0, "b");
    assert_eq!(worker.job().await.1, "/c");
    assert_eq!(body(responses.remove(1).await.unwrap()).await, "b");
}

#[tokio::test]
async fn past_the_queues_bound_a_client_gets_503_at_once() {
    let workers = bind(builder().queue_max(2).retry_after(Duration::from_secs(5)));
    let _waiting = [start(workers.call(get("/a"))), start(workers.call(get("/b")))];
    let Poll::Ready(refused) = poll(&mut workers.call(get("/c"))) else { panic!("it waits") };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[RETRY_AFTER], "5");
    assert_eq!(workers.stats().refused, 1);
}

#[tokio::test]
async fn a_job_for_which_no_worker_becomes_free_in_time_gets_503() {
    let workers = bind(builder().wait_max(Duration::from_millis(20)));
    let response = workers.call(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(RETRY_AFTER));
    // Its place in the queue is free again, and so it is after many.
    settled(&workers, |stats| stats.queued == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_waiting_job_along() {
    let workers = bind(builder().queue_max(1));
    drop(start(workers.call(get("/gone"))));
    settled(&workers, |stats| stats.cancelled == 1 && stats.queued == 0).await;
    let response = start(workers.call(get("/stays")));
    let mut worker = RawWorker::ready(workers.endpoint());
    let (ticket, path) = worker.job().await;
    assert_eq!(path, "/stays");
    worker.reply(&ticket, "");
    assert_eq!(response.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_has_its_worker_told_which_is_free_when_it_has_answered() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/gone")));
    let (ticket, _) = worker.job().await;
    drop(response);
    assert_eq!(worker.receive().await, ["CANCEL", &ticket]);
    let response = start(workers.call(get("/next")));
    worker.send(&["PING"]);
    assert_eq!(worker.receive().await, ["PONG"], "it may still be at work");
    assert!(worker.hears_nothing_for(SILENCE).await, "a sign of life is no answer");
    worker.send(&["ERROR", &ticket, "left off"]);
    let (ticket, path) = worker.job().await;
    assert_eq!(path, "/next");
    worker.reply(&ticket, "");
    assert_eq!(response.await.unwrap().status(), 200);
    let stats = workers.stats();
    assert_eq!((stats.cancelled, stats.late, stats.failed), (1, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn a_job_that_may_be_repeated_is_given_to_another_when_its_worker_dies() {
    let repeated: [(Request<Full<Bytes>>, &str); 3] = [
        (get("/"), "GET"),
        (request("PUT", "/"), "PUT"),
        (with(request("POST", "/"), Repeatable(true)), "POST that the application allows"),
    ];
    for (request, what) in repeated {
        let workers = bind(with_heartbeats());
        let mut first = RawWorker::ready(workers.endpoint());
        let response = start(workers.call(request));
        let (first_ticket, _) = first.job().await;
        first.die().await;
        let mut second = RawWorker::ready(workers.endpoint());
        let (ticket, _) = second.job().await;
        assert_ne!(ticket, first_ticket);
        second.reply(&ticket, what);
        assert_eq!(body(response.await.unwrap()).await, what);
        let stats = workers.stats();
        assert_eq!((stats.given_again, stats.workers_lost, stats.given_up), (1, 1, 0), "{stats:?}");
    }
}

#[tokio::test]
async fn a_job_that_may_not_be_repeated_gets_504_when_its_worker_dies() {
    for request in [request("POST", "/"), with(get("/"), Repeatable(false))] {
        let workers = bind(with_heartbeats());
        let mut first = RawWorker::ready(workers.endpoint());
        let response = start(workers.call(request));
        first.job().await;
        first.die().await;
        assert_eq!(response.await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
        let mut second = RawWorker::ready(workers.endpoint());
        assert!(second.hears_nothing_for(SILENCE).await);
        assert_eq!(workers.stats().given_up, 1);
    }
}

#[tokio::test]
async fn a_worker_that_never_answers_is_told_to_stop_and_its_job_goes_to_others_so_often() {
    // The free ones are silent, too, and should not be missed before their turn.
    let workers =
        bind(builder().deadline(Duration::from_millis(100)).retries_max(2).heartbeat(Duration::from_secs(10)));
    let mut silent = Vec::new();
    for n in 1..=4 {
        silent.push(RawWorker::ready(workers.endpoint()));
        settled(&workers, |stats| stats.workers == n).await;
    }
    let response = workers.call(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    // The answer goes out before the books are closed.
    settled(&workers, |stats| (stats.given_again, stats.given_up, stats.in_hand) == (2, 1, 0)).await;
    for worker in &mut silent[..3] {
        let (ticket, _) = worker.job().await;
        assert_eq!(worker.receive().await, ["CANCEL", &ticket]);
    }
    assert!(silent[3].hears_nothing_for(SILENCE).await, "a first hand-over and two more are enough");
}

#[tokio::test]
async fn a_late_reply_is_dropped_and_counted_and_makes_its_worker_free_again() {
    let workers = bind(builder().deadline(Duration::from_millis(100)).retries_max(0));
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/slow")));
    let (late, _) = worker.job().await;
    assert_eq!(response.await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    let response = start(workers.call(get("/next")));
    worker.receive().await;
    worker.reply(&late, "late");
    let (ticket, path) = worker.job().await;
    assert_eq!(path, "/next");
    worker.reply(&ticket, "in time");
    assert_eq!(body(response.await.unwrap()).await, "in time");
    assert_eq!(workers.stats().late, 1);
}

#[tokio::test]
async fn a_worker_that_answers_everything_twice_has_the_second_dropped_and_counted() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    for n in 0..20 {
        let response = start(workers.call(get(&format!("/{n}"))));
        let (ticket, path) = worker.job().await;
        worker.reply(&ticket, &path);
        worker.reply(&ticket, "again");
        assert_eq!(body(response.await.unwrap()).await, format!("/{n}"));
    }
    settled(&workers, |stats| stats.late == 20).await;
    assert_eq!(workers.stats().answered, 20);
}

#[tokio::test]
async fn a_reply_to_anothers_job_is_not_taken() {
    let workers = bind(builder());
    let mut owner = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/")));
    let (ticket, _) = owner.job().await;
    let thief = RawWorker::ready(workers.endpoint());
    settled(&workers, |stats| stats.workers == 2).await;
    thief.reply(&ticket, "mine");
    settled(&workers, |stats| stats.late == 1).await;
    owner.reply(&ticket, "owner's");
    assert_eq!(body(response.await.unwrap()).await, "owner's");
}

#[tokio::test]
async fn malformed_messages_are_counted_and_disturb_nobody() {
    let workers = bind(builder());
    let mut good = RawWorker::ready(workers.endpoint());
    let bad = RawWorker::connect(workers.endpoint());
    let response = start(workers.call(get("/")));
    let (ticket, _) = good.job().await;
    let malformed: [&[&[u8]]; 9] = [
        &[b"HELLO"],
        &[b"\xff\x00"],
        &[b"READY", b"many"],
        &[b"REPLY"],
        &[b"REPLY", ticket.as_bytes(), b"teapot", b"", b""],
        &[b"REPLY", ticket.as_bytes(), b"200", b"\0", b""],
        &[b"REPLY", b"-1", b"200", b"", b""],
        &[b"PART"],
        &[b"x" as &[u8]; 1000],
    ];
    for frames in malformed {
        bad.send(frames);
    }
    settled(&workers, |stats| stats.malformed == malformed.len() as u64).await;
    good.send(&["REPLY", "999999", "200", "", "never given"]);
    settled(&workers, |stats| stats.malformed == malformed.len() as u64 + 1).await;
    good.reply(&ticket, "undisturbed");
    assert_eq!(body(response.await.unwrap()).await, "undisturbed");
}

#[tokio::test]
async fn a_worker_that_answers_nonsense_or_fails_gets_its_client_a_502_and_the_next_job() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let nonsense: [&[&str]; 4] =
        [&["REPLY", "T", "99999", "", ""], &["HEAD", "T", "103", ""], &["END", "T"], &["ERROR", "T", "no"]];
    for frames in nonsense {
        let response = start(workers.call(get("/")));
        let (ticket, _) = worker.job().await;
        worker.send(&frames.iter().map(|frame| if *frame == "T" { &ticket } else { *frame }).collect::<Vec<_>>());
        assert_eq!(response.await.unwrap().status(), StatusCode::BAD_GATEWAY, "{frames:?}");
    }
    assert_eq!((workers.stats().failed, workers.stats().workers_lost), (4, 0));
}

#[tokio::test]
async fn a_free_worker_that_does_not_answer_pings_is_lost_and_one_that_does_is_not() {
    let workers = bind(with_heartbeats());
    let _silent = RawWorker::ready(workers.endpoint());
    let mut alive = RawWorker::ready(workers.endpoint());
    settled(&workers, |stats| stats.workers == 2).await;
    while workers.stats().workers_lost == 0 {
        assert_eq!(alive.receive_any().await, ["PING"]);
        alive.send(&["PONG"]);
    }
    assert_eq!((workers.stats().workers, workers.stats().workers_lost), (1, 1));
    alive.send(&["PING"]);
    assert_eq!(alive.receive().await, ["PONG"]);
}

#[tokio::test]
async fn a_worker_at_work_may_be_silent_until_the_jobs_deadline() {
    let workers = bind(with_heartbeats());
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/")));
    let (ticket, _) = worker.job().await;
    assert!(worker.hears_nothing_for(HEARTBEAT * 8).await);
    worker.reply(&ticket, "done");
    assert_eq!(body(response.await.unwrap()).await, "done");
    assert_eq!(workers.stats().workers_lost, 0);
}

#[tokio::test]
async fn whoever_is_not_known_is_asked_who_it_is() {
    let workers = bind(builder().frame_bytes_max(1234));
    let mut stranger = RawWorker::connect(workers.endpoint());
    for hello in [&["PING"], &[""]] {
        stranger.send(hello);
        assert_eq!(stranger.receive().await, ["WHO", "1", "1234"]);
    }
    assert_eq!(workers.stats().workers, 0);
}

#[tokio::test]
async fn a_worker_may_say_ready_again_and_keeps_what_it_has_in_hand() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let first = start(workers.call(request("POST", "/first")));
    let (ticket, _) = worker.job().await;
    worker.send(&["READY", "2"]);
    let second = start(workers.call(request("POST", "/second")));
    let (other, _) = worker.job().await;
    worker.reply(&ticket, "first");
    worker.reply(&other, "second");
    assert_eq!(body(first.await.unwrap()).await, "first");
    assert_eq!(body(second.await.unwrap()).await, "second");
}

#[tokio::test]
async fn a_worker_that_greets_anew_under_its_name_has_lost_what_it_had_in_hand() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let response = start(workers.call(get("/")));
    let (first, _) = worker.job().await;
    worker.send(&[""]);
    assert_eq!(worker.receive().await[0], "WHO");
    worker.send(&["READY"]);
    let (second, _) = worker.job().await;
    assert_ne!(first, second);
    worker.reply(&second, "afresh");
    assert_eq!(body(response.await.unwrap()).await, "afresh");
}

#[tokio::test]
async fn a_worker_that_says_bye_finishes_its_job_and_gets_no_more() {
    let workers = bind(builder());
    let mut worker = RawWorker::connect(workers.endpoint());
    worker.send(&["READY", "2"]);
    let response = start(workers.call(get("/")));
    let (ticket, _) = worker.job().await;
    worker.send(&["BYE"]);
    worker.send(&["PING"]);
    assert_eq!(worker.receive().await, ["PONG"], "both have arrived");
    let mut waits = start(workers.call(get("/other")));
    assert!(worker.hears_nothing_for(SILENCE).await);
    worker.reply(&ticket, "last");
    assert_eq!(body(response.await.unwrap()).await, "last");
    settled(&workers, |stats| stats.workers == 0).await;
    assert!(is_pending(&mut waits));
    assert_eq!(workers.stats().workers_lost, 0);
}

#[tokio::test]
async fn a_request_body_above_the_bound_gets_413() {
    let workers = bind(builder().request_bytes_max(10));
    let mut request = get("/");
    *request.body_mut() = Full::from("eleven bytes");
    assert_eq!(workers.call(request).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn when_the_last_handle_goes_what_was_submitted_is_answered_and_workers_are_told() {
    let workers = bind(builder());
    let mut worker = RawWorker::ready(workers.endpoint());
    let responses = [start(workers.call(get("/a"))), start(workers.call(get("/b")))];
    drop(workers);
    for response in responses {
        let (ticket, path) = worker.job().await;
        worker.reply(&ticket, &path);
        assert_eq!(body(response.await.unwrap()).await, path);
    }
    assert_eq!(worker.receive().await, ["BYE"]);
}

#[tokio::test]
async fn an_endpoint_that_is_none_or_is_taken_is_an_error_that_names_it() {
    let error = Workers::bind("nonsense").unwrap_err();
    assert_eq!(error.to_string(), "binding nonsense for workers failed");
    assert!(std::error::Error::source(&error).is_some());
    let first = bind(builder());
    assert!(Workers::bind(first.endpoint()).is_err());
}
