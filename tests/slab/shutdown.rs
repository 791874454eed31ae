//! The end of an acceptor, in order and out of it, with connections in every state.

use std::cell::{Cell, OnceCell};
use std::convert::Infallible;
use std::future::ready;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::{Service, service_fn};
use hyper_deferred::acceptor::Stats;
use hyper_deferred::deferred::BodySender;
use hyper_deferred::{Acceptor, Outcome, Responder, ShutdownHandle};
use tokio::sync::watch;
use tokio::task::{AbortHandle, LocalSet};

use crate::HAS_SLAB;
use crate::support::{
    Client, PATIENCE, Park, TestBody, Watched, alone, assert_nothing_held, descriptors, text, untimed,
};

const LARGE: usize = 5_000_000;

/// A connection in each of the states that there are.
struct Everyone {
    silent: Client,
    kept: Client,
    half_head: Client,
    half_large_head: Client,
    parked: Client,
    parked_post: Client,
    parked_pipeline: Client,
    half_body: Client,
    upgrading: Client,
    streaming: Client,
    blocked: Client,
    body: Option<BodySender>,
    // Held, so that nobody is answered.
    _responders: Vec<Responder<TestBody>>,
}

/// Parks; `/now` is answered, `/large` is sent more than a socket takes, and `/read` waits for the body first.
fn service(park: Park) -> impl Service<Request<Incoming>, Response = Response<TestBody>, Error = Infallible> {
    service_fn(move |request: Request<Incoming>| {
        let park = park.clone();
        async move {
            match request.uri().path() {
                "/large" => Ok(large()),
                "/read" => {
                    let (parts, body) = request.into_parts();
                    let _read = body.collect().await;
                    let _ = parts;
                    Ok(text("read"))
                }
                _ => park.call(request).await,
            }
        }
    })
}

fn large() -> Response<TestBody> {
    text(Bytes::from(vec![b'x'; LARGE]))
}

impl Everyone {
    fn connect(server: SocketAddr, stats: &Stats, parked: &mpsc::Receiver<Responder<TestBody>>) -> Self {
        let connect = || Client::connect(server);
        let ask = |bytes: &str| {
            let mut client = Client::connect(server);
            client.write(bytes);
            client
        };
        let silent = connect();
        let mut kept = connect();
        kept.text("/now");
        let half_head = ask("GET /now HT");
        let large = "p".repeat(20_000);
        let half_large_head = ask(&format!("GET /now HTTP/1.1\r\nhost: test\r\nx-padding: {large}"));
        let half_body = ask("POST /read HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhalf");
        let mut responders = Vec::new();
        let mut park = |bytes: &str| {
            let client = ask(bytes);
            responders.push(parked.recv_timeout(PATIENCE).unwrap());
            client
        };
        let parked_get = park("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        let parked_post = park("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello");
        let parked_pipeline = park("GET / HTTP/1.1\r\nhost: test\r\n\r\nGET /now HTTP/1.1\r\nhost: test\r\n\r\n");
        let upgrading = park("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n");
        let mut streaming = park("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        let body = responders.pop().unwrap().stream(Response::new(()).into_parts().0).unwrap();
        assert_eq!(streaming.read_head().status, 200);
        let mut blocked = connect();
        blocked.get("/large");
        assert_eq!(blocked.read_head().status, 200);
        // Silent, kept, half a head; parked: three; in tasks: two, the upgrade, and three that wait on IO.
        loop {
            // Somebody new each time: who asks again and again has a hyper kept at hand in a task, and is never idle.
            ask("GET /now HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").read_to_end();
            let stats = stats.snapshot();
            if (stats.idle, stats.parked, stats.active) == (3, 3, 5) {
                break;
            }
        }
        Self {
            silent,
            kept,
            half_head,
            half_large_head,
            parked: parked_get,
            parked_post,
            parked_pipeline,
            half_body,
            upgrading,
            streaming,
            blocked,
            body: Some(body),
            _responders: responders,
        }
    }

    /// What a request that waits is answered.
    fn assert_unavailable(&mut self) {
        let Self { parked, parked_post, parked_pipeline, half_body, upgrading, .. } = self;
        for client in [parked, parked_post, parked_pipeline, half_body, upgrading] {
            let head = client.read_head();
            assert_eq!((head.status, head.field("connection")), (503, Some("close")));
            assert_eq!(client.try_read_to_end(), b"");
        }
    }
}

#[test]
fn each_gets_what_it_is_due() {
    let (park, parked, outcomes) = Park::new();
    let server = Watched::run(|| untimed().shutdown_timeout(Duration::from_secs(3600)), || service(park));
    let mut all = Everyone::connect(server.addr(), &server.stats, &parked);
    while outcomes.try_recv().is_ok() {}
    server.handle.shutdown();
    for client in [&mut all.silent, &mut all.kept] {
        assert_eq!(client.read_to_end(), b"");
    }
    all.assert_unavailable();
    all.half_head.write("TP/1.1\r\nhost: test\r\n\r\n");
    all.half_large_head.write("\r\n\r\n");
    for client in [&mut all.half_head, &mut all.half_large_head] {
        let head = client.read_head();
        assert_eq!((head.status, head.field("connection")), (200, Some("close")));
        assert_eq!(client.read_to_end(), b"now");
    }
    let mut body = all.body.take().unwrap();
    body.try_send_data("after".into()).unwrap();
    assert_eq!(all.streaming.read_chunk(), b"after");
    drop(body);
    assert_eq!(all.streaming.read_chunk(), b"");
    assert_eq!(all.streaming.read_to_end(), b"");
    assert_eq!(all.blocked.read_to_end().len(), LARGE);
    drop(all);
    let ended = (0..4).map(|_| outcomes.recv_timeout(PATIENCE).unwrap()).filter(|o| *o == Outcome::ShutDown).count();
    assert_eq!(ended, 4);
    server.join();
}

#[test]
fn its_deadline_closes_whoever_is_left() {
    let (park, parked, _outcomes) = Park::new();
    let server = Watched::run(|| untimed().shutdown_timeout(Duration::from_millis(50)), || service(park));
    let mut all = Everyone::connect(server.addr(), &server.stats, &parked);
    server.handle.shutdown();
    all.assert_unavailable();
    for client in [&mut all.half_head, &mut all.half_large_head, &mut all.streaming] {
        client.expect_closed();
    }
    assert!(all.blocked.try_read_to_end().len() < LARGE);
    drop(all);
    server.join();
}

/// hyper 1.12 goes on to the next request as soon as the body of the last one has come to its end and its response is in
/// hyper's buffer, and polls no future of the next one's before there is room for its head.
#[test]
fn a_request_that_can_take_no_answer_yet_is_awaited() {
    let (park, parked, outcomes) = Park::new();
    let server = Watched::run(
        || untimed().shutdown_timeout(Duration::from_secs(3600)),
        || {
            service_fn(move |request: Request<Incoming>| {
                if request.method() == Method::GET {
                    return Either::Left(park.call(request));
                }
                tokio::task::spawn_local(request.into_body().collect());
                Either::Right(ready(Ok(large())))
            })
        },
    );
    let mut client = server.connect();
    client.write("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\n");
    let head = client.read_head();
    assert_eq!(head.status, 200);
    client.write("helloGET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let responder = parked.recv_timeout(PATIENCE).unwrap();
    server.handle.shutdown();
    // Nobody listens any more: the shutdown has begun before there is room.
    while TcpStream::connect(server.addr()).is_ok() {}
    assert_eq!(client.read_body(&head).len(), LARGE);
    let head = client.read_head();
    assert_eq!((head.status, head.field("connection")), (503, Some("close")));
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::ShutDown));
    assert!(responder.send(text("too late")).is_err());
    drop(client);
    server.join();
}

/// How the server is ended.
#[derive(Clone, Copy, Debug)]
enum Dropped {
    /// The task of the acceptor is aborted, and its `LocalSet` runs on.
    Task,
    /// The `LocalSet` is dropped, inside of the runtime.
    LocalSet,
    /// The runtime is dropped before the `LocalSet`.
    Runtime,
}

/// Tasks of their own learn of it when their `LocalSet` runs again.
fn ways() -> &'static [Dropped] {
    if HAS_SLAB { &[Dropped::Task, Dropped::LocalSet, Dropped::Runtime] } else { &[Dropped::Task] }
}

fn run_and_drop(acceptor: Acceptor, park: Park, end: mpsc::Receiver<()>, how: Dropped) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let serving = local.spawn_local(acceptor.serve(service(park)));
    let (ended, mut end_of_test) = tokio::sync::oneshot::channel();
    let ending = thread::spawn(move || end.recv().is_ok() && ended.send(()).is_ok());
    local.block_on(&runtime, async {
        (&mut end_of_test).await.unwrap();
        if let Dropped::Task = how {
            serving.abort();
            assert!(serving.await.unwrap_err().is_cancelled());
            // Those in tasks learn of it now.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
    });
    // It has the runtime's waker in its hands.
    ending.join().unwrap();
    match how {
        Dropped::Task | Dropped::LocalSet => {
            let _inside = runtime.enter();
            drop(local);
        }
        Dropped::Runtime => {
            drop(runtime);
            drop(local);
        }
    }
}

#[test]
fn dropped_in_the_middle_nothing_is_left() {
    for &how in ways() {
        let _alone = alone();
        let before = descriptors();
        let (park, parked, _outcomes) = Park::new();
        let acceptor = untimed();
        let (addr, stats) = (acceptor.local_addr().unwrap(), acceptor.stats());
        let (end, ended) = mpsc::channel();
        let server = thread::spawn(move || run_and_drop(acceptor, park, ended, how));
        let mut all = Everyone::connect(addr, &stats, &parked);
        end.send(()).unwrap();
        server.join().unwrap();
        for client in [&mut all.parked, &mut all.parked_post, &mut all.parked_pipeline] {
            let head = client.read_head();
            assert_eq!((head.status, head.field("connection")), (503, Some("close")), "{how:?}");
        }
        for client in [&mut all.silent, &mut all.kept, &mut all.half_head, &mut all.streaming] {
            client.expect_closed();
        }
        drop((all, parked));
        assert_nothing_held(&stats.snapshot());
        assert_eq!(descriptors(), before, "{how:?}");
    }
}

#[test]
fn who_is_on_the_way_back_from_a_task_when_it_is_dropped_is_answered_too() {
    if !HAS_SLAB {
        return;
    }
    let _alone = alone();
    let before = descriptors();
    let (park, parked, outcomes) = Park::new();
    let acceptor = untimed();
    let (addr, stats) = (acceptor.local_addr().unwrap(), acceptor.stats());
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = LocalSet::new();
        let acceptors_task = Rc::new(OnceCell::<AbortHandle>::new());
        let to_abort = acceptors_task.clone();
        // It is dropped before its next turn, and so before it takes back the connection that this request parks.
        let service = service_fn(move |request: Request<Incoming>| {
            if request.uri().path() == "/last" {
                to_abort.get().unwrap().abort();
            }
            park.call(request)
        });
        let serving = local.spawn_local(acceptor.serve(service));
        acceptors_task.set(serving.abort_handle()).unwrap();
        assert!(local.block_on(&runtime, serving).unwrap_err().is_cancelled());
        let _inside = runtime.enter();
        drop(local);
    });
    let mut client = Client::connect(addr);
    client.write("GET / HTTP/1.1\r\nhost: test\r\n\r\nGET /last HTTP/1.1\r\nhost: test\r\n\r\n");
    let responder = parked.recv_timeout(PATIENCE).unwrap();
    // For a stream it gets a task, where the other request is parked as soon as that ends.
    let body = responder.stream(Response::new(()).into_parts().0).unwrap();
    assert_eq!(client.read_head().status, 200);
    drop(body);
    assert_eq!(client.read_chunk(), b"");
    let head = client.read_head();
    assert_eq!((head.status, head.field("connection")), (503, Some("close")));
    server.join().unwrap();
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Answered));
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::ShutDown));
    drop((client, parked));
    assert_nothing_held(&stats.snapshot());
    assert_eq!(descriptors(), before);
}

#[test]
fn dropped_with_more_to_say_than_a_socket_takes_nothing_is_left_either() {
    for &how in ways() {
        let _alone = alone();
        let before = descriptors();
        let (park, parked, outcomes) = Park::new();
        let acceptor = untimed().shutdown_response(|| Response::new(Bytes::from(vec![b'x'; LARGE])));
        let (addr, stats) = (acceptor.local_addr().unwrap(), acceptor.stats());
        let (end, ended) = mpsc::channel();
        let server = thread::spawn(move || run_and_drop(acceptor, park, ended, how));
        let mut clients: Vec<_> = (0..3).map(|_| Client::connect(addr)).collect();
        let mut responders = Vec::new();
        for client in &mut clients {
            client.get("/");
            responders.push(parked.recv_timeout(PATIENCE).unwrap());
        }
        end.send(()).unwrap();
        server.join().unwrap();
        for client in &mut clients {
            client.try_read_to_end();
        }
        for _ in 0..3 {
            assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::ShutDown), "{how:?}");
        }
        drop((clients, responders, parked));
        assert_nothing_held(&stats.snapshot());
        assert_eq!(descriptors(), before, "{how:?}");
    }
}

#[test]
fn a_shutdown_without_patience_answers_all_who_are_parked() {
    const CLIENTS: usize = 500;
    let (park, parked, outcomes) = Park::new();
    let server = Watched::run(|| untimed().shutdown_timeout(Duration::ZERO), || park);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/");
    }
    let responders: Vec<_> = clients.iter().map(|_| parked.recv_timeout(PATIENCE).unwrap()).collect();
    server.handle.shutdown();
    let answered =
        clients.iter_mut().map(Client::try_read_to_end).filter(|read| read.starts_with(b"HTTP/1.1 503")).count();
    assert_eq!(answered, CLIENTS);
    assert!(outcomes.iter().take(CLIENTS).all(|outcome| outcome == Outcome::ShutDown));
    drop((clients, responders));
    server.join();
}

/// They come back to the loop all at once, and faster than it looks at them.
#[test]
fn the_end_of_a_shutdown_does_not_wait_for_those_who_are_on_their_way_back() {
    const CLIENTS: usize = 2_000;
    let (tell, told) = mpsc::channel::<ShutdownHandle>();
    let server = Watched::run(
        || untimed().shutdown_timeout(Duration::ZERO),
        move || {
            let left = Rc::new(Cell::new(CLIENTS));
            let handle = told.recv().unwrap();
            let end = watch::Sender::new(());
            service_fn(move |request: Request<Incoming>| {
                if request.uri().path() == "/end" {
                    end.send_replace(());
                }
                let (left, handle, mut ended) = (left.clone(), handle.clone(), end.subscribe());
                let body = stream::once(async move {
                    let _ = ended.changed().await;
                    left.set(left.get() - 1);
                    if left.get() == 0 {
                        handle.shutdown();
                    }
                    Ok::<_, Infallible>(Frame::data(Bytes::from("last")))
                });
                ready(Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(body)))))
            })
        },
    );
    tell.send(server.handle.clone()).unwrap();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write("GET / HTTP/1.1\r\nhost: test\r\n\r\nGET / HT");
        assert_eq!(client.read_head().status, 200);
    }
    let mut control = server.connect();
    control.get("/end");
    for client in &mut clients {
        client.try_read_to_end();
    }
    drop((control, clients));
    server.join();
}
