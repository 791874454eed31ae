//! The jobs example, each part a process of its own: a worker that is killed in the middle of a job loses nothing.
#![cfg(all(feature = "acceptor", feature = "queue"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/example.rs"]
mod example;

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes, so that what hangs fails.
const GUARD: Duration = Duration::from_secs(60);

const JOBS: usize = 8;

/// The example as a process, killed when dropped.
struct Process {
    child: Child,
    // `None` when someone else listens.
    says: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(binary()).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let says = Some(BufReader::new(child.stdout.take().unwrap()).lines());
        Self { child, says }
    }

    /// A worker that has begun with a job, and which.
    fn worker_in_the_middle(addr: &str) -> (Self, String) {
        let mut worker = Self::start(&["--worker", addr]);
        let line = worker.line();
        let (_, job) = line.split_once(": begins ").expect("it begins with a job");
        let job = job.strip_suffix(", delivery 1").expect("nobody had it before").to_owned();
        (worker, job)
    }

    fn line(&mut self) -> String {
        self.says.as_mut().unwrap().next().expect("the process is there").unwrap()
    }

    /// Ends it with `SIGKILL`; what it has said last.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.says.take().unwrap().map(Result::unwrap).collect()
    }

    /// Lets `said` have all that it says.
    fn listen(&mut self, said: &mpsc::Sender<String>) {
        let output = self.says.take().unwrap();
        let said = said.clone();
        std::thread::spawn(move || output.map(Result::unwrap).try_for_each(|line| said.send(line)));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| example::build("jobs", "queue"))
}

/// Asks on a connection of its own.
fn ask(addr: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let length = body.len();
    write!(stream, "{head} HTTP/1.1\r\nhost: jobs\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_job_whose_worker_is_killed_in_the_middle_is_done_by_another() {
    let mut server = Process::start(&["--port", "0"]);
    let line = server.line();
    let addr = line.strip_prefix("listening on http://").unwrap().trim_end_matches('/');
    for n in 1..=JOBS {
        assert!(ask(addr, "POST /jobs", &format!("job {n}")).starts_with("HTTP/1.1 202 "));
    }
    // A machine that stood still for the whole job has let it be done, and the next is tried.
    let (lost, done_before) = (0..JOBS)
        .find_map(|done_before| {
            let (victim, job) = Process::worker_in_the_middle(addr);
            let said = victim.kill();
            said.is_empty().then_some((job, done_before))
        })
        .expect("a job takes long enough to be killed in");

    let (said, saying) = mpsc::channel();
    let mut others = [(); 2].map(|()| Process::start(&["--worker", addr]));
    others.iter_mut().for_each(|worker| worker.listen(&said));
    let mut log = Vec::new();
    let done = |log: &[String]| log.iter().filter(|line| line.contains(": has done ")).count();
    while done(&log) < JOBS - done_before {
        log.push(saying.recv_timeout(GUARD).expect("all jobs are done in the end"));
    }
    assert!(log.iter().any(|line| line.ends_with(&format!(": begins {lost}, delivery 2"))), "{lost} in {log:?}");
    assert!(log.iter().any(|line| line.ends_with(&format!(": has done {lost}"))), "{lost} in {log:?}");
    let summary = ask(addr, "GET /", "");
    assert!(summary.contains(&format!("0 jobs to be done, {JOBS} done")), "{summary}");

    drop(others);
    kill_process(Pid::from_child(&server.child), Signal::INT).unwrap();
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn the_demonstration_ends_when_all_jobs_are_done() {
    let output = Command::new(binary()).args(["--port", "0", "--demo"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("that worker is killed"), "{text}");
    assert!(text.ends_with("all 20 jobs are done\n"), "{text}");
}
