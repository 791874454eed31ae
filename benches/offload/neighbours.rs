//! How long a request that has nothing to do waits while others have a lot to do: in the service itself, or elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::{Service as _, service_fn};
use hyper_deferred::offload::Pool;
use hyper_deferred::zeromq::Workers;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use super::jobs::Processes;
use super::{Measured, compute, summarize};

const WORK_MICROS: u64 = 5_000;
/// Two of them are always at work where there are two threads, and two wait.
const BUSY_CLIENTS: usize = 4;
const REQUESTS: usize = 400;
/// The unrelated client asks so often.
const ASK_EVERY: Duration = Duration::from_millis(1);

#[derive(Clone)]
enum Place {
    Service,
    Pool(Pool),
    Workers(Workers),
}

pub(super) fn measure(rounds: usize) -> Vec<Measured> {
    let cores = std::thread::available_parallelism().unwrap().get();
    let workers = Workers::bind("tcp://127.0.0.1:*").unwrap();
    let _processes = Processes::start(workers.endpoint());
    let places = [
        ("work in the service", Place::Service),
        ("work offloaded", Place::Pool(Pool::new(cores, 1024))),
        ("work in zeromq processes", Place::Workers(workers)),
    ];
    let mut results: Vec<_> = places.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for _ in 0..rounds {
        for ((_, place), (_, values)) in places.iter().zip(&mut results) {
            values.push(percentile_99_us(place.clone()));
        }
    }
    summarize("us", results)
}

fn percentile_99_us(place: Place) -> f64 {
    let (tell, told) = std::sync::mpsc::channel();
    // The server's thread ends with the process: what it serves has no end of its own.
    std::thread::spawn(move || run(serve(place, tell)));
    let address = told.recv().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let busy = {
        let over = over.clone();
        std::thread::spawn(move || run(keep_busy(address, over)))
    };
    let mut times = run(ask(address));
    over.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    times.sort_unstable();
    times[times.len() * 99 / 100].as_secs_f64() * 1e6
}

async fn serve(place: Place, tell: std::sync::mpsc::Sender<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    tell.send(listener.local_addr().unwrap()).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let place = place.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let place = place.clone();
            async move {
                if request.uri() == "/work" {
                    work(&place).await;
                }
                Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("done")))
            }
        });
        spawn_local(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn work(place: &Place) {
    match place {
        Place::Service => {
            compute(WORK_MICROS);
        }
        Place::Pool(pool) => {
            pool.offload(|| compute(WORK_MICROS)).await.unwrap();
        }
        Place::Workers(workers) => {
            let body = Full::<Bytes>::from(WORK_MICROS.to_string());
            let response = workers.call(Request::builder().method("POST").body(body).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
        }
    }
}

async fn keep_busy(address: SocketAddr, over: Arc<AtomicBool>) {
    let clients: Vec<_> = (0..BUSY_CLIENTS)
        .map(|_| {
            let over = over.clone();
            spawn_local(async move {
                let mut sender = connect(address).await;
                while !over.load(Ordering::Relaxed) {
                    get(&mut sender, "/work").await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

async fn ask(address: SocketAddr) -> Vec<Duration> {
    let mut sender = connect(address).await;
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        tokio::time::sleep(ASK_EVERY).await;
        let began = Instant::now();
        get(&mut sender, "/").await;
        times.push(began.elapsed());
    }
    times
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    spawn_local(connection);
    sender
}

async fn get(sender: &mut Sender, target: &str) {
    sender.ready().await.unwrap();
    let request = Request::builder().uri(target).header("host", "bench").body(Full::default()).unwrap();
    sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
}

fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}
