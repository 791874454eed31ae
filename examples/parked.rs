//! The smallest server that is worth weighing: `cargo run --release --example parked -- --server builder`.
//!
//! `/poll` parks a request, `/pub` wakes all that are parked with 40 bytes, `/count` says how many are parked, `/hello`
//! answers at once. `--server hyper` is plain hyper, `builder` this crate's builder in its place, `acceptor` this crate's
//! accept loop, on as many threads as `--workers` says; the service is the same for all. `cargo bench --bench parked`
//! weighs them.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use hyper_deferred::{Acceptor, Deferred, Responder, deferred};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// What every parked request is answered with: 40 bytes.
const NEWS: &str = "forty bytes of news for all who wait....";

fn main() -> Result<(), Box<dyn Error>> {
    serve(std::env::args().skip(1))
}

/// Serves as `args` say, until Ctrl-C.
pub(crate) fn serve(mut args: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let (mut host, mut port, mut server, mut timeout) = ("127.0.0.1".to_owned(), 3000, "acceptor".to_owned(), None);
    let mut workers = NonZeroUsize::MIN;
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag} needs a value"))?;
        match &*flag {
            "--host" => host = value,
            "--port" => port = value.parse()?,
            "--server" => server = value,
            // Seconds after which a parked request is answered 204.
            "--timeout" => timeout = Some(Duration::from_secs(value.parse()?)),
            "--workers" => workers = value.parse()?,
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    let polls = Polls(Arc::new(Hub { waiters: Mutex::default(), timeout }));
    match &*server {
        "hyper" => accept((host, port), polls, |stream, polls| {
            spawn_local(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), polls));
        }),
        "builder" => {
            let builder = hyper_deferred::server::conn::http1::Builder::new();
            accept((host, port), polls, move |stream, polls| {
                spawn_local(builder.serve_connection(TokioIo::new(stream), polls));
            })
        }
        "acceptor" => {
            // As with plain hyper nobody is told who a client is, whom nobody asks for.
            let acceptor = Acceptor::bind((host, port))?.peer_addr(false);
            println!("listening on http://{}/", acceptor.local_addr()?);
            let shutdown = acceptor.shutdown_handle();
            let make_service = || {
                let shutdown = shutdown.clone();
                spawn_local(async move {
                    let _ctrl_c = tokio::signal::ctrl_c().await;
                    shutdown.shutdown();
                });
                polls.clone()
            };
            // One needs no other thread than this.
            let alone = workers == NonZeroUsize::MIN;
            Ok(if alone { acceptor.run(make_service) } else { acceptor.run_workers(workers, make_service) }?)
        }
        _ => Err(format!("--server is hyper, builder or acceptor, not {server}").into()),
    }
}

/// Gives every connection to `spawn`, inside a current-thread runtime with a [`LocalSet`].
fn accept(addr: (String, u16), polls: Polls, spawn: impl Fn(TcpStream, Polls)) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(addr).await?;
        println!("listening on http://{}/", listener.local_addr()?);
        loop {
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted?,
                // Whoever waits is left without an answer here: an acceptor has one for them.
                _ctrl_c = tokio::signal::ctrl_c() => return Ok(()),
            };
            stream.set_nodelay(true)?;
            spawn(stream, polls.clone());
        }
    })
}

/// Who waits.
#[derive(Default)]
struct Waiters {
    list: Vec<Responder<Full<Bytes>>>,
    // At this length the list is searched for waiters whose client has left. It follows the number of those who are
    // there, so that parking costs the same however many come and go.
    search_at: usize,
}

struct Hub {
    waiters: Mutex<Waiters>,
    timeout: Option<Duration>,
}

#[derive(Clone)]
struct Polls(Arc<Hub>);

/// Written by hand: what an `async fn` keeps while it waits would be weighed too.
enum Reply {
    Text(Bytes),
    // Boxed, so that a request which waits has no room for it.
    Reading(Box<(Incoming, Arc<Hub>)>),
    Parked(Deferred<Full<Bytes>>),
}

// ===== impl Waiters =====

impl Waiters {
    fn park(&mut self) -> Deferred<Full<Bytes>> {
        if self.list.len() >= self.search_at {
            self.list.retain(|waiter| !waiter.is_closed());
            self.search_at = 2 * self.list.len() + 64;
        }
        let (responder, deferred) = deferred();
        self.list.push(responder);
        deferred
    }

    fn count(&self) -> usize {
        self.list.iter().filter(|waiter| !waiter.is_closed()).count()
    }
}

// ===== impl Hub =====

impl Hub {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all who wait, on whichever worker.
    fn wake_all(&self) -> usize {
        // Not under the lock: whoever is answered may be back at once.
        let waiters = std::mem::take(&mut *self.waiters()).list.into_iter();
        waiters.filter_map(|waiter| waiter.send(Response::new(NEWS.into())).ok()).count()
    }

    fn park(&self) -> Deferred<Full<Bytes>> {
        let deferred = self.waiters().park();
        match self.timeout {
            Some(after) => deferred.timeout(after, || {
                let mut response = Response::default();
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }),
            None => deferred,
        }
    }
}

// ===== impl Polls =====

impl Service<Request<Incoming>> for Polls {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Reply;

    fn call(&self, request: Request<Incoming>) -> Reply {
        let Self(hub) = self;
        match (request.uri().path(), request.method()) {
            ("/poll", &Method::POST) => Reply::Reading(Box::new((request.into_body(), hub.clone()))),
            ("/poll", _) => Reply::Parked(hub.park()),
            ("/pub", _) => Reply::Text(hub.wake_all().to_string().into()),
            ("/count", _) => Reply::Text(hub.waiters().count().to_string().into()),
            _ => Reply::Text(Bytes::from_static(b"Hello, world!")),
        }
    }
}

// ===== impl Reply =====

impl Future for Reply {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut *self {
                Self::Text(text) => return Poll::Ready(Ok(Response::new(std::mem::take(text).into()))),
                Self::Parked(deferred) => return Pin::new(deferred).poll(cx),
                Self::Reading(reading) => match ready!(Pin::new(&mut reading.0).poll_frame(cx)) {
                    Some(Ok(_)) => {}
                    // An error means that the client has left, which ends the connection and drops what is parked.
                    Some(Err(_)) | None => {
                        let deferred = reading.1.park();
                        *self = Self::Parked(deferred);
                    }
                },
            }
        }
    }
}
