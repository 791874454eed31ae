//! A client that keeps an `auto` connection waiting for its version is disconnected, with hyper's own error.
#![cfg(feature = "http2")]
#![allow(clippy::unwrap_used, reason = "a test fails with its reason")]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::BoxError;
use hyper_deferred::server::conn::auto::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client that sends `sent` and no more is waited for, and what then comes of the connection.
async fn waits(builder: &Builder<TokioExecutor>, upgrades: bool, sent: &[u8]) -> Option<(Duration, BoxError)> {
    let service =
        service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) });
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(sent).await.unwrap();
    let begun = Instant::now();
    const FOR_EVER: Duration = Duration::from_secs(1 << 20);
    let result = match upgrades {
        true => timeout(FOR_EVER, builder.serve_connection_with_upgrades(TokioIo::new(server), service)).await,
        false => timeout(FOR_EVER, builder.serve_connection(TokioIo::new(server), service)).await,
    };
    Some((begun.elapsed(), result.ok()?.unwrap_err()))
}

async fn assert_times_out(builder: &Builder<TokioExecutor>, sent: &[u8], expected: Duration) {
    for upgrades in [false, true] {
        let (waited, error) = waits(builder, upgrades, sent).await.expect("it is not waited for ever");
        let error = error.downcast::<hyper::Error>().unwrap();
        assert!(error.is_timeout(), "{error:?}");
        // The default timer has tenths of a second, and tokio's clock milliseconds.
        assert!(waited >= expected && waited <= expected + Duration::from_millis(102), "{waited:?}");
    }
}

fn builder() -> Builder<TokioExecutor> {
    Builder::new(TokioExecutor::new())
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_waited_for_as_long_as_for_a_head() {
    assert_times_out(&builder(), b"", Duration::from_secs(30)).await;
    assert_times_out(&builder().http2_only(), b"", Duration::from_secs(30)).await;
    assert_times_out(&builder().http1_only(), b"", Duration::from_secs(30)).await;
    let mut shorter = builder();
    shorter.http1().header_read_timeout(Duration::from_secs(7));
    assert_times_out(&shorter, b"", Duration::from_secs(7)).await;
}

#[tokio::test(start_paused = true)]
async fn a_preface_that_does_not_end_times_out() {
    let mut builder = builder();
    builder.http1().first_byte_timeout(Duration::from_secs(5));
    for only_http2 in [false, true] {
        let builder = if only_http2 { builder.clone().http2_only() } else { builder.clone() };
        for end in 0..PREFACE.len() {
            assert_times_out(&builder, &PREFACE[..end], Duration::from_secs(5)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_the_preface_has_its_own_time() {
    let mut builder = builder();
    builder.http1().first_byte_timeout(Duration::from_secs(5)).header_read_timeout(Duration::from_secs(11));
    for sent in [&b"G"[..], b"PUT", b"PRI * HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n"] {
        assert_times_out(&builder, sent, Duration::from_secs(11)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_a_silent_client_is_waited_for() {
    let mut builder = builder();
    builder.http1().first_byte_timeout(None);
    for upgrades in [false, true] {
        assert!(waits(&builder, upgrades, b"").await.is_none());
    }
    let only = builder.http2_only();
    assert!(waits(&only, false, b"").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_survives_into_owned() {
    let service =
        service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) });
    let (_client, server) = tokio::io::duplex(1024);
    let builder = builder();
    let mut connection = builder.serve_connection(TokioIo::new(server), service);
    assert!(timeout(Duration::from_secs(20), &mut connection).await.is_err());
    let owned = connection.into_owned();
    drop(builder);
    let error = timeout(Duration::from_millis(10_102), owned).await.expect("thirty seconds in all").unwrap_err();
    assert!(error.downcast::<hyper::Error>().unwrap().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_parked_http2_stream_has_no_deadline() {
    let (client, server) = tokio::io::duplex(1024);
    let service = service_fn(|_: Request<Incoming>| async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("late")))
    });
    let served = tokio::spawn(builder().serve_connection(TokioIo::new(server), service).into_owned());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    let client = tokio::spawn(connection);
    let response = sender.send_request(Request::get("http://a/").body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(response.unwrap().status(), 200);
    drop(sender);
    client.await.unwrap().unwrap();
    served.await.unwrap().unwrap();
}
