//! An answer from another thread, a client that leaves and a shutdown, all at the same time: each request ends once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::{Outcome, Responder, deferred};

use crate::support::{PATIENCE, Park, TestBody, Watched, text};

const ROUNDS: usize = 100;
const EACH: usize = 20;

#[test]
fn answers_race_with_clients_that_leave_and_each_request_ends_once() {
    let (park, responders, outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut control = server.connect();
    let mut answered = 0;
    let mut gone = 0;
    for round in 0..ROUNDS {
        let mut clients: Vec<_> = (0..EACH).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.get("/");
        }
        let parked: Vec<_> = clients.iter().map(|_| responders.recv_timeout(PATIENCE).unwrap()).collect();
        let start = Barrier::new(2);
        let accepted = thread::scope(|scope| {
            let answering = scope.spawn(|| {
                start.wait();
                parked.into_iter().filter_map(|responder| responder.send(text("woken")).ok()).count()
            });
            start.wait();
            for (n, client) in clients.into_iter().enumerate() {
                if (n + round) % 2 == 0 {
                    client.reset();
                } else {
                    drop(client);
                }
            }
            answering.join().unwrap()
        });
        let ended: Vec<_> = (0..EACH).map(|_| outcomes.recv_timeout(PATIENCE).unwrap()).collect();
        let taken = ended.iter().filter(|outcome| **outcome == Outcome::Answered).count();
        assert!(taken <= accepted, "what was taken had been accepted");
        assert!(ended.iter().all(|outcome| matches!(outcome, Outcome::Answered | Outcome::ClientGone)));
        answered += taken;
        gone += EACH - taken;
        server.await_rest(&mut control);
    }
    println!("{answered} answered, {gone} gone");
    assert!(outcomes.try_recv().is_err(), "each ended once");
    drop(control);
    server.finish();
}

#[test]
fn what_is_accepted_is_taken_or_given_back() {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    static BACK: AtomicUsize = AtomicUsize::new(0);
    let (sender, responders) = mpsc::channel::<Responder<TestBody>>();
    let server = Watched::on_loopback(|| {
        service_fn(move |request: Request<Incoming>| {
            let (responder, deferred) = deferred();
            if request.uri().path() == "/now" {
                responder.send(text("now")).unwrap();
                return deferred;
            }
            sender.send(responder).unwrap();
            deferred
                .on_undelivered(|_| _ = BACK.fetch_add(1, SeqCst))
                .on_complete(|outcome| _ = TAKEN.fetch_add(usize::from(outcome == Outcome::Answered), SeqCst))
        })
    });
    let mut control = server.connect();
    let mut accepted = 0;
    for _ in 0..ROUNDS * EACH {
        let mut client = server.connect();
        client.get("/");
        let responder = responders.recv_timeout(PATIENCE).unwrap();
        let leaving = thread::spawn(move || client.reset());
        accepted += usize::from(responder.send(text("woken")).is_ok());
        leaving.join().unwrap();
    }
    server.await_rest(&mut control);
    assert_eq!(TAKEN.load(SeqCst) + BACK.load(SeqCst), accepted);
    drop(control);
    server.finish();
}

#[test]
fn a_shutdown_in_the_middle_leaves_nobody_without_an_answer() {
    for round in 0..ROUNDS {
        let (park, responders, outcomes) = Park::new();
        let server = Watched::on_loopback(|| park);
        let mut clients: Vec<_> = (0..EACH).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.get("/");
        }
        let mut parked: Vec<_> = clients.iter().map(|_| responders.recv_timeout(PATIENCE).unwrap()).collect();
        let others = parked.split_off(EACH / 2);
        let start = Barrier::new(3);
        let accepted: usize = thread::scope(|scope| {
            let answering = [parked, others].map(|responders| {
                scope.spawn(|| {
                    start.wait();
                    responders.into_iter().filter_map(|responder| responder.send(text("woken")).ok()).count()
                })
            });
            start.wait();
            // Sometimes a little later.
            for _ in 0..round % 10 * 100 {
                std::hint::spin_loop();
            }
            server.handle.shutdown();
            answering.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let mut woken = 0;
        for client in &mut clients {
            let head = client.read_head();
            match head.status {
                200 => woken += 1,
                503 => assert_eq!(head.field("connection"), Some("close")),
                status => panic!("an answer that nobody gave: {status}"),
            }
            client.read_body(&head);
            assert_eq!(client.read_to_end(), b"", "one answer, and then the end");
        }
        let ended: Vec<_> = (0..EACH).map(|_| outcomes.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(ended.iter().filter(|outcome| **outcome == Outcome::Answered).count(), woken);
        assert!(woken <= accepted);
        drop(clients);
        server.join();
    }
}

#[test]
fn everything_at_once() {
    for round in 0..ROUNDS {
        let (park, responders, outcomes) = Park::new();
        let server = Watched::on_loopback(|| park);
        let mut clients: Vec<_> = (0..EACH).map(|_| server.connect()).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            // With and without another request behind the first.
            client.get("/");
            if n % 3 == 0 {
                client.get("/now");
            }
        }
        let parked: Vec<_> = clients.iter().map(|_| responders.recv_timeout(PATIENCE).unwrap()).collect();
        let start = Barrier::new(3);
        let leave = clients.split_off(EACH / 2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                for (n, responder) in parked.into_iter().enumerate() {
                    if n % 5 == 4 {
                        // Some are dropped, which answers too, and some begin a stream.
                        drop(responder);
                    } else if n % 5 == 3 {
                        let _ = responder.stream(http::Response::new(()).into_parts().0).map(drop);
                    } else {
                        let _ = responder.send(text("woken"));
                    }
                }
            });
            scope.spawn(|| {
                start.wait();
                leave.into_iter().for_each(|client| if round % 2 == 0 { client.reset() } else { drop(client) });
            });
            start.wait();
            if round % 4 != 3 {
                server.handle.shutdown();
            }
        });
        server.handle.shutdown();
        for client in &mut clients {
            let answer = String::from_utf8(client.try_read_to_end()).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
        }
        for _ in 0..EACH {
            outcomes.recv_timeout(PATIENCE).unwrap();
        }
        drop(clients);
        server.join();
    }
}
