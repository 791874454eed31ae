//! The server: the example `parked`, in a process of its own.
//!
//! The benchmark is that process too, run again with [`CHILD`] as its first argument, so that both are built as one.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::process::Process;

#[path = "../../examples/parked.rs"]
#[allow(dead_code, reason = "its `main` is the example's")]
pub(crate) mod example;

/// The argument that makes this program the server.
pub(crate) const CHILD: &str = "serve";

/// Which server is weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Plain hyper, which the others are compared with.
    Hyper,
    /// This crate's builder in its place.
    Builder,
    /// This crate's accept loop.
    Acceptor,
}

/// A running server, which ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
}

// ===== impl Kind =====

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Hyper, Self::Builder, Self::Acceptor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hyper => "hyper",
            Self::Builder => "builder",
            Self::Acceptor => "acceptor",
        }
    }
}

// ===== impl Server =====

impl Server {
    /// Starts one, with `args` beside its kind.
    pub(crate) fn start(kind: Kind, args: &[&str]) -> io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args([CHILD, "--server", kind.name(), "--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()?;
        // Owned from here on, so that it ends whatever happens below.
        let mut server = Self { child, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut line = String::new();
        BufReader::new(server.child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
        let addr = line.trim().trim_start_matches("listening on http://").trim_end_matches('/').parse();
        server.addr = addr.map_err(|_| io::Error::other(format!("the server did not start, it said: {line:?}")))?;
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}
