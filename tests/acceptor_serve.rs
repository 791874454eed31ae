//! What an acceptor listens on, whom it serves, and what does not end it.
#![cfg(feature = "acceptor")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::cell::Cell;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use axum::Extension;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::{Acceptor, BoxError, Outcome, PeerAddr, deferred};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use support::{Client, PATIENCE, Park, Server};
use tokio::io::AsyncWriteExt;
use tokio::task::LocalSet;

type TextResponse = Result<Response<Full<Bytes>>, Infallible>;

async fn path_and_peer(request: Request<Incoming>) -> TextResponse {
    let peer = request.extensions().get::<PeerAddr>().unwrap().0;
    Ok(Response::new(format!("{} {peer}", request.uri().path()).into()))
}

/// Asserts that a server answers with [`path_and_peer`].
fn assert_served(addr: SocketAddr) {
    let mut client = Client::connect(addr);
    let peer = client.local_addr();
    assert_eq!(client.text("/a"), format!("/a {peer}"));
    assert_eq!(client.text("/b"), format!("/b {peer}"), "the connection is kept alive");
}

#[test]
fn it_binds_to_whatever_names_an_address_and_tells_the_port() {
    for acceptor in [
        Acceptor::bind("127.0.0.1:0"),
        Acceptor::bind("localhost:0"),
        Acceptor::bind(("127.0.0.1", 0)),
        Acceptor::bind(SocketAddr::from(([127, 0, 0, 1], 0))),
    ] {
        let acceptor = acceptor.unwrap();
        assert_ne!(acceptor.local_addr().unwrap().port(), 0);
        let server = Server::run(acceptor, || service_fn(path_and_peer));
        assert_served(server.addr);
        server.handle.shutdown();
        server.join();
    }
}

#[test]
fn it_binds_to_the_first_address_that_is_free() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let error = Acceptor::bind(taken).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let acceptor = Acceptor::bind(&[taken, free][..]).unwrap();
    assert_ne!(acceptor.local_addr().unwrap(), taken);
    assert!(Acceptor::bind(&[][..] as &[SocketAddr]).is_err());
    drop(holder);
}

#[test]
fn an_address_can_be_bound_again_at_once() {
    let server = Server::run(Acceptor::bind("127.0.0.1:0").unwrap(), || service_fn(path_and_peer));
    let addr = server.addr;
    let mut client = Client::connect(addr);
    client.text("/");
    // The server closes first, so that its end of the connection lingers in TIME_WAIT.
    server.handle.shutdown();
    server.join();
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    let server = Server::run(Acceptor::bind(addr).unwrap(), || service_fn(path_and_peer));
    assert_served(addr);
    server.handle.shutdown();
    server.join();
}

#[test]
fn it_takes_a_listener_made_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Server::run(Acceptor::from_std(listener).unwrap(), || service_fn(path_and_peer));
    assert_eq!(server.addr, addr);
    assert_served(addr);
    server.handle.shutdown();
    server.join();
}

#[tokio::test]
async fn it_serves_inside_a_local_set_that_is_already_there() {
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
    let (addr, handle) = (acceptor.local_addr().unwrap(), acceptor.shutdown_handle());
    LocalSet::new()
        .run_until(async move {
            // Neither the service nor its future is `Send`.
            let count = Rc::new(Cell::new(0));
            let counted = count.clone();
            let serving = tokio::task::spawn_local(acceptor.serve(service_fn(move |request| {
                let count = count.clone();
                async move {
                    count.set(count.get() + 1);
                    path_and_peer(request).await
                }
            })));
            tokio::task::spawn_blocking(move || assert_served(addr)).await.unwrap();
            assert_eq!(counted.get(), 2);
            handle.shutdown();
            serving.await.unwrap().unwrap();
        })
        .await;
}

#[test]
#[should_panic(expected = "LocalSet")]
fn it_says_at_its_start_that_it_needs_a_local_set() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
    acceptor.shutdown_handle().shutdown();
    let _ = runtime.block_on(acceptor.serve(service_fn(path_and_peer)));
}

#[tokio::test]
async fn dropping_it_ends_its_connections() {
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
    let addr = acceptor.local_addr().unwrap();
    let (park, responders, outcomes) = Park::new();
    LocalSet::new()
        .run_until(async move {
            let serving = tokio::task::spawn_local(acceptor.serve(park));
            let (parked, streaming, idle, body) = tokio::task::spawn_blocking(move || {
                let mut idle = Client::connect(addr);
                idle.round_trip("/now");
                let mut streaming = Client::connect(addr);
                streaming.get("/");
                let responder = responders.recv_timeout(PATIENCE).unwrap();
                let body = responder.stream(Response::new(()).into_parts().0).unwrap();
                streaming.read_head();
                let mut parked = Client::connect(addr);
                parked.get("/");
                (parked, streaming, idle, (body, responders.recv_timeout(PATIENCE).unwrap()))
            })
            .await
            .unwrap();
            serving.abort();
            tokio::task::spawn_blocking(move || {
                let (mut parked, mut streaming, mut idle) = (parked, streaming, idle);
                assert_eq!(parked.read_head().status, 503);
                for client in [&mut parked, &mut streaming, &mut idle] {
                    assert_eq!(client.read_to_end(), b"");
                }
                assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
                assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Answered));
                assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::ShutDown));
                drop(body);
            })
            .await
            .unwrap();
        })
        .await;
}

#[test]
fn a_tower_service_is_served() {
    let server = Server::run(Acceptor::bind("127.0.0.1:0").unwrap(), || {
        TowerToHyperService::new(tower::service_fn(path_and_peer))
    });
    assert_served(server.addr);
    server.handle.shutdown();
    server.join();
}

#[test]
fn nobody_is_told_who_a_client_is_unless_they_want_to_know() {
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap().peer_addr(false);
    let server = Server::run(acceptor, || {
        service_fn(async |request: Request<Incoming>| {
            let is_told = request.extensions().get::<PeerAddr>().is_some();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(is_told.to_string())))
        })
    });
    let mut client = Client::connect(server.addr);
    assert_eq!((client.text("/"), client.text("/")), ("false".to_owned(), "false".to_owned()));
    server.handle.shutdown();
    server.join();
}

#[test]
fn an_axum_router_is_served_and_may_park() {
    let server = Server::run(Acceptor::bind("127.0.0.1:0").unwrap(), || {
        let park = || {
            let (responder, deferred) = deferred::<axum::body::Body>();
            std::thread::spawn(|| responder.send(Response::new("later".into())).is_ok());
            deferred
        };
        let router = axum::Router::new().route("/park", axum::routing::get(park)).route(
            "/peer",
            axum::routing::get(|Extension(peer): Extension<PeerAddr>| async move { peer.0.to_string() }),
        );
        TowerToHyperService::new(router)
    });
    let mut client = Client::connect(server.addr);
    assert_eq!(client.text("/peer"), client.local_addr().to_string());
    assert_eq!(client.text("/park"), "later");
    assert_eq!(client.round_trip("/elsewhere").0.status, 404);
    server.handle.shutdown();
    server.join();
}

#[test]
fn an_error_of_a_service_ends_its_connection_and_a_panic_its_request() {
    let server = Server::run(Acceptor::bind("127.0.0.1:0").unwrap(), || {
        service_fn(|request: Request<Incoming>| async move {
            match request.uri().path() {
                "/error" => Err(BoxError::from("the service failed")),
                "/panic" => panic!("the service panicked, as the test wants"),
                _ => Ok(Response::new(Full::<Bytes>::from("well"))),
            }
        })
    });
    let mut other = Client::connect(server.addr);
    assert_eq!(other.text("/"), "well");
    let mut client = Client::connect(server.addr);
    client.get("/error");
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(other.text("/"), "well");
    let mut client = Client::connect(server.addr);
    assert_eq!(client.round_trip("/panic").0.status, 500);
    assert_eq!(client.text("/"), "well", "a panic ends its request");
    assert_eq!(other.text("/"), "well");
    let mut garbage = Client::connect(server.addr);
    garbage.write("\0\0\0\0\r\n\r\n");
    assert_eq!(garbage.read_head().status, 400);
    assert_eq!(other.text("/"), "well");
    // Those that ended are not waited for.
    server.handle.shutdown();
    server.join();
}

#[test]
fn a_connection_can_be_upgraded() {
    let server = Server::run(Acceptor::bind("127.0.0.1:0").unwrap(), || {
        service_fn(|request: Request<Incoming>| async move {
            tokio::task::spawn_local(async {
                let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                io.write_all(b"welcome").await.unwrap();
            });
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            let response = response.header("connection", "upgrade").header("upgrade", "test");
            Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).unwrap())
        })
    });
    let mut client = Client::connect(server.addr);
    client.write("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n");
    let head = client.read_head();
    assert_eq!((head.status, head.field("connection")), (101, Some("upgrade")));
    assert_eq!(client.read_to_end(), b"welcome");
    server.handle.shutdown();
    server.join();
}

#[test]
fn clients_that_are_gone_before_they_are_accepted_are_skipped() {
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
    let addr = acceptor.local_addr().unwrap();
    for _ in 0..20 {
        Client::connect(addr).reset();
    }
    let server = Server::run(acceptor, || service_fn(path_and_peer));
    assert_served(addr);
    server.handle.shutdown();
    server.join();
}
