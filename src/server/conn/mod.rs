//! Builders that serve one connection, with hyper's names.

pub mod http1;

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
