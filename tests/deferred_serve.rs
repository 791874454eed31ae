//! The one-shot where it is used: in a plain hyper service and in an axum handler, on the wire.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::convert::Infallible;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, TRAILER};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_deferred::{BoxError, Deferred, Outcome, Responder, deferred};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

type Body = BoxBody<Bytes, BoxError>;
type Parked = mpsc::Receiver<Responder<Body>>;

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// A service whose future is the [`Deferred`] itself.
struct Park {
    parked: mpsc::Sender<Responder<Body>>,
    ended: mpsc::Sender<Outcome>,
}

impl Service<Request<Incoming>> for Park {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Deferred<Body>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        let (responder, deferred) = deferred();
        self.parked.send(responder).unwrap();
        let ended = self.ended.clone();
        deferred.on_complete(move |outcome| ended.send(outcome).unwrap())
    }
}

/// Serves one end of a pipe with plain hyper, in a task that may move between threads.
fn serve<S>(service: S) -> (DuplexStream, JoinHandle<hyper::Result<()>>)
where
    S: Service<Request<Incoming>, Response: Send, Error: Into<BoxError>, Future: Send> + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>>,
{
    let (client, server) = duplex(4096);
    (client, tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service)))
}

fn park() -> (DuplexStream, Parked, mpsc::Receiver<Outcome>, JoinHandle<hyper::Result<()>>) {
    let ((parked, responders), (ended, outcomes)) = (mpsc::channel(), mpsc::channel());
    let (client, connection) = serve(Park { parked, ended });
    (client, responders, outcomes, connection)
}

/// Lets the connection's task, which shares this thread, do all it can; its pipe is memory, so that it never waits.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

async fn parked(responders: &Parked) -> Responder<Body> {
    settle().await;
    responders.try_recv().expect("the request was parked")
}

async fn read(client: &mut DuplexStream) -> String {
    let mut bytes = [0; 4096];
    let count = client.read(&mut bytes).await.unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

fn text(text: &'static str) -> Body {
    BoxBody::new(http_body_util::BodyExt::map_err(http_body_util::Full::from(text), BoxError::from))
}

#[tokio::test]
async fn a_hyper_service_answers_later_and_the_connection_goes_on() {
    let (mut client, responders, outcomes, _connection) = park();
    for answer in ["first", "second"] {
        client.write_all(GET.as_bytes()).await.unwrap();
        let responder = parked(&responders).await;
        std::thread::spawn(move || responder.send(Response::new(text(answer))).is_ok());
        let response = read(&mut client).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with(answer), "{response}");
        assert_eq!(outcomes.try_recv(), Ok(Outcome::Answered));
    }
}

#[tokio::test]
async fn a_dropped_responder_answers_503_and_the_connection_goes_on() {
    let (mut client, responders, outcomes, _connection) = park();
    for _ in 0..2 {
        client.write_all(GET.as_bytes()).await.unwrap();
        drop(parked(&responders).await);
        assert!(read(&mut client).await.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert_eq!(outcomes.try_recv(), Ok(Outcome::Abandoned));
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_is_noticed() {
    let (mut client, responders, outcomes, connection) = park();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut responder = parked(&responders).await;
    drop(client);
    responder.closed().await;
    assert!(responder.is_closed());
    assert!(connection.await.unwrap().is_err());
    assert_eq!(outcomes.try_recv(), Ok(Outcome::ClientGone));
}

#[tokio::test]
async fn a_stream_sends_its_head_at_once_and_its_pieces_as_they_come() {
    let (mut client, responders, outcomes, _connection) = park();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut body = parked(&responders).await.stream(Response::new(()).into_parts().0).unwrap();
    let head = read(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(outcomes.try_recv(), Ok(Outcome::Answered));
    for piece in ["one", "two"] {
        body.send_data(piece.into()).await.unwrap();
        assert_eq!(read(&mut client).await, format!("3\r\n{piece}\r\n"));
    }
    drop(body);
    assert_eq!(read(&mut client).await, "0\r\n\r\n");
    client.write_all(GET.as_bytes()).await.unwrap();
    let _next = parked(&responders).await;
}

#[tokio::test]
async fn an_aborted_stream_ends_the_connection_without_a_last_chunk() {
    let (mut client, responders, _outcomes, connection) = park();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut body = parked(&responders).await.stream(Response::new(()).into_parts().0).unwrap();
    read(&mut client).await;
    body.send_data("one".into()).await.unwrap();
    assert_eq!(read(&mut client).await, "3\r\none\r\n");
    body.abort("the source failed");
    assert_eq!(read(&mut client).await, "", "there is no last chunk");
    let error = connection.await.unwrap().unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the source failed");
}

#[tokio::test]
async fn trailers_go_to_a_client_that_asked_for_them() {
    let (mut client, responders, _outcomes, _connection) = park();
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nte: trailers\r\n\r\n").await.unwrap();
    let mut parts = Response::new(()).into_parts().0;
    parts.headers.insert(TRAILER, HeaderValue::from_static("sum"));
    let body = parked(&responders).await.stream(parts).unwrap();
    read(&mut client).await;
    let trailers = HeaderMap::from_iter([("sum".parse().unwrap(), HeaderValue::from_static("42"))]);
    body.send_trailers(trailers).await.unwrap();
    assert_eq!(read(&mut client).await, "0\r\nsum: 42\r\n\r\n");
}

#[tokio::test]
async fn a_streams_client_that_hangs_up_is_noticed() {
    let (mut client, responders, _outcomes, _connection) = park();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut body = parked(&responders).await.stream(Response::new(()).into_parts().0).unwrap();
    read(&mut client).await;
    drop(client);
    body.closed().await;
    assert_eq!(body.send_data("late".into()).await.unwrap_err().0, "late");
}

#[tokio::test]
async fn a_stalled_client_holds_the_sender_back() {
    let (mut client, responders, _outcomes, _connection) = park();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut body = parked(&responders).await.stream(Response::new(()).into_parts().0).unwrap();
    read(&mut client).await;
    // More than the pipe, hyper's buffer and ours take.
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut sent = 0;
    while support::now_or_never(body.send_data(piece.clone())).is_some() {
        sent += 1;
        settle().await;
        assert!(sent < 100, "nothing holds it back");
    }
    let reading = tokio::spawn(async move {
        let mut all = String::new();
        while !all.ends_with("0\r\n\r\n") {
            all += &read(&mut client).await;
        }
        all.matches('x').count()
    });
    body.send_data(piece.clone()).await.unwrap();
    drop(body);
    assert_eq!(reading.await.unwrap(), (sent + 1) * piece.len());
}

#[tokio::test(start_paused = true)]
async fn an_axum_handler_awaits_it() {
    let (parked, responders) = mpsc::channel::<Responder<axum::body::Body>>();
    let handler = async move || {
        let (responder, deferred) = deferred();
        parked.send(responder).unwrap();
        deferred.timeout(Duration::from_secs(25), || Response::new("too late".into())).await
    };
    let router = axum::Router::new().route("/", axum::routing::get(handler));
    let service = TowerToHyperService::new(router);
    let (mut client, server) = duplex(4096);
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));

    client.write_all(GET.as_bytes()).await.unwrap();
    settle().await;
    responders.try_recv().unwrap().send(Response::new("later".into())).unwrap();
    assert!(read(&mut client).await.ends_with("later"));

    client.write_all(GET.as_bytes()).await.unwrap();
    settle().await;
    let mut responder = responders.try_recv().unwrap();
    assert!(read(&mut client).await.ends_with("too late"));
    responder.closed().await;

    client.write_all(GET.as_bytes()).await.unwrap();
    settle().await;
    let responder = responders.try_recv().unwrap();
    let mut body = responder.stream_with(Response::new(()).into_parts().0, axum::body::Body::new).unwrap();
    assert!(read(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    body.send_data("piece".into()).await.unwrap();
    assert_eq!(read(&mut client).await, "5\r\npiece\r\n");
}

#[tokio::test]
async fn an_async_fn_awaits_it() {
    let service = service_fn(|_request: Request<Incoming>| async {
        let (responder, deferred) = deferred::<Body>();
        std::thread::spawn(|| responder.send(Response::new(text("done"))).is_ok());
        deferred.await
    });
    let (mut client, _connection) = serve(service);
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(read(&mut client).await.ends_with("done"));
}
