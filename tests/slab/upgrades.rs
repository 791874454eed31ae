//! Connections that become something else: from then on they are their owner's, wherever that is.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::rt::Read as _;
use hyper::service::{Service, service_fn};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, PATIENCE, Park, TestBody, Watched, text};

pub(crate) type Upgrades = mpsc::Receiver<OnUpgrade>;

/// Upgrades what asks for it, and gives the IO to the test. All else is parked.
#[allow(clippy::type_complexity, reason = "three things that are taken apart at once")]
pub(crate) fn upgrading() -> (
    impl FnOnce() -> Box<dyn Fn(Request<Incoming>) -> Answer> + Send,
    Upgrades,
    mpsc::Receiver<hyper_deferred::Responder<TestBody>>,
) {
    let (sender, upgrades) = mpsc::channel();
    let (park, responders, _) = Park::new();
    let make = move || {
        Box::new(move |mut request: Request<Incoming>| {
            let wants = request.extensions().get::<OnUpgrade>().is_some();
            if !wants || request.uri().path() == "/refuse" {
                return Box::pin(park.call(request)) as Answer;
            }
            sender.send(hyper::upgrade::on(&mut request)).unwrap();
            let waits = request.uri().path() == "/later";
            Box::pin(async move {
                if waits {
                    tokio::task::yield_now().await;
                }
                let mut response = text("");
                if request.method() != http::Method::CONNECT {
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    response.headers_mut().insert("upgrade", "echo".parse().unwrap());
                    response.headers_mut().insert("connection", "upgrade".parse().unwrap());
                }
                Ok(response)
            })
        }) as Box<dyn Fn(Request<Incoming>) -> Answer>
    };
    (make, upgrades, responders)
}

pub(crate) type Answer = std::pin::Pin<Box<dyn Future<Output = Result<http::Response<TestBody>, Infallible>>>>;

fn serve(make: impl FnOnce() -> Box<dyn Fn(Request<Incoming>) -> Answer> + Send + 'static) -> Watched {
    Watched::on_loopback(|| {
        let answer = make();
        service_fn(answer)
    })
}

/// Echoes on a thread and a runtime of its own until the client has nothing more to say.
pub(crate) fn echo_elsewhere(upgrade: OnUpgrade) -> thread::JoinHandle<()> {
    echo_on_a_thread(async { upgrade.await.unwrap() })
}

fn echo_on_a_thread(upgraded: impl Future<Output = Upgraded> + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async { tokio::spawn(async { echo(upgraded.await).await }).await.unwrap() });
    })
}

async fn echo(upgraded: Upgraded) {
    let mut io = TokioIo::new(upgraded);
    let mut buffer = [0; 1000];
    loop {
        match io.read(&mut buffer).await.unwrap() {
            0 => return io.shutdown().await.unwrap(),
            len => io.write_all(&buffer[..len]).await.unwrap(),
        }
    }
}

pub(crate) fn ask(client: &mut Client, way: &str) {
    match way {
        "CONNECT" => client.write("CONNECT host:443 HTTP/1.1\r\nhost: host:443\r\n\r\n"),
        path => {
            client.write(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"));
        }
    }
}

pub(crate) fn assert_echoes(client: &mut Client, server: impl Fn()) {
    for word in ["one", "two", "three"] {
        client.write(word);
        server();
        assert_eq!(client.read_exact(word.len()), word.as_bytes());
    }
    // More than a socket's buffers take, in both directions.
    let large = "x".repeat(100_000);
    client.write(&large);
    assert_eq!(client.read_exact(large.len()), large.as_bytes());
}

#[test]
fn an_upgraded_connection_works_on_when_another_has_its_place() {
    let (make, upgrades, responders) = upgrading();
    let server = serve(make);
    for way in ["CONNECT", "/", "/later"] {
        let mut client = server.connect();
        ask(&mut client, way);
        let echo = echo_elsewhere(upgrades.recv_timeout(PATIENCE).unwrap());
        let status = client.read_head().status;
        assert_eq!(status, if way == "CONNECT" { 200 } else { 101 });
        // This one gets the place that it had, and parks there.
        let mut next = server.connect();
        next.get("/");
        let responder = responders.recv_timeout(PATIENCE).unwrap();
        assert_echoes(&mut client, || ());
        // The end of one is not the end of the other.
        client.shutdown(std::net::Shutdown::Write);
        assert_eq!(client.read_to_end(), b"");
        echo.join().unwrap();
        drop(client);
        responder.send(text("woken")).unwrap();
        let head = next.read_head();
        assert_eq!(next.read_body(&head), b"woken");
        server.await_rest(&mut next);
    }
    server.finish();
}

#[test]
fn the_answer_is_sent_though_nobody_touches_what_is_upgraded() {
    let (make, upgrades, _responders) = upgrading();
    let server = serve(make);
    let mut client = server.connect();
    ask(&mut client, "/");
    let upgrade = upgrades.recv_timeout(PATIENCE).unwrap();
    assert_eq!(client.read_head().status, 101);
    drop(upgrade);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    server.finish();
}

#[test]
fn an_upgraded_connection_may_live_on_the_servers_own_thread() {
    let server = Watched::on_loopback(|| {
        service_fn(|mut request: Request<Incoming>| async move {
            let mut response = text("now");
            if request.extensions().get::<OnUpgrade>().is_some() {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::task::spawn_local(async { echo(upgrade.await.unwrap()).await });
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut control = server.connect();
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        ask(client, "/");
        assert_eq!(client.read_head().status, 101);
    }
    for client in &mut clients {
        assert_echoes(client, || ());
    }
    server.await_rest(&mut control);
    drop((clients, control));
    server.finish();
}

#[test]
fn what_comes_with_the_request_is_the_first_of_the_new_protocol() {
    let (make, upgrades, _responders) = upgrading();
    let server = serve(make);
    let mut client = server.connect();
    client.write("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly bird");
    let echo = echo_elsewhere(upgrades.recv_timeout(PATIENCE).unwrap());
    assert_eq!(client.read_head().status, 101);
    assert_eq!(client.read_exact(10), b"early bird");
    drop(client);
    echo.join().unwrap();
    server.finish();
}

// In a task it is registered with the runtime of the server, and ends with it.
#[cfg(not(hyper_deferred_tasks))]
#[test]
fn a_shutdown_does_not_touch_who_is_upgraded() {
    let (make, upgrades, _responders) = upgrading();
    let server = serve(make);
    let handle: hyper_deferred::ShutdownHandle = server.handle.clone();
    let mut client = server.connect();
    ask(&mut client, "/");
    let echo = echo_elsewhere(upgrades.recv_timeout(PATIENCE).unwrap());
    assert_eq!(client.read_head().status, 101);
    assert_echoes(&mut client, || handle.shutdown());
    client.shutdown(std::net::Shutdown::Write);
    assert_eq!(client.read_to_end(), b"");
    echo.join().unwrap();
    drop(client);
    server.join();
}

#[test]
fn a_refused_upgrade_and_one_that_nobody_wants_leave_nothing_behind() {
    let (make, upgrades, responders) = upgrading();
    let server = serve(make);
    let mut control = server.connect();
    // Refused: an ordinary request that waited.
    let mut client = server.connect();
    ask(&mut client, "/refuse");
    responders.recv_timeout(PATIENCE).unwrap().send(text("no")).unwrap();
    let head = client.read_head();
    assert_eq!((head.status, client.read_body(&head)), (200, b"no".to_vec()));
    assert_eq!(client.text("/now"), "now");
    drop(client);
    // Refused while it waits, and the client has gone.
    let mut client = server.connect();
    ask(&mut client, "/refuse");
    let responder = responders.recv_timeout(PATIENCE).unwrap();
    client.reset();
    server.await_rest(&mut control);
    assert!(responder.is_closed());
    // Accepted, and nobody takes it.
    let mut client = server.connect();
    ask(&mut client, "/");
    drop(upgrades.recv_timeout(PATIENCE).unwrap());
    assert_eq!(client.read_head().status, 101);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

/// Polls an upgrade as soon as it is announced, which is in the middle of a poll of its connection, on another thread. Hands
/// over what it gets, and what tells when that is to be polled again.
struct AtOnce {
    upgrade: Mutex<Option<OnUpgrade>>,
    handed: mpsc::Sender<(Upgraded, mpsc::Receiver<()>)>,
}

impl Wake for AtOnce {
    fn wake(self: Arc<Self>) {
        let Some(mut upgrade) = self.upgrade.lock().unwrap().take() else { return };
        let poll = move || {
            let Poll::Ready(upgraded) = Pin::new(&mut upgrade).poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("it was announced");
            };
            let mut upgraded = upgraded.unwrap();
            let (told, tells) = mpsc::channel();
            let mut room = [0; 1];
            let mut room = hyper::rt::ReadBuf::new(&mut room);
            let waker = Waker::from(Arc::new(Tells(told)));
            let read = Pin::new(&mut upgraded).poll_read(&mut Context::from_waker(&waker), room.unfilled());
            assert!(read.is_pending(), "nothing has come");
            self.handed.send((upgraded, tells)).unwrap();
        };
        thread::spawn(poll).join().unwrap();
    }
}

struct Tells(mpsc::Sender<()>);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        // Once is enough for who waits.
        let _gone = self.0.send(());
    }
}

#[test]
fn what_is_upgraded_may_be_read_at_once_on_another_thread() {
    let (handed, upgraded) = mpsc::channel();
    let server = Watched::on_loopback(|| {
        service_fn(move |mut request: Request<Incoming>| {
            let mut upgrade = hyper::upgrade::on(&mut request);
            let at_once = Arc::new(AtOnce { upgrade: Mutex::default(), handed: handed.clone() });
            let waker = Waker::from(at_once.clone());
            assert!(Pin::new(&mut upgrade).poll(&mut Context::from_waker(&waker)).is_pending());
            *at_once.upgrade.lock().unwrap() = Some(upgrade);
            let mut response = text("");
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("upgrade", "echo".parse().unwrap());
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            async move { Ok::<_, Infallible>(response) }
        })
    });
    let mut client = server.connect();
    ask(&mut client, "/");
    let (upgraded, tells) = upgraded.recv_timeout(PATIENCE).unwrap();
    assert_eq!(client.read_head().status, 101);
    client.write("hello");
    tells.recv_timeout(PATIENCE).expect("who has to wait is woken");
    let echo = echo_on_a_thread(async { upgraded });
    assert_eq!(client.read_exact(5), b"hello");
    assert_echoes(&mut client, || ());
    client.shutdown(std::net::Shutdown::Write);
    assert_eq!(client.read_to_end(), b"");
    echo.join().unwrap();
    drop(client);
    server.finish();
}
