//! The jobs over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `POST /jobs`, the job as its body | `202`, or `503` when there are too many |
//! | `GET /jobs` | `200` with a job and its `lease`, or `204` when there is none for a while |
//! | `POST /leases/<lease>` | `204`: the job is done; `410`: too late, another has it |
//! | `GET /` | how many jobs there are |

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_deferred::Queue;
use hyper_deferred::queue::Builder;

/// More than a few workers have done in a while.
const JOBS_MAX: usize = 10_000;

/// A job is a line of text here.
const JOB_BYTES_MAX: usize = 10_000;

/// Shorter than proxies wait.
const WAIT: Duration = Duration::from_secs(25);

/// What the server knows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs {
    queue: Queue<Bytes>,
    done: Arc<AtomicUsize>,
}

impl Jobs {
    pub(crate) fn new() -> Self {
        let queue = Builder::new(JOBS_MAX)
            .dead_letter(|letter| eprintln!("given up after {} deliveries: {:?}", letter.deliveries, letter.value))
            .build();
        Self { queue, done: Arc::default() }
    }

    pub(crate) fn push(&self, job: Bytes) -> bool {
        self.queue.push(job).is_ok()
    }

    /// How many jobs are not done yet.
    pub(crate) fn left(&self) -> usize {
        self.queue.held()
    }

    pub(crate) fn service(
        self,
    ) -> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible> {
        service_fn(move |request| {
            let jobs = self.clone();
            async move { Ok(jobs.answer(request).await) }
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        match (head.method, head.uri.path().split_once('/').map_or("", |(_, path)| path)) {
            (Method::GET, "") => self.summary(),
            (Method::POST, "jobs") => self.take_in(body).await,
            (Method::GET, "jobs") => self.hand_out().await,
            (Method::POST, path) => match path.strip_prefix("leases/") {
                Some(lease) => self.confirm(lease),
                None => status(StatusCode::NOT_FOUND),
            },
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    fn summary(&self) -> Response<Full<Bytes>> {
        let (waiting, left, done) = (self.queue.waiting(), self.left(), self.done.load(Ordering::Relaxed));
        Response::new(format!("{left} jobs to be done, {done} done, {waiting} workers wait\n").into())
    }

    async fn take_in(&self, body: Incoming) -> Response<Full<Bytes>> {
        let Ok(job) = Limited::new(body, JOB_BYTES_MAX).collect().await else {
            return status(StatusCode::PAYLOAD_TOO_LARGE);
        };
        status(if self.push(job.to_bytes()) { StatusCode::ACCEPTED } else { StatusCode::SERVICE_UNAVAILABLE })
    }

    /// Parks the request until there is a job for it. A worker that goes meanwhile leaves the line.
    async fn hand_out(&self) -> Response<Full<Bytes>> {
        let lease = self.queue.lease(Duration::from_secs(crate::LEASE_SECONDS));
        let Ok(lease) = tokio::time::timeout(WAIT, lease).await else { return status(StatusCode::NO_CONTENT) };
        let mut response = Response::new(Full::new(lease.clone()));
        response.headers_mut().insert("deliveries", lease.deliveries().into());
        // From here on the worker's confirmation ends it, or its time.
        let id = lease.keep().to_string();
        response.headers_mut().insert("lease", id.try_into().expect("hexadecimal digits are fit for a header"));
        response
    }

    fn confirm(&self, lease: &str) -> Response<Full<Bytes>> {
        let Ok(id) = lease.parse() else { return status(StatusCode::BAD_REQUEST) };
        match self.queue.confirm(id) {
            Ok(()) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                status(StatusCode::NO_CONTENT)
            }
            Err(_expired) => status(StatusCode::GONE),
        }
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}
