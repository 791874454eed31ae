//! The worker's side, for workers written in Rust.

mod link;
mod reply;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use self::link::{Event, Link, LinkCommand};
use super::error::Error;
use super::frames::{FromWorker, Ticket};
use super::settings::{JOBS_PER_WORKER_MAX, LINGER_MS, PARTS_AHEAD_MAX};
use super::socket::{self, Commander};
use crate::BoxError;

/// Connects to [`Workers`](super::Workers) and has each job answered by `handler`, one at a time.
///
/// ```no_run
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use hyper_deferred::zeromq;
///
/// # async fn run() -> Result<(), zeromq::Error> {
/// zeromq::worker("tcp://127.0.0.1:5555", |job: Request<Bytes>| async move {
///     Ok::<_, std::convert::Infallible>(Response::new(Full::new(job.into_body())))
/// })
/// .await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// When the endpoint cannot be connected to because it is none, and when no thread or socket can be had. A server that
/// is not there, or goes, is waited for.
///
/// # Cancel safety
///
/// Never resolves otherwise. Dropped, it aborts the jobs in hand and tells the server that it leaves.
///
/// # Panics
///
/// Outside of a tokio runtime. A handler that panics fails its job and nothing else.
pub async fn worker<H, F, B, E>(endpoint: &str, handler: H) -> Result<Infallible, Error>
where
    H: FnMut(Request<Bytes>) -> F,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    Worker::new(endpoint).serve(handler).await
}

/// A worker with settings of its own. See [`worker`].
#[derive(Clone, Debug)]
#[must_use = "a worker does nothing until it serves"]
pub struct Worker {
    endpoint: String,
    jobs_max: usize,
    heartbeat: Duration,
}

/// What is known of a job in hand.
struct InHand {
    task: AbortHandle,
    credit: Arc<Semaphore>,
}

/// The jobs in hand, as tasks.
struct Jobs {
    tasks: JoinSet<()>,
    in_hand: HashMap<Ticket, InHand>,
    tickets: HashMap<Id, Ticket>,
    commander: Commander<LinkCommand>,
}

// ===== impl Worker =====

impl Worker {
    /// A worker that takes one job at a time.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), jobs_max: 1, heartbeat: Duration::from_secs(1) }
    }

    /// How many jobs it takes at once, each in a task of its own. From 1 to 1,024; 1 unless set.
    pub fn jobs_max(mut self, jobs: usize) -> Self {
        self.jobs_max = jobs.clamp(1, JOBS_PER_WORKER_MAX);
        self
    }

    /// How long the server may be silent before it is sent a `PING`. One second unless set, a millisecond at least.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every.max(Duration::from_millis(1));
        self
    }

    /// Connects, and has each job answered by `handler`. See [`worker`].
    ///
    /// A body whose length is known and fits a frame is sent whole, any other in parts as they come.
    ///
    /// # Errors
    ///
    /// Those of [`worker`].
    pub async fn serve<H, F, B, E>(self, mut handler: H) -> Result<Infallible, Error>
    where
        H: FnMut(Request<Bytes>) -> F,
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let (events, mut received) = mpsc::unbounded_channel();
        let commander = self.connect(events)?;
        let _leaves = Leaves(commander.clone());
        let mut jobs = Jobs::new(commander.clone());
        loop {
            tokio::select! {
                event = received.recv() => match event {
                    Some(Event::Job(ticket, request, frame_bytes_max)) => {
                        let credit = Arc::new(Semaphore::new(PARTS_AHEAD_MAX));
                        let reply = reply::Reply::new(ticket, frame_bytes_max, credit.clone(), commander.clone());
                        // The handler itself is called here, so that it need not be `Send`, or shared.
                        jobs.spawn(ticket, credit, reply.send(handler(*request)));
                    }
                    Some(Event::Cancel(ticket)) => jobs.cancel(ticket),
                    Some(Event::More(ticket)) => jobs.more(ticket),
                    Some(Event::Forgotten) => jobs.abort_all(),
                    None => return Err(Error::new("the worker's thread has ended", "it panicked")),
                },
                Some(done) = jobs.tasks.join_next_with_id() => jobs.done(done),
            }
        }
    }

    fn connect(&self, events: mpsc::UnboundedSender<Event>) -> Result<Commander<LinkCommand>, Error> {
        let failed = |error| Error::new(format!("connecting a worker to {} failed", self.endpoint), error);
        let socket = dealer(self.heartbeat).map_err(failed)?;
        socket.connect(&self.endpoint).map_err(failed)?;
        let thread_failed = |error| Error::new("starting the thread for a worker failed", error);
        let (commander, mailbox) = socket::mailbox().map_err(thread_failed)?;
        let link = Link::new(self.jobs_max, self.heartbeat, events);
        socket::spawn("zeromq-worker", socket, mailbox, link).map_err(thread_failed)?;
        Ok(commander)
    }
}

fn dealer(heartbeat: Duration) -> Result<zmq::Socket, zmq::Error> {
    let socket = socket::context().socket(zmq::DEALER)?;
    // Each new connection greets: the server asks who is there and is told. What was meant for a former one is dropped.
    socket.set_probe_router(true)?;
    socket.set_immediate(true)?;
    socket.set_linger(LINGER_MS)?;
    socket::set_heartbeat(&socket, heartbeat)?;
    Ok(socket)
}

// ===== impl Jobs =====

impl Jobs {
    fn new(commander: Commander<LinkCommand>) -> Self {
        Self { tasks: JoinSet::new(), in_hand: HashMap::new(), tickets: HashMap::new(), commander }
    }

    fn spawn(&mut self, ticket: Ticket, credit: Arc<Semaphore>, job: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(job);
        self.tickets.insert(task.id(), ticket);
        self.in_hand.insert(ticket, InHand { task, credit });
    }

    fn more(&self, ticket: Ticket) {
        if let Some(job) = self.in_hand.get(&ticket) {
            job.credit.add_permits(1);
        }
    }

    fn cancel(&mut self, ticket: Ticket) {
        if let Some(job) = self.in_hand.remove(&ticket) {
            job.task.abort();
            self.failed(ticket, "cancelled");
        }
    }

    fn abort_all(&mut self) {
        self.in_hand.clear();
        self.tasks.abort_all();
    }

    fn done(&mut self, done: Result<(Id, ()), JoinError>) {
        let (id, failed) = match done {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), true),
        };
        let Some(ticket) = self.tickets.remove(&id) else { return };
        // One that was cancelled is not here any more.
        if self.in_hand.remove(&ticket).is_some() && failed {
            self.failed(ticket, "the handler panicked");
        }
    }

    fn failed(&self, ticket: Ticket, why: &'static str) {
        let failed = FromWorker::Failed(ticket, Bytes::from_static(why.as_bytes()));
        let _thread_has_ended = self.commander.command(LinkCommand::Send(failed));
    }
}

/// Tells the thread to say goodbye and end.
struct Leaves(Commander<LinkCommand>);

impl Drop for Leaves {
    fn drop(&mut self) {
        let _thread_has_ended = self.0.command(LinkCommand::Stop);
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("in_hand", &self.in_hand.len()).finish()
    }
}
