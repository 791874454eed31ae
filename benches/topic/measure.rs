//! A server and its clients, each in a process of its own, and what they measure.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::scenario::{Scenario, Variant};

/// How many connect before the server is waited for: fewer than a listener lets wait.
const CONNECTING_MAX: usize = 100;

/// What became of one message.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// How many were delivered for each second of the server's CPU time, the clients' next polls included.
    pub(crate) per_cpu_second: f64,
    /// From the call that publishes to the client that has read it first.
    pub(crate) first_ms: f64,
    /// The same for the client that has read it last.
    pub(crate) last_ms: f64,
}

/// The server's state when all wait.
#[derive(Clone, Copy)]
pub(crate) struct Settled {
    cpu_ns: f64,
    pub(crate) rss_bytes: f64,
}

pub(crate) struct Session {
    // Dropped first: they would take the end of the server for a failure.
    clients: Process,
    server: Process,
    waiters: usize,
    settled: Option<Settled>,
}

/// Speaks in lines; killed when dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

// ===== impl Figures =====

impl Figures {
    /// Each figure's own median.
    pub(crate) fn median(all: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = all.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Self {
            per_cpu_second: median(|figures| figures.per_cpu_second),
            first_ms: median(|figures| figures.first_ms),
            last_ms: median(|figures| figures.last_ms),
        }
    }
}

// ===== impl Session =====

impl Session {
    pub(crate) fn start(scenario: Scenario, variant: Variant) -> Self {
        let mut server = Process::start(&["serve", &scenario.to_string(), &variant.to_string()]);
        let port = server.line();
        let clients = Process::start(&["clients", &scenario.to_string(), &port]);
        Self { server, clients, waiters: 0, settled: None }
    }

    /// Lets so many more clients come, a few at a time, and waits until they wait.
    pub(crate) fn open(&mut self, count: usize) {
        let all = self.waiters + count;
        while self.waiters < all {
            let count = CONNECTING_MAX.min(all - self.waiters);
            self.clients.tell(&format!("open {count}"));
            assert_eq!(self.clients.line(), "opened");
            self.waiters += count;
            self.server.tell(&format!("await {}", self.waiters));
            assert_eq!(self.server.line(), "there");
        }
        self.settle();
    }

    /// Waits until all clients wait again.
    pub(crate) fn settle(&mut self) -> Settled {
        self.server.tell(&format!("settle {}", self.waiters));
        let [cpu_ns, rss_bytes] = numbers(&self.server.line());
        *self.settled.insert(Settled { cpu_ns, rss_bytes })
    }

    /// Publishes a message, to each topic if there are several, and waits until all have got it and wait again.
    pub(crate) fn publish(&mut self) -> Figures {
        let before = self.settled.unwrap();
        self.server.tell("publish");
        let [first_ns, last_ns] = numbers(&self.clients.line());
        let cpu_ns = self.settle().cpu_ns - before.cpu_ns;
        Figures {
            per_cpu_second: self.waiters as f64 / (cpu_ns / 1e9),
            first_ms: first_ns / 1e6,
            last_ms: last_ns / 1e6,
        }
    }
}

fn numbers(line: &str) -> [f64; 2] {
    let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

// ===== impl Process =====

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the other process has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
