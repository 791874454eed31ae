//! tokio's cooperative budget: each request has one of its own, as if it were a task of its own.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::sync::{mpsc, watch};

use crate::support::{TestBody, Watched, text};

/// Fewer than a slice of the loop, so that all of them are woken in one.
const NEIGHBOURS: usize = 20;
/// What each of them takes: nearly all of a budget, which is 128 in tokio 1.54.
const TAKEN: usize = 100;
const GREEDY: usize = 1_000;

/// What the polls of a kind of request have come to.
#[derive(Default)]
struct Polls {
    neighbours: AtomicUsize,
    greedy: AtomicUsize,
}

/// Runs `future`, and counts its polls.
async fn counted<T>(polls: &AtomicUsize, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(cx)
    })
    .await
}

/// Takes so many from a channel that has them all.
async fn take(count: usize) {
    let (sender, mut receiver) = mpsc::channel(count);
    for n in 0..count {
        sender.try_send(n).unwrap();
    }
    for n in 0..count {
        assert_eq!(receiver.recv().await, Some(n));
    }
}

async fn serve(path: String, polls: Arc<Polls>, wake: Rc<watch::Sender<()>>) -> Result<Response<TestBody>, Infallible> {
    let mut woken = wake.subscribe();
    match &*path {
        "/now" => {}
        "/wake" => {
            // From here on.
            polls.neighbours.store(0, Ordering::Relaxed);
            polls.greedy.store(0, Ordering::Relaxed);
            wake.send_replace(());
        }
        "/neighbour" => counted(&polls.neighbours, take(TAKEN)).await,
        "/neighbour-waits" => {
            counted(&polls.neighbours, async {
                woken.changed().await.unwrap();
                take(TAKEN).await;
            })
            .await;
        }
        "/greedy-waits" => {
            counted(&polls.greedy, async {
                woken.changed().await.unwrap();
                take(GREEDY).await;
            })
            .await;
        }
        _ => loop {
            tokio::task::consume_budget().await;
        },
    }
    Ok(text("served"))
}

fn server() -> (Watched, Arc<Polls>) {
    let polls = Arc::new(Polls::default());
    let counting = polls.clone();
    let server = Watched::on_loopback(|| {
        let wake = Rc::new(watch::Sender::new(()));
        service_fn(move |request: Request<Incoming>| {
            serve(request.uri().path().to_owned(), counting.clone(), wake.clone())
        })
    });
    (server, polls)
}

#[test]
fn what_one_request_takes_is_not_taken_from_those_that_are_woken_with_it() {
    let (server, polls) = server();
    let mut control = server.connect();
    for greedy in [0, 1, 3] {
        let mut clients = Vec::new();
        for n in 0..NEIGHBOURS + greedy {
            let mut client = server.connect();
            client.get(if n % 5 == 2 && n / 5 < greedy { "/greedy-waits" } else { "/neighbour-waits" });
            clients.push(client);
        }
        server.await_stats(&mut control, |stats| stats.parked == clients.len() as u64);
        control.text("/wake");
        for client in &mut clients {
            let head = client.read_head();
            assert_eq!(client.read_body(&head), b"served");
        }
        assert_eq!(polls.neighbours.load(Ordering::Relaxed), NEIGHBOURS, "nobody is told to yield for others");
        assert!(polls.greedy.load(Ordering::Relaxed) >= greedy * (GREEDY / 128), "who takes too much yields");
        drop(clients);
        server.await_rest(&mut control);
    }
    drop(control);
    server.finish();
}

#[test]
fn what_one_request_takes_is_not_taken_from_those_that_come_with_it() {
    let (server, polls) = server();
    let mut control = server.connect();
    let mut spinning = server.connect();
    spinning.get("/for-ever");
    server.await_stats(&mut control, |stats| stats.parked == 1);
    let mut clients: Vec<_> = (0..NEIGHBOURS).map(|_| server.connect()).collect();
    for round in 1..=20 {
        for client in &mut clients {
            client.get("/neighbour");
        }
        for client in &mut clients {
            let head = client.read_head();
            assert_eq!(client.read_body(&head), b"served");
        }
        assert_eq!(polls.neighbours.load(Ordering::Relaxed), round * NEIGHBOURS);
    }
    drop((spinning, clients));
    server.await_rest(&mut control);
    drop(control);
    assert_eq!(server.finish().answered, 0, "none had to wait");
}
