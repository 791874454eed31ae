//! Three workers, of which one is killed in the middle of a job.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::server::Jobs;

const JOBS: usize = 20;

/// How often the demonstration looks whether all is done.
const LOOK: Duration = Duration::from_millis(100);

/// A process of its own, killed when dropped.
struct Worker {
    process: Child,
    says: Lines<BufReader<ChildStdout>>,
}

pub(crate) async fn run(addr: SocketAddr, jobs: Jobs) -> Result<(), Box<dyn Error>> {
    let [mut victim, other, third] = [Worker::start(addr)?, Worker::start(addr)?, Worker::start(addr)?];
    for worker in [other, third] {
        tokio::task::spawn_local(worker.echo());
    }
    for n in 1..=JOBS {
        jobs.push(format!("job {n}").into());
    }
    // Its second job is the one that it dies of.
    for _ in 0..2 {
        victim.echo_until("begins").await?;
    }
    victim.process.kill().await?;
    println!("that worker is killed; its job comes back after {} seconds", crate::LEASE_SECONDS);
    while jobs.left() > 0 {
        tokio::time::sleep(LOOK).await;
    }
    println!("all {JOBS} jobs are done");
    Ok(())
}

// ===== impl Worker =====

impl Worker {
    fn start(addr: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--worker", &addr.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("the worker has no output")?;
        Ok(Self { process, says: BufReader::new(output).lines() })
    }

    /// Prints what it says, up to a line with `word` in it.
    async fn echo_until(&mut self, word: &str) -> io::Result<()> {
        while let Some(line) = self.says.next_line().await? {
            println!("{line}");
            if line.contains(word) {
                break;
            }
        }
        Ok(())
    }

    /// Prints all that it says.
    async fn echo(mut self) {
        while let Ok(Some(line)) = self.says.next_line().await {
            println!("{line}");
        }
    }
}
