//! Clients that take their time.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use socket2::{Domain, Socket, Type};

use crate::HAS_SLAB;
use crate::support::{
    Client, PATIENCE, Park, ServerProcess, Watched, alone, assert_nothing_held, await_text, is_server,
    run_until_interrupted, text, untimed,
};

/// As many as the descriptors of a process allow, and some to spare.
const SENDERS: usize = 17_000;
/// So many connect before it is looked whether the server keeps up: fewer than an accept queue takes.
const BATCH: usize = 100;
const LARGE: usize = 10_000_000;

#[test]
#[ignore = "the server of the other test, which runs it in a process of its own"]
fn server() {
    if !is_server("slow::server") {
        return;
    }
    let acceptor = untimed();
    let stats = acceptor.stats();
    let at_last = stats.clone();
    run_until_interrupted(acceptor, || {
        service_fn(move |request: Request<Incoming>| {
            let stats = stats.snapshot();
            let text = match request.uri().path() {
                "/idle" => stats.idle.to_string(),
                "/graduated" => stats.graduated.to_string(),
                path => path.to_owned(),
            };
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text))) }
        })
    });
    assert_nothing_held(&at_last.snapshot());
}

#[test]
fn seventeen_thousand_heads_that_dribble_in_are_kept_as_their_bytes() {
    let _alone = alone();
    let server = ServerProcess::spawn("slow::server");
    let mut control = Client::connect(server.addr);
    let mut clients: Vec<Client> = Vec::with_capacity(SENDERS);
    while clients.len() < SENDERS {
        for _ in 0..BATCH {
            let host = 2 + u8::try_from(clients.len() / 2_000).unwrap();
            clients.push(connect_from(host, server.addr).into());
        }
        control.text("/");
    }
    for piece in ["G", "ET /dribb", "led HTT", "P/1.1\r\nho", "st: test\r\n", "x-slow: very\r", "\n\r"] {
        for client in &mut clients {
            client.write(piece);
        }
        control.text("/");
    }
    // The connection of the question is not idle in the slab while it is answered.
    let asking = usize::from(!HAS_SLAB);
    await_text(&mut control, "/idle", |idle| idle == (SENDERS + asking).to_string());
    assert_eq!(control.text("/graduated"), "0");
    for client in &mut clients {
        client.write("\n");
    }
    for client in &mut clients {
        let head = client.read_head();
        assert_eq!(client.read_body(&head), b"/dribbled");
    }
    // In order it would be the ports that are waited for, the next time.
    clients.into_iter().for_each(Client::reset);
    await_text(&mut control, "/idle", |idle| idle == asking.to_string());
    server.interrupt();
    let (status, output) = server.wait();
    assert_eq!(status.code(), Some(0), "{output}");
}

#[test]
fn ten_megabytes_go_to_a_reader_of_single_bytes_while_others_are_served() {
    let server = Watched::on_loopback(|| {
        service_fn(|request: Request<Incoming>| async move {
            let large = request.uri().path() == "/large";
            Ok::<_, Infallible>(text(if large { Bytes::from(vec![b'x'; LARGE]) } else { Bytes::from("small") }))
        })
    });
    let mut control = server.connect();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    let mut client = Client::unbuffered(socket.into());
    client.get("/large");
    assert_eq!(client.read_head().status, 200);
    for _ in 0..200 {
        assert_eq!(client.read_exact(1), b"x");
        assert_eq!(control.text("/now"), "small");
    }
    // It waits for the client in a task of its own.
    server.await_stats(&mut control, |stats| (stats.active, stats.idle) == (1, 1));
    assert_eq!(client.read_exact(LARGE - 200), vec![b'x'; LARGE - 200]);
    // And it is an ordinary connection afterwards.
    assert_eq!(client.text("/now"), "small");
    drop(client);
    server.await_rest(&mut control);

    // One that leaves in the middle.
    let mut client = server.connect();
    client.get("/large");
    assert_eq!(client.read_head().status, 200);
    client.reset();
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

// ===== helpers =====

fn connect_from(host: u8, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

#[test]
fn a_head_is_refused_for_no_more_than_its_first_part() {
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut client = server.connect();
    client.get("/");
    let responder = responders.recv_timeout(PATIENCE).unwrap();
    // It takes the hyper that is there, so that the answer needs a new one.
    let mut streaming = server.connect();
    streaming.get("/");
    let body = responders.recv_timeout(PATIENCE).unwrap().stream(Response::new(()).into_parts().0).unwrap();
    assert_eq!(streaming.read_head().status, 200);
    responder.send(text("woken")).unwrap();
    let head = client.read_head();
    client.read_body(&head);

    client.write("GET / HT");
    let mut control = server.connect();
    server.await_stats(&mut control, |stats| stats.idle == 2);
    // What comes before the head is whole is parsed with the rest, which never comes.
    client.write("TP/9\0");
    client.shutdown(Shutdown::Write);
    assert_eq!(client.read_to_end().escape_ascii().to_string(), "");
    drop((body, streaming, client, control));
    server.finish();
}
