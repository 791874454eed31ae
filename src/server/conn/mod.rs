//! Builders that serve one connection, with hyper's names.

pub mod auto;
pub mod http1;
/// HTTP/2 connections: hyper's own, which stay active. Their parked streams share one hyper.
#[cfg(feature = "http2")]
#[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
pub mod http2 {
    pub use hyper::server::conn::http2::{Builder, Connection};
}

mod active;
mod body;
mod connection;
mod deadline;
mod dormant;
mod flags;
mod head;
mod io;
mod rehome;
mod service;
mod settings;
