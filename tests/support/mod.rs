//! What several test files share: a server in a thread and a client that speaks raw bytes.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper fails its test, and prints to its parent")]

mod by_hand;
#[cfg(all(unix, feature = "acceptor"))]
mod child;
mod client;
mod logs;
mod pass;
mod poll;
#[cfg(feature = "acceptor")]
mod server;
mod waiters;
#[cfg(all(target_os = "linux", feature = "acceptor"))]
mod watched;

pub use by_hand::{Desk, Peer, Task};
#[cfg(all(unix, feature = "acceptor"))]
pub use child::{ServerProcess, is_server, run_until_interrupted, run_workers_until_interrupted};
pub use client::{Client, Head};
pub use logs::Logs;
pub use pass::pass;
pub use poll::{now_or_never, poll};
#[cfg(feature = "acceptor")]
pub use server::{Park, Server, TestBody, text};
pub use waiters::{Waiters, await_text, await_waiting};
#[cfg(all(target_os = "linux", feature = "acceptor"))]
pub use watched::{Watched, alone, assert_nothing_held, descriptors, untimed};

use std::time::Duration;

/// How long a test waits for what must happen before it calls that a failure. Nothing ever waits it out.
pub const PATIENCE: Duration = Duration::from_secs(30);
