//! Bounds, and what becomes of who is beyond them.

use http::Response;

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
