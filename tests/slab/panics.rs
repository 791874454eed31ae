//! Panics in everything that is a user's: they end a request, or its connection, and nothing else.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_deferred::Outcome;
use hyper_deferred::acceptor::Snapshot;

use crate::support::{Client, PATIENCE, Park, Watched, untimed};

/// What it does to each path: panics somewhere.
struct Panicking;

/// Parks, or is done; and may panic when it is dropped.
struct Answer {
    path: String,
    is_done: bool,
}

/// A body of one frame, or of none that is ready.
struct Payload {
    path: String,
    is_sent: bool,
}

fn now() -> Response<Payload> {
    Response::new(Payload { path: "/now".to_owned(), is_sent: false })
}

impl Service<Request<Incoming>> for Panicking {
    type Response = Response<Payload>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        assert_ne!(path, "/call", "the test wants it");
        Answer { path, is_done: false }
    }
}

impl Future for Answer {
    type Output = Result<Response<Payload>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &*self.path {
            "/future" | "/twice" => panic!("the test wants it"),
            "/parked-drop" => Poll::Pending,
            "/later" if !self.is_done => {
                // In its second poll, when it has been parked.
                self.is_done = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            "/later" => panic!("the test wants it"),
            path if path.starts_with("/body") => {
                Poll::Ready(Ok(Response::new(Payload { path: path.to_owned(), is_sent: false })))
            }
            _ => {
                self.is_done = true;
                Poll::Ready(Ok(now()))
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        assert!(!["/parked-drop", "/done-drop", "/twice"].contains(&&*self.path), "the test wants it");
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.path == "/body-first" || self.path == "/body-second" && self.is_sent {
            panic!("the test wants it");
        }
        if self.path == "/body-task" && self.is_sent {
            // By now in a task, where it panics in its drop.
            let _ = cx;
            return Poll::Pending;
        }
        if std::mem::replace(&mut self.is_sent, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"well")))))
    }

    fn size_hint(&self) -> SizeHint {
        assert_ne!(self.path, "/body-hint", "the test wants it");
        if self.path == "/now" { SizeHint::with_exact(4) } else { SizeHint::default() }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        assert!(!["/body-drop", "/body-task"].contains(&&*self.path), "the test wants it");
    }
}

fn assert_others_live(control: &mut Client, server: &Watched) -> Snapshot {
    assert_eq!(control.text("/now"), "well");
    assert_eq!(server.connect().text("/now"), "well");
    server.await_rest(control);
    server.stats()
}

#[test]
fn before_the_head_they_become_a_500_and_the_connection_lives() {
    let server = Watched::on_loopback(|| Panicking);
    let mut control = server.connect();
    for path in ["/call", "/future", "/later", "/twice", "/done-drop"] {
        let mut client = server.connect();
        assert_eq!(client.round_trip(path).0.status, 500, "{path}");
        assert_eq!(client.text("/now"), "well");
        drop(client);
        assert_others_live(&mut control, &server);
    }
    drop(control);
    server.finish();
}

#[test]
fn the_answers_before_them_are_sent() {
    let server = Watched::on_loopback(|| Panicking);
    let mut control = server.connect();
    for path in ["/body-first", "/body-second", "/body-drop", "/body-hint"] {
        let mut client = server.connect();
        client.write(format!("GET /now HTTP/1.1\r\nhost: test\r\n\r\nGET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        let head = client.read_head();
        assert_eq!(client.read_body(&head), b"well", "before {path}");
        client.read_to_end();
        assert_others_live(&mut control, &server);
    }
    drop(control);
    server.finish();
}

#[test]
fn after_the_head_they_end_their_connection() {
    let server = Watched::on_loopback(|| Panicking);
    let mut control = server.connect();
    for path in ["/body-first", "/body-second", "/body-drop", "/body-hint"] {
        let mut client = server.connect();
        client.get(path);
        let all = client.read_to_end();
        assert!(!all.ends_with(b"0\r\n\r\n"), "{path} looks as if it had come to its end");
        assert_others_live(&mut control, &server);
    }
    drop(control);
    server.finish();
}

#[test]
fn what_panics_when_its_client_leaves_takes_nobody_along() {
    let server = Watched::on_loopback(|| Panicking);
    let mut control = server.connect();
    for path in ["/parked-drop", "/body-task"] {
        for reset in [false, true] {
            let mut client = server.connect();
            client.get(path);
            if path == "/body-task" {
                assert_eq!(client.read_head().status, 200);
            }
            server.await_stats(&mut control, |stats| stats.parked + stats.active == 1);
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            assert_others_live(&mut control, &server);
        }
    }
    drop(control);
    server.finish();
}

#[test]
fn what_panics_at_the_shutdown_does_not_keep_it() {
    let server = Watched::on_loopback(|| Panicking);
    let mut control = server.connect();
    let mut parked: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut parked {
        client.get("/parked-drop");
    }
    let mut other = server.connect();
    other.get("/now");
    server.await_stats(&mut control, |stats| stats.parked == 3);
    server.handle.shutdown();
    for client in &mut parked {
        assert_eq!(client.read_head().status, 503);
    }
    assert_eq!(other.read_head().status, 200);
    drop((parked, other, control));
    server.join();
}

#[test]
fn a_panic_in_what_makes_the_shutdowns_response_is_no_reason_for_none() {
    let (park, responders, outcomes) = Park::new();
    let server = Watched::run(|| untimed().shutdown_response(|| panic!("the test wants it")), move || park);
    let mut client = server.connect();
    client.write("GET /now HTTP/1.1\r\nhost: test\r\n\r\nGET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let _responder = responders.recv_timeout(PATIENCE).unwrap();
    server.handle.shutdown();
    let head = client.read_head();
    assert_eq!(client.read_body(&head), b"now");
    let head = client.read_head();
    assert_eq!((head.status, head.field("retry-after")), (503, Some("1")));
    assert_eq!(outcomes.recv_timeout(PATIENCE).unwrap(), Outcome::ShutDown);
    drop(client);
    server.join();
}
