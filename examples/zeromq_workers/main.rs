//! Requests answered by workers over ZeroMQ: `cargo run --features full --example zeromq_workers`.
//!
//! One worker is a thread of this program. More, in Python, are started and killed at will:
//! `python3 examples/zeromq_workers/worker.py tcp://127.0.0.1:5555`. With `--python python3` one is started here.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::error::Error;
use std::process::{Child, Command};
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use hyper_deferred::Acceptor;
use hyper_deferred::zeromq::{Worker, Workers};

fn main() -> Result<(), Box<dyn Error>> {
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let port: u16 = option("--port").map_or(Ok(3000), |port| port.parse())?;
    // With any free port for clients, workers take any as well.
    let workers = Workers::bind(if port == 0 { "tcp://127.0.0.1:*" } else { "tcp://127.0.0.1:5555" })?;
    let endpoint = workers.endpoint().to_owned();
    let _python = option("--python").map(|python| Python::start(&python, &endpoint)).transpose()?;
    thread::spawn(move || serve_jobs(endpoint));

    let acceptor = Acceptor::bind(("127.0.0.1", port))?;
    println!("listening on http://{}/", acceptor.local_addr()?);
    println!("workers connect to {}", workers.endpoint());
    let shutdown = acceptor.shutdown_handle();
    let service = workers.clone();
    acceptor.run(|| {
        tokio::task::spawn_local(async move {
            let _ctrl_c = tokio::signal::ctrl_c().await;
            shutdown.shutdown();
        });
        service
    })?;
    println!("{:?}", workers.stats());
    Ok(())
}

/// The worker in Rust: up to 16 jobs at once.
fn serve_jobs(endpoint: String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    let Err(error) = runtime.block_on(Worker::new(endpoint).jobs_max(16).serve(|job: Request<Bytes>| async move {
        let answer = format!("Rust did {} {}\n", job.method(), job.uri());
        Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(answer))))
    }));
    println!("the worker has ended: {error}");
}

/// The worker in Python; it ends with this program.
struct Python(Child);

impl Python {
    fn start(python: &str, endpoint: &str) -> std::io::Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/zeromq_workers/worker.py");
        Command::new(python).args([script, endpoint]).spawn().map(Self)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _has_ended = self.0.kill().and_then(|()| self.0.wait());
    }
}
