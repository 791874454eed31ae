//! A server in a process of its own, so that its limits, signals and memory are its own too.
//!
//! The process is the test executable again, told to run one test that is otherwise ignored: the server.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Barrier, mpsc};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_deferred::{Acceptor, BoxError, ShutdownHandle};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::PATIENCE;

const ROLE: &str = "HYPER_DEFERRED_TEST_ROLE";
const READY: &str = "listening on ";

/// A server process. It is killed when dropped.
pub struct ServerProcess {
    pub addr: SocketAddr,
    process: std::process::Child,
    rest: mpsc::Receiver<String>,
}

// ===== impl ServerProcess =====

impl ServerProcess {
    /// Runs the ignored test `name` of this executable in a process of its own and waits until it listens.
    pub fn spawn(name: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--ignored", "--nocapture"])
            .env(ROLE, name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let addr = loop {
            let mut line = String::new();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the server ended before it listened");
            if let Some((_, addr)) = line.trim_end().split_once(READY) {
                break addr.parse().unwrap();
            }
        };
        let (ended, rest) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            let _ = ended.send(text);
        });
        Self { addr, process, rest }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
    }

    /// Waits until the process has ended by itself; what it printed after it listened.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let text = self.rest.recv_timeout(PATIENCE).expect("the server process has ended");
        (self.process.wait().unwrap(), text)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// ===== helpers =====

/// Whether this process was started to be the server `name`.
pub fn is_server(name: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|role| role == name)
}

/// Serves until Ctrl-C.
pub fn run_until_interrupted<S, B>(acceptor: Acceptor, make_service: impl FnOnce() -> S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let (addr, handle) = (acceptor.local_addr().unwrap(), acceptor.shutdown_handle());
    let run = acceptor.run(|| {
        shut_down_when_interrupted(handle);
        println!("\n{READY}{addr}");
        make_service()
    });
    run.unwrap();
}

/// The same on several workers.
pub fn run_workers_until_interrupted<S, B>(workers: usize, acceptor: Acceptor, make_service: impl Fn() -> S + Sync)
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let (addr, handle) = (acceptor.local_addr().unwrap(), acceptor.shutdown_handle());
    let all_serve = Arc::new(Barrier::new(workers));
    let run = acceptor.run_workers(workers.try_into().unwrap(), || {
        shut_down_when_interrupted(handle.clone());
        let all_serve = all_serve.clone();
        // A task is first polled when its worker has opened what it needs.
        tokio::task::spawn_local(async move {
            if all_serve.wait().is_leader() {
                println!("\n{READY}{addr}");
            }
        });
        make_service()
    });
    run.unwrap();
}

fn shut_down_when_interrupted(handle: ShutdownHandle) {
    let mut interrupted = signal(SignalKind::interrupt()).unwrap();
    tokio::task::spawn_local(async move {
        interrupted.recv().await;
        handle.shutdown();
    });
}
