//! A graceful shutdown of an `auto` connection does in each of its states what hyper-util's does.
#![cfg(feature = "http2")]
#![allow(clippy::unwrap_used, reason = "a test fails with its reason")]

#[path = "support/pair.rs"]
mod pair;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::{Responder, deferred};

use self::pair::{Pair, Seen, Setup, Side, sides};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// `GET http://a/park` on stream 1 (RFC 7541 appendix A).
const PARK: &[u8] = b"\0\0\x0c\x01\x05\0\0\0\x01\x82\x86\x04\x05/park\x41\x01a";
const SETTINGS_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
const GET: &[u8] = b"GET /now HTTP/1.1\r\nhost: a\r\n\r\n";
const PARK_HTTP1: &[u8] = b"GET /park HTTP/1.1\r\nhost: a\r\n\r\n";

type Parked = Arc<Mutex<Vec<Responder<Full<Bytes>>>>>;

/// Sends the portions, shuts down, answers what is parked, sends what comes `after`, and ends: what is seen meanwhile.
async fn shut_down(side: Side, setup: Setup, portions: &[&[u8]], after: &[u8]) -> Vec<Seen> {
    let parked = Parked::default();
    let service = {
        let parked = parked.clone();
        service_fn(move |request: Request<Incoming>| {
            let (responder, deferred) = deferred();
            match request.uri().path() {
                "/park" => parked.lock().unwrap().push(responder),
                _ => responder.send(Response::new("now".into())).unwrap(),
            }
            deferred
        })
    };
    let mut pair = Pair::new(side, setup, service);
    let mut seen = Vec::new();
    for portion in portions {
        seen.push(pair.send(portion).await);
    }
    seen.push(pair.shut_down().await);
    for responder in std::mem::take(&mut *parked.lock().unwrap()) {
        responder.send(Response::new("answered".into())).unwrap();
    }
    seen.push(pair.settle().await);
    seen.push(pair.shut_down().await);
    seen.push(pair.send(after).await);
    seen.push(pair.finish().await);
    seen
}

fn setups() -> impl Iterator<Item = Setup> {
    (0..8).map(|bits| Setup {
        http1_only: bits & 1 != 0,
        upgrades: bits & 2 != 0,
        owned: bits & 4 != 0,
        http2_only: false,
    })
}

/// The same from both, in all setups.
async fn compare(portions: &[&[u8]], after: &[u8]) -> Seen {
    let mut last = Seen::default();
    for setup in setups() {
        let [theirs, ours] = sides().map(|side| shut_down(side, setup, portions, after));
        let (theirs, mut ours) = (theirs.await, ours.await);
        let cut: Vec<_> = portions.iter().map(|portion| portion.escape_ascii().to_string()).collect();
        assert_eq!(ours, theirs, "ours and hyper-util's, {setup:?}, {cut:?}");
        last = ours.pop().unwrap();
    }
    last
}

#[tokio::test]
async fn before_anything() {
    // Neither polled nor silent for a while.
    compare(&[], GET).await;
    let seen = compare(&[b""], GET).await;
    assert_eq!(seen.ended.as_deref(), Some("io: Interrupted Cancelled"));
}

#[tokio::test]
async fn within_the_preface() {
    for end in 1..PREFACE.len() {
        let seen = compare(&[&PREFACE[..end]], &PREFACE[end..]).await;
        assert_eq!(seen.ended.as_deref(), Some("io: Interrupted Cancelled"));
    }
}

#[tokio::test]
async fn within_the_first_head() {
    for end in 1..GET.len() {
        compare(&[&GET[..end]], &GET[end..]).await;
    }
}

#[tokio::test]
async fn while_a_request_is_parked() {
    let seen = compare(&[PARK_HTTP1], GET).await;
    let answer = String::from_utf8(seen.received).unwrap();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\nanswered"), "{answer}");
    assert_eq!(seen.ended.as_deref(), Some("well"));
}

#[tokio::test]
async fn between_two_requests_and_within_the_second() {
    compare(&[GET], GET).await;
    for end in 1..GET.len() {
        compare(&[GET, &GET[..end]], &GET[end..]).await;
    }
}

#[tokio::test]
async fn idle_and_parked_over_http2() {
    for after in [SETTINGS_ACK, b""] {
        compare(&[PREFACE], &[SETTINGS, after].concat()).await;
        compare(&[&[PREFACE, SETTINGS].concat(), after], b"").await;
        compare(&[&[PREFACE, SETTINGS, PARK].concat(), after], b"").await;
        compare(&[PREFACE, SETTINGS, PARK, after], b"").await;
    }
}

#[tokio::test]
async fn only_http2_is_shut_down_as_hyper_does_once_it_has_begun() {
    let setup = Setup { http2_only: true, ..Setup::default() };
    let portions = [&*[PREFACE, SETTINGS].concat(), PARK];
    let [theirs, ours] = sides().map(|side| shut_down(side, setup, &portions, SETTINGS_ACK));
    assert_eq!(ours.await, theirs.await);
}

#[tokio::test]
async fn only_http2_does_not_wait_for_the_preface_of_a_silent_client() {
    let setup = Setup { http2_only: true, ..Setup::default() };
    for end in [0, 1, PREFACE.len() - 1] {
        let ours = shut_down(Side::Ours, setup, &[&PREFACE[..end]], b"").await;
        assert_eq!(ours[1].ended.as_deref(), Some("well"));
        let theirs = shut_down(Side::Theirs, setup, &[&PREFACE[..end]], b"").await;
        assert_eq!(theirs[1].ended, None, "hyper waits; when that changes this difference can go");
    }
}

#[tokio::test]
async fn an_owned_connection_outlives_its_builder_in_every_state() {
    use hyper_deferred::server::conn::auto::Builder;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let last = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    for sent in [b"", &last[..1], &last[..10], &last[..last.len() - 1]] {
        for upgrades in [false, true] {
            let (mut client, server) = tokio::io::duplex(1024);
            let service = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("owned")))
            });
            let builder = Builder::new(TokioExecutor::new());
            client.write_all(sent).await.unwrap();
            // Polled before it is made independent.
            macro_rules! detach {
                ($connection:expr) => {{
                    let mut connection = $connection;
                    tokio::select! {
                        biased;
                        _ = &mut connection => panic!("it waits"),
                        () = tokio::task::yield_now() => {}
                    }
                    tokio::spawn(connection.into_owned())
                }};
            }
            let served = match upgrades {
                true => detach!(builder.serve_connection_with_upgrades(TokioIo::new(server), service)),
                false => detach!(builder.serve_connection(TokioIo::new(server), service)),
            };
            drop(builder);
            client.write_all(&last[sent.len()..]).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("owned"), "{answer}");
            served.await.unwrap().unwrap();
        }
    }
}
