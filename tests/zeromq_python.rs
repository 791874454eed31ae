//! Workers in another language, on real libzmq, that are killed and started again at random.
//!
//! Ignored by default: they need `python3` with `pyzmq` (another interpreter is named by `PYTHON`).
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![cfg(unix)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1 as client;
use hyper::service::Service as _;
use hyper_deferred::Acceptor;
use hyper_deferred::acceptor::Stats;
use hyper_deferred::zeromq::Workers;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

const CLIENTS: usize = 200;
const REQUESTS_EACH: usize = 50;
const WORKERS: usize = 4;
/// Forty times in all.
const ANSWERS_PER_KILL: usize = 250;
/// One in so many requests may not be repeated.
const POST_EVERY: usize = 5;

#[test]
#[ignore = "needs python3 with pyzmq"]
fn every_client_gets_one_answer_and_only_what_may_be_repeated_is_while_workers_are_killed() {
    let notes = scratch("notes");
    let workers = Workers::builder()
        .heartbeat(Duration::from_millis(100))
        // So that no run of bad luck ends in a 504 for what may be repeated.
        .retries_max(1000)
        .queue_max(CLIENTS)
        .bind("tcp://127.0.0.1:*")
        .unwrap();
    let statuses = run(async {
        let (address, stats) = serve(workers.clone());
        let (answered, mut answers) = mpsc::unbounded_channel();
        for n in 0..CLIENTS {
            spawn_local(ask(address, n, answered.clone()));
        }
        drop(answered);
        // Nobody serves them yet.
        while stats.snapshot().parked < CLIENTS as u64 {
            tokio::task::yield_now().await;
        }
        let mut pool: Vec<_> = (0..WORKERS).map(|_| Worker::start(workers.endpoint(), &notes)).collect();
        let mut statuses = HashMap::new();
        let mut random = 1_u64;
        while let Some((request, status)) = answers.recv().await {
            assert_eq!(statuses.insert(request, status), None, "answered twice");
            if statuses.len() % ANSWERS_PER_KILL == 0 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let victim = (random >> 33) as usize % WORKERS;
                pool[victim] = Worker::start(workers.endpoint(), &notes);
            }
        }
        statuses
    });
    assert_eq!(statuses.len(), CLIENTS * REQUESTS_EACH);
    let mut times_given = HashMap::<&str, usize>::new();
    let noted = std::fs::read_to_string(&notes).unwrap();
    noted.lines().for_each(|request| *times_given.entry(request).or_default() += 1);
    let mut given_up = 0;
    for (request, status) in &statuses {
        let times = times_given.get(request.as_str()).copied().unwrap_or(0);
        if request.starts_with("POST") {
            assert!(times <= 1, "{request} was given {times} times");
            assert!(*status == 200 || *status == StatusCode::GATEWAY_TIMEOUT, "{request}: {status}");
            given_up += usize::from(*status != 200);
        } else {
            assert_eq!(*status, 200, "{request}");
        }
        assert!(*status != 200 || times >= 1, "{request} was answered by nobody");
    }
    let again = times_given.values().filter(|times| **times > 1).count();
    eprintln!("{again} requests given twice or more, {given_up} given up, {:?}", workers.stats());
    std::fs::remove_file(notes).unwrap();
}

#[test]
#[ignore = "needs python3 with pyzmq"]
fn a_reply_of_100_mb_in_one_frame_costs_its_worker_the_connection_and_this_process_nothing() {
    let notes = scratch("huge");
    let workers =
        Workers::builder().heartbeat(Duration::from_millis(100)).retries_max(1).bind("tcp://127.0.0.1:*").unwrap();
    let _worker = Worker::start(workers.endpoint(), &notes);
    run(async {
        let get = |path: &str| Request::builder().uri(path).body(Full::<Bytes>::default()).unwrap();
        assert_eq!(workers.call(get("/warm")).await.unwrap().status(), 200);
        let before = peak_memory_kb();
        assert_eq!(workers.call(get("/huge")).await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(workers.call(get("/next")).await.unwrap().status(), 200, "it has connected again");
        let grown = peak_memory_kb() - before;
        assert!(grown < 20 * 1024, "grew by {grown} KB");
        assert_eq!(workers.stats().workers_lost, 2);
    });
    std::fs::remove_file(notes).unwrap();
}

#[test]
#[ignore = "needs python3 with pyzmq"]
fn the_worker_of_the_example_finds_a_server_that_comes_back() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let _worker = Worker::start_script("examples/zeromq_workers/worker.py", &[endpoint.as_ref()]);
    run(async {
        for _ in 0..3 {
            let workers = loop {
                // The former socket is closed by another thread.
                match Workers::bind(&endpoint) {
                    Ok(workers) => break workers,
                    Err(_taken) => tokio::task::yield_now().await,
                }
            };
            let request = Request::builder().uri("/again").body(Full::<Bytes>::default()).unwrap();
            let response = workers.call(request).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Python did GET /again\n");
        }
    });
}

// ===== Helpers =====

/// A Python process; killed, as hard as it can be, when dropped.
struct Worker(Child);

impl Worker {
    fn start(endpoint: &str, notes: &Path) -> Self {
        Self::start_script("tests/support/pyzmq_worker.py", &[endpoint.as_ref(), notes.as_ref()])
    }

    fn start_script(script: &str, arguments: &[&std::ffi::OsStr]) -> Self {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        Self(Command::new(python).arg(script).args(arguments).spawn().expect("there is a Python"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it was killed");
    }
}

/// A server on this thread with `workers` as its service: who waits for a job is parked.
fn serve(workers: Workers) -> (std::net::SocketAddr, Stats) {
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
    let (address, stats) = (acceptor.local_addr().unwrap(), acceptor.stats());
    spawn_local(acceptor.serve(workers));
    (address, stats)
}

/// One client: a request after the other, each with a target of its own, on one connection.
async fn ask(address: std::net::SocketAddr, client: usize, answered: mpsc::UnboundedSender<(String, StatusCode)>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
    spawn_local(connection);
    for n in 0..REQUESTS_EACH {
        let method = if n % POST_EVERY == 0 { "POST" } else { "GET" };
        let target = format!("/{client}/{n}");
        let request =
            Request::builder().method(method).uri(&target).header("host", "test").body(Full::<Bytes>::default());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let status = response.status();
        let own = response.headers().get("x-method").is_some_and(|header| *header == method);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(status != 200 || (own && body == target), "{method} {target} got another's answer");
        answered.send((format!("{method} {target}"), status)).unwrap();
    }
}

fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("hyper-deferred-{name}-{}", std::process::id()));
    let _is_not_there = std::fs::remove_file(&path);
    path
}

fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
