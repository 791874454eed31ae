//! A deadline that answers by itself.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use http::{Response, StatusCode};
use hyper_deferred::{Outcome, Responder, deferred};
use support::poll;
use tokio::time::{Instant, advance};

/// A body that says who made the response.
type Body = &'static str;

const AFTER: Duration = Duration::from_secs(25);

fn no_content() -> Response<Body> {
    let mut response = Response::new("timeout");
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[tokio::test(start_paused = true)]
async fn it_answers_when_the_time_is_up_and_not_before() {
    let start = Instant::now();
    let (mut responder, deferred) = deferred::<Body>();
    let (told, outcome) = mpsc::channel();
    let answer = deferred.timeout(AFTER, no_content).on_complete(move |why| told.send(why).unwrap()).await.unwrap();
    assert_eq!((answer.status(), start.elapsed()), (StatusCode::NO_CONTENT, AFTER));
    assert_eq!(outcome.try_iter().collect::<Vec<_>>(), [Outcome::TimedOut]);
    responder.closed().await;
    assert_eq!(responder.send(Response::new("late")).unwrap_err().into_body(), "late");
}

#[tokio::test(start_paused = true)]
async fn it_counts_from_the_call_and_not_from_the_first_poll() {
    let (_responder, deferred) = deferred::<Body>();
    let mut deferred = deferred.timeout(AFTER, no_content);
    advance(AFTER).await;
    assert!(poll(&mut deferred).is_ready());
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_same_instant_wins_if_it_was_first() {
    let (responder, deferred) = deferred::<Body>();
    let (told, outcome) = mpsc::channel();
    let mut deferred = deferred.timeout(AFTER, no_content).on_complete(move |why| told.send(why).unwrap());
    assert!(poll(&mut deferred).is_pending());
    advance(AFTER).await;
    responder.send(Response::new("answer")).unwrap();
    assert_eq!(deferred.await.unwrap().into_body(), "answer");
    assert_eq!(outcome.try_iter().collect::<Vec<_>>(), [Outcome::Answered]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_while_the_timeout_makes_its_reply_comes_back() {
    let (responder, deferred) = deferred::<Body>();
    let (late, sent) = mpsc::channel();
    let deferred = deferred.timeout(AFTER, move || {
        late.send(responder.send(Response::new("late")).map_err(Response::into_body)).unwrap();
        no_content()
    });
    assert_eq!(deferred.await.unwrap().into_body(), "timeout");
    assert_eq!(sent.try_recv(), Ok(Err("late")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_time_is_up_leaves_the_timeout_unused() {
    let (responder, deferred) = deferred::<Body>();
    let mut deferred = deferred.timeout(AFTER, || unreachable!("the answer came first"));
    assert!(poll(&mut deferred).is_pending());
    advance(AFTER - Duration::from_millis(1)).await;
    assert!(poll(&mut deferred).is_pending());
    responder.send(Response::new("answer")).unwrap();
    assert_eq!(deferred.await.unwrap().into_body(), "answer");
}

#[tokio::test(start_paused = true)]
async fn a_responder_dropped_at_the_same_instant_is_abandoned() {
    let (responder, deferred) = deferred::<Body>();
    let deferred = deferred.timeout(AFTER, no_content).or_else(|| Response::new("abandoned"));
    advance(AFTER).await;
    drop(responder);
    assert_eq!(deferred.await.unwrap().into_body(), "abandoned");
}

#[tokio::test(start_paused = true)]
async fn a_second_timeout_replaces_the_first() {
    let start = Instant::now();
    let (_responder, deferred): (Responder<Body>, _) = deferred();
    let deferred = deferred.timeout(AFTER, || unreachable!("it was replaced")).timeout(AFTER * 2, no_content);
    assert_eq!(deferred.await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(start.elapsed(), AFTER * 2);
}

#[tokio::test(start_paused = true)]
async fn a_time_beyond_the_clock_is_never_up() {
    let (responder, deferred) = deferred::<Body>();
    let mut deferred = deferred.timeout(Duration::MAX, || unreachable!("that is never"));
    assert!(poll(&mut deferred).is_pending());
    advance(Duration::from_secs(1 << 30)).await;
    assert!(poll(&mut deferred).is_pending());
    responder.send(Response::new("answer")).unwrap();
    assert_eq!(deferred.await.unwrap().into_body(), "answer");
}

#[test]
fn it_can_be_set_where_no_runtime_is() {
    let (responder, deferred) = deferred::<Body>();
    let mut deferred = deferred.timeout(AFTER, no_content);
    responder.send(Response::new("answer")).unwrap();
    assert!(poll(&mut deferred).is_ready(), "nothing was registered with a clock");
}
