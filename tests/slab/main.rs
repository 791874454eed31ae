//! The acceptor under load, abuse and bad luck, over real sockets. What each test leaves behind is nothing: no open
//! descriptor, and no connection that `stats()` knows of.
#![cfg(all(target_os = "linux", feature = "acceptor", not(hyper_deferred_tasks)))]
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../support/mod.rs"]
mod support;

mod limits;
mod panics;
mod pipelines;
mod races;
mod returns;
mod shutdown;
mod slow;
mod timeouts;
mod unix;
mod upgrades;
mod wakes;
