//! Which version a client speaks is found out as hyper-util does, however its bytes are cut: the same goes to both.
#![cfg(feature = "http2")]
#![allow(clippy::unwrap_used, reason = "a test fails with its reason")]

#[path = "support/pair.rs"]
mod pair;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use self::pair::{Pair, Seen, Setup, sides};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Empty settings, and `GET http://a/` on stream 1 (RFC 9113 section 4.1, RFC 7541 appendix A).
const FRAMES: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";

/// Heads that agree with the preface for a while, and some that do not.
const HTTP1: [&str; 9] = [
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
    "PUT /a-longer-path HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    "PRI / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "PRI * HTTP/1.1\r\nhost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\nhost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "\0\x01\x02 nothing of the kind",
];

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let line = format!("{} {} {:?} ", request.method(), request.uri(), request.version());
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new([line.as_bytes(), &body].concat().into()))
}

/// All setups in which hyper-util reads before it writes.
fn setups() -> impl Iterator<Item = Setup> {
    (0..8).map(|bits| Setup {
        http1_only: bits & 1 != 0,
        upgrades: bits & 2 != 0,
        owned: bits & 4 != 0,
        http2_only: false,
    })
}

/// What both sides show after each of the portions and at the end of file. They must agree.
async fn compare(setup: Setup, portions: &[&[u8]]) -> Seen {
    let mut shown = Vec::new();
    for side in sides() {
        let mut pair = Pair::new(side, setup, service_fn(echo));
        let mut seen = vec![pair.settle().await];
        for portion in portions {
            seen.push(pair.send(portion).await);
        }
        seen.push(pair.finish().await);
        shown.push(seen);
    }
    let cut: Vec<_> = portions.iter().map(|portion| portion.escape_ascii().to_string()).collect();
    // hyper writes its settings before the preface has come, we after it.
    let from = if setup.http2_only { shown[0].len() - 1 } else { 0 };
    assert_eq!(shown[1][from..], shown[0][from..], "ours and hyper-util's, {setup:?}, {cut:?}");
    shown.pop().unwrap().pop().unwrap()
}

#[tokio::test]
async fn an_http1_head_cut_anywhere_is_served_the_same() {
    for setup in setups() {
        for head in HTTP1 {
            let head = head.as_bytes();
            for cut in 0..=head.len().min(PREFACE.len() + 2) {
                compare(setup, &[&head[..cut], &head[cut..]]).await;
            }
            let bytes: Vec<_> = head.chunks(1).collect();
            compare(setup, &bytes).await;
        }
    }
}

#[tokio::test]
async fn a_preface_cut_anywhere_is_http2() {
    let all = [PREFACE, FRAMES].concat();
    for setup in setups().chain([Setup { http2_only: true, ..Setup::default() }]) {
        for cut in 0..=all.len() {
            let seen = compare(setup, &[&all[..cut], &all[cut..]]).await;
            let served = seen.received.windows(9).any(|window| window == b"GET http:");
            assert_eq!(served, !setup.http1_only || setup.upgrades, "{setup:?}, {cut}: {seen:?}");
        }
        let bytes: Vec<_> = all.chunks(1).collect();
        compare(setup, &bytes).await;
    }
}

#[tokio::test]
async fn two_cuts_within_the_preface_are_http2() {
    for first in 0..=PREFACE.len() {
        for second in first..=PREFACE.len() {
            let portions = [&PREFACE[..first], &PREFACE[first..second], &PREFACE[second..], FRAMES];
            compare(Setup::default(), &portions).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_ends_before_or_within_the_preface_ends_the_same() {
    for setup in setups().chain([Setup { http2_only: true, ..Setup::default() }]) {
        for end in 0..=PREFACE.len() {
            let seen = compare(setup, &[&PREFACE[..end]]).await;
            assert!(seen.ended.is_some(), "{setup:?}, {end}");
        }
    }
}

#[tokio::test]
async fn an_end_of_file_that_comes_with_the_last_bytes_ends_the_same() {
    for setup in setups() {
        for head in HTTP1 {
            for cut in 0..=head.len() {
                let mut shown = Vec::new();
                for side in sides() {
                    let mut pair = Pair::new(side, setup, service_fn(echo));
                    pair.send(&head.as_bytes()[..cut]).await;
                    shown.push(pair.send_last(&head.as_bytes()[cut..]).await);
                }
                assert_eq!(shown[1], shown[0], "ours and hyper-util's, {setup:?}, {head:?}, {cut}");
            }
        }
    }
}

#[tokio::test]
async fn only_http2_answers_http1_as_hyper_does() {
    for head in HTTP1 {
        for owned in [false, true] {
            let seen = compare(Setup { http2_only: true, owned, ..Setup::default() }, &[head.as_bytes()]).await;
            assert!(seen.ended.unwrap().starts_with("hyper: "), "{head:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_same() {
    for setup in setups() {
        for end in 0..=PREFACE.len() {
            let mut shown = Vec::new();
            for side in sides() {
                let mut pair = Pair::new(side, setup, service_fn(echo));
                pair.send(&PREFACE[..end]).await;
                shown.push(pair.leave().await);
            }
            assert_eq!(shown[1], shown[0], "{setup:?}, {end}");
        }
    }
}

#[tokio::test]
async fn a_real_http2_client_is_served() {
    let (client, server) = tokio::io::duplex(1024);
    let builder = hyper_deferred::server::conn::auto::Builder::new(TokioExecutor::new());
    let served = tokio::spawn(builder.serve_connection(TokioIo::new(server), service_fn(echo)).into_owned());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    let client = tokio::spawn(connection);
    for size in [0, 10, 100_000] {
        let body = Full::new(Bytes::from(vec![b'a'; size]));
        let response = sender.send_request(Request::post("http://a/path").body(body).unwrap()).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, [b"POST http://a/path HTTP/2.0 ", &*vec![b'a'; size]].concat());
    }
    drop(sender);
    client.await.unwrap().unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn http1_goes_dormant_once_its_version_is_known() {
    let builder = hyper_deferred::server::conn::auto::Builder::new(TokioExecutor::new());
    let park = service_fn(|_: Request<Incoming>| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    for head in ["GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nab"] {
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut other_client, other_server) = tokio::io::duplex(1024);
        let mut plain = builder.serve_connection(TokioIo::new(server), park);
        let mut upgradeable = builder.serve_connection_with_upgrades(TokioIo::new(other_server), park);
        assert!(plain.is_dormant() && upgradeable.is_dormant(), "silent");
        for client in [&mut client, &mut other_client] {
            tokio::io::AsyncWriteExt::write_all(client, head.as_bytes()).await.unwrap();
        }
        for _ in 0..3 {
            tokio::select! {
                biased;
                _ = &mut plain => panic!("it waits"),
                _ = &mut upgradeable => panic!("it waits"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert!(plain.is_dormant() && upgradeable.is_dormant(), "{head}");
    }
}
