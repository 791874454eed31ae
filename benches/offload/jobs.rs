//! How many jobs a second get through, with nothing to do in them: the price of having them done elsewhere.

use std::process::{Child, Command};
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::service::Service as _;
use hyper_deferred::offload::Pool;
use hyper_deferred::zeromq::Workers;
use tokio::task::JoinSet;

use super::{Measured, compute, serve_jobs, summarize};

const JOBS: usize = 10_000;
const IN_FLIGHT: usize = 64;
const WORKERS: usize = 2;

pub(super) struct Processes(Vec<Child>);

impl Processes {
    pub(super) fn start(endpoint: &str) -> Self {
        let start = |_| Command::new(std::env::current_exe().unwrap()).args(["worker", endpoint]).spawn().unwrap();
        Self((0..WORKERS).map(start).collect())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

pub(super) fn measure(rounds: usize) -> Vec<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = Pool::new(WORKERS, IN_FLIGHT);
    let inproc = Workers::bind("inproc://jobs").unwrap();
    for _ in 0..WORKERS {
        std::thread::spawn(|| serve_jobs("inproc://jobs"));
    }
    let path = std::env::temp_dir().join(format!("hyper-deferred-bench-{}", std::process::id()));
    let ipc = Workers::bind(&format!("ipc://{}", path.display())).unwrap();
    let tcp = Workers::bind("tcp://127.0.0.1:*").unwrap();
    let _processes = (Processes::start(ipc.endpoint()), Processes::start(tcp.endpoint()));

    let mut results: Vec<(&str, Vec<f64>)> = ["spawn_blocking", "offload", "zeromq inproc", "zeromq ipc", "zeromq tcp"]
        .map(|name| (name, Vec::new()))
        .into();
    for _ in 0..rounds {
        let each = runtime.block_on(async {
            [
                per_second(|| async {
                    tokio::task::spawn_blocking(|| compute(0)).await.unwrap();
                })
                .await,
                per_second(|| {
                    let work = pool.offload(|| compute(0));
                    async {
                        work.await.unwrap();
                    }
                })
                .await,
                per_second(|| ask(&inproc)).await,
                per_second(|| ask(&ipc)).await,
                per_second(|| ask(&tcp)).await,
            ]
        });
        for (result, value) in results.iter_mut().zip(each) {
            result.1.push(value);
        }
    }
    let _is_left_by_libzmq = std::fs::remove_file(path);
    summarize("jobs/s", results)
}

fn ask(workers: &Workers) -> impl Future<Output = ()> + Send + 'static {
    let response = workers.call(Request::builder().method("POST").body(Full::<Bytes>::from("0")).unwrap());
    async {
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
    }
}

async fn per_second<F: Future<Output = ()> + Send + 'static>(mut job: impl FnMut() -> F) -> f64 {
    let began = Instant::now();
    let mut in_flight = JoinSet::new();
    for _ in 0..JOBS {
        if in_flight.len() == IN_FLIGHT {
            in_flight.join_next().await.unwrap().unwrap();
        }
        in_flight.spawn(job());
    }
    while let Some(done) = in_flight.join_next().await {
        done.unwrap();
    }
    JOBS as f64 / began.elapsed().as_secs_f64()
}
