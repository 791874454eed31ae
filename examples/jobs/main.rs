//! A queue of jobs, handed out to workers that long-poll for them: `cargo run --example jobs -- --demo`.
//!
//! A job is leased, and comes back when its worker does not confirm it in time. The demonstration starts three workers,
//! each a process of its own, and kills one in the middle of a job: another one does it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example tells what it does")]

mod args;
mod demo;
mod server;
mod worker;

use std::error::Error;
use std::process::ExitCode;

use hyper_deferred::Acceptor;

use crate::args::{Args, Mode};

/// Longer than a job takes, and short enough to wait for when a worker has died.
const LEASE_SECONDS: u64 = 5;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("jobs: {error}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jobs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    if let Mode::Worker { addr } = &args.mode {
        return worker::run(addr);
    }
    let acceptor = Acceptor::bind(("127.0.0.1", args.port))?;
    let addr = acceptor.local_addr()?;
    println!("listening on http://{addr}/");
    let shutdown = acceptor.shutdown_handle();
    let jobs = server::Jobs::new();
    acceptor.run(|| {
        let demo = matches!(args.mode, Mode::Demo).then(|| demo::run(addr, jobs.clone()));
        tokio::task::spawn_local(async move {
            match demo {
                Some(demo) => tokio::select! {
                    ended = demo => if let Err(error) = ended { eprintln!("jobs: {error}") },
                    _ctrl_c = tokio::signal::ctrl_c() => {}
                },
                None => {
                    let _ctrl_c = tokio::signal::ctrl_c().await;
                }
            }
            shutdown.shutdown();
        });
        jobs.service()
    })?;
    Ok(())
}
