//! The acceptor under load, abuse and bad luck, over real sockets. What each test leaves behind is nothing: no open
//! descriptor, and no connection that `stats()` knows of.
#![cfg(all(target_os = "linux", feature = "acceptor"))]
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../support/mod.rs"]
mod support;

/// Whether connections that wait are in a slab, and not each in a task of its own.
const HAS_SLAB: bool = cfg!(not(hyper_deferred_tasks));

mod budget;
#[cfg(not(hyper_deferred_tasks))]
mod full;
mod limits;
mod panics;
mod pipelines;
mod races;
#[cfg(not(hyper_deferred_tasks))]
mod released;
mod returns;
mod rows;
mod shutdown;
mod slow;
mod sockets;
mod timeouts;
#[cfg(not(hyper_deferred_tasks))]
mod unix;
mod upgrades;
mod wakes;
mod workers;
