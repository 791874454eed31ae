//! Where so many hypers wait for answers that the next one is released from a request that has to wait, in the poll that
//! finds that it has to. Nothing may tell the client, or the service.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_deferred::Acceptor;

use crate::support::{Client, PATIENCE, Park, TestBody, Watched, text};

/// Nobody else, those for whom there are hypers enough, and more than those.
const CROWDS: [usize; 3] = [0, 20, 64];

type Answer = Pin<Box<dyn Future<Output = Result<Response<TestBody>, Infallible>>>>;

/// Parks so many requests.
fn gather(server: &Watched, control: &mut Client, count: usize) -> Vec<Client> {
    let mut crowd = Vec::new();
    for n in 1..=count {
        let mut client = server.connect();
        client.get("/wait");
        server.await_stats(control, |stats| stats.parked == n as u64);
        crowd.push(client);
    }
    crowd
}

/// Waits without a request of its own, which would have a hyper in between.
fn await_parked(server: &Watched, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while server.stats().parked != count as u64 {
        assert!(Instant::now() < deadline, "the server is still at {:?}", server.stats());
        thread::yield_now();
    }
}

#[test]
fn a_request_behind_a_refused_upgrade_is_answered() {
    let last = "GET /wait HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    let old = "GET /wait HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    for (size, second, keep) in
        CROWDS.into_iter().flat_map(|size| [(size, last, false), (size, last, true), (size, old, false)])
    {
        let (park, responders, _outcomes) = Park::new();
        let (kept, keeper) = mpsc::channel();
        let server = Watched::on_loopback(move || {
            service_fn(move |mut request: Request<Incoming>| {
                if keep && request.extensions().get::<OnUpgrade>().is_some() {
                    kept.send(hyper::upgrade::on(&mut request)).unwrap();
                }
                park.call(request)
            })
        });
        let mut control = server.connect();
        let crowd = gather(&server, &mut control, size);
        let theirs: Vec<_> = (0..size).map(|_| responders.recv_timeout(PATIENCE).unwrap()).collect();
        let mut client = server.connect();
        client
            .write(format!("GET /now HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n{second}"));
        let head = client.read_head();
        assert_eq!((head.status, client.read_body(&head)), (200, b"now".to_vec()));
        let responder = responders.recv_timeout(PATIENCE).unwrap();
        await_parked(&server, size + 1);
        assert!(responder.send(text("later")).is_ok(), "the request is dropped, with a crowd of {size}");
        let head = client.read_head();
        assert_eq!((head.status, client.read_body(&head)), (200, b"later".to_vec()));
        drop((crowd, theirs, client, control, keeper));
        server.finish();
    }
}

#[test]
fn a_malformed_head_is_refused_in_its_version_whoever_had_hyper_before() {
    for size in CROWDS {
        let (park, _responders, _outcomes) = Park::new();
        let server = Watched::on_loopback(|| park);
        let mut old = server.connect();
        let mut malformed = server.connect();
        let mut control = server.connect();
        let crowd = gather(&server, &mut control, size);
        old.write("GET /wait HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        await_parked(&server, size + 1);
        malformed.write("BAD\x01 / HTTP/1.1\r\n\r\n");
        assert_eq!(malformed.read_line(), "HTTP/1.1 400 Bad Request", "with a crowd of {size}");
        drop((crowd, old, malformed, control));
        server.finish();
    }
}

#[test]
fn a_request_that_only_yields_is_not_one_too_many() {
    for size in CROWDS {
        let (park, _responders, _outcomes) = Park::new();
        let acceptor = || Acceptor::bind("127.0.0.1:0").unwrap().max_parked(size);
        let server = Watched::run(acceptor, move || {
            service_fn(move |request: Request<Incoming>| -> Answer {
                if request.uri().path() != "/yield" {
                    return Box::pin(park.call(request));
                }
                let mut yielded = false;
                Box::pin(async move {
                    poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    Ok(text("yielded"))
                })
            })
        });
        let mut control = server.connect();
        let crowd = gather(&server, &mut control, size);
        assert_eq!(control.text("/yield"), "yielded", "with a crowd of {size}");
        drop((crowd, control));
        server.finish();
    }
}
