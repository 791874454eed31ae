//! What several test files share: a server in a thread and a client that speaks raw bytes.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses its own part")]

mod client;
mod logs;
mod poll;
#[cfg(feature = "acceptor")]
mod server;

pub use client::{Client, Head};
pub use logs::Logs;
pub use poll::{now_or_never, poll};
#[cfg(feature = "acceptor")]
pub use server::{Park, Server, TestBody};

use std::time::Duration;

/// How long a test waits for what must happen before it calls that a failure. Nothing ever waits it out.
pub const PATIENCE: Duration = Duration::from_secs(30);
