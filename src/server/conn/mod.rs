//! Builders that serve one connection, with hyper's names.

pub mod auto;
pub mod http1;
/// HTTP/2 connections: hyper's own, which stay active. Their parked streams share one hyper.
#[cfg(feature = "http2")]
#[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
pub mod http2 {
    pub use hyper::server::conn::http2::{Builder, Connection};
}

pub use rehome::rehome;

pub(crate) mod active;
pub(crate) mod body;
pub(crate) mod clock;
pub(crate) mod connection;
pub(crate) mod deadline;
pub(crate) mod dormant;
pub(crate) mod flags;
pub(crate) mod head;
pub(crate) mod io;
pub(crate) mod machine;
pub(crate) mod notes;
mod probe;
mod rehome;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod service;
pub(crate) mod settings;
