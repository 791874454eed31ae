//! Two threads at once: a response is taken or handed back, never lost and never both.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use http::Response;
use hyper_deferred::{Deferred, Outcome, Responder, deferred};
use support::poll;

const ROUNDS: usize = 20_000;

/// A body that counts its drops. `None` is the empty body.
type Body = Option<Counted>;

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Runs both sides of many pairs at once, each on its thread and in step; `send` gives the sender's results.
fn race<T: Send + 'static>(
    pairs: Vec<(Responder<Body>, Deferred<Body>)>,
    bodies: &Arc<AtomicUsize>,
    end: impl Fn(Deferred<Body>) -> T,
) -> Vec<(Result<(), Response<Body>>, T)> {
    let rounds = pairs.len();
    let (responders, deferreds): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let barrier = Arc::new(Barrier::new(2));
    let sender = thread::spawn({
        let (barrier, bodies) = (barrier.clone(), bodies.clone());
        move || {
            let send = |(round, responder): (usize, Responder<Body>)| {
                let response = Response::new(Some(Counted(bodies.clone())));
                barrier.wait();
                // Either side is late by turns, so that each instant of one meets each of the other.
                (0..round % 64).for_each(|_| spin_loop());
                responder.send(response)
            };
            responders.into_iter().enumerate().map(send).collect::<Vec<_>>()
        }
    });
    let end = |(round, deferred): (usize, Deferred<Body>)| {
        barrier.wait();
        (0..round / 64 % 64).for_each(|_| spin_loop());
        end(deferred)
    };
    let ended: Vec<_> = deferreds.into_iter().enumerate().map(end).collect();
    let sent = sender.join().unwrap();
    assert_eq!((sent.len(), ended.len()), (rounds, rounds));
    sent.into_iter().zip(ended).collect()
}

#[test]
fn sent_while_the_future_is_dropped() {
    let bodies = Arc::new(AtomicUsize::new(0));
    let undelivered = Arc::new(AtomicUsize::new(0));
    let gone = Arc::new(AtomicUsize::new(0));
    let pair = |_| {
        let (responder, deferred) = deferred();
        let (undelivered, gone) = (undelivered.clone(), gone.clone());
        let deferred = deferred
            .on_undelivered(move |response: Response<Body>| {
                assert!(response.body().is_some());
                undelivered.fetch_add(1, SeqCst);
            })
            .on_complete(move |outcome| {
                assert_eq!(outcome, Outcome::ClientGone);
                gone.fetch_add(1, SeqCst);
            });
        (responder, deferred)
    };
    let results = race((0..ROUNDS).map(pair).collect(), &bodies, drop);

    let back = results.iter().filter(|(sent, ())| sent.is_err()).count();
    assert_eq!(gone.load(SeqCst), ROUNDS);
    assert_eq!(undelivered.load(SeqCst) + back, ROUNDS);
    assert_eq!(bodies.load(SeqCst), undelivered.load(SeqCst), "what came back is still alive");
    drop(results);
    assert_eq!(bodies.load(SeqCst), ROUNDS, "each body was dropped once");
}

#[test]
fn sent_while_the_future_is_polled_and_dropped() {
    let bodies = Arc::new(AtomicUsize::new(0));
    let undelivered = Arc::new(AtomicUsize::new(0));
    let pair = |_| {
        let (responder, deferred) = deferred();
        let undelivered = undelivered.clone();
        (responder, deferred.on_undelivered(move |_| _ = undelivered.fetch_add(1, SeqCst)))
    };
    let results = race((0..ROUNDS).map(pair).collect(), &bodies, |mut deferred| match poll(&mut deferred) {
        Poll::Ready(Ok(response)) => Some(response),
        Poll::Pending => None,
    });

    let mut back = 0;
    let mut taken = 0;
    for (sent, got) in &results {
        assert!(!(sent.is_err() && got.is_some()), "both have it");
        back += usize::from(sent.is_err());
        taken += usize::from(got.is_some());
        assert!(got.as_ref().is_none_or(|response| response.body().is_some()));
    }
    assert_eq!(back + taken + undelivered.load(SeqCst), ROUNDS);
    drop(results);
    assert_eq!(bodies.load(SeqCst), ROUNDS, "each body was dropped once");
}

#[test]
fn sent_while_the_time_is_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let bodies = Arc::new(AtomicUsize::new(0));
    let outcomes = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let pair = |_| {
        let (responder, deferred) = deferred();
        let outcomes = outcomes.clone();
        let deferred = deferred
            .on_complete(move |outcome| match outcome {
                Outcome::Answered => _ = outcomes[0].fetch_add(1, SeqCst),
                Outcome::TimedOut => _ = outcomes[1].fetch_add(1, SeqCst),
                other => panic!("{other}"),
            })
            .timeout(Duration::ZERO, Response::default);
        (responder, deferred)
    };
    let results = race((0..ROUNDS).map(pair).collect(), &bodies, |deferred| {
        // In a task of its own for the runtime's sake: an alarm is late by a poll when many are polled in one.
        runtime.block_on(deferred).unwrap()
    });

    let mut answered = 0;
    for (sent, got) in &results {
        assert_eq!(sent.is_ok(), got.body().is_some(), "exactly one wins");
        answered += usize::from(sent.is_ok());
    }
    assert_eq!([outcomes[0].load(SeqCst), outcomes[1].load(SeqCst)], [answered, ROUNDS - answered]);
    drop(results);
    assert_eq!(bodies.load(SeqCst), ROUNDS, "each body was dropped once");
}
