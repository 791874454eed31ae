//! The workers of an acceptor: a thread for each, and what they have in common.
//!
//! Nothing of a connection ever leaves its thread. What they share is the listening socket, the places for connections,
//! and the signal to end; what each of them counts is summed up by who asks.

use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::thread;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use socket2::Socket;
use tokio::task::LocalSet;

use super::config::Config;
use super::share::Share;
use super::shutdown::ShutdownHandle;
#[cfg(all(unix, not(hyper_deferred_tasks)))]
use super::slab as server;
#[cfg(not(all(unix, not(hyper_deferred_tasks))))]
use super::tasks as server;
use crate::BoxError;

/// A worker before it begins.
pub(super) struct Worker {
    listener: Socket,
    share: Share,
    shutdown: ShutdownHandle,
}

/// When one worker ends, for whatever reason, all do.
struct EndAll(ShutdownHandle);

// ===== impl Worker =====

impl Worker {
    /// The only worker of an acceptor.
    pub(super) fn only(listener: Socket, config: Config, shutdown: ShutdownHandle) -> Self {
        let share = Share::first(config, NonZeroUsize::MIN);
        Self { listener, share, shutdown }
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

/// Runs so many workers, each on a thread of its own, until the last one has ended.
pub(super) fn run_all<S, B>(
    listener: Socket,
    config: Config,
    shutdown: &ShutdownHandle,
    count: NonZeroUsize,
    make_service: impl Fn() -> S + Sync,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let shares = Share::first(config, count).of_all();
    let worker = |share| Ok(Worker { listener: listener.try_clone()?, share, shutdown: shutdown.clone() });
    let workers: Vec<_> = shares.into_iter().map(worker).collect::<io::Result<_>>()?;
    // Each has its own: when the last of them is closed, nobody listens any more.
    drop(listener);
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
