//! Requests in pieces, and many in one.

use std::convert::Infallible;
use std::net::Shutdown;
use std::sync::mpsc;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::{Responder, deferred};

use crate::HAS_SLAB;
use crate::support::{Client, PATIENCE, Park, TestBody, Watched, text};

/// As the acceptor has it: what is read ahead of a request.
const LEFTOVER_BYTES_MAX: usize = 8192;

/// Reads the whole body and tells its length, at once or, under `/later`, when the test says so.
fn measure(
    parked: mpsc::Sender<(Responder<TestBody>, usize)>,
) -> impl Service<Request<Incoming>, Response = Response<TestBody>, Error = Infallible> {
    service_fn(move |request: Request<Incoming>| {
        let parked = parked.clone();
        async move {
            let later = request.uri().path() == "/later";
            let len = request.into_body().collect().await.map_or(usize::MAX, |body| body.to_bytes().len());
            if !later {
                return Ok(text(len.to_string()));
            }
            let (responder, deferred) = deferred();
            parked.send((responder, len)).unwrap();
            deferred.await
        }
    })
}

fn answer(client: &mut Client) -> String {
    let head = client.read_head();
    assert_eq!(head.status, 200);
    String::from_utf8(client.read_body(&head)).unwrap()
}

#[test]
fn a_hundred_in_one_write_are_answered_in_their_order_whichever_of_them_park() {
    // With so many bytes of headers the pipeline is longer than what is read ahead.
    for padding in [0, 400] {
        let (sender, responders) = mpsc::channel();
        let server = Watched::on_loopback(move || {
            service_fn(move |request: Request<Incoming>| {
                let (responder, deferred) = deferred::<TestBody>();
                let n: usize = request.uri().path()[1..].parse().unwrap();
                if n % 7 == 3 {
                    sender.send((n, responder)).unwrap();
                } else {
                    responder.send(text(n.to_string())).unwrap();
                }
                deferred
            })
        });
        let mut client = server.connect();
        let padding = "p".repeat(padding);
        let requests: String =
            (0..100).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: test\r\nx-padding: {padding}\r\n\r\n")).collect();
        client.write(requests);
        for n in 0..100 {
            if n % 7 == 3 {
                let (parked, responder) = responders.recv_timeout(PATIENCE).unwrap();
                assert_eq!(parked, n);
                responder.send(text(n.to_string())).unwrap();
            }
            assert_eq!(answer(&mut client), n.to_string());
        }
        drop(client);
        server.finish();
    }
}

#[test]
fn the_rest_of_a_head_is_awaited_however_much_of_it_is_there() {
    let (park, _responders, _outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let first = "GET /now HTTP/1.1\r\nhost: test\r\n\r\n";
    let second = "GET /now HTTP/1.1\r\nhost: test\r\nx-padding: ";
    for rest in LEFTOVER_BYTES_MAX - 2..LEFTOVER_BYTES_MAX + 3 {
        let mut control = server.connect();
        let mut client = server.connect();
        let padding = "p".repeat(rest - second.len());
        client.write(format!("{first}{second}{padding}"));
        assert_eq!(answer(&mut client), "now");
        // What is left of the head arrives when the server has put the connection away.
        server.await_stats(&mut control, |stats| stats.idle + stats.active == 2);
        client.write("p\r\n\r\n");
        assert_eq!(answer(&mut client), "now", "with {rest} bytes of the head read");
    }
    server.finish();
}

#[test]
fn half_a_head_and_then_the_end_is_closed() {
    let (park, _responders, _outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut control = server.connect();
    for half in ["G", "GET / HT", "GET / HTTP/1.1\r\nhost: test\r\n", "\r\n", "GET / HTTP/1.1\r\nhost: test\r\n\r"] {
        for wait in [false, true] {
            let mut client = server.connect();
            client.write(half);
            if wait {
                control.round_trip("/now");
            }
            client.shutdown(Shutdown::Write);
            client.expect_closed();
        }
    }
    server.await_rest(&mut control);
    assert_eq!(server.stats().graduated, 0);
    drop(control);
    server.finish();
}

#[test]
fn bodies_arrive_in_pieces() {
    let (sender, responders) = mpsc::channel();
    let server = Watched::on_loopback(|| measure(sender));
    let mut control = server.connect();
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for path in ["/a", "/later", "/later", "/b"] {
        for (n, client) in clients.iter_mut().enumerate() {
            if n % 2 == 0 {
                client.write(format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 30000\r\n\r\n"));
            } else {
                client.write(format!("POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"));
            }
        }
        for _ in 0..30 {
            for (n, client) in clients.iter_mut().enumerate() {
                if n % 2 == 0 {
                    client.write([b'x'; 1000]);
                } else {
                    client.write(format!("3e8\r\n{}\r\n", "x".repeat(1000)));
                }
            }
            // So that the pieces do arrive as pieces.
            control.round_trip("/now");
        }
        for client in clients.iter_mut().skip(1).step_by(2) {
            client.write("0\r\n\r\n");
        }
        if path == "/later" {
            let parked: Vec<_> = clients.iter().map(|_| responders.recv_timeout(PATIENCE).unwrap()).collect();
            server.await_stats(&mut control, |stats| stats.parked == 8);
            for (responder, len) in parked {
                responder.send(text(len.to_string())).unwrap();
            }
        }
        for client in &mut clients {
            assert_eq!(answer(client), "30000");
        }
    }
    assert_eq!(server.stats().graduated > 0, HAS_SLAB);
    drop(clients);
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

#[test]
fn a_body_that_breaks_off_ends_its_request() {
    let (sender, _responders) = mpsc::channel();
    let server = Watched::on_loopback(|| measure(sender));
    let mut control = server.connect();
    for reset in [false, true] {
        let mut client = server.connect();
        client.write("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\nhalf");
        server.await_stats(&mut control, |stats| stats.active == 1);
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        server.await_rest(&mut control);
    }
    drop(control);
    server.finish();
}

#[test]
fn a_length_beside_chunks_closes_the_connection_however_they_arrive() {
    // RFC 9112, section 6.1.
    let fields = ["content-length: 3\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"];
    for (method, fields) in [("POST", fields[0]), ("POST", fields[1]), ("GET", fields[1])] {
        let request = format!("{method} /later HTTP/1.1\r\nhost: test\r\n{fields}\r\n\r\n1\r\na\r\n0\r\n\r\n");
        for cut in 1..request.len() {
            let (sender, responders) = mpsc::channel();
            // A new one each time, so that none of what serves it has served another.
            let server = Watched::on_loopback(|| measure(sender));
            let mut client = server.connect();
            let (first, rest) = request.split_at(cut);
            client.write(first);
            // The server reads in order, and this comes after.
            let mut control = server.connect();
            control.text("/now");
            client.write(rest);
            let (responder, len) = responders.recv_timeout(PATIENCE).unwrap();
            assert_eq!(len, 1);
            control.text("/now");
            responder.send(text("woken")).unwrap();
            let head = client.read_head();
            assert_eq!(head.field("connection"), Some("close"), "with {first:?} first");
            assert_eq!(client.read_to_end(), b"woken");
            drop((client, control));
            server.finish();
        }
    }
}
