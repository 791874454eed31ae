//! The workers of an acceptor: a thread for each, and what they have in common.
//!
//! Nothing of a connection ever leaves its thread. What they share is the listening socket, the places for connections,
//! and the signal to end; what each of them counts is summed up by who asks.

use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use socket2::Socket;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::stats::Counters;
use super::{Acceptor, Config, ShutdownHandle, server};
use crate::BoxError;

/// What a worker serves with.
#[derive(Clone)]
pub(super) struct Share {
    pub(super) config: Arc<Config>,
    /// A permit for each connection that may still come.
    pub(super) room: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
}

/// A worker before it begins.
pub(super) struct Worker {
    listener: Socket,
    share: Share,
    shutdown: ShutdownHandle,
}

/// When one worker ends, for whatever reason, all do.
struct EndAll(ShutdownHandle);

// ===== impl Share =====

impl Share {
    fn new(config: Config, counters: Arc<Counters>) -> Self {
        let room = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
        Self { config: Arc::new(config), room, counters }
    }

    /// Whether as many requests are parked as may be.
    pub(super) fn is_full(&self) -> bool {
        let max = self.config.max_parked;
        max < u64::MAX && self.config.stats.parked() >= max
    }
}

// ===== impl Worker =====

impl Worker {
    /// The one worker of an acceptor.
    pub(super) fn only(acceptor: Acceptor) -> Self {
        let Acceptor { listener, shutdown, config } = acceptor;
        let counters = config.stats.hire(1)[0].clone();
        Self { listener, share: Share::new(config, counters), shutdown }
    }

    /// So many workers of an acceptor.
    pub(super) fn several(acceptor: Acceptor, count: NonZeroUsize) -> io::Result<Vec<Self>> {
        let Acceptor { listener, shutdown, config } = acceptor;
        let stats = config.stats.clone();
        let counters = stats.hire(count.get());
        let share = Share::new(config, counters[0].clone());
        let worker = |counters: &Arc<Counters>| {
            let share = Share { counters: counters.clone(), ..share.clone() };
            Ok(Self { listener: listener.try_clone()?, share, shutdown: shutdown.clone() })
        };
        counters.iter().map(worker).collect()
    }

    /// Serves until shut down, inside a `LocalSet`.
    pub(super) async fn serve<S, B>(self, service: S) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { listener, share, shutdown } = self;
        server::serve(listener, service, share, async move { shutdown.requested().await }).await
    }

    /// The same on a runtime of its own.
    pub(super) fn run<S, B>(self, make_service: impl FnOnce() -> S) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async { self.serve(make_service()).await })
    }
}

/// Runs all, each on a thread of its own, until the last one has ended.
pub(super) fn run_all<S, B>(workers: Vec<Worker>, make_service: impl Fn() -> S + Sync) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    thread::scope(|scope| {
        let mut threads = Vec::with_capacity(workers.len());
        let mut result = Ok(());
        for (n, worker) in workers.into_iter().enumerate() {
            let end_all = EndAll(worker.shutdown.clone());
            let make_service = &make_service;
            let run = move || {
                let _end_all = end_all;
                worker.run(make_service)
            };
            match thread::Builder::new().name(format!("acceptor-{n}")).spawn_scoped(scope, run) {
                Ok(thread) => threads.push(thread),
                // `run` has been dropped, which ends those that have begun.
                Err(error) => result = result.and(Err(error)),
            }
        }
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            result = result.and(ended);
        }
        result
    })
}

// ===== impl EndAll =====

impl Drop for EndAll {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}
