//! Several workers: each serves on its own, and what is said of an acceptor holds for all of them together.

use std::collections::HashSet;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, ThreadId};

use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_deferred::{Deferred, Outcome, Responder, deferred};

use crate::support::{Client, PATIENCE, Park, TestBody, Watched, alone, descriptors, text, untimed};

/// Parks, and at `/block` keeps its thread busy until the test lets it go on.
#[derive(Clone)]
struct Blocks {
    park: Park,
    blocked: mpsc::Sender<Blocked>,
}

/// A worker that stands still. It goes on when this is dropped.
struct Blocked {
    thread: ThreadId,
    _go_on: mpsc::Sender<()>,
}

struct Crew {
    server: Watched,
    blocked: mpsc::Receiver<Blocked>,
    responders: mpsc::Receiver<Responder<TestBody>>,
    outcomes: mpsc::Receiver<Outcome>,
}

impl Service<Request<Incoming>> for Blocks {
    type Response = <Park as Service<Request<Incoming>>>::Response;
    type Error = Infallible;
    type Future = Deferred<TestBody>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.uri().path() != "/block" {
            return self.park.call(request);
        }
        let (go_on, wait) = mpsc::channel();
        self.blocked.send(Blocked { thread: thread::current().id(), _go_on: go_on }).unwrap();
        assert_eq!(wait.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
        let (responder, deferred) = deferred();
        responder.send(text("went on")).unwrap();
        deferred
    }
}

// ===== impl Crew =====

impl Crew {
    fn new(workers: usize, acceptor: impl FnOnce() -> hyper_deferred::Acceptor) -> Self {
        let (park, responders, outcomes) = Park::new();
        let (sender, blocked) = mpsc::channel();
        let service = Blocks { park, blocked: sender };
        let server = Watched::run_workers(workers, acceptor, move || service.clone());
        Self { server, blocked, responders, outcomes }
    }

    fn block(&self, client: &mut Client) -> Blocked {
        client.get("/block");
        self.blocked.recv_timeout(PATIENCE).unwrap()
    }

    /// A client of each of two workers.
    fn one_of_each(&self) -> [Client; 2] {
        let mut first = self.server.connect();
        let blocked = self.block(&mut first);
        let mut second = self.server.connect();
        assert_eq!(second.text("/now"), "now");
        drop(blocked);
        went_on(&mut first);
        [first, second]
    }

    /// So many parked on each of two workers.
    fn park_on_each(&self, count: usize) -> (Vec<Client>, Vec<Responder<TestBody>>, [Client; 2]) {
        let mut controls = self.one_of_each();
        let (mut clients, mut responders) = (Vec::new(), Vec::new());
        for control in &mut controls {
            // The other one takes whoever comes now.
            let blocked = self.block(control);
            for _ in 0..count {
                let mut client = self.server.connect();
                client.get("/");
                clients.push(client);
                responders.push(self.responders.recv_timeout(PATIENCE).unwrap());
            }
            drop(blocked);
            went_on(control);
        }
        (clients, responders, controls)
    }
}

fn went_on(client: &mut Client) {
    let head = client.read_head();
    assert_eq!(client.read_body(&head), b"went on");
}

#[test]
fn a_worker_that_stands_still_leaves_new_clients_to_the_others() {
    const WORKERS: usize = 3;
    let crew = Crew::new(WORKERS, untimed);
    for _ in 0..10 {
        let mut clients: Vec<_> = (0..WORKERS - 1)
            .map(|_| {
                let mut client = crew.server.connect();
                let blocked = crew.block(&mut client);
                (client, blocked)
            })
            .collect();
        let mut last = crew.server.connect();
        for _ in 0..10 {
            assert_eq!(last.text("/now"), "now");
            assert_eq!(crew.server.connect().text("/now"), "now");
        }
        let last_blocked = crew.block(&mut last);
        let mut threads: HashSet<_> = clients.iter().map(|(_, blocked)| blocked.thread).collect();
        threads.insert(last_blocked.thread);
        assert_eq!(threads.len(), WORKERS, "each stands still on a thread of its own");
        drop(last_blocked);
        went_on(&mut last);
        for (mut client, blocked) in clients.drain(..) {
            drop(blocked);
            went_on(&mut client);
        }
    }
    crew.server.finish();
}

#[test]
fn numbers_are_those_of_all_workers() {
    let crew = Crew::new(2, untimed);
    let (mut clients, responders, mut controls) = crew.park_on_each(10);
    let [control, other] = &mut controls;
    assert_eq!(crew.server.stats().accepted, 22);
    crew.server.await_stats(control, |stats| (stats.parked, stats.idle, stats.active) == (20, 2, 0));
    // Completed on a thread that is neither of theirs.
    responders.into_iter().for_each(|responder| responder.send(text("woken")).unwrap());
    for client in &mut clients {
        let head = client.read_head();
        assert_eq!(client.read_body(&head), b"woken");
    }
    crew.server.await_stats(other, |stats| stats.parked == 0 && stats.idle == 22 && stats.answered == 20);
    drop((clients, controls));
    crew.server.finish();
}

#[test]
fn a_shutdown_answers_who_waits_on_each_worker() {
    let crew = Crew::new(2, untimed);
    let (clients, responders, controls) = crew.park_on_each(10);
    crew.server.handle.shutdown();
    for mut client in clients {
        let head = client.read_head();
        assert_eq!((head.status, head.field("connection")), (503, Some("close")));
        assert_eq!(client.read_to_end(), b"");
        assert_eq!(crew.outcomes.recv_timeout(PATIENCE), Ok(Outcome::ShutDown));
    }
    for mut control in controls {
        assert_eq!(control.read_to_end(), b"");
    }
    drop(responders);
    let stats = crew.server.join();
    assert_eq!((stats.accepted, stats.shut_down), (22, 20));
}

#[test]
fn the_most_connections_are_those_of_all_workers() {
    let crew = Crew::new(2, || untimed().max_connections(4));
    let [first, second] = crew.one_of_each();
    let mut inside = vec![first, second, crew.server.connect(), crew.server.connect()];
    inside.iter_mut().for_each(|client| assert_eq!(client.text("/now"), "now"));
    for round in 0..200 {
        let mut next = crew.server.connect();
        next.get("/now");
        // Whoever leaves, on whichever worker, it is the next one's turn.
        let leaves = inside.remove(round % 4);
        assert_eq!(crew.server.stats().accepted, 4 + round as u64, "nobody has left");
        if round % 2 == 0 {
            drop(leaves);
        } else {
            leaves.reset();
        }
        let head = next.read_head();
        assert_eq!(next.read_body(&head), b"now");
        inside.push(next);
    }
    drop(inside);
    crew.server.finish();
}

#[test]
fn the_most_parked_are_those_of_all_workers() {
    let crew = Crew::new(2, || untimed().max_parked(20));
    let (clients, mut responders, mut controls) = crew.park_on_each(10);
    crew.server.await_stats(&mut controls[0], |stats| stats.parked == 20);
    for control in &mut controls {
        control.get("/");
        let refused = crew.responders.recv_timeout(PATIENCE).unwrap();
        let head = control.read_head();
        assert_eq!((head.status, head.field("retry-after")), (503, Some("1")));
        assert_eq!(crew.outcomes.recv_timeout(PATIENCE), Ok(Outcome::Refused));
        assert!(refused.send(text("too late")).is_err());
    }
    // One goes on the second worker, another may come on the first.
    responders.pop().unwrap().send(text("woken")).unwrap();
    crew.server.await_stats(&mut controls[1], |stats| stats.parked == 19);
    controls[0].get("/");
    let _parked = crew.responders.recv_timeout(PATIENCE).unwrap();
    crew.server.await_stats(&mut controls[1], |stats| stats.parked == 20);
    drop((clients, controls));
    assert_eq!(crew.server.finish().refused, 2);
}

#[test]
fn all_workers_end_when_one_of_them_panics() {
    let _alone = alone();
    let before = descriptors();
    for panics in 0..3 {
        let made = AtomicUsize::new(0);
        let (park, _responders, _outcomes) = Park::new();
        let acceptor = untimed();
        let stats = acceptor.stats();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            acceptor.run_workers(3.try_into().unwrap(), || {
                assert_ne!(made.fetch_add(1, Ordering::Relaxed), panics, "no service for this one");
                park.clone()
            })
        }));
        let panic = ended.unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().contains("no service for this one"));
        assert_eq!(stats.snapshot().accepted, 0);
        assert_eq!(descriptors(), before);
    }
}
