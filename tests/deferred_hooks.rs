//! What an application decides, and what it is told.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use http::Response;
use hyper_deferred::{Deferred, Outcome, deferred};
use support::{Logs, now_or_never, poll};
use tracing::Level;

type Body = &'static str;

/// Notes what happens, in order.
fn noted(deferred: Deferred<Body>) -> (Deferred<Body>, mpsc::Receiver<String>) {
    let (note, notes) = mpsc::channel();
    let (first, second, undelivered) = (note.clone(), note.clone(), note);
    let deferred = deferred
        .on_complete(move |outcome| first.send(format!("first: {outcome}")).unwrap())
        .on_complete(move |outcome| second.send(format!("second: {outcome}")).unwrap())
        .on_undelivered(move |response| undelivered.send(format!("undelivered: {}", response.body())).unwrap());
    (deferred, notes)
}

#[test]
fn completion_hooks_run_once_in_their_order_when_it_is_answered() {
    let (responder, deferred) = deferred();
    let (mut deferred, notes) = noted(deferred);
    assert!(poll(&mut deferred).is_pending());
    responder.send(Response::new("answer")).unwrap();
    assert!(notes.try_recv().is_err(), "nothing has ended yet");
    assert!(poll(&mut deferred).is_ready());
    drop(deferred);
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), ["first: answered", "second: answered"]);
}

#[tokio::test(start_paused = true)]
async fn completion_hooks_run_after_the_reply_of_a_timeout() {
    let (_responder, deferred) = deferred();
    let (deferred, notes) = noted(deferred);
    let (note, replies) = mpsc::channel();
    let deferred = deferred.timeout(Duration::from_secs(1), move || {
        note.send(()).unwrap();
        Response::new("timeout")
    });
    let deferred = deferred.on_complete(move |_| replies.try_recv().expect("the reply has been made"));
    assert_eq!(deferred.await.unwrap().into_body(), "timeout");
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), ["first: timed out", "second: timed out"]);
}

#[test]
fn completion_hooks_run_when_it_is_abandoned() {
    let (responder, deferred) = deferred();
    let (deferred, notes) = noted(deferred);
    drop(responder);
    assert_eq!(now_or_never(deferred).unwrap().unwrap().status(), 503);
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), ["first: abandoned", "second: abandoned"]);
}

#[test]
fn completion_hooks_run_when_the_client_has_gone() {
    let (responder, deferred) = deferred();
    let (mut deferred, notes) = noted(deferred);
    assert!(poll(&mut deferred).is_pending());
    drop(deferred);
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), ["first: client gone", "second: client gone"]);
    assert!(responder.is_closed());
}

#[test]
fn an_abandoned_request_whose_client_has_gone_ended_with_the_client() {
    let (responder, deferred) = deferred();
    let (deferred, notes) = noted(deferred);
    drop(responder);
    drop(deferred);
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), ["first: client gone", "second: client gone"]);
}

#[test]
fn an_accepted_response_that_was_never_taken_is_handed_over() {
    let (responder, deferred) = deferred();
    let (mut deferred, notes) = noted(deferred);
    assert!(poll(&mut deferred).is_pending());
    responder.send(Response::new("message")).unwrap();
    drop(deferred);
    assert_eq!(
        notes.try_iter().collect::<Vec<_>>(),
        ["undelivered: message", "first: client gone", "second: client gone"]
    );
}

#[test]
fn or_else_answers_for_a_dropped_responder_and_nothing_is_logged() {
    let (responder, deferred) = deferred::<Body>();
    let deferred = deferred.or_else(|| unreachable!("it was replaced")).or_else(|| Response::new("instead"));
    let (logs, answer) = Logs::during(|| {
        drop(responder);
        now_or_never(deferred).unwrap().unwrap()
    });
    assert_eq!(answer.into_body(), "instead");
    assert!(logs.at(Level::WARN).is_empty());
}

#[test]
fn or_else_is_not_asked_when_there_is_an_answer() {
    let (responder, deferred) = deferred::<Body>();
    let deferred = deferred.or_else(|| unreachable!("there is an answer"));
    responder.send(Response::new("answer")).unwrap();
    assert_eq!(now_or_never(deferred).unwrap().unwrap().into_body(), "answer");
}

#[test]
fn a_hook_that_panics_keeps_no_other_from_running() {
    let (_responder, deferred) = deferred::<Body>();
    let (told, outcomes) = mpsc::channel();
    let deferred =
        deferred.on_complete(|_| panic!("as the test wants")).on_complete(move |outcome| told.send(outcome).unwrap());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(deferred))).is_err());
    assert_eq!(outcomes.try_iter().collect::<Vec<_>>(), [Outcome::ClientGone]);
}

#[test]
fn an_undelivered_hook_that_panics_keeps_no_other_from_running() {
    let (responder, deferred) = deferred::<Body>();
    let (told, outcomes) = mpsc::channel();
    let deferred = deferred
        .on_undelivered(|_| panic!("as the test wants"))
        .on_complete(move |outcome| told.send(outcome).unwrap());
    responder.send(Response::new("message")).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(deferred))).is_err());
    assert_eq!(outcomes.try_iter().collect::<Vec<_>>(), [Outcome::ClientGone]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_panics_is_told_as_what_it_was() {
    let (responder, abandoned) = deferred::<Body>();
    drop(responder);
    let (_responder, timed_out) = deferred::<Body>();
    let panics = || panic!("as the test wants");
    for (deferred, expected) in [
        (abandoned.or_else(panics), Outcome::Abandoned),
        (timed_out.timeout(Duration::ZERO, panics), Outcome::TimedOut),
    ] {
        let (told, outcomes) = mpsc::channel();
        let mut deferred = deferred.on_complete(move |outcome| told.send(outcome).unwrap());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut deferred))).is_err());
        drop(deferred);
        assert_eq!(outcomes.try_iter().collect::<Vec<_>>(), [expected]);
    }
}
