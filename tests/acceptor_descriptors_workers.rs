//! Running out of descriptors, and then of places, on several workers.
#![cfg(all(unix, feature = "acceptor", feature = "context", not(hyper_deferred_tasks)))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::watchdog::Watchdog;
use hyper_deferred::{Acceptor, deferred};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{Client, Logs, ServerProcess, is_server, run_workers_until_interrupted};
use tracing::Level;

const DESCRIPTORS_MAX: u64 = 64;
const WORKERS: usize = 2;
/// Longer than a worker ever pauses, which is a second, so that the rest of it is without a pause.
const WHILE: Duration = Duration::from_millis(1500);
/// How often the loops may turn in that time: a few times for each of two requests. One that turns though it has nothing
/// to do does so some hundred thousand times.
const TURNS_MAX: u64 = 100;

/// The kernel keeps so many connections that nobody accepts, and some more.
const TRIES_MAX: usize = 1000;

#[test]
#[ignore = "the server of the other test, which runs it in a process of its own"]
fn server() {
    if !is_server("server") {
        return;
    }
    let limit = Some(DESCRIPTORS_MAX);
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let logs = Logs::of_the_process();
    // It counts turns. Were it to look for stalls too, its looking would make the loops turn.
    let watchdog = Watchdog::start_with(Duration::from_secs(3600)).unwrap();
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap().max_connections(2).watchdog(watchdog);
    let stats = acceptor.stats();
    let files = Arc::new(Mutex::new(Vec::new()));
    run_workers_until_interrupted(WORKERS, acceptor, || {
        let (logs, stats, files) = (logs.clone(), stats.clone(), files.clone());
        service_fn(move |request: Request<Incoming>| {
            let (responder, deferred) = deferred::<Full<Bytes>>();
            let text = match request.uri().path() {
                "/use-up" => {
                    files.lock().unwrap().extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
                    String::new()
                }
                "/release" => {
                    files.lock().unwrap().clear();
                    String::new()
                }
                "/errors" => logs.at(Level::ERROR).len().to_string(),
                "/turns" => stats.loops().turns.count().to_string(),
                _ => return deferred.timeout(WHILE, Response::default).on_complete(|_| drop(responder)),
            };
            responder.send(Response::new(text.into())).unwrap();
            deferred
        })
    });
}

#[test]
fn a_worker_whose_pause_ends_when_all_places_are_taken_rests() {
    let server = ServerProcess::spawn("server");
    let mut first = Client::connect(server.addr);
    first.text("/use-up");
    // Neither of the workers can accept this one, and both pause. One that finds the last place held by the other, which is
    // trying, does so with one of the next.
    let mut second = Client::connect(server.addr);
    let mut next = Vec::new();
    while first.text("/errors") != WORKERS.to_string() {
        assert!(next.len() < TRIES_MAX, "not all workers have tried to accept");
        next.push(Client::connect(server.addr));
    }
    // The first whose pause ends has it then, and with it the last place.
    first.text("/release");
    let before: u64 = second.text("/turns").parse().unwrap();
    second.text("/wait");
    let turns = second.text("/turns").parse::<u64>().unwrap() - before;
    assert!(turns < TURNS_MAX, "{turns} turns in {WHILE:?}");
    server.interrupt();
    let (status, output) = server.wait();
    assert_eq!(status.code(), Some(0), "{output}");
}
