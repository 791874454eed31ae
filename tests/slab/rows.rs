//! Many connections of one slice, which are read in a row and sent their answers in a row: each gets what is its own, in
//! order, whatever becomes of it meanwhile.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::mpsc;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::{Acceptor, Outcome, Responder, deferred};
use socket2::{Domain, Socket, Type};

use crate::HAS_SLAB;
use crate::support::{Client, PATIENCE, Park, TestBody, Watched, text};

/// More than are served in one slice.
const CLIENTS: usize = 100;
/// As long as an answer may be that waits for the end of its slice, and longer than half of a small buffer.
const BODY_LEN: usize = 3000;
/// As little as a kernel gives.
const SMALL_BUFFER: usize = 2304;

/// An acceptor whose connections have little room for what is sent.
pub(crate) fn narrow() -> Acceptor {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.set_send_buffer_size(SMALL_BUFFER).unwrap();
    listener.listen(128).unwrap();
    let mut builder = hyper_deferred::server::conn::http1::Builder::new();
    builder.header_read_timeout(None);
    Acceptor::from_std(listener.into()).unwrap().http1(&builder)
}

/// A client that has little room for what comes.
pub(crate) fn narrow_client(server: &Watched) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    Client::unbuffered(socket.into())
}

/// The body for a path: its last segment, again and again.
fn body(path: &str) -> Vec<u8> {
    path.rsplit('/').next().unwrap().bytes().cycle().take(BODY_LEN).collect()
}

/// Parks what is asked under `/park`, and answers all else with a body that tells the path.
fn telling(
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

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

fn assert_told(client: &mut Client, path: &str) {
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
fn what_finds_no_room_comes_in_its_order_when_there_is_some() {
    let (sender, responders) = mpsc::channel();
    let server = Watched::run(narrow, || telling(sender));
    let mut control = server.connect();
    let mut client = narrow_client(&server);
    // Each time it is idle again, until an answer no longer fits.
    let mut sent = 0;
    while server.stats().graduated == 0 && sent < 20 {
        client.get(&format!("/{sent}."));
        assert_eq!(control.text("/now"), "now");
        sent += 1;
    }
    if HAS_SLAB {
        assert!(sent < 20, "{sent} answers have found room");
    }
    // And more behind it.
    client.get("/behind.");
    client.get("/park");
    assert_eq!(control.text("/now"), "now");
    for n in 0..sent {
        assert_told(&mut client, &format!("/{n}."));
    }
    assert_told(&mut client, "/behind.");
    responders.recv_timeout(PATIENCE).unwrap().send(text("woken")).unwrap();
    let head = client.read_head();
    assert_eq!(client.read_body(&head), b"woken");
    assert_eq!(client.text("/now"), "now");
    drop(client);
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

#[test]
fn a_request_that_waits_behind_an_answer_without_room_is_answered() {
    let (sender, responders) = mpsc::channel();
    let server = Watched::run(narrow, || telling(sender));
    let mut control = server.connect();
    for is_woken_first in [true, false] {
        let mut client = narrow_client(&server);
        let graduated = server.stats().graduated;
        let mut sent = 0;
        let mut parked = Vec::new();
        // Each time one answer and a request that waits, until the answer before that no longer fits.
        while server.stats().graduated == graduated && sent < 20 {
            client.write(get(&format!("/{sent}.")) + &get("/park"));
            sent += 1;
            parked.push(responders.recv_timeout(PATIENCE).unwrap());
            assert_eq!(control.text("/now"), "now");
            if server.stats().graduated == graduated {
                let answered = server.stats().answered;
                parked.pop().unwrap().send(text("woken")).unwrap();
                server.await_stats(&mut control, |stats| stats.answered > answered);
                // And it has been sent too, as far as there was room.
                assert_eq!(control.text("/now"), "now");
            }
        }
        if HAS_SLAB {
            assert!(sent < 20, "{sent} answers have found room");
        }
        if is_woken_first {
            parked.drain(..).for_each(|responder| responder.send(text("woken")).unwrap());
            assert_eq!(control.text("/now"), "now");
        }
        for n in 0..sent {
            assert_told(&mut client, &format!("/{n}."));
            if n == sent - 1 {
                parked.drain(..).for_each(|responder| responder.send(text("woken")).unwrap());
            }
            let head = client.read_head();
            assert_eq!(client.read_body(&head), b"woken");
        }
        assert_eq!(client.text("/now"), "now");
        drop(client);
        server.await_rest(&mut control);
    }
    drop(control);
    server.finish();
}

#[test]
fn an_answer_before_a_request_that_waits_is_sent_though_its_client_ends_there() {
    let (sender, _responders) = mpsc::channel();
    let server = Watched::on_loopback(|| telling(sender));
    let mut control = server.connect();
    for close in [true, false] {
        let mut client = server.connect();
        client.write(get("/first") + &get("/park"));
        if close {
            client.shutdown(Shutdown::Write);
        } else {
            client.write("GET /third");
            client.shutdown(Shutdown::Write);
        }
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
    for outcome in outcomes.try_iter().take(CLIENTS) {
        assert_eq!(outcome, Outcome::ClientGone);
    }
    drop(control);
    server.finish();
}
