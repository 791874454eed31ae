//! Requests answered by workers in other threads, processes and languages, over ZeroMQ.
//!
//! [`Workers`] is a service: a request that it is called with waits, its job goes to the worker that has been free the
//! longest, and the worker's reply completes it. Workers come and go; each is a `DEALER` socket that connects and speaks
//! the few frames of `docs/zeromq.md`. [`worker()`] is one in Rust; one in Python is in `examples/zeromq_workers`.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt as _, Empty, Full};
//! use hyper::service::Service as _;
//! use hyper_deferred::zeromq::{Workers, worker};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let workers = Workers::bind("tcp://127.0.0.1:*")?;
//! let endpoint = workers.endpoint().to_owned();
//! tokio::spawn(async move {
//!     worker(&endpoint, |job: Request<Bytes>| async move {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(format!("did {}", job.uri())))))
//!     })
//!     .await
//! });
//! let response = workers.call(Request::builder().uri("/this").body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
//! assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "did /this");
//! # Ok::<_, hyper_deferred::zeromq::Error>(()) }).unwrap();
//! ```
//!
//! # What becomes of a job
//!
//! | what happens | the client gets |
//! |---|---|
//! | a worker replies | the reply, whole or in parts as they come |
//! | the queue is full, or no worker becomes free in time | `503` with `Retry-After` |
//! | the worker is lost or hangs, and the job [may be repeated](Repeatable) | what the next worker replies |
//! | the same, and it may not, or was repeated too often | `504` |
//! | the worker says that it failed, or answers nonsense | `502` |
//! | one of the last three after the reply's head is out | a body that breaks off |
//! | the client leaves | nothing; the job leaves the queue, or its worker is told to stop |
//!
//! # Transports
//!
//! `tcp://`, `ipc://` and, between threads of one process, `inproc://`, with real libzmq on this side. Nothing is
//! encrypted and no worker is asked for a name: the bundled libzmq is built without CURVE. Bind to loopback, a Unix
//! socket with the right permissions, or a private network.

mod body;
mod broker;
mod error;
mod frames;
mod settings;
mod socket;
mod stats;
#[cfg(feature = "topic")]
mod topic;
mod worker;
mod workers;

pub use body::ReplyBody;
pub use error::Error;
pub use stats::WorkersStats;
#[cfg(feature = "topic")]
#[cfg_attr(docsrs, doc(cfg(feature = "topic")))]
pub use topic::{Fed, Feed, Publisher};
pub use worker::{Worker, worker};
pub use workers::{Repeatable, Workers, WorkersBuilder, WorkersFuture};
