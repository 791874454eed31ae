//! A reply that starts later and then streams.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::sync::{Arc, Barrier};
use std::thread;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper_deferred::deferred;
use hyper_deferred::deferred::{BodySender, StreamBody};
use support::now_or_never;

/// A stream whose head has been taken.
fn stream() -> (BodySender, StreamBody) {
    let (responder, deferred) = deferred::<Option<StreamBody>>();
    let sender = responder.stream_with(Response::new(()).into_parts().0, Some).unwrap();
    let response = now_or_never(deferred).unwrap().unwrap();
    (sender, response.into_body().unwrap())
}

#[test]
fn no_frame_is_lost_when_the_sender_is_dropped_while_the_body_is_polled() {
    for round in 0..5_000 {
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
        };
        let data = frame.map(|frame| frame.unwrap().into_data().unwrap());
        assert_eq!(data.as_deref(), Some(&b"last"[..]), "round {round}");
        sending.join().unwrap();
    }
}
