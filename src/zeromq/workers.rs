//! The HTTP side: a service that has its requests answered by workers.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::Semaphore;

use super::body::ReplyBody;
use super::broker::{Broker, Command, Job, Seq};
use super::error::Error;
use super::frames::JobFrames;
use super::settings::{LINGER_MS, RECEIVE_HIGH_WATER, SEND_HIGH_WATER, Settings};
use super::socket::{self, Commander};
use super::stats::{Counters, WorkersStats, count};
use crate::unavailable::unavailable;
use crate::{BoxError, Deferred, Outcome, deferred};

/// A hyper service whose requests are answered by workers in other threads, processes and languages.
///
/// A thread of its own keeps the socket, the workers and the jobs, so that a loop that stalls delays no heartbeat.
/// Cheap to clone, and `Send`: each worker thread of a server has one.
///
/// # What happens on drop
///
/// When the last one goes, what was submitted is still answered; then the workers are told, and the socket is closed.
#[derive(Clone)]
pub struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    commander: Commander<Command>,
    queue: Arc<Semaphore>,
    settings: Settings,
    counters: Arc<Counters>,
    endpoint: String,
    next_seq: AtomicU64,
}

/// Sets how [`Workers`] treat jobs and workers.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is bound until `bind`"]
pub struct WorkersBuilder {
    settings: Settings,
}

/// Whether a job may be given to a second worker when the first is lost over it: an extension of the request, for an
/// application that knows better than the method tells.
///
/// Without it a job may be repeated if its method is idempotent (RFC 9110 section 9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeatable(pub bool);

/// The future of [`Workers`].
#[must_use = "futures do nothing unless polled"]
pub struct WorkersFuture {
    state: State,
}

enum State {
    Submitted(Deferred<ReplyBody>),
    // Boxed: few requests have a body that is still on its way, and it should not cost the others.
    Collecting(Pin<Box<dyn Future<Output = Result<Response<ReplyBody>, Infallible>> + Send>>),
}

// ===== impl Workers =====

impl Workers {
    /// Binds an endpoint for workers to connect to, with the usual [settings](WorkersBuilder).
    ///
    /// `tcp://127.0.0.1:*` takes any free port, which [`endpoint`](Self::endpoint) tells; `ipc:///path` is a Unix
    /// socket; `inproc://name` is for worker threads of this process.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be bound, or no thread or socket can be had.
    pub fn bind(endpoint: &str) -> Result<Self, Error> {
        Self::builder().bind(endpoint)
    }

    /// For settings other than the usual ones.
    pub fn builder() -> WorkersBuilder {
        WorkersBuilder::default()
    }

    /// Where workers connect to: as it was bound, with a wildcard filled in.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// What they have done so far.
    pub fn stats(&self) -> WorkersStats {
        self.shared.counters.snapshot()
    }

    fn submit(&self, parts: Parts, body: bytes::Bytes) -> Deferred<ReplyBody> {
        let shared = &*self.shared;
        let (responder, deferred) = deferred();
        let retry_after = shared.settings.retry_after;
        let deferred = deferred.or_else(move || unavailable(retry_after));
        let Ok(place) = shared.queue.clone().try_acquire_owned() else {
            count(&shared.counters.refused);
            tracing::debug!("the queue for workers is full, a client gets 503");
            return deferred;
        };
        let seq = Seq(shared.next_seq.fetch_add(1, Ordering::Relaxed));
        let repeatable = parts.extensions.get::<Repeatable>().map(|repeatable| repeatable.0);
        let job = Job {
            seq,
            repeatable: repeatable.unwrap_or_else(|| parts.method.is_idempotent()),
            frames: JobFrames::new(&parts, body),
            is_head: parts.method == http::Method::HEAD,
            attempts: 0,
            responder: Some(responder),
            place: Some(place),
        };
        let _thread_has_ended = shared.commander.command(Command::Submit(Box::new(job)));
        let commander = shared.commander.clone();
        deferred.on_complete(move |outcome| {
            if outcome != Outcome::Answered {
                let _thread_has_ended = commander.command(Command::Gone(seq));
            }
        })
    }
}

impl<B> hyper::service::Service<Request<B>> for Workers
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = WorkersFuture;

    fn call(&self, request: Request<B>) -> WorkersFuture {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            return WorkersFuture { state: State::Submitted(self.submit(parts, bytes::Bytes::new())) };
        }
        let workers = self.clone();
        let collecting = async move {
            match Limited::new(body, workers.shared.settings.request_bytes_max).collect().await {
                Ok(body) => workers.submit(parts, body.to_bytes()).await,
                Err(error) => Ok(refused(&error)),
            }
        };
        WorkersFuture { state: State::Collecting(Box::pin(collecting)) }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("endpoint", &self.endpoint()).field("stats", &self.stats()).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _thread_has_ended = self.commander.command(Command::Stop);
    }
}

/// A request whose body did not arrive.
fn refused(error: &BoxError) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::default());
    *response.status_mut() =
        if error.is::<LengthLimitError>() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    response
}

// ===== impl WorkersBuilder =====

impl WorkersBuilder {
    /// How long a worker may take for a job, and between two parts of a reply. One minute unless set.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.settings.deadline = after;
        self
    }

    /// How often a job that [may be repeated](Repeatable) is given to another worker after the first was lost or hung.
    /// Twice unless set.
    pub fn retries_max(mut self, times: u32) -> Self {
        self.settings.retries_max = times;
        self
    }

    /// How many jobs wait for a worker; past it a client gets `503` at once. 1,024 unless set.
    pub fn queue_max(mut self, jobs: usize) -> Self {
        self.settings.queue_max = jobs.min(Semaphore::MAX_PERMITS);
        self
    }

    /// How long a job waits for a worker before its client gets `503`. Half a minute unless set.
    pub fn wait_max(mut self, after: Duration) -> Self {
        self.settings.wait_max = after;
        self
    }

    /// What these `503` say in `Retry-After`. One second unless set.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.settings.retry_after = after;
        self
    }

    /// How often workers are sent a `PING`. One that has no job and stays silent for three of these is lost, one whose
    /// connection is gone is noticed at the next. One second unless set, a millisecond at least.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.settings.heartbeat = every.max(Duration::from_millis(1));
        self
    }

    /// The longest frame that a worker may send: a reply's body, or a part of one. libzmq closes the connection of a
    /// worker that sends a longer one, before it takes room for it. 8 MiB unless set.
    ///
    /// Up to 64 messages of a worker, and 8 parts for each client, may be in memory at once.
    pub fn frame_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.frame_bytes_max = bytes;
        self
    }

    /// The longest request body; past it the client gets `413`. 1 MiB unless set.
    pub fn request_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.request_bytes_max = bytes;
        self
    }

    /// Binds an endpoint for workers to connect to. See [`Workers::bind`].
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be bound, or no thread or socket can be had.
    pub fn bind(self, endpoint: &str) -> Result<Workers, Error> {
        let settings = self.settings;
        let failed = |error: zmq::Error| Error::new(format!("binding {endpoint} for workers failed"), error);
        let socket = router(&settings).map_err(failed)?;
        socket.bind(endpoint).map_err(failed)?;
        let bound = socket.get_last_endpoint().map_err(failed)?.unwrap_or_else(|_| endpoint.to_owned());
        let thread_failed = |error| Error::new("starting the thread for workers failed", error);
        let (commander, mailbox) = socket::mailbox().map_err(thread_failed)?;
        let counters = Arc::<Counters>::default();
        let broker = Broker::new(settings.clone(), counters.clone(), commander.clone());
        socket::spawn("zeromq-workers", socket, mailbox, broker).map_err(thread_failed)?;
        let queue = Arc::new(Semaphore::new(settings.queue_max));
        let next_seq = AtomicU64::new(0);
        Ok(Workers { shared: Arc::new(Shared { commander, queue, settings, counters, endpoint: bound, next_seq }) })
    }
}

fn router(settings: &Settings) -> Result<zmq::Socket, zmq::Error> {
    let socket = socket::context().socket(zmq::ROUTER)?;
    // A message to a worker that is not there is an error rather than lost.
    socket.set_router_mandatory(true)?;
    socket.set_maxmsgsize(i64::try_from(settings.frame_bytes_max).unwrap_or(i64::MAX))?;
    socket.set_rcvhwm(RECEIVE_HIGH_WATER)?;
    socket.set_sndhwm(SEND_HIGH_WATER)?;
    socket.set_linger(LINGER_MS)?;
    socket::set_heartbeat(&socket, settings.heartbeat)?;
    Ok(socket)
}

// ===== impl WorkersFuture =====

impl Future for WorkersFuture {
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Submitted(deferred) => Pin::new(deferred).poll(cx),
            State::Collecting(collecting) => collecting.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for WorkersFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let submitted = matches!(self.state, State::Submitted(_));
        f.debug_struct("WorkersFuture").field("submitted", &submitted).finish()
    }
}
