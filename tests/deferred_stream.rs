//! A reply that starts later and then streams.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper_deferred::deferred;
use hyper_deferred::deferred::{BodySender, StreamBody, TrySendError};
use support::now_or_never;

/// A stream whose head has been taken.
fn stream() -> (BodySender, StreamBody) {
    let (responder, deferred) = deferred::<Option<StreamBody>>();
    let sender = responder.stream_with(Response::new(()).into_parts().0, Some).unwrap();
    let response = now_or_never(deferred).unwrap().unwrap();
    (sender, response.into_body().unwrap())
}

/// What is left of the body, and whether it ended complete.
fn rest(body: StreamBody) -> (Vec<Bytes>, Option<String>) {
    let mut body = body;
    let mut frames = Vec::new();
    while let Some(frame) = now_or_never(body.frame()).expect("the body has ended") {
        match frame {
            Ok(frame) => frames.push(frame.into_data().unwrap()),
            Err(error) => {
                assert!(now_or_never(body.frame()).unwrap().is_none(), "nothing comes after the error");
                return (frames, Some(error.to_string()));
            }
        }
    }
    (frames, None)
}

#[test]
fn a_dropped_sender_ends_the_body_complete() {
    let (mut sender, mut body) = stream();
    assert!(now_or_never(body.frame()).is_none(), "it waits");
    sender.try_send_data("a".into()).unwrap();
    now_or_never(sender.send_data("b".into())).unwrap().unwrap();
    drop(sender);
    assert_eq!(rest(body), (vec!["a".into(), "b".into()], None));
}

#[test]
fn a_client_that_is_behind_holds_the_sender_back() {
    let (mut sender, mut body) = stream();
    for _ in 0..BodySender::BUFFER_FRAMES {
        sender.try_send_data("frame".into()).unwrap();
    }
    assert_eq!(sender.try_send_data("more".into()), Err(TrySendError::Full("more".into())));
    // Given up while it waits: not sent.
    assert!(now_or_never(sender.send_data("given up".into())).is_none());
    assert!(!sender.is_closed());

    let mut waiting = Box::pin(sender.send_data("waited".into()));
    assert!(now_or_never(waiting.as_mut()).is_none());
    now_or_never(body.frame()).unwrap().unwrap().unwrap();
    now_or_never(waiting.as_mut()).expect("there is room").unwrap();
    drop(waiting);
    drop(sender);
    let (frames, error) = rest(body);
    assert_eq!((frames.len(), error), (BodySender::BUFFER_FRAMES, None));
    assert_eq!(frames.last().unwrap(), "waited");
}

#[test]
fn an_aborted_body_breaks_off_after_what_was_sent_also_when_its_buffer_is_full() {
    let (mut sender, body) = stream();
    for _ in 0..BodySender::BUFFER_FRAMES {
        sender.try_send_data("frame".into()).unwrap();
    }
    sender.abort("the source failed");
    let (frames, error) = rest(body);
    assert_eq!((frames.len(), error.as_deref()), (BodySender::BUFFER_FRAMES, Some("the source failed")));
}

#[test]
fn trailers_end_the_body() {
    let (sender, mut body) = stream();
    let trailers = HeaderMap::from_iter([("sum".parse().unwrap(), HeaderValue::from_static("42"))]);
    now_or_never(sender.send_trailers(trailers.clone())).unwrap().unwrap();
    let frame = now_or_never(body.frame()).unwrap().unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap(), trailers);
    assert!(now_or_never(body.frame()).unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_has_gone_is_noticed_and_everything_comes_back() {
    let (sender, body) = stream();
    assert!(!sender.is_closed());
    assert!(now_or_never(sender.closed()).is_none());
    let noticed = tokio::spawn(async move {
        sender.closed().await;
        sender
    });
    tokio::task::yield_now().await;
    drop(body);
    let mut sender = noticed.await.unwrap();
    assert!(sender.is_closed());
    assert_eq!(sender.send_data("data".into()).await.unwrap_err().0, "data");
    assert_eq!(sender.try_send_data("data".into()), Err(TrySendError::Closed("data".into())));
    let trailers = HeaderMap::from_iter([("sum".parse().unwrap(), HeaderValue::from_static("42"))]);
    assert_eq!(sender.send_trailers(trailers.clone()).await.unwrap_err().0, trailers);
}

#[test]
fn a_waiting_sender_gets_its_piece_back_when_the_client_goes() {
    let (mut sender, body) = stream();
    for _ in 0..BodySender::BUFFER_FRAMES {
        sender.try_send_data("frame".into()).unwrap();
    }
    let mut waiting = Box::pin(sender.send_data("waits".into()));
    assert!(now_or_never(waiting.as_mut()).is_none());
    drop(body);
    assert_eq!(now_or_never(waiting.as_mut()).unwrap().unwrap_err().0, "waits");
}

#[test]
fn a_response_that_is_never_taken_closes_its_stream() {
    let (responder, deferred) = deferred::<Option<StreamBody>>();
    let sender = responder.stream_with(Response::new(()).into_parts().0, Some).unwrap();
    assert!(!sender.is_closed());
    drop(deferred);
    assert!(sender.is_closed());
}

/// Whoever learns from a piece's fate that the client has gone must not be told otherwise by the sender.
#[test]
fn the_sender_is_closed_before_the_pieces_that_wait_are_dropped() {
    struct Piece(Arc<Mutex<Option<BodySender>>>, Arc<Mutex<Option<bool>>>);
    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            b"piece"
        }
    }
    impl Drop for Piece {
        fn drop(&mut self) {
            *self.1.lock().unwrap() = self.0.lock().unwrap().as_ref().map(BodySender::is_closed);
        }
    }
    let (mut sender, body) = stream();
    let (shared, was_closed) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    sender.try_send_data(Bytes::from_owner(Piece(shared.clone(), was_closed.clone()))).unwrap();
    *shared.lock().unwrap() = Some(sender);
    drop(body);
    assert_eq!(*was_closed.lock().unwrap(), Some(true));
}

#[test]
fn errors_say_what_to_do_and_show_no_data() {
    let (mut sender, body) = stream();
    drop(body);
    let error = sender.try_send_data("secret".into()).unwrap_err();
    assert_eq!(format!("{error:?}"), "Closed(..)");
    assert_eq!(error.to_string(), "the body was not sent: the client has gone, stop streaming to it");
    assert_eq!(error.into_inner(), "secret");
    let error = now_or_never(sender.send_data("secret".into())).unwrap().unwrap_err();
    assert_eq!(format!("{error:?}"), "SendError { .. }");
}

#[test]
fn no_frame_is_lost_when_the_sender_is_dropped_while_the_body_is_polled() {
    for round in 0..2_000 {
        let (mut sender, mut body) = stream();
        let barrier = Arc::new(Barrier::new(2));
        let sending = thread::spawn({
            let barrier = barrier.clone();
            move || {
                barrier.wait();
                sender.try_send_data(Bytes::from_static(b"last")).unwrap();
            }
        });
        barrier.wait();
        let frame = loop {
            if let Some(frame) = now_or_never(body.frame()) {
                break frame;
            }
            thread::yield_now();
        };
        let data = frame.map(|frame| frame.unwrap().into_data().unwrap());
        assert_eq!(data.as_deref(), Some(&b"last"[..]), "round {round}");
        sending.join().unwrap();
    }
}
