//! Running out of descriptors.
#![cfg(all(unix, feature = "acceptor"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::Acceptor;
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{Client, Logs, ServerProcess, Waiters, await_text, await_waiting, is_server, run_until_interrupted};
use tracing::Level;

const DESCRIPTORS_MAX: u64 = 64;
const PARKED: usize = 5;

#[test]
#[ignore = "the server of the other test, which runs it in a process of its own"]
fn server() {
    if is_server("server") {
        let limit = Some(DESCRIPTORS_MAX);
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
        let logs = Logs::of_the_process();
        let waiters = Waiters::default();
        run_until_interrupted(Acceptor::bind("127.0.0.1:0").unwrap(), || {
            service_fn(move |request: Request<Incoming>| match request.uri().path() {
                "/errors" => waiters.answer(logs.at(Level::ERROR).join("\n")),
                "/again" => {
                    let messages = logs.at(Level::DEBUG);
                    let again = messages.iter().filter(|message| *message == "still cannot accept connections");
                    waiters.answer(again.count().to_string())
                }
                _ => waiters.call(request),
            })
        });
    }
}

#[test]
fn it_is_logged_once_and_waited_out_while_parked_requests_live_on() {
    let server = ServerProcess::spawn("server");
    let mut control = Client::connect(server.addr);
    let mut parked: Vec<_> = (0..PARKED).map(|_| Client::connect(server.addr)).collect();
    for client in &mut parked {
        client.get("/");
    }
    await_waiting(&mut control, PARKED);
    assert_eq!(control.text("/errors"), "");

    // The kernel accepts them all; the process has descriptors for some of them.
    let mut flood: Vec<_> = (0..2 * DESCRIPTORS_MAX).map(|_| Client::connect(server.addr)).collect();
    await_text(&mut control, "/again", |times| times.parse::<u32>().unwrap() >= 3);
    assert_eq!(control.text("/wake"), PARKED.to_string());
    for client in &mut parked {
        let head = client.read_head();
        assert_eq!(client.read_body(&head), b"woken");
        client.get("/");
    }
    await_waiting(&mut control, PARKED);

    // One is let in for each that goes; those at the end of the queue are served in time.
    let mut last = flood.pop().unwrap();
    drop(flood);
    assert_eq!(last.text("/waiting"), format!("{PARKED} {PARKED}"));
    assert_eq!(control.text("/errors"), "cannot accept connections, those that are there are served on");

    server.interrupt();
    for client in &mut parked {
        assert_eq!(client.read_head().status, 503);
    }
    let (status, output) = server.wait();
    assert_eq!(status.code(), Some(0), "{output}");
}
