//! What is done to a server, and what is read off it meanwhile.

use std::io;
use std::time::{Duration, Instant};

use crate::client::{Clients, head, request};
use crate::process::Process;
use crate::report::{Figure, Report, median};
use crate::server::{Kind, Server};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// The numbers of connections at which memory is read: the ends of the lower slope, and of the upper.
    pub(crate) steps: [usize; 4],
    /// Rounds of park and wake after the first.
    pub(crate) cycles: usize,
    /// Slices of a throughput measurement, each server in turn, and requests in one.
    pub(crate) slices: usize,
    pub(crate) slice_requests: usize,
}

/// One scenario, each in a server of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Parked GETs: memory while they wait, and again and again the waking of all.
    Parked,
    /// Parked GETs with a timeout of their own.
    Armed,
    /// Parked POSTs.
    Post,
    /// Connections that have had one answer and send nothing more.
    Idle,
    /// As many answers as can be, at once.
    Hello,
}

/// Requests for each processor second are measured at this many connections.
const HELLO_CONNECTIONS: usize = 64;
/// Longer than any measurement takes, so that it is armed and never fires.
const PARK_TIMEOUT_SECS: &str = "300";

// ===== impl Scale =====

impl Scale {
    /// 17,000 parked requests between the first step and the last, as many as 20,000 open files allow.
    pub(crate) const FULL: Self =
        Self { steps: [1000, 4000, 12_000, 18_000], cycles: 10, slices: 4, slice_requests: 10_000 };
    pub(crate) const QUICK: Self = Self { steps: [500, 1000, 2000, 3000], cycles: 3, slices: 2, slice_requests: 5000 };

    /// For the connections, and a few for the process itself.
    pub(crate) fn open_files(&self) -> u64 {
        self.steps[3] as u64 + 100
    }
}

// ===== impl Scenario =====

impl Scenario {
    pub(crate) const ALL: [Self; 5] = [Self::Parked, Self::Armed, Self::Post, Self::Idle, Self::Hello];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Armed => "armed",
            Self::Post => "post",
            Self::Idle => "idle",
            Self::Hello => "hello",
        }
    }

    /// Runs it once for each of `kinds`, in their order.
    pub(crate) fn run(self, kinds: &[Kind], scale: Scale, report: &mut Report) -> io::Result<()> {
        if self == Self::Hello {
            hello(kinds, scale, head::SHORT, Figure::Hello, report)?;
            return hello(kinds, scale, head::BROWSER, Figure::HelloBrowser, report);
        }
        for kind in kinds {
            let mut run = Run { kind: *kind, scale, report };
            match self {
                Self::Parked => run.parked()?,
                Self::Armed => run.armed()?,
                Self::Post => run.post()?,
                Self::Idle => run.idle()?,
                Self::Hello => unreachable!("done above"),
            }
        }
        Ok(())
    }
}

/// A scenario with one server.
struct Run<'a> {
    kind: Kind,
    scale: Scale,
    report: &'a mut Report,
}

/// What one wake of all has cost.
struct Woken {
    wall: Duration,
    /// Of the whole cycle, from the requests on.
    cycle_cpu: Duration,
    wake_cpu: Duration,
    peak_bytes: f64,
}

impl Run<'_> {
    fn parked(&mut self) -> io::Result<()> {
        let server = Server::start(self.kind, &[])?;
        let mut clients = Clients::new(server.addr())?;
        clients.control().get("/hello")?;
        let before = server.process().anonymous_bytes()?;
        let poll = request("GET", "/poll", head::BROWSER);
        let parked = self.park(&server, &mut clients, &poll)?;
        self.record(Figure::ParkedBytes, slope(&parked, 0, 3));
        self.record(Figure::ParkedSlopes, slope(&parked, 0, 1) / slope(&parked, 2, 3));

        let count = clients.len();
        let per_connection = |process: Process| -> io::Result<f64> {
            Ok((process.anonymous_bytes()?.saturating_sub(before)) as f64 / count as f64)
        };
        let first = wake(server.process(), &mut clients)?;
        self.record(Figure::WakePeakBytes, first.peak_bytes);
        let woken = per_connection(server.process())?;
        self.record(Figure::WokenBytes, woken);

        let mut cycles = Vec::new();
        for _ in 0..self.scale.cycles {
            cycles.push(cycle(server.process(), &mut clients, &poll, Pace::Burst)?);
        }
        let cycled = per_connection(server.process())?;
        self.record(Figure::CycledBytes, cycled);
        self.record(Figure::Growth, cycled / woken);
        let millis = |time: &dyn Fn(&Woken) -> Duration| {
            median(cycles.iter().map(|woken| time(woken).as_secs_f64() * 1e3).collect())
        };
        self.record(Figure::WakeWall, millis(&|woken| woken.wall));
        self.record(Figure::WakeCpu, millis(&|woken| woken.wake_cpu));
        self.record(Figure::CycleCpu, millis(&|woken| woken.cycle_cpu) * 1e3 / count as f64);
        self.record(Figure::PacedCycleCpu, self.cycle_cpu(&server, &mut clients, &poll, Pace::OneThread)?);
        Ok(())
    }

    fn armed(&mut self) -> io::Result<()> {
        let server = Server::start(self.kind, &["--timeout", PARK_TIMEOUT_SECS])?;
        let mut clients = Clients::new(server.addr())?;
        let parked = self.park(&server, &mut clients, &request("GET", "/poll", head::BROWSER))?;
        self.record(Figure::ArmedBytes, slope(&parked, 0, 3));
        self.record(Figure::ArmedSlopes, slope(&parked, 0, 1) / slope(&parked, 2, 3));
        Ok(())
    }

    fn post(&mut self) -> io::Result<()> {
        let server = Server::start(self.kind, &["--timeout", PARK_TIMEOUT_SECS])?;
        let mut clients = Clients::new(server.addr())?;
        let poll = request("POST", "/poll", head::BROWSER);
        let parked = self.park(&server, &mut clients, &poll)?;
        self.record(Figure::PostBytes, slope(&parked, 0, 3));
        wake(server.process(), &mut clients)?;
        self.record(Figure::PostCycleCpu, self.cycle_cpu(&server, &mut clients, &poll, Pace::Burst)?);
        Ok(())
    }

    /// Microseconds of a cycle for each request, of a few.
    fn cycle_cpu(&self, server: &Server, clients: &mut Clients, poll: &[u8], pace: Pace) -> io::Result<f64> {
        let cycles = (0..self.scale.cycles.min(3)).map(|_| cycle(server.process(), clients, poll, pace));
        let cycles = cycles.collect::<io::Result<Vec<_>>>()?;
        let cpu = median(cycles.iter().map(|woken| woken.cycle_cpu.as_secs_f64() * 1e6).collect());
        Ok(cpu / clients.len() as f64)
    }

    fn idle(&mut self) -> io::Result<()> {
        let server = Server::start(self.kind, &[])?;
        let mut clients = Clients::new(server.addr())?;
        let hello = request("GET", "/hello", head::BROWSER);
        let idle = self.hold(&server, &mut clients, &hello, Clients::receive)?;
        self.record(Figure::IdleBytes, slope(&idle, 0, 3));
        Ok(())
    }

    /// Parks more and more requests; returns the memory at each step.
    fn park(&self, server: &Server, clients: &mut Clients, poll: &[u8]) -> io::Result<Vec<(usize, u64)>> {
        self.hold(server, clients, poll, |clients, _| {
            let count = clients.len();
            clients.control().wait_parked(count)
        })
    }

    fn hold(
        &self,
        server: &Server,
        clients: &mut Clients,
        request: &[u8],
        mut served: impl FnMut(&mut Clients, usize) -> io::Result<()>,
    ) -> io::Result<Vec<(usize, u64)>> {
        let mut steps = Vec::new();
        for len in self.scale.steps {
            clients.connect(len, request, &mut served)?;
            server.process().settle()?;
            steps.push((len, server.process().anonymous_bytes()?));
        }
        Ok(steps)
    }

    fn record(&mut self, figure: Figure, value: f64) {
        self.report.record(self.kind, figure, value);
    }
}

/// When the requests of a cycle come to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// All at once, as they do when all clients have just been answered.
    Burst,
    /// As fast as one thread sends them. A server that is faster goes to sleep in between and is woken, at its own expense.
    OneThread,
}

/// Sends a request on every connection, waits until all are parked, and wakes them.
fn cycle(process: Process, clients: &mut Clients, poll: &[u8], pace: Pace) -> io::Result<Woken> {
    process.settle()?;
    let before = process.cpu()?;
    let stopped = if pace == Pace::Burst { Some(process.stop()?) } else { None };
    clients.send_all(poll)?;
    drop(stopped);
    // Not asked again and again while it works: counting costs processor time too.
    process.settle()?;
    let count = clients.len();
    clients.control().wait_parked(count)?;
    let woken = wake(process, clients)?;
    Ok(Woken { cycle_cpu: process.cpu()? - before, ..woken })
}

/// Wakes all that are parked.
fn wake(process: Process, clients: &mut Clients) -> io::Result<Woken> {
    process.settle()?;
    process.reset_peak()?;
    let resident = process.resident_bytes()?;
    let cpu = process.cpu()?;
    let begun = Instant::now();
    clients.control().send("/pub")?;
    clients.receive(clients.len())?;
    let wall = begun.elapsed();
    let woken = clients.control().receive()?;
    if woken != clients.len().to_string() {
        return Err(io::Error::other(format!("{woken} were woken instead of {}", clients.len())));
    }
    process.settle()?;
    let wake_cpu = process.cpu()? - cpu;
    let peak_bytes = process.peak_bytes()?.saturating_sub(resident) as f64 / clients.len() as f64;
    Ok(Woken { wall, cycle_cpu: wake_cpu, wake_cpu, peak_bytes })
}

/// Requests for each processor second. The servers stand side by side and are asked in turn, slice by slice, so that a
/// busy machine is busy for all of them.
fn hello(kinds: &[Kind], scale: Scale, head: &str, figure: Figure, report: &mut Report) -> io::Result<()> {
    let hello = request("GET", "/hello", head);
    let mut servers = Vec::new();
    for kind in kinds {
        let server = Server::start(*kind, &[])?;
        let mut clients = Clients::new(server.addr())?;
        clients.connect(HELLO_CONNECTIONS, &hello, Clients::receive)?;
        // The first requests find everything cold.
        clients.exchange(scale.slice_requests / 4, &hello)?;
        servers.push((*kind, server, clients, Vec::new()));
    }
    for _ in 0..scale.slices {
        for (_, server, clients, rates) in &mut servers {
            server.process().settle()?;
            let before = server.process().cpu()?;
            clients.exchange(scale.slice_requests, &hello)?;
            server.process().settle()?;
            let cpu = server.process().cpu()? - before;
            rates.push(scale.slice_requests as f64 / cpu.as_secs_f64());
        }
    }
    for (kind, _, _, rates) in servers {
        report.record(kind, figure, median(rates));
    }
    Ok(())
}

/// Bytes for each connection between two of the steps.
fn slope(steps: &[(usize, u64)], from: usize, to: usize) -> f64 {
    let (from, to) = (steps[from], steps[to]);
    (to.1 as f64 - from.1 as f64) / (to.0 - from.0) as f64
}
