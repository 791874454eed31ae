//! What every server does: it publishes on its own loop when the session says so, and tells who waits.

use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_deferred::{Acceptor, BoxError};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::LocalSet;

/// What is published: some text, and when.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Message {
    pub(crate) round: u64,
    pub(crate) at: u64,
    pub(crate) from: String,
    pub(crate) text: String,
}

/// One way to publish and to count those who wait, for each variant.
pub(crate) trait Hub: 'static {
    fn topics(&self) -> usize;
    fn publish(&self, topic: usize, message: Message);
    fn waiting(&self) -> usize;
}

/// How many topics are published to before the loop has a turn.
const PUBLISHED_IN_TURN: usize = 16;

/// The number in a path like `/7`.
pub(crate) fn topic_number(path: &str) -> usize {
    path[1..].parse().unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

pub(crate) fn on_acceptor<S, B>(make: impl FnOnce() -> S, hub: impl Hub)
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
    println!("{}", acceptor.local_addr().unwrap().port());
    block_on(async {
        tokio::task::spawn_local(commands(hub));
        acceptor.serve(make()).await.unwrap();
    });
}

pub(crate) fn on_hyper<S, B>(make: impl FnOnce() -> S, hub: impl Hub)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        tokio::task::spawn_local(commands(hub));
        let service = Rc::new(make());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service.clone());
            tokio::task::spawn_local(connection);
        }
    });
}

/// Does what the session says.
async fn commands(hub: impl Hub) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut round = 0;
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.split_once(' ') {
            Some(("await", count)) => {
                until_waiting(&hub, count.parse().unwrap(), Duration::from_millis(1)).await;
                println!("there");
            }
            Some(("settle", count)) => {
                // Rarely enough that the looking itself costs nothing that shows.
                until_waiting(&hub, count.parse().unwrap(), Duration::from_millis(20)).await;
                println!("{} {}", cpu_ns(), rss_anon_bytes());
            }
            _ => {
                round += 1;
                publish(&hub, round).await;
            }
        }
    }
}

async fn until_waiting(hub: &impl Hub, count: usize, look: Duration) {
    while hub.waiting() != count {
        tokio::time::sleep(look).await;
    }
}

async fn publish(hub: &impl Hub, round: u64) {
    let at = now_ns();
    for topic in 0..hub.topics() {
        let text = "Sphinx of black quartz, judge my vow: the quick brown fox jumps over it all".to_owned();
        hub.publish(topic, Message { round, at, from: "somebody".to_owned(), text });
        if topic % PUBLISHED_IN_TURN == PUBLISHED_IN_TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
}

/// What all processes of a machine agree upon.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(rustix::time::ClockId::Monotonic)
}

fn cpu_ns() -> u64 {
    nanoseconds(rustix::time::ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

fn rss_anon_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
