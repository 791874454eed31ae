//! One connection of hyper-util's `auto` or of ours over `tokio::io::duplex`, polled by hand, and all that a client sees
//! of it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a helper fails its test")]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Io = TokioIo<DuplexStream>;

/// Whose code serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Theirs,
    Ours,
}

/// What the builder was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    pub http1_only: bool,
    pub http2_only: bool,
    pub upgrades: bool,
    /// The connection is made independent of its builder.
    pub owned: bool,
}

/// A connection of either side.
trait Connection: Future<Output = Result<(), BoxError>> {
    fn shut_down(self: Pin<&mut Self>);
}

/// A connection and its client.
pub struct Pair {
    connection: Pin<Box<dyn Connection>>,
    woken: Arc<Woken>,
    client: Option<DuplexStream>,
    seen: Seen,
}

/// What there is to see of a connection.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The bytes that the client has got.
    pub received: Vec<u8>,
    /// The client got the end of file.
    pub closed: bool,
    /// How the connection ended.
    pub ended: Option<String>,
}

struct Woken(AtomicBool);

/// Bytes that a client may buffer: nothing here waits for it to read.
const DUPLEX_BYTES: usize = 1 << 20;
/// Turns of the runtime that a step may take. Most are over in three.
const TURNS: usize = 16;

macro_rules! connections {
    ($($auto:ident)::+) => {
        impl<S, E, B> Connection for $($auto)::+::Connection<'static, Io, S, E>
        where
            S: Service<Request<Incoming>, Response = Response<B>>,
            S::Future: 'static,
            S::Error: Into<BoxError>,
            B: http_body::Body + 'static,
            B::Error: Into<BoxError>,
            E: $($auto)::+::HttpServerConnExec<S::Future, B>,
        {
            fn shut_down(self: Pin<&mut Self>) {
                self.graceful_shutdown();
            }
        }

        impl<S, E, B> Connection for $($auto)::+::UpgradeableConnection<'static, Io, S, E>
        where
            S: Service<Request<Incoming>, Response = Response<B>>,
            S::Future: 'static,
            S::Error: Into<BoxError>,
            B: http_body::Body + 'static,
            B::Error: Into<BoxError>,
            E: $($auto)::+::HttpServerConnExec<S::Future, B>,
        {
            fn shut_down(self: Pin<&mut Self>) {
                self.graceful_shutdown();
            }
        }
    };
}

connections!(hyper_util::server::conn::auto);
connections!(hyper_deferred::server::conn::auto);

macro_rules! serve {
    ($setup:ident, $io:ident, $service:ident, $($auto:ident)::+) => {{
        let mut builder = $($auto)::+::Builder::new(TokioExecutor::new());
        builder.http1().auto_date_header(false).http2().auto_date_header(false).enable_connect_protocol();
        if $setup.http1_only {
            builder = builder.http1_only();
        }
        if $setup.http2_only {
            builder = builder.http2_only();
        }
        // An owned one outlives its builder; for the others that one is as good as static.
        if $setup.owned {
            match $setup.upgrades {
                true => Box::pin(builder.serve_connection_with_upgrades($io, $service).into_owned()) as Pin<Box<dyn Connection>>,
                false => Box::pin(builder.serve_connection($io, $service).into_owned()),
            }
        } else {
            let builder = &*Box::leak(Box::new(builder));
            match $setup.upgrades {
                true => Box::pin(builder.serve_connection_with_upgrades($io, $service)) as Pin<Box<dyn Connection>>,
                false => Box::pin(builder.serve_connection($io, $service)),
            }
        }
    }};
}

// ===== impl Pair =====

impl Pair {
    pub fn new<S, F, B>(side: Side, setup: Setup, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Future = F> + 'static,
        S::Error: Into<BoxError>,
        F: Future<Output = Result<Response<B>, S::Error>> + Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (client, server) = tokio::io::duplex(DUPLEX_BYTES);
        let io = TokioIo::new(server);
        let connection = match side {
            Side::Theirs => serve!(setup, io, service, hyper_util::server::conn::auto),
            Side::Ours => serve!(setup, io, service, hyper_deferred::server::conn::auto),
        };
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        Self { connection, woken, client: Some(client), seen: Seen::default() }
    }

    /// The client sends, and all that follows from it happens.
    pub async fn send(&mut self, bytes: &[u8]) -> Seen {
        if let Some(client) = &mut self.client {
            let _server_has_gone = client.write_all(bytes).await;
        }
        self.settle().await
    }

    /// The client sends its last, and the end of file arrives with it.
    pub async fn send_last(&mut self, bytes: &[u8]) -> Seen {
        if let Some(client) = &mut self.client {
            let _server_has_gone = client.write_all(bytes).await;
        }
        self.finish().await
    }

    /// The client sends no more.
    pub async fn finish(&mut self) -> Seen {
        if let Some(client) = &mut self.client {
            let _server_has_gone = client.shutdown().await;
        }
        self.settle().await
    }

    /// The client is gone.
    pub async fn leave(&mut self) -> Seen {
        self.client = None;
        self.settle().await
    }

    pub async fn shut_down(&mut self) -> Seen {
        self.connection.as_mut().shut_down();
        // Who shuts down must poll, woken or not.
        self.woken.0.store(true, SeqCst);
        self.settle().await
    }

    /// Polls whoever was woken until nobody is.
    pub async fn settle(&mut self) -> Seen {
        let waker = Waker::from(self.woken.clone());
        for _ in 0..TURNS {
            if self.seen.ended.is_none() && self.woken.0.swap(false, SeqCst) {
                if let Poll::Ready(result) = self.connection.as_mut().poll(&mut Context::from_waker(&waker)) {
                    self.seen.ended = Some(describe(&result));
                }
            }
            tokio::task::yield_now().await;
            self.receive().await;
        }
        self.seen.clone()
    }

    /// Takes what has come, and does not wait.
    async fn receive(&mut self) {
        let Some(client) = &mut self.client else { return };
        let mut room = vec![0; 1 << 16];
        while !self.seen.closed {
            let read = tokio::select! {
                biased;
                read = client.read(&mut room) => read.unwrap(),
                () = std::future::ready(()) => return,
            };
            self.seen.closed = read == 0;
            self.seen.received.extend_from_slice(&room[..read]);
        }
    }
}

// ===== impl Seen =====

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, closed, ended } = self;
        write!(f, "{} closed={closed} ended={ended:?}", received.escape_ascii())
    }
}

// ===== impl Woken =====

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

// ===== helpers =====

/// The two sides of one setup: theirs first.
pub fn sides() -> [Side; 2] {
    [Side::Theirs, Side::Ours]
}

/// How a connection ended, with all that a user can ask of the error.
pub fn describe(result: &Result<(), BoxError>) -> String {
    let Err(error) = result else { return "well".into() };
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        let source = std::error::Error::source(error).map(ToString::to_string);
        let asked = [
            error.is_parse(),
            error.is_parse_too_large(),
            error.is_user(),
            error.is_canceled(),
            error.is_closed(),
            error.is_incomplete_message(),
            error.is_body_write_aborted(),
            error.is_shutdown(),
            error.is_timeout(),
        ];
        return format!("hyper: {error}, source {source:?}, {asked:?}");
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => format!("io: {:?} {error}", error.kind()),
        None => format!("other: {error}"),
    }
}
