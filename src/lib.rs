//! HTTP for requests that wait: long polling, Comet, server-sent events, job hand-out, approval flows.
//!
//! A service answers a request with a [`Deferred`]; its other half, a [`Responder`], completes it later from any task
//! or thread. Served by this crate, a connection whose request waits has no hyper, no buffer and no parser meanwhile.
//!
//! ```
//! use bytes::Bytes;
//! use http::Response;
//! use http_body_util::Full;
//! use hyper_deferred::deferred;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let (responder, deferred) = deferred::<Full<Bytes>>();
//! std::thread::spawn(move || {
//!     let _nobody_waits_any_more = responder.send(Response::new("done".into()));
//! });
//! assert_eq!(deferred.await.unwrap().status(), 200);
//! # });
//! ```
//!
//! # Layers
//!
//! Each works without those below it.
//!
//! | layer | gives |
//! |---|---|
//! | `deferred` | the one-shot reply, for plain hyper, axum and tower too |
//! | `server` | hyper's and hyper-util's connection builders under another `use` line; connections that wait are dormant |
//! | `acceptor` | the accept loop, which holds all who wait in one slab, limits them, and answers them at a shutdown |
//!
//! # Features
//!
//! | feature | gives | default |
//! |---|---|---|
//! | `acceptor` | `acceptor`; turns `server` on | yes |
//! | `server` | `server` | with `acceptor` |
//! | `http2` | HTTP/2 in `server`, on hyper's own connections | |
//! | `topic` | `topic`: publish and subscribe for requests that wait | |
//! | `json` | JSON messages for topics | |
//! | `queue` | `queue`: hand-out of each value to one waiting request | |
//! | `context` | `context`: the request's context, saved and restored; `watchdog` | |
//! | `offload` | `offload`: CPU-bound and blocking work on a bounded pool | |
//! | `inbox` | `inbox`: requests for a thread with a loop of its own; Unix only | |
//! | `zeromq` | `zeromq`: workers in other processes and languages; Unix only | |
//! | `full` | everything | |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(hyper_deferred_tasks, allow(dead_code, reason = "what only the slab needs"))]

#[cfg(feature = "acceptor")]
#[cfg_attr(docsrs, doc(cfg(feature = "acceptor")))]
pub mod acceptor;
#[cfg(feature = "context")]
#[cfg_attr(docsrs, doc(cfg(feature = "context")))]
pub mod context;
pub mod deferred;
mod draining;
#[cfg(all(unix, feature = "inbox"))]
#[cfg_attr(docsrs, doc(cfg(all(unix, feature = "inbox"))))]
pub mod inbox;
#[cfg(feature = "offload")]
#[cfg_attr(docsrs, doc(cfg(feature = "offload")))]
pub mod offload;
#[cfg(feature = "queue")]
#[cfg_attr(docsrs, doc(cfg(feature = "queue")))]
pub mod queue;
#[cfg(feature = "server")]
#[cfg_attr(docsrs, doc(cfg(feature = "server")))]
#[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "what only the acceptor needs of it"))]
pub mod server;
mod timer;
#[cfg(feature = "topic")]
#[cfg_attr(docsrs, doc(cfg(feature = "topic")))]
pub mod topic;
#[cfg(any(feature = "inbox", feature = "offload", feature = "zeromq"))]
mod unavailable;
#[cfg(any(feature = "queue", feature = "server", feature = "topic"))]
mod waiting;
#[cfg(feature = "context")]
#[cfg_attr(docsrs, doc(cfg(feature = "context")))]
pub mod watchdog;
#[cfg(all(unix, feature = "zeromq"))]
#[cfg_attr(docsrs, doc(cfg(all(unix, feature = "zeromq"))))]
pub mod zeromq;

#[cfg(feature = "acceptor")]
pub use crate::acceptor::{Acceptor, PeerAddr, ShutdownHandle};
#[cfg(feature = "context")]
pub use crate::context::Context;
pub use crate::deferred::{Deferred, Outcome, Responder, deferred};
#[cfg(feature = "offload")]
pub use crate::offload::offload;
#[cfg(feature = "queue")]
pub use crate::queue::Queue;
#[cfg(feature = "topic")]
pub use crate::topic::{Topic, Topics};

/// An error of any kind, as hyper and tower box it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
