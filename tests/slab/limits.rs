//! Bounds, and what becomes of who is beyond them.

use std::collections::VecDeque;
use std::net::Shutdown;

use http::Response;
use hyper_deferred::Outcome;

use crate::support::{PATIENCE, Park, Watched, text, untimed};

#[test]
fn a_place_that_a_wake_makes_free_is_taken_while_nothing_else_happens() {
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::run(|| untimed().max_connections(1), || park);
    let mut first = server.connect();
    first.write("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    let responder = responders.recv_timeout(PATIENCE).unwrap();
    let mut second = server.connect();
    second.get("/now");
    responder.send(text("bye")).unwrap();
    assert_eq!(first.read_head().status, 200);
    let head = second.read_head();
    assert_eq!(second.read_body(&head), b"now");
    drop((first, second));
    server.finish();
}

#[test]
fn a_place_that_a_stream_makes_free_is_taken_while_nothing_else_happens() {
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::run(|| untimed().max_connections(2), || park);
    let mut streams: Vec<_> = ["keep-alive", "close"]
        .into_iter()
        .map(|connection| {
            let mut client = server.connect();
            client.write(format!("GET / HTTP/1.1\r\nhost: test\r\nconnection: {connection}\r\n\r\n"));
            let responder = responders.recv_timeout(PATIENCE).unwrap();
            let body = responder.stream(Response::new(()).into_parts().0).unwrap();
            assert_eq!(client.read_head().status, 200);
            (client, body)
        })
        .collect();
    let mut third = server.connect();
    third.get("/now");
    let (mut closed, body_of_closed) = streams.pop().unwrap();
    let (mut kept, body_of_kept) = streams.pop().unwrap();
    // One comes back from its task, and then another.
    drop(body_of_kept);
    assert_eq!(kept.read_chunk(), b"");
    drop(body_of_closed);
    assert_eq!(closed.read_chunk(), b"");
    let head = third.read_head();
    assert_eq!(third.read_body(&head), b"now");
    drop((kept, closed, third));
    server.finish();
}

#[test]
fn past_the_most_connections_one_is_let_in_for_each_that_leaves() {
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::run(|| untimed().max_connections(3), || park);
    let mut inside: VecDeque<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut inside {
        client.get("/");
    }
    let mut held: Vec<_> = (0..3).map(|_| responders.recv_timeout(PATIENCE).unwrap()).collect();
    for round in 0..30 {
        let mut next = server.connect();
        next.get("/");
        assert!(responders.try_recv().is_err(), "nobody has left");
        assert_eq!(server.stats().accepted, 3 + round);
        match round % 3 {
            0 => drop(inside.pop_front()),
            1 => inside.pop_front().unwrap().reset(),
            _ => {
                // It leaves by an answer of its own wish, and so by its end.
                let mut client = inside.pop_front().unwrap();
                client.shutdown(Shutdown::Write);
                client.expect_closed();
            }
        }
        held.push(responders.recv_timeout(PATIENCE).unwrap());
        inside.push_back(next);
    }
    drop(inside);
    server.finish();
}

#[test]
fn past_the_most_parked_a_request_is_refused_at_once() {
    let (park, responders, outcomes) = Park::new();
    let server = Watched::run(|| untimed().max_parked(2), || park);
    let mut control = server.connect();
    let mut parked: Vec<_> = (0..2).map(|_| server.connect()).collect();
    let mut held = Vec::new();
    for client in &mut parked {
        client.get("/");
        held.push(responders.recv_timeout(PATIENCE).unwrap());
    }
    server.await_stats(&mut control, |stats| stats.parked == 2);
    let mut third = server.connect();
    for body in ["", "hello"] {
        third.write(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        let refused = responders.recv_timeout(PATIENCE).unwrap();
        let head = third.read_head();
        assert_eq!((head.status, head.field("retry-after")), (503, Some("1")));
        assert_eq!(head.field("connection"), None, "the connection is kept");
        assert_eq!(third.read_body(&head), b"");
        assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Refused));
        assert!(refused.send(text("too late")).is_err());
    }
    assert_eq!(third.text("/now"), "now", "what need not wait is served");
    assert_eq!(server.stats().parked, 2);

    // One goes, another may come.
    held.pop().unwrap().send(text("woken")).unwrap();
    let head = parked.pop().unwrap().read_head();
    assert_eq!(head.status, 200);
    third.get("/");
    let responder = responders.recv_timeout(PATIENCE).unwrap();
    server.await_stats(&mut control, |stats| stats.parked == 2);
    responder.send(text("at last")).unwrap();
    let head = third.read_head();
    assert_eq!(third.read_body(&head), b"at last");
    drop((third, parked, control));
    assert_eq!(server.finish().refused, 2);
}
