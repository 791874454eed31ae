//! How long others wait while very many requests are woken: `cargo bench --bench fair`.
//!
//! 17,000 requests are parked and woken, again and again, from a thread of the server. Meanwhile one client asks on a
//! connection of its own, and another connects, asks and leaves, each five hundred times a second; what is printed is how
//! long that took them, alone and while the others are being answered. Plain hyper's accept loop goes through the same
//! in turn with ours, each in a process of its own; of five turns the middle one counts, each figure for itself.
//!
//! `--quick`, which is the default when not run by `cargo bench`, is a smoke test.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it finds")]

#[path = "../parked/client.rs"]
#[allow(dead_code, reason = "a part of it is for other benchmarks")]
mod client;
mod server;

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::{Clients, head, request};
use rustix::process::{Resource, getrlimit, setrlimit};
use server::{Kind, Server};

/// How much of it.
#[derive(Clone, Copy)]
struct Scale {
    parked: usize,
    /// How often each server has its turn.
    turns: usize,
    /// How often all are woken in a turn.
    rounds: usize,
    /// How long the two clients are measured when they are alone.
    alone: Duration,
}

const FULL: Scale = Scale { parked: 17_000, turns: 5, rounds: 5, alone: Duration::from_secs(1) };
const QUICK: Scale = Scale { parked: 500, turns: 2, rounds: 2, alone: Duration::from_millis(100) };

/// How often the two clients ask. Whoever has to wait is late with the next ones, and their time counts from when they
/// were due: those who would have come meanwhile would have waited, too.
const PACE: Duration = Duration::from_millis(2);

/// How long others may wait while all are woken, in milliseconds, at the 99th percentile.
const WANTED_MILLIS: f64 = 5.0;

/// What goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nothing: all are parked.
    Alone,
    /// All are woken, and their answers are not here yet.
    Waking,
    /// Something that is not measured.
    Between,
    Over,
}

/// What the two clients see, and when.
#[derive(Default)]
struct Watch {
    phase: AtomicU8,
    seen: Mutex<Vec<Seen>>,
}

struct Seen {
    phase: Phase,
    connects: bool,
    took: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [server::CHILD, kind] = *args.iter().map(String::as_str).collect::<Vec<_>>() {
        return server::serve(kind);
    }
    let quick = args.iter().any(|arg| arg == "--quick") || !args.iter().any(|arg| arg == "--bench");
    let scale = if quick { QUICK } else { FULL };
    let kinds = [Kind::Acceptor, Kind::Spawned, Kind::Hyper];
    let mut seen = kinds.map(|_| Vec::new());
    for _ in 0..scale.turns {
        for (kind, seen) in kinds.into_iter().zip(&mut seen) {
            seen.push(measure(kind, scale)?);
        }
    }
    println!("{:<10} {:<34} {:>9} {:>9} {:>9} {:>8}", "server", "milliseconds for", "median", "p99", "longest", "of");
    for (kind, seen) in kinds.into_iter().zip(&seen) {
        report(kind, seen);
    }
    Ok(())
}

fn measure(kind: Kind, scale: Scale) -> Result<Vec<Seen>, Box<dyn Error>> {
    let server = Server::start(kind)?;
    let mut clients = Clients::new(server.addr())?;
    let park = request("GET", "/poll", head::BROWSER);
    clients.connect(scale.parked, &park, |clients, _| {
        let parked = clients.len();
        clients.control().wait_parked(parked)
    })?;
    let watch = Watch::default();
    thread::scope(|scope| -> io::Result<()> {
        let asking = scope.spawn(|| watch.ask(server.addr()));
        let connecting = scope.spawn(|| watch.connect(server.addr()));
        watch.set(Phase::Alone);
        thread::sleep(scale.alone);
        let woken = wake(&mut clients, scale, &watch, &park);
        watch.set(Phase::Over);
        woken?;
        for client in [asking, connecting] {
            client.join().map_err(|_| io::Error::other("a client panicked"))??;
        }
        Ok(())
    })?;
    Ok(watch.seen.into_inner().unwrap_or_default())
}

fn wake(clients: &mut Clients, scale: Scale, watch: &Watch, park: &[u8]) -> io::Result<()> {
    for _ in 0..scale.rounds {
        watch.set(Phase::Waking);
        clients.control().get("/pub")?;
        clients.receive(scale.parked)?;
        watch.set(Phase::Between);
        clients.send_all(park)?;
        clients.control().wait_parked(scale.parked)?;
    }
    Ok(())
}

// ===== impl Watch =====

impl Watch {
    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    fn phase(&self) -> Phase {
        [Phase::Alone, Phase::Waking, Phase::Between, Phase::Over][usize::from(self.phase.load(Ordering::SeqCst))]
    }

    /// Does `act` until all is over.
    fn repeat(&self, connects: bool, mut act: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let mut due = Instant::now();
        loop {
            due += PACE;
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                thread::sleep(early);
                // That it slept for too long is nobody's fault.
                due = Instant::now();
            }
            let phase = self.phase();
            if phase == Phase::Over {
                return Ok(());
            }
            act()?;
            let seen = Seen { phase, connects, took: due.elapsed() };
            self.seen.lock().map_err(|_| io::Error::other("the other client panicked"))?.push(seen);
        }
    }

    fn ask(&self, addr: SocketAddr) -> io::Result<()> {
        let mut stream = connect(addr)?;
        self.repeat(false, || hello(&mut stream))
    }

    fn connect(&self, addr: SocketAddr) -> io::Result<()> {
        self.repeat(true, || {
            let mut stream = connect(addr)?;
            hello(&mut stream)?;
            // With a reset, so that its port is free.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        })
    }
}

// ===== helpers =====

/// Prints what was seen in each turn.
fn report(kind: Kind, turns: &[Vec<Seen>]) {
    for (phase, when) in [(Phase::Alone, "alone"), (Phase::Waking, "while all are woken")] {
        for (connects, what) in [(false, "a request"), (true, "connect, request")] {
            let figures: Vec<_> = turns
                .iter()
                .map(|seen| {
                    let of_these = seen.iter().filter(|seen| seen.phase == phase && seen.connects == connects);
                    sorted(of_these.map(|seen| seen.took.as_secs_f64() * 1000.0))
                })
                .filter(|took| !took.is_empty())
                .collect();
            let of_all = |figure: fn(&Vec<f64>) -> f64| {
                let figures = sorted(figures.iter().map(figure));
                figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
            };
            let median = of_all(|took| took[took.len() / 2]);
            let p99 = of_all(|took| took[took.len() * 99 / 100]);
            let longest = of_all(|took| took[took.len() - 1]);
            let count: usize = figures.iter().map(Vec::len).sum();
            let is_wanted = phase == Phase::Waking && !matches!(kind, Kind::Hyper);
            let wanted = match p99 <= WANTED_MILLIS {
                _ if !is_wanted => String::new(),
                true => format!("p99 at most {WANTED_MILLIS}: yes"),
                false => format!("p99 at most {WANTED_MILLIS}: NO"),
            };
            let what = format!("{what} {when}");
            println!("{:<10} {what:<34} {median:>9.3} {p99:>9.3} {longest:>9.3} {count:>8} {wanted}", kind.name());
        }
    }
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn hello(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buf = [0; 1024];
    while !answer.ends_with(b"hello") {
        match stream.read(&mut buf)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&buf[..read]),
        }
    }
    Ok(())
}
