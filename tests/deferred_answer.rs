//! The one-shot in its plain cases: who does what first, and who is dropped.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::task::Poll;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt, Full};
use hyper_deferred::deferred::{BodySender, StreamBody};
use hyper_deferred::{BoxError, Deferred, Responder, deferred};
use support::{Logs, now_or_never, poll};
use tracing::Level;

type Body = Full<Bytes>;

fn response(text: &'static str) -> Response<Body> {
    Response::new(Bytes::from_static(text.as_bytes()).into())
}

fn text(response: Response<Body>) -> Bytes {
    now_or_never(response.into_body().collect()).unwrap().unwrap().to_bytes()
}

#[test]
fn a_response_sent_before_the_first_poll_is_taken() {
    let (responder, deferred) = deferred();
    responder.send(response("early")).unwrap();
    let taken = now_or_never(deferred).unwrap().unwrap();
    assert_eq!(text(taken), "early");
}

#[tokio::test]
async fn a_response_sent_from_another_thread_wakes_who_waits() {
    let (responder, mut deferred) = deferred();
    assert!(poll(&mut deferred).is_pending());
    let waiting = tokio::spawn(deferred);
    std::thread::spawn(move || responder.send(response("late")).unwrap());
    assert_eq!(text(waiting.await.unwrap().unwrap()), "late");
}

#[test]
fn a_responder_dropped_before_the_first_poll_becomes_503_and_a_warning() {
    let (responder, deferred) = deferred::<Body>();
    let (logs, answer) = Logs::during(|| {
        drop(responder);
        now_or_never(deferred).unwrap().unwrap()
    });
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(answer), "");
    assert_eq!(logs.at(Level::WARN), ["a responder was dropped without an answer, its client gets 503"]);
}

#[tokio::test]
async fn a_responder_dropped_while_the_future_waits_wakes_it_with_503() {
    let (responder, mut deferred) = deferred::<Body>();
    assert!(poll(&mut deferred).is_pending());
    let waiting = tokio::spawn(deferred);
    tokio::task::yield_now().await;
    drop(responder);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn a_responder_dropped_after_its_client_has_gone_warns_of_nothing() {
    let (responder, deferred) = deferred::<Body>();
    let (logs, ()) = Logs::during(|| {
        drop(deferred);
        drop(responder);
    });
    assert!(logs.at(Level::WARN).is_empty());
}

#[test]
fn a_response_comes_back_when_nobody_waits() {
    let (responder, deferred) = deferred();
    assert!(!responder.is_closed());
    drop(deferred);
    assert!(responder.is_closed());
    assert_eq!(text(responder.send(response("for another")).unwrap_err()), "for another");
}

#[test]
fn the_head_of_a_stream_comes_back_when_nobody_waits() {
    let (responder, deferred) = deferred::<Option<StreamBody>>();
    drop(deferred);
    let mut parts = Response::new(()).into_parts().0;
    parts.extensions.insert("mine");
    let parts = responder.stream_with(parts, Some).unwrap_err();
    assert_eq!(parts.extensions.get(), Some(&"mine"));
}

#[tokio::test]
async fn closed_resolves_when_the_future_is_dropped() {
    let (mut responder, deferred) = deferred::<Body>();
    assert_eq!(now_or_never(responder.closed()), None);
    let waiting = tokio::spawn(async move {
        responder.closed().await;
        // Once more: it stays so.
        responder.closed().await;
        responder.is_closed()
    });
    tokio::task::yield_now().await;
    drop(deferred);
    assert!(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn closed_resolves_when_the_time_was_up() {
    let (mut responder, deferred) = deferred::<Body>();
    let mut deferred = deferred.timeout(std::time::Duration::from_secs(1), Response::default);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert!(poll(&mut deferred).is_ready());
    assert_eq!(now_or_never(responder.closed()), Some(()), "though the future is still there");
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn polling_it_again_panics() {
    let (responder, mut deferred) = deferred::<Body>();
    responder.send(Response::default()).unwrap();
    assert!(matches!(poll(&mut deferred), Poll::Ready(Ok(_))));
    let _ = poll(&mut deferred);
}

#[test]
fn debug_shows_no_response() {
    let (responder, deferred) = deferred::<Body>();
    assert_eq!(format!("{responder:?}"), "Responder { is_closed: false }");
    assert_eq!(format!("{deferred:?}"), "Deferred { ended: false, .. }");
}

/// What waits is small: whoever makes it larger changes a number here.
#[test]
#[cfg(target_pointer_width = "64")]
fn the_halves_are_small() {
    assert_eq!(size_of::<Deferred<Full<Bytes>>>(), 64);
    assert_eq!(size_of::<Deferred<[u8; 1000]>>(), 64, "whatever the body");
    assert_eq!(size_of::<Responder<Full<Bytes>>>(), 8);
}

// Compiles only if it holds: the halves go where their body may go, and a responder is shared too.
#[allow(dead_code, reason = "checked by the compiler")]
fn halves_are_send<B: Default + Send + 'static>(responder: Responder<B>, deferred: Deferred<B>) {
    fn send<T: Send + 'static>(_: T) {}
    fn sync<T: Sync>(_: &T) {}
    fn unpin<T: Unpin>(_: &T) {}
    sync(&responder);
    unpin(&deferred);
    send(async move {
        let mut responder = responder;
        responder.closed().await;
    });
    send(deferred);
    send(|body: StreamBody| (BoxBody::from(body) as BoxBody<Bytes, BoxError>).boxed_unsync());
    send(|body: StreamBody| UnsyncBoxBody::from(body));
    send(|mut sender: BodySender| async move {
        sender.closed().await;
        sender.send_data(Bytes::new()).await
    });
}
