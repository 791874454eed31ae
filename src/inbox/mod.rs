//! Requests for a thread that has an event loop of its own: `zmq_poll`, GLib, winit, a game's frame loop.
//!
//! Such a thread waits for file descriptors, not for futures. [`inbox`] gives a service that passes each request on with
//! the [`Responder`] that answers it, and a receiving end whose descriptor is readable while something is there.
//!
//! ```
//! use std::os::fd::AsFd as _;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use hyper::service::Service as _;
//! use hyper_deferred::inbox::inbox;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let (service, receiver) = inbox::<(), Full<Bytes>>(64)?;
//! let foreign = std::thread::spawn(move || {
//!     // A real loop has this descriptor among the others that it polls.
//!     while receiver.is_open() {
//!         let _descriptor = receiver.as_fd();
//!         for job in receiver.drain() {
//!             let _client_has_gone = job.responder.send(Response::new("done".into()));
//!         }
//! #       std::thread::yield_now();
//!     }
//! });
//! let response = service.call(Request::new(())).await.unwrap();
//! assert_eq!(response.status(), 200);
//! drop(service);
//! foreign.join().unwrap();
//! # Ok::<_, std::io::Error>(()) }).unwrap();
//! ```
//!
//! # The other way round
//!
//! A foreign descriptor in our loop is `tokio::io::unix::AsyncFd`'s work: see [`foreign_loops`].
//!
//! # Request bodies
//!
//! A foreign thread cannot await a body. Collect it first, with a limit, and pass on a request that has it:
//!
//! ```
//! # use bytes::Bytes; use http::{Request, Response}; use http_body::Body; use hyper_deferred::{BoxError, inbox::Inbox};
//! # use http_body_util::{BodyExt as _, Full, Limited}; use hyper::service::Service as _;
//! const BODY_BYTES_MAX: usize = 64 * 1024;
//! # async fn handle<B>(request: Request<B>, inbox: &Inbox<Bytes, Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError>
//! # where B: Body, B::Error: Into<BoxError> {
//! let (parts, body) = request.into_parts();
//! let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
//! Ok(inbox.call(Request::from_parts(parts, body)).await?)
//! # }
//! ```
//!
//! # Compared with a channel and a waker
//!
//! The bound, the answer when it is full, requests whose clients have gone, and a descriptor that is readable exactly
//! while there is something to take are settled once. The descriptor is one end of a socket pair, which every Unix and
//! every loop knows; it costs a system call when the queue becomes non-empty and one when it has been emptied.

#[doc = include_str!("../../docs/foreign-loops.md")]
pub mod foreign_loops {}

mod queue;
mod service;

pub use queue::{Drain, InboxReceiver};
pub use service::Inbox;

use std::io;

use http::Request;

use crate::Responder;

/// A request, and who answers it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Job<ReqB, B> {
    /// The request.
    pub request: Request<ReqB>,
    /// Completes it.
    pub responder: Responder<B>,
}

/// A service, and the receiving end of what it is asked. Up to `capacity` requests wait; those past it are answered
/// with `503` and `Retry-After`.
///
/// # Errors
///
/// When there is no descriptor left for the socket pair.
pub fn inbox<ReqB, B>(capacity: usize) -> io::Result<(Inbox<ReqB, B>, InboxReceiver<ReqB, B>)> {
    let queue = queue::Queue::new(capacity)?;
    Ok((Inbox::new(queue.sender()), InboxReceiver::new(queue)))
}
