//! Many connections of one slice, which are read in a row and sent their answers in a row: each gets what is its own, in
//! order, whatever becomes of it meanwhile.

use std::convert::Infallible;
use std::net::Shutdown;
use std::sync::mpsc;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::{Outcome, Responder, deferred};

use crate::support::{Client, PATIENCE, Park, TestBody, Watched, text};

/// More than are served in one slice.
const CLIENTS: usize = 100;
/// As long as an answer may be that waits for the end of its slice.
const BODY_LEN: usize = 3000;

/// The body for a path: its last segment, again and again.
fn body(path: &str) -> Vec<u8> {
    path.rsplit('/').next().unwrap().bytes().cycle().take(BODY_LEN).collect()
}

/// Parks what is asked under `/park`, and answers all else with a body that tells the path.
pub(crate) fn telling(
    parked: mpsc::Sender<Responder<TestBody>>,
) -> impl Service<Request<Incoming>, Response = http::Response<TestBody>, Error = Infallible> {
    service_fn(move |request: Request<Incoming>| {
        let (responder, deferred) = deferred::<TestBody>();
        match request.uri().path() {
            "/park" => parked.send(responder).unwrap(),
            "/now" => responder.send(text("now")).unwrap(),
            path => responder.send(text(Bytes::from(body(path)))).unwrap(),
        }
        deferred
    })
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

pub(crate) fn assert_told(client: &mut Client, path: &str) {
    let head = client.read_head();
    assert_eq!(head.status, 200);
    assert!(client.read_body(&head) == body(path), "the answer to {path} is another's");
}

#[test]
fn each_of_many_at_once_gets_its_own_answer() {
    let (sender, responders) = mpsc::channel();
    let server = Watched::on_loopback(|| telling(sender));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.get(&format!("/{round}/client-{n}."));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_told(client, &format!("/{round}/client-{n}."));
        }
        for client in &mut clients {
            client.get("/park");
        }
        for _ in 0..CLIENTS {
            responders.recv_timeout(PATIENCE).unwrap().send(text("woken")).unwrap();
        }
        for client in &mut clients {
            let head = client.read_head();
            assert_eq!(client.read_body(&head), b"woken");
        }
    }
    drop(clients);
    server.finish();
}

#[test]
fn an_answer_before_a_request_that_waits_is_sent_though_its_client_ends_there() {
    let (sender, _responders) = mpsc::channel();
    let server = Watched::on_loopback(|| telling(sender));
    let mut control = server.connect();
    for behind in ["", "GET /third"] {
        let mut client = server.connect();
        client.write(get("/first") + &get("/park") + behind);
        client.shutdown(Shutdown::Write);
        assert_told(&mut client, "/first");
        assert_eq!(client.read_to_end(), b"");
        server.await_rest(&mut control);
    }
    drop(control);
    server.finish();
}

#[test]
fn an_answer_for_a_client_that_has_reset_ends_its_connection_alone() {
    let (park, responders, outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut control = server.connect();
    for _ in 0..CLIENTS {
        let mut client = server.connect();
        // Two answers in one slice, and the request behind them waits.
        client.write(get("/now") + &get("/now") + &get("/park"));
        client.reset();
        assert_eq!(control.text("/now"), "now");
    }
    server.await_rest(&mut control);
    drop(responders);
    for outcome in outcomes.try_iter() {
        assert_eq!(outcome, Outcome::ClientGone);
    }
    drop(control);
    server.finish();
}
