//! HTTP requests in a thread that waits in libzmq's `zmq_poll`: one poll for its own socket and for what HTTP clients
//! ask. `cargo run --features full --example foreign_loop`, then `curl http://127.0.0.1:3000/some/thing`.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::{os::fd::AsRawFd as _, thread};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, body::Incoming};
use hyper_deferred::inbox::{InboxReceiver, inbox};
use hyper_deferred::{Acceptor, BoxError};

/// More than the loop takes in one turn, and few enough that the last one waits no second.
const WAITING_MAX: usize = 256;

fn main() -> Result<(), BoxError> {
    let port = std::env::args().skip_while(|arg| arg != "--port").nth(1).map_or(Ok(3000), |port| port.parse())?;
    let (service, receiver) = inbox::<Incoming, Full<Bytes>>(WAITING_MAX)?;
    let foreign = thread::spawn(move || foreign_loop(&receiver));

    let acceptor = Acceptor::bind(("127.0.0.1", port))?;
    println!("listening on http://{}/", acceptor.local_addr()?);
    let shutdown = acceptor.shutdown_handle();
    acceptor.run(|| {
        tokio::task::spawn_local(async move {
            let _ctrl_c = tokio::signal::ctrl_c().await;
            shutdown.shutdown();
        });
        service
    })?;
    // Without a service nothing can come any more, and the loop ends.
    foreign.join().map_err(|_| "the foreign loop panicked")??;
    Ok(())
}

/// A loop as it might have been there for years: it answers each message with the one before.
fn foreign_loop(requests: &InboxReceiver<Incoming, Full<Bytes>>) -> Result<(), BoxError> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::REP)?;
    socket.bind("tcp://127.0.0.1:*")?;
    let mut last = Vec::from("nothing yet");
    while requests.is_open() {
        let mut items = [
            socket.as_poll_item(zmq::POLLIN),
            // It is readable exactly while `drain` would give something.
            zmq::PollItem::from_fd(requests.as_raw_fd(), zmq::POLLIN),
        ];
        zmq::poll(&mut items, -1)?;
        if items[0].is_readable() {
            let message = socket.recv_bytes(0)?;
            socket.send(std::mem::replace(&mut last, message), 0)?;
        }
        for job in requests.drain() {
            last = Vec::from(job.request.uri().path());
            let answer = format!("{} asked in zmq_poll's loop\n", job.request.uri());
            let _client_has_gone = job.responder.send(Response::new(answer.into()));
        }
    }
    Ok(())
}
