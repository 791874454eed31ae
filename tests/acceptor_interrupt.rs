//! Ctrl-C with very many parked requests.
#![cfg(all(unix, feature = "acceptor"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use hyper_deferred::Acceptor;
use support::{Client, ServerProcess, Waiters, await_waiting, is_server, run_until_interrupted};

const PARKED: usize = 2_000;

#[test]
#[ignore = "the server of the other test, which runs it in a process of its own"]
fn server() {
    if is_server("server") {
        let waiters = Waiters::default();
        let served = waiters.clone();
        run_until_interrupted(Acceptor::bind("127.0.0.1:0").unwrap(), || served);
        println!("\n{} shut down, {} wait", waiters.shut_down(), waiters.waiting());
    }
}

#[test]
fn every_parked_request_gets_its_503_and_the_process_ends_by_itself() {
    let server = ServerProcess::spawn("server");
    let mut control = Client::connect(server.addr);
    let mut parked: Vec<_> = (0..PARKED).map(|_| Client::connect(server.addr)).collect();
    for client in &mut parked {
        client.get("/");
    }
    await_waiting(&mut control, PARKED);

    server.interrupt();
    for client in &mut parked {
        let head = client.read_head();
        assert_eq!(head.status, 503);
        assert_eq!(head.field("retry-after"), Some("1"));
        assert_eq!(head.field("connection"), Some("close"));
        assert_eq!(client.read_to_end(), b"");
    }
    assert_eq!(control.read_to_end(), b"", "the idle connection is closed");
    let (status, output) = server.wait();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains("2000 shut down, 0 wait"), "{output}");
}
