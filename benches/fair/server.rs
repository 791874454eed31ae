//! The server, in a process of its own: `/poll` parks, `/pub` has all that are parked woken by a thread, `/count` says how
//! many are parked, and `/hello` answers at once.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_deferred::{Acceptor, Deferred, Responder, deferred};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};

/// The argument that makes this program the server.
pub(crate) const CHILD: &str = "serve";
const READY: &str = "listening on ";

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// As `run` runs it.
    Acceptor,
    /// In a task beside others.
    Spawned,
    /// What it is compared with.
    Hyper,
}

/// A running server, which ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
}

type Waiting = Arc<Mutex<Vec<Responder<Full<Bytes>>>>>;

#[derive(Clone)]
struct Polls {
    waiting: Waiting,
    publish: mpsc::Sender<()>,
}

// ===== impl Kind =====

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Acceptor => "acceptor",
            Self::Spawned => "spawned",
            Self::Hyper => "hyper",
        }
    }
}

// ===== impl Server =====

impl Server {
    pub(crate) fn start(kind: Kind) -> io::Result<Self> {
        let mut child =
            Command::new(std::env::current_exe()?).args([CHILD, kind.name()]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // Owned from here on, so that it ends whatever happens below.
        let mut server = Self { child, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        BufReader::new(output).read_line(&mut line)?;
        let addr = line.trim().strip_prefix(READY).and_then(|addr| addr.parse().ok());
        server.addr = addr.ok_or_else(|| io::Error::other(format!("the server did not start, it said: {line:?}")))?;
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

// ===== impl Polls =====

impl Polls {
    fn new() -> Self {
        let waiting = Waiting::default();
        let (publish, wanted) = mpsc::channel();
        let woken = waiting.clone();
        thread::spawn(move || {
            while wanted.recv().is_ok() {
                for responder in std::mem::take(&mut *lock(&woken)) {
                    let _client_gone = responder.send(Response::new("forty bytes of news for all who wait....".into()));
                }
            }
        });
        Self { waiting, publish }
    }
}

impl Service<Request<Incoming>> for Polls {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Deferred<Full<Bytes>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (responder, deferred) = deferred();
        let text: Bytes = match request.uri().path() {
            "/poll" => {
                lock(&self.waiting).push(responder);
                return deferred;
            }
            "/pub" => {
                let _ended = self.publish.send(());
                "published".into()
            }
            "/count" => lock(&self.waiting).len().to_string().into(),
            _ => "hello".into(),
        };
        let _client_gone = responder.send(Response::new(text.into()));
        deferred
    }
}

// ===== helpers =====

pub(crate) fn serve(kind: &str) -> Result<(), Box<dyn Error>> {
    let polls = Polls::new();
    if kind == Kind::Acceptor.name() {
        let acceptor = Acceptor::bind("127.0.0.1:0")?;
        println!("{READY}{}", acceptor.local_addr()?);
        return Ok(acceptor.run(|| polls)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if kind == Kind::Spawned.name() {
        let acceptor = Acceptor::bind("127.0.0.1:0")?;
        println!("{READY}{}", acceptor.local_addr()?);
        return Ok(LocalSet::new().block_on(&runtime, async { spawn_local(acceptor.serve(polls)).await? })?);
    }
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{READY}{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let builder = hyper::server::conn::http1::Builder::new();
            spawn_local(builder.serve_connection(TokioIo::new(stream), polls.clone()));
        }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
