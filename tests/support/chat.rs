//! The chat example as a process of its own.
#![allow(dead_code, reason = "each test uses a part of it")]

#[path = "example.rs"]
mod example;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};

/// A running chat, killed when dropped.
pub(crate) struct Chat {
    process: Child,
    pub(crate) addr: SocketAddr,
}

// ===== impl Chat =====

impl Chat {
    /// Starts it on `port`, 0 for any, and waits until it has printed its address.
    pub(crate) fn start(port: u16) -> Self {
        Self::start_with(port, &[])
    }

    pub(crate) fn start_with(port: u16, args: &[&str]) -> Self {
        let mut process = Command::new(binary())
            .args(["--port", &port.to_string()])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the chat starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("it prints its address");
        Self { addr: addr.parse().unwrap(), process }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What pressing Ctrl-C in its terminal does.
    pub(crate) fn press_ctrl_c(&self) {
        kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _ended_already = self.process.wait();
    }
}

/// Runs it with `args` until it ends by itself.
pub(crate) fn run(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().unwrap()
}

fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| example::build("chat", "json"))
}
