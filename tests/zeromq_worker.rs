//! The worker's side in Rust, over every transport, and what neither side lets grow without bound.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![cfg(unix)]

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::Service as _;
use hyper_deferred::BoxError;
use hyper_deferred::zeromq::{ReplyBody, Worker, Workers, WorkersBuilder, worker};
use tokio::sync::{Semaphore, mpsc};

#[test]
fn the_bundled_libzmq_has_no_curve_as_the_docs_say() {
    assert_eq!(zmq::has("curve"), Some(false), "say so in docs/zeromq.md, and offer a setting for keys");
}

#[tokio::test]
async fn jobs_are_answered_over_each_transport() {
    let path = std::env::temp_dir().join(format!("hyper-deferred-{}", std::process::id()));
    for endpoint in ["tcp://127.0.0.1:*", "inproc://each-transport", &format!("ipc://{}", path.display())] {
        let workers = bind(endpoint);
        let serving = serve(&workers, echo);
        for n in 0..100 {
            let mut request = get(&format!("/{n}"));
            *request.body_mut() = Full::from(format!("{endpoint} {n}"));
            let response = workers.call(request).await.unwrap();
            assert_eq!(response.headers()["x-target"], format!("/{n}"));
            assert_eq!(body(response).await, format!("{endpoint} {n}"));
        }
        serving.abort();
    }
    let _is_left_by_libzmq = std::fs::remove_file(path);
}

#[tokio::test]
async fn a_worker_takes_as_many_jobs_at_once_as_it_is_told_to() {
    const AT_ONCE: usize = 3;
    let workers = bind("tcp://127.0.0.1:*");
    let (began, mut begins) = mpsc::unbounded_channel();
    let go = Arc::new(Semaphore::new(0));
    let gate = go.clone();
    let endpoint = workers.endpoint().to_owned();
    tokio::spawn(async move {
        Worker::new(endpoint)
            .jobs_max(AT_ONCE)
            .serve(|job: Request<Bytes>| {
                began.send(()).unwrap();
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    echo(job).await
                }
            })
            .await
    });
    let responses: Vec<_> = (0..2 * AT_ONCE).map(|_| tokio::spawn(workers.call(get("/")))).collect();
    for _ in 0..AT_ONCE {
        begins.recv().await.unwrap();
    }
    settled(&workers, |stats| stats.in_hand == AT_ONCE as u64 && stats.queued == AT_ONCE as u64).await;
    assert!(begins.try_recv().is_err());
    go.add_permits(2 * AT_ONCE);
    for response in responses {
        assert_eq!(response.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_handler_that_fails_or_panics_gets_its_client_a_502_and_goes_on() {
    let workers = bind("tcp://127.0.0.1:*");
    serve(&workers, |job: Request<Bytes>| async move {
        match job.uri().path() {
            "/fails" => Err(BoxError::from("on purpose")),
            "/panics" => panic!("on purpose"),
            _ => Ok(Response::new(Full::new(Bytes::from("fine")))),
        }
    });
    for path in ["/fails", "/panics"] {
        assert_eq!(workers.call(get(path)).await.unwrap().status(), StatusCode::BAD_GATEWAY);
        assert_eq!(body(workers.call(get("/")).await.unwrap()).await, "fine");
    }
}

#[tokio::test]
async fn a_job_whose_client_leaves_is_aborted_and_the_next_is_taken() {
    let workers = bind("tcp://127.0.0.1:*");
    let (tells, mut told) = mpsc::unbounded_channel();
    serve(&workers, move |job: Request<Bytes>| {
        struct TellsWhenDropped(mpsc::UnboundedSender<&'static str>);
        impl Drop for TellsWhenDropped {
            fn drop(&mut self) {
                self.0.send("dropped").unwrap();
            }
        }
        let tells = TellsWhenDropped(tells.clone());
        async move {
            if job.uri() == "/waits" {
                tells.0.send("began").unwrap();
                std::future::pending::<()>().await;
            }
            echo(job).await
        }
    });
    let waits = tokio::spawn(workers.call(get("/waits")));
    assert_eq!(told.recv().await, Some("began"));
    waits.abort();
    assert_eq!(told.recv().await, Some("dropped"));
    assert_eq!(workers.call(get("/next")).await.unwrap().status(), 200);
    let stats = workers.stats();
    assert_eq!((stats.cancelled, stats.late, stats.failed), (1, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn a_worker_finds_a_server_that_comes_later_and_one_that_comes_back() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let connects = endpoint.clone();
    // It is its greeting that a server hears, not a `PING` sooner or later.
    let worker = Worker::new(connects).heartbeat(Duration::from_secs(3600));
    tokio::spawn(async move { worker.serve(echo).await });
    for _ in 0..2 {
        let workers = loop {
            // The former socket is closed by another thread.
            match builder().bind(&endpoint) {
                Ok(workers) => break workers,
                Err(_taken) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(workers.call(get("/")).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_worker_that_is_dropped_says_bye() {
    let workers = bind("tcp://127.0.0.1:*");
    let serving = serve(&workers, echo);
    settled(&workers, |stats| stats.workers == 1).await;
    serving.abort();
    settled(&workers, |stats| stats.workers == 0).await;
    assert_eq!(workers.stats().workers_lost, 0);
}

#[tokio::test]
async fn a_body_of_unknown_length_streams_and_breaks_off_when_it_fails() {
    let workers = bind("tcp://127.0.0.1:*");
    let (bodies, mut senders) = mpsc::unbounded_channel();
    serve(&workers, move |_job: Request<Bytes>| {
        let (sender, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(1);
        bodies.send(sender).unwrap();
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let response = tokio::spawn(workers.call(get("/")));
    let mut sender = senders.recv().await.unwrap();
    let mut body = response.await.unwrap().unwrap().into_body();
    for part in ["one", "two"] {
        sender.send_data(part.into()).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), part);
    }
    sender.abort("on purpose".into());
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn a_reply_of_100_mb_goes_through_in_parts_as_fast_as_the_client_takes_them() {
    const BYTES: usize = 100 * 1024 * 1024;
    let workers = bind("tcp://127.0.0.1:*");
    serve(&workers, |_job: Request<Bytes>| async {
        // One chunk again and again: neither side ever has all of it.
        Ok::<_, Infallible>(Response::new(Repeat { chunk: Bytes::from(vec![7; 1024 * 1024]), left: BYTES }))
    });
    let mut body = workers.call(get("/")).await.unwrap().into_body();
    let mut got = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.iter().all(|byte| *byte == 7));
        got += data.len();
    }
    assert_eq!(got, BYTES);
}

#[test]
fn a_frame_above_the_bound_closes_the_connection_before_room_is_taken_for_it() {
    const BYTES: u64 = 100 * 1024 * 1024;
    let workers = bind("tcp://127.0.0.1:*");
    let mut connection = zmtp_dealer(workers.endpoint());
    let message = |connection: &mut std::net::TcpStream, last: &[u8]| {
        for frame in [&b"REPLY"[..], b"0", b"200", b""] {
            connection.write_all(&[&[1, frame.len() as u8], frame].concat()).unwrap();
        }
        connection.write_all(last).unwrap();
    };
    // A body within the bound is a message like any other; then only the length of one above it is sent.
    message(&mut connection, &[0, 1, b'x']);
    message(&mut connection, &[&[2], &BYTES.to_be_bytes()[..]].concat());
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    // Closed or reset: its own business.
    let closed = connection.read_to_end(&mut rest);
    assert!(!matches!(&closed, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "it is still open");
    while workers.stats().late + workers.stats().malformed == 0 {
        std::thread::yield_now();
    }
    assert_eq!(workers.stats().late + workers.stats().malformed, 1);
}

// ===== Helpers =====

/// A body that gives one chunk until so many bytes have gone.
struct Repeat {
    chunk: Bytes,
    left: usize,
}

impl http_body::Body for Repeat {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let next = self.chunk.len().min(self.left);
        self.left -= next;
        let frame = (next > 0).then(|| Ok(http_body::Frame::data(self.chunk.slice(..next))));
        std::task::Poll::Ready(frame)
    }
}

/// The greeting of ZMTP 3.0 with the NULL mechanism, by hand: a libzmq socket would not send half a message.
fn zmtp_dealer(endpoint: &str) -> std::net::TcpStream {
    let mut connection = std::net::TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    connection.write_all(&greeting).unwrap();
    connection.read_exact(&mut [0; 64]).unwrap();
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER";
    connection.write_all(&[&[4, ready.len() as u8], &ready[..]].concat()).unwrap();
    let mut header = [0; 2];
    connection.read_exact(&mut header).unwrap();
    connection.read_exact(&mut vec![0; header[1].into()]).unwrap();
    connection
}

async fn echo(job: Request<Bytes>) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = job.uri().to_string().parse().unwrap();
    let mut response = Response::new(Full::new(job.into_body()));
    response.headers_mut().insert("x-target", target);
    Ok(response)
}

fn serve<H, F, B, E>(workers: &Workers, handler: H) -> tokio::task::JoinHandle<()>
where
    H: FnMut(Request<Bytes>) -> F + Send + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    let endpoint = workers.endpoint().to_owned();
    tokio::spawn(async move {
        let Err(error) = worker(&endpoint, handler).await;
        panic!("{error}");
    })
}

fn builder() -> WorkersBuilder {
    // Nobody is missed here, however busy the machine is.
    Workers::builder().heartbeat(Duration::from_secs(3600)).deadline(Duration::from_secs(20))
}

fn bind(endpoint: &str) -> Workers {
    builder().bind(endpoint).unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).body(Full::default()).unwrap()
}

async fn body(response: Response<ReplyBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

/// Waits until the thread that keeps the workers has got so far.
async fn settled(workers: &Workers, reached: impl Fn(&hyper_deferred::zeromq::WorkersStats) -> bool) {
    let wait = async {
        while !reached(&workers.stats()) {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(settled.is_ok(), "{:?}", workers.stats());
}
