//! How many connections each of several workers gets: `cargo bench --bench spread`.
//!
//! 2,000 clients connect and ask, to be told which worker has them: one after another, each when the last one has its
//! answer, and then from four threads as fast as they can. Nobody leaves before all are there. The first is how clients
//! come to a server that has little to do, the second how they come back to one that was restarted.
//!
//! `--quick`, which is the default when not run by `cargo bench`, is a smoke test.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it finds, and ends where it fails"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::Acceptor;

const CLIENTS: usize = 2_000;
const CLIENTS_QUICK: usize = 50;
/// Who connect as fast as they can.
const CROWD_THREADS: usize = 4;

/// How many connections each worker has, by its thread's name.
type Shares = BTreeMap<String, usize>;

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let quick = args.iter().any(|arg| arg == "--quick") || !args.iter().any(|arg| arg == "--bench");
    let clients = if quick { CLIENTS_QUICK } else { CLIENTS };
    for workers in [2, 4] {
        for (how, threads) in [("one after another", 1), ("in a crowd", CROWD_THREADS)] {
            let shares = serve(workers, |server| connect(server, clients, threads));
            let mut counts: Vec<_> = shares.into_values().collect();
            counts.resize(workers, 0);
            counts.sort_unstable();
            println!("{workers} workers, {clients} clients {how}: {counts:?}");
        }
    }
}

/// Runs `clients` beside a server of so many workers.
fn serve<T>(workers: usize, clients: impl FnOnce(SocketAddr) -> T) -> T {
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
    let (addr, shutdown) = (acceptor.local_addr().unwrap(), acceptor.shutdown_handle());
    let service = || {
        service_fn(async |_: Request<Incoming>| {
            let worker = thread::current().name().unwrap_or_default().to_owned();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(worker)))
        })
    };
    thread::scope(|scope| {
        let server = scope.spawn(|| acceptor.run_workers(NonZeroUsize::new(workers).unwrap(), service).unwrap());
        let told = clients(addr);
        shutdown.shutdown();
        server.join().unwrap();
        told
    })
}

/// Connects so many clients from so many threads, and tells who has them.
fn connect(server: SocketAddr, clients: usize, threads: usize) -> Shares {
    let all_there = Barrier::new(threads);
    thread::scope(|scope| {
        let connecting = |_| {
            scope.spawn(|| {
                let asked: Vec<_> = (0..clients / threads).map(|_| ask(server, threads == 1)).collect();
                all_there.wait();
                asked
                    .into_iter()
                    .map(|(client, worker)| worker.unwrap_or_else(|| read_worker(&client)))
                    .collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..threads).map(connecting).collect();
        let mut shares = Shares::new();
        for worker in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            *shares.entry(worker).or_default() += 1;
        }
        shares
    })
}

/// A client that has asked, and the answer if it waits for it.
fn ask(server: SocketAddr, waits: bool) -> (TcpStream, Option<String>) {
    let mut client = TcpStream::connect(server).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").unwrap();
    let worker = waits.then(|| read_worker(&client));
    (client, worker)
}

/// The body of a response, which comes in one piece.
fn read_worker(mut client: &TcpStream) -> String {
    let mut response = [0; 1024];
    let len = client.read(&mut response).unwrap();
    let response = std::str::from_utf8(&response[..len]).unwrap();
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}
