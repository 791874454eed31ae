//! An acceptor whose loop is held up by a service says by which request, while it lasts and when it is over.
#![cfg(all(feature = "acceptor", feature = "context"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/loop_lines.rs"]
mod loop_lines;
mod support;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::acceptor::Stats;
use hyper_deferred::context::{Context, WithContext};
use hyper_deferred::watchdog::Watchdog;
use hyper_deferred::{Acceptor, BoxError, ShutdownHandle};
use loop_lines::lines_of;
use support::{Client, PATIENCE};

// The default. A shorter one would see a busy machine's stalls too.
const THRESHOLD: Duration = Watchdog::THRESHOLD_DEFAULT;
const STUCK: &str = "the loop does not turn: it is polling a request";

type Reply = Result<Response<Full<Bytes>>, Infallible>;

#[test]
fn a_service_that_blocks_is_logged_twice_with_its_method_path_and_id_and_counted() {
    let server = Server::run("named", true, |blocks| WithContext::new(service_fn(move |r| answer(r, blocks.clone()))));
    let mut client = Client::connect(server.addr);
    for request in
        ["PUT /at-once?x HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n", "GET /later HTTP/1.1\r\nhost: t\r\n\r\n"]
    {
        client.write(request);
        let begin = server.line();
        assert!(begin.contains(STUCK), "{begin}");
        server.go_on();
        let head = client.read_head();
        let id = String::from_utf8(client.read_body(&head)).unwrap();
        let (method, target) = (&request[..3], request[4..].split([' ', '?']).next().unwrap());
        assert!(begin.ends_with(&format!(" method={method} path=\"{target}\" id={id}")), "{begin}");
        let end = server.line();
        assert!(end.contains("the loop turns again"), "{end}");
        assert!(end.ends_with(&format!(" method={method} path=\"{target}\" id={id}")), "{end}");
    }
    let stats = server.end();
    let loops = stats.loops();
    assert!(loops.stalls >= 2, "{loops:?}");
    assert!(loops.longest_stall >= THRESHOLD, "{loops:?}");
    if cfg!(all(unix, not(hyper_deferred_tasks))) {
        assert!(loops.turns.quantile(1.0) > THRESHOLD, "{loops:?}");
        assert!(loops.turns.count() > 2, "{loops:?}");
    }
}

#[test]
fn a_connection_in_a_task_of_its_own_holds_up_the_loop_as_well() {
    let server = Server::run("task", true, |blocks| WithContext::new(service_fn(move |r| answer(r, blocks.clone()))));
    let mut client = Client::connect(server.addr);
    client.write("POST /body HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\n1");
    // Served meanwhile: the loop turns while the first one waits for its body.
    assert_eq!(Client::connect(server.addr).round_trip("/free").0.status, 200);
    client.write("2");
    let begin = server.line();
    assert!(begin.contains(STUCK) && begin.contains("method=POST path=\"/body\" id="), "{begin}");
    server.go_on();
    assert_eq!(client.read_head().status, 200);
    assert!(server.line().contains("the loop turns again"));
    assert!(server.end().loops().stalls >= 1);
}

#[test]
fn without_contexts_it_says_what_is_known() {
    let server = Server::run("nameless", true, |blocks| Called { blocks });
    let mut client = Client::connect(server.addr);
    client.get("/called?x");
    let line = server.line();
    assert!(line.contains(STUCK) && line.ends_with(" method=GET path=\"/called\""), "{line}");
    server.go_on();
    assert_eq!(client.read_head().status, 200);
    assert!(server.line().contains("the loop turns again"));
    server.end();

    let server = Server::run("polled", true, |blocks| service_fn(move |r| answer(r, blocks.clone())));
    let mut client = Client::connect(server.addr);
    client.get("/later");
    let line = server.line();
    assert!(line.contains(STUCK) && line.contains("`WithContext` would tell which"), "{line}");
    server.go_on();
    assert_eq!(client.read_head().status, 200);
    assert!(server.line().contains("the loop turns again"));
    server.end();
}

#[test]
fn each_of_several_workers_is_watched() {
    let lines = ["acceptor-0", "acceptor-1"].map(lines_of);
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap().watchdog(Watchdog::start().unwrap());
    let (addr, stats, shutdown) = (acceptor.local_addr().unwrap(), acceptor.stats(), acceptor.shutdown_handle());
    let (unblock, blocks) = mpsc::channel::<()>();
    let blocks = Arc::new(Mutex::new(blocks));
    let make_service = move || {
        let blocks = blocks.clone();
        WithContext::new(service_fn(move |_request: Request<Incoming>| {
            blocks.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            ready(Ok::<_, Infallible>(Response::<Full<Bytes>>::default()))
        }))
    };
    let server = thread::spawn(move || acceptor.run_workers(NonZeroUsize::new(2).unwrap(), make_service).unwrap());
    let mut client = Client::connect(addr);
    client.get("/stuck");
    let said =
        lines.iter().cycle().take(3000).find_map(|lines| lines.recv_timeout(Duration::from_millis(10)).ok()).unwrap();
    assert!(said.contains(STUCK) && said.contains("path=\"/stuck\" id="), "{said}");
    unblock.send(()).unwrap();
    assert_eq!(client.read_head().status, 200);
    shutdown.shutdown();
    server.join().unwrap();
    assert!(stats.loops().stalls >= 1, "{stats:?}");
}

#[test]
fn without_a_watchdog_nothing_is_measured() {
    let server = Server::run("off", false, |blocks| WithContext::new(service_fn(move |r| answer(r, blocks.clone()))));
    let mut client = Client::connect(server.addr);
    client.get("/at-once");
    server.go_on();
    assert_eq!(client.read_head().status, 200);
    let loops = server.end().loops();
    assert_eq!((loops.stalls, loops.longest_stall, loops.turns.count()), (0, Duration::ZERO, 0));
}

// ===== Helpers =====

struct Server {
    addr: std::net::SocketAddr,
    stats: Stats,
    shutdown: ShutdownHandle,
    thread: JoinHandle<()>,
    lines: Receiver<String>,
    unblock: mpsc::Sender<()>,
}

type Blocks = Rc<Receiver<()>>;

impl Server {
    /// A server on a thread `name`. Its service blocks, where it does, until the test says [`go_on`](Self::go_on).
    fn run<S, F>(name: &str, watched: bool, make_service: F) -> Self
    where
        F: FnOnce(Blocks) -> S + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error: Into<BoxError>> + 'static,
    {
        let lines = lines_of(name);
        let mut acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
        if watched {
            acceptor = acceptor.watchdog(Watchdog::start().unwrap());
        }
        let (addr, stats, shutdown) = (acceptor.local_addr().unwrap(), acceptor.stats(), acceptor.shutdown_handle());
        let (unblock, blocks) = mpsc::channel();
        let run = move || acceptor.run(|| make_service(Rc::new(blocks))).unwrap();
        let thread = thread::Builder::new().name(name.into()).spawn(run).unwrap();
        Self { addr, stats, shutdown, thread, lines, unblock }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn go_on(&self) {
        self.unblock.send(()).unwrap();
    }

    fn end(self) -> Stats {
        self.shutdown.shutdown();
        self.thread.join().unwrap();
        assert!(self.lines.try_recv().is_err(), "two lines for each stall");
        self.stats
    }
}

/// Blocks in its first poll, in one after others have had their turn, or when the body has come; answers its id.
async fn answer(request: Request<Incoming>, blocks: Blocks) -> Reply {
    match request.uri().path() {
        "/at-once" => {}
        "/later" => tokio::task::yield_now().await,
        "/body" => drop(request.into_body().collect().await.unwrap()),
        _ => return Ok(Response::default()),
    }
    blocks.recv_timeout(PATIENCE).unwrap();
    let id = Context::current().map_or(0, |context| context.id());
    Ok(Response::new(id.to_string().into()))
}

/// Blocks when it is called.
struct Called {
    blocks: Blocks,
}

impl Service<Request<Incoming>> for Called {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Reply>;

    fn call(&self, _request: Request<Incoming>) -> Self::Future {
        self.blocks.recv_timeout(PATIENCE).unwrap();
        ready(Ok(Response::default()))
    }
}
