//! HTTP/2: many requests wait on one connection, each as its own stream.
#![cfg(feature = "http2")]
#![allow(clippy::unwrap_used, reason = "a test fails with its reason")]

use std::convert::Infallible;
use std::sync::mpsc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::Service;
use hyper_deferred::server::conn::auto;
use hyper_deferred::{Deferred, Outcome, Responder, deferred};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

type Body = Full<Bytes>;

/// Parks every request; the test gets its path and its other half, and then how it ended.
#[derive(Clone)]
struct Park {
    parked: mpsc::Sender<(String, Responder<Body>)>,
    ended: mpsc::Sender<(String, Outcome)>,
}

impl Service<Request<Incoming>> for Park {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Deferred<Body>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (responder, deferred) = deferred();
        let path = request.uri().path().to_owned();
        self.parked.send((path.clone(), responder)).unwrap();
        let ended = self.ended.clone();
        deferred.on_complete(move |outcome| drop(ended.send((path, outcome))))
    }
}

type Parked = mpsc::Receiver<(String, Responder<Body>)>;
type Ended = mpsc::Receiver<(String, Outcome)>;

/// Serves one connection on which many streams may wait. hyper's default is 200.
fn serve(streams_max: u32) -> (DuplexStream, Parked, Ended) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let ((parked, receiver), (ended, outcomes)) = (mpsc::channel(), mpsc::channel());
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(streams_max);
    let connection = builder.serve_connection(TokioIo::new(server), Park { parked, ended }).into_owned();
    tokio::spawn(connection);
    (client, receiver, outcomes)
}

async fn connect(client: DuplexStream) -> http2::SendRequest<Body> {
    let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    requests
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://a{path}")).body(Body::default()).unwrap()
}

/// Waits, by letting all others run, until something has come.
async fn next<T>(receiver: &mpsc::Receiver<T>) -> T {
    for _ in 0..100_000 {
        match receiver.try_recv() {
            Ok(value) => return value,
            Err(mpsc::TryRecvError::Empty) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nothing has come");
}

#[tokio::test]
async fn a_thousand_streams_wait_on_one_connection() {
    const STREAMS: usize = 1_000;
    let (client, parked, ended) = serve(STREAMS as u32);
    let mut requests = connect(client).await;
    let mut answers = JoinSet::new();
    for stream in 0..STREAMS {
        let answer = requests.send_request(get(&format!("/{stream}")));
        answers.spawn(async move {
            let body = answer.await.unwrap().into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("answer to /{stream}"));
        });
    }
    let mut responders = Vec::new();
    while responders.len() < STREAMS {
        responders.push(next(&parked).await);
    }
    assert!(answers.try_join_next().is_none() && ended.try_recv().is_err(), "all of them wait together");
    let answering = std::thread::spawn(move || {
        // The last comes first: a stream waits for no other.
        for (path, responder) in responders.into_iter().rev() {
            responder.send(Response::new(format!("answer to {path}").into())).unwrap();
        }
    });
    while let Some(answered) = answers.join_next().await {
        answered.unwrap();
    }
    answering.join().unwrap();
    assert_eq!(ended.try_iter().filter(|(_, outcome)| *outcome == Outcome::Answered).count(), STREAMS);
}

#[tokio::test]
async fn a_client_that_resets_one_stream_ends_that_request_alone() {
    let (client, parked, ended) = serve(10);
    let mut requests = connect(client).await;
    let kept = tokio::spawn(requests.send_request(get("/kept")));
    let (_, responder) = next(&parked).await;
    let reset = tokio::spawn(requests.send_request(get("/reset")));
    let (path, late) = next(&parked).await;
    assert_eq!(path, "/reset");
    reset.abort();
    assert_eq!(next(&ended).await, ("/reset".to_owned(), Outcome::ClientGone));
    assert!(late.send(Response::default()).is_err(), "its future is gone");
    responder.send(Response::new("answered".into())).unwrap();
    assert_eq!(kept.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes(), "answered");
    assert_eq!(next(&ended).await, ("/kept".to_owned(), Outcome::Answered));
}

#[tokio::test]
async fn a_client_that_leaves_ends_all_its_streams() {
    use tokio::io::AsyncWriteExt;

    let (mut client, parked, ended) = serve(10);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    for stream in [1, 3, 5] {
        let head = [b"\0\0\x06\x01\x05\0\0\0", &[stream][..], b"\x82\x86\x84\x41\x01a"].concat();
        client.write_all(&head).await.unwrap();
    }
    let _responders = [next(&parked).await, next(&parked).await, next(&parked).await];
    drop(client);
    for _ in 0..3 {
        assert_eq!(next(&ended).await.1, Outcome::ClientGone);
    }
}

/// Prints what a parked stream costs, the slope between 1,000 and 18,000 of them on one connection:
/// `cargo test --release --all-features --test auto_streams -- --ignored --nocapture`.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "prints a figure and checks nothing"]
#[allow(clippy::print_stdout, reason = "that is what it is for")]
async fn prints_the_bytes_of_a_parked_stream() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const FEW: usize = 1_000;
    const MANY: usize = 18_000;
    let (client, parked, _ended) = serve(MANY as u32);
    let (mut read, mut write) = tokio::io::split(client);
    tokio::spawn(async move { while read.read(&mut [0; 1024]).await.unwrap() > 0 {} });
    write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let block = browser_headers();
    // A client of frames written by hand, which keeps nothing: what grows is the server.
    let mut responders = Vec::with_capacity(MANY);
    let mut rss = Vec::new();
    for stream in 0..MANY {
        let length = (block.len() as u32).to_be_bytes();
        let id = (2 * stream as u32 + 1).to_be_bytes();
        write.write_all(&[&length[1..], b"\x01\x05", &id, &block].concat()).await.unwrap();
        responders.push(next(&parked).await.1);
        if stream + 1 == FEW || stream + 1 == MANY {
            rss.push(rss_anon_bytes());
        }
    }
    println!("{} bytes for each parked stream", (rss[1] - rss[0]) / (MANY - FEW));
}

/// About 600 bytes of headers, as literals without indexing (RFC 7541 section 6.2.2).
#[cfg(target_os = "linux")]
fn browser_headers() -> Vec<u8> {
    let mut block = b"\x82\x86\x04\x05/poll\x41\x01a".to_vec();
    for (name, length) in [
        ("user-agent", 110),
        ("accept", 90),
        ("accept-language", 35),
        ("accept-encoding", 25),
        ("referer", 60),
        ("cookie", 120),
        ("sec-fetch-site", 11),
        ("sec-fetch-mode", 4),
        ("sec-fetch-dest", 5),
    ] {
        block.extend_from_slice(&[0, name.len() as u8]);
        block.extend_from_slice(name.as_bytes());
        block.push(length);
        block.extend(std::iter::repeat_n(b'v', length.into()));
    }
    block
}

#[cfg(target_os = "linux")]
fn rss_anon_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
