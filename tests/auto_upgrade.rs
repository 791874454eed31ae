//! Upgrades through `auto`: HTTP/1's 101 and HTTP/2's extended CONNECT (RFC 8441).
#![cfg(feature = "http2")]
#![allow(clippy::unwrap_used, reason = "a test fails with its reason")]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const EARLY: &[u8] = b"early data of the new protocol";
const LATE: &[u8] = b", and what follows it";

type Io = TokioIo<DuplexStream>;

/// Accepts every upgrade and gives the test what comes of it.
async fn accept(
    mut request: Request<Incoming>,
    upgraded: mpsc::UnboundedSender<Upgraded>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let on_upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move { upgraded.send(on_upgrade.await.unwrap()) });
    let response = Response::builder();
    let response = match request.method() == http::Method::CONNECT {
        true => response.status(StatusCode::OK),
        false => {
            response.status(StatusCode::SWITCHING_PROTOCOLS).header("connection", "upgrade").header("upgrade", "echo")
        }
    };
    Ok(response.body(Empty::new()).unwrap())
}

macro_rules! upgrades {
    ($side:ident: $($auto:ident)::+) => {
        mod $side {
            use super::*;
            use $($auto)::+::{Builder, upgrade};

            /// Sends the request for an upgrade in portions; gives the client and the upgraded server.
            async fn upgraded(portions: &[&[u8]]) -> (DuplexStream, Upgraded) {
                let (mut client, server) = tokio::io::duplex(1024);
                let (sender, mut receiver) = mpsc::unbounded_channel();
                let service = service_fn(move |request| accept(request, sender.clone()));
                let builder = Builder::new(TokioExecutor::new());
                let served =
                    tokio::spawn(builder.serve_connection_with_upgrades(TokioIo::new(server), service).into_owned());
                for portion in portions {
                    client.write_all(portion).await.unwrap();
                    for _ in 0..4 {
                        tokio::task::yield_now().await;
                    }
                }
                let upgraded = receiver.recv().await.unwrap();
                served.await.unwrap().unwrap();
                let mut head = vec![0; b"HTTP/1.1 101".len()];
                client.read_exact(&mut head).await.unwrap();
                assert_eq!(head, b"HTTP/1.1 101");
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                (client, upgraded)
            }

            #[tokio::test]
            async fn downcast_gives_the_io_and_the_bytes_in_order() {
                let all = [ASK, EARLY].concat();
                for cut in 0..=all.len() {
                    let (mut client, upgraded) = upgraded(&[&all[..cut], &all[cut..]]).await;
                    let parts = upgrade::downcast::<Io>(upgraded).expect("it is the user's own IO");
                    client.write_all(LATE).await.unwrap();
                    client.shutdown().await.unwrap();
                    let mut io = parts.io.into_inner();
                    let mut rest = Vec::new();
                    io.read_to_end(&mut rest).await.unwrap();
                    let got = [&*parts.read_buf, &rest].concat();
                    assert_eq!(got, [EARLY, LATE].concat(), "cut at {cut}");
                    io.write_all(b"goodbye").await.unwrap();
                    drop(io);
                    let mut answer = String::new();
                    client.read_to_string(&mut answer).await.unwrap();
                    assert_eq!(answer, "goodbye");
                }
            }

            #[tokio::test]
            async fn without_downcast_the_bytes_are_in_order_too() {
                let all = [ASK, EARLY].concat();
                for cut in 0..=all.len() {
                    let (mut client, upgraded) = upgraded(&[&all[..cut], &all[cut..]]).await;
                    // One that asks for another IO gets it back unharmed.
                    let upgraded = upgrade::downcast::<TokioIo<tokio::net::TcpStream>>(upgraded).unwrap_err();
                    client.write_all(LATE).await.unwrap();
                    client.shutdown().await.unwrap();
                    let mut got = Vec::new();
                    TokioIo::new(upgraded).read_to_end(&mut got).await.unwrap();
                    assert_eq!(got, [EARLY, LATE].concat(), "cut at {cut}");
                }
            }

            #[tokio::test]
            async fn extended_connect_over_http2() {
                let (client, server) = tokio::io::duplex(1024);
                let (sender, mut receiver) = mpsc::unbounded_channel();
                let service = service_fn(move |request| accept(request, sender.clone()));
                let mut builder = Builder::new(TokioExecutor::new());
                builder.http2().enable_connect_protocol();
                let served =
                    tokio::spawn(builder.serve_connection_with_upgrades(TokioIo::new(server), service).into_owned());
                let (mut sender, mut connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
                while !connection.is_extended_connect_protocol_enabled() {
                    tokio::select! {
                        biased;
                        _ = &mut connection => panic!("it has only begun"),
                        () = tokio::task::yield_now() => {}
                    }
                }
                let connection = tokio::spawn(connection);
                let mut request = Request::connect("http://a/").body(Empty::<Bytes>::new()).unwrap();
                request.extensions_mut().insert(hyper::ext::Protocol::from_static("echo"));
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                let mut client = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
                // A stream of a connection is not the connection's IO.
                let upgraded = upgrade::downcast::<Io>(receiver.recv().await.unwrap()).unwrap_err();
                let mut server = TokioIo::new(upgraded);
                client.write_all(EARLY).await.unwrap();
                let mut got = vec![0; EARLY.len()];
                server.read_exact(&mut got).await.unwrap();
                assert_eq!(got, EARLY);
                server.write_all(LATE).await.unwrap();
                server.shutdown().await.unwrap();
                let mut got = Vec::new();
                client.read_to_end(&mut got).await.unwrap();
                assert_eq!(got, LATE);
                drop((client, server, sender));
                connection.await.unwrap().unwrap();
                served.await.unwrap().unwrap();
            }
        }
    };
}

upgrades!(theirs: hyper_util::server::conn::auto);
upgrades!(ours: hyper_deferred::server::conn::auto);

#[tokio::test]
async fn an_http1_connection_that_could_be_upgraded_goes_dormant_and_then_is() {
    use hyper_deferred::server::conn::auto::{Builder, upgrade};
    let (mut client, server) = tokio::io::duplex(1024);
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let service = service_fn(move |request| accept(request, sender.clone()));
    let builder = Builder::new(TokioExecutor::new());
    let mut connection = builder.serve_connection_with_upgrades(TokioIo::new(server), service);
    tokio::select! {
        biased;
        _ = &mut connection => panic!("it waits"),
        () = tokio::task::yield_now() => {}
    }
    assert!(connection.is_dormant());
    client.write_all(ASK).await.unwrap();
    client.write_all(EARLY).await.unwrap();
    connection.await.unwrap();
    let parts = upgrade::downcast::<Io>(receiver.recv().await.unwrap()).unwrap();
    let mut rest = vec![0; EARLY.len() - parts.read_buf.len()];
    parts.io.into_inner().read_exact(&mut rest).await.unwrap();
    assert_eq!([&*parts.read_buf, &rest].concat(), EARLY);
}
