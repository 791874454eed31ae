//! 100,000 values on real sockets, to clients that hang up at random: each goes exactly once to a client that has read
//! its whole response, or comes back.
#![cfg(all(feature = "queue", feature = "acceptor"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/chance.rs"]
mod chance;
#[path = "support/serve.rs"]
mod support;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::Queue;
use hyper_deferred::queue::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::chance::Chance;
use crate::support::{Served, serve};

const TAKEN: u32 = 70_000;
const LEASED: u32 = 30_000;
const CLIENTS: u64 = 200;
const PUSHERS: u32 = 4;
// Fewer than there are clients, so that most of them wait.
const VALUES_MAX: usize = 50;
const LEASE: Duration = Duration::from_millis(300);
// Longer than anything here takes, so that what hangs fails.
const GUARD: Duration = Duration::from_secs(100);

type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

/// Clients that hang up shut their side of the socket down and read on to its end: they know for sure what they have got.
#[test]
fn each_value_is_read_whole_by_one_client_or_comes_back() {
    let queue = Queue::new(VALUES_MAX);
    let (served, room) = start(&queue, TAKEN);
    let (done, until) = watch::channel(0);
    let done = Arc::new(done);
    let mut read: Vec<u32> = run(|number| {
        let (addr, until, done, room) = (served.addr, until.clone(), done.clone(), room.clone());
        async move {
            let mut client = Client::new(number, addr);
            let mut read = Vec::new();
            let mut until = until;
            loop {
                let value = tokio::select! {
                    value = client.take() => value,
                    _ = until.wait_for(|done| *done == TAKEN) => return read,
                };
                if let Some(value) = value {
                    read.push(value);
                    room.add_permits(1);
                    done.send_modify(|done| *done += 1);
                }
            }
        }
    });
    drop(served);
    assert_eq!(queue.held(), 0, "nothing is left");
    read.sort_unstable();
    assert_eq!(read, (0..TAKEN).collect::<Vec<_>>(), "each value once");
}

/// Clients that vanish, with what the kernel had already taken for them: only a confirmation tells.
#[test]
fn each_leased_value_is_confirmed_once_whoever_vanishes() {
    let queue = Builder::new(VALUES_MAX).deliveries_max(1000).build();
    let (served, room) = start(&queue, LEASED);
    let (done, until) = watch::channel(0);
    let done = Arc::new(done);
    let mut confirmed: Vec<u32> = run(|number| {
        let (addr, until, done, room) = (served.addr, until.clone(), done.clone(), room.clone());
        async move {
            let mut client = Client::new(number, addr);
            let mut confirmed = Vec::new();
            let mut until = until;
            loop {
                let value = tokio::select! {
                    value = client.lease_and_confirm() => value,
                    _ = until.wait_for(|done| *done == LEASED) => return confirmed,
                };
                if let Some(value) = value {
                    confirmed.push(value);
                    room.add_permits(1);
                    done.send_modify(|done| *done += 1);
                }
            }
        }
    });
    drop(served);
    assert_eq!(queue.held(), 0, "nothing is left");
    confirmed.sort_unstable();
    assert_eq!(confirmed, (0..LEASED).collect::<Vec<_>>(), "each value once");
}

/// Serves `queue`, and pushes `count` values into it, each when there is room for it.
fn start(queue: &Queue<u32>, count: u32) -> (Served, Arc<Semaphore>) {
    let served = {
        let queue = queue.clone();
        serve(move || service_fn(move |request| answer(queue.clone(), request)))
    };
    let room = Arc::new(Semaphore::new(VALUES_MAX));
    for pusher in 0..PUSHERS {
        let (queue, room) = (queue.clone(), room.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for value in (0..count).filter(|value| value % PUSHERS == pusher) {
                runtime.block_on(room.acquire()).unwrap().forget();
                // Who has read a value is a little faster than the queue that learns of it.
                while queue.push(value).is_err() {
                    std::thread::yield_now();
                }
            }
        });
    }
    (served, room)
}

/// Runs all clients to their ends.
fn run<F: Future<Output = Vec<u32>> + Send + 'static>(client: impl Fn(u64) -> F) -> Vec<u32> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(client(number + 1))).collect();
        let all = async {
            let mut all = Vec::new();
            for client in clients {
                all.extend(client.await.unwrap());
            }
            all
        };
        tokio::time::timeout(GUARD, all).await.expect("a value was lost: clients still wait for it")
    })
}

async fn answer(queue: Queue<u32>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    let path = request.uri().path();
    if request.method() == Method::POST {
        let ended = queue.confirm(path.trim_start_matches('/').parse().unwrap());
        let status = if ended.is_ok() { StatusCode::OK } else { StatusCode::GONE };
        return Ok(Response::builder().status(status).body(Full::from("confirmed").boxed_unsync()).unwrap());
    }
    if path == "/take" {
        let taken = queue.take().await;
        let text = taken.to_string();
        return Ok(Response::new(taken.into_body(text).boxed_unsync()));
    }
    let lease = queue.lease(LEASE).await;
    let body = Full::from(lease.to_string()).boxed_unsync();
    Ok(Response::builder().header("lease", lease.keep().to_string()).body(body).unwrap())
}

struct Client {
    chance: Chance,
    addr: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    fn new(number: u64, addr: SocketAddr) -> Self {
        Self { chance: Chance::new(number), addr, stream: None }
    }

    async fn send(&mut self, request: &str) {
        if self.stream.is_none() {
            self.stream = Some(TcpStream::connect(self.addr).await.unwrap());
        }
        self.stream.as_mut().unwrap().write_all(request.as_bytes()).await.unwrap();
    }

    /// A value that was read whole.
    async fn take(&mut self) -> Option<u32> {
        self.send("GET /take HTTP/1.1\r\nhost: here\r\n\r\n").await;
        let hangs_up = self.chance.below(8) == 0;
        if hangs_up {
            self.dawdle().await;
            self.stream.as_mut().unwrap().shutdown().await.unwrap();
        }
        let response = read_response(self.stream.as_mut().unwrap()).await.unwrap();
        if hangs_up {
            self.stream = None;
        }
        Some(response?.body.parse().unwrap())
    }

    /// A value whose confirmation was accepted.
    async fn lease_and_confirm(&mut self) -> Option<u32> {
        self.send("GET /lease HTTP/1.1\r\nhost: here\r\n\r\n").await;
        if self.chance.below(8) == 0 {
            self.dawdle().await;
            self.vanish();
            return None;
        }
        let response = read_response(self.stream.as_mut().unwrap()).await.unwrap().unwrap();
        if self.chance.below(16) == 0 {
            // The worker dies of it.
            self.vanish();
            return None;
        }
        let lease = response.head.lines().find_map(|line| line.strip_prefix("lease: ")).unwrap();
        self.send(&format!("POST /{lease} HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n")).await;
        let confirmed = read_response(self.stream.as_mut().unwrap()).await.unwrap().unwrap();
        confirmed.head.starts_with("HTTP/1.1 200").then(|| response.body.parse().unwrap())
    }

    /// Lets others run for a random number of turns.
    async fn dawdle(&mut self) {
        for _ in 0..self.chance.below(20) {
            tokio::task::yield_now().await;
        }
    }

    /// Closes the socket so that what was on its way is lost (a reset, as when a machine goes).
    fn vanish(&mut self) {
        let stream = self.stream.take().unwrap();
        stream.set_zero_linger().unwrap();
    }
}

struct Received {
    head: String,
    body: String,
}

/// One whole response; `None` when the connection ends before there is any of it.
async fn read_response(stream: &mut TcpStream) -> io::Result<Option<Received>> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return Ok(Some(Received { head: head.to_owned(), body: body.to_owned() }));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            assert!(bytes.is_empty(), "a response that was begun is sent to its end");
            return Ok(None);
        }
    }
}
