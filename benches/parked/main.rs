//! Weighs requests that wait: `cargo bench --bench parked`.
//!
//! The server is the example `parked` in a process of its own: with plain hyper, with this crate's builder, and with its
//! acceptor, in turns. Five rounds; a figure is the median of its rounds, a ratio the median of the rounds' ratios. The
//! result is printed, and written to `target/parked.json` with every round's value.
//!
//! | argument | |
//! |---|---|
//! | `--quick` | a smoke test in place of a measurement; the default when not run by `cargo bench` |
//! | `--server hyper,builder` | only these servers |
//! | `--only parked,armed,post,idle,hello` | only these scenarios; `memory` is all but `hello` |
//! | `--rounds 3` | so many rounds |
//!
//! Bytes are those that the server's process has touched (`RssAnon`), as the slope between two numbers of connections
//! unless said otherwise. The kernel's own share, some 4 KB for each end of a connection, is the same for all and not in
//! it. CPU is the time that the server's threads have run for.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints what it finds")]

mod client;
mod process;
mod report;
mod scenario;
mod server;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use report::Report;
use rustix::process::{Resource, getrlimit, setrlimit};
use scenario::{Scale, Scenario};
use serde_json::json;
use server::Kind;

fn main() -> Result<(), Box<dyn Error>> {
    let open_files_max = raise_open_files()?;
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if(|arg| arg == server::CHILD).is_some() {
        return server::example::serve(args);
    }
    let plan = Plan::from_args(args)?;
    let open_files = plan.scale.open_files();
    if open_files_max.is_some_and(|max| max < open_files) {
        return Err(format!("{open_files} open files are needed for each process, see `ulimit -Hn`").into());
    }
    let report = plan.run()?;
    println!("{}", report.table());
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let json = json!({
        "connections": plan.scale.steps,
        "cycles": plan.scale.cycles,
        "rounds": plan.rounds,
        "quick": plan.quick,
        "figures": report.json(),
    });
    // Missing when everything is built elsewhere.
    std::fs::create_dir_all(&target)?;
    let path = target.join("parked.json");
    std::fs::write(&path, serde_json::to_string_pretty(&json)?)?;
    println!("written to {}", path.display());
    Ok(())
}

/// What is to be done.
struct Plan {
    kinds: Vec<Kind>,
    scenarios: Vec<Scenario>,
    scale: Scale,
    rounds: usize,
    quick: bool,
}

impl Plan {
    fn from_args(args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut plan = Self {
            kinds: Kind::ALL.to_vec(),
            scenarios: Scenario::ALL.to_vec(),
            scale: Scale::FULL,
            rounds: 5,
            quick: false,
        };
        let args: Vec<_> = args.collect();
        // `cargo test --benches` runs this too, and wants to know no more than whether it works.
        if args.iter().any(|arg| arg == "--quick") || !args.iter().any(|arg| arg == "--bench") {
            (plan.quick, plan.scale, plan.rounds) = (true, Scale::QUICK, 1);
        }
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match &*arg {
                "--quick" | "--bench" => {}
                "--rounds" => plan.rounds = value()?.parse()?,
                "--server" => plan.kinds = pick(&value()?, &Kind::ALL, Kind::name)?,
                "--only" => {
                    let names = value()?.replace("memory", "parked,armed,post,idle");
                    plan.scenarios = pick(&names, &Scenario::ALL, Scenario::name)?;
                }
                _ => return Err(format!("unknown argument {arg}").into()),
            }
        }
        Ok(plan)
    }

    fn run(&self) -> Result<Report, Box<dyn Error>> {
        let mut report = Report::default();
        let mut kinds = self.kinds.clone();
        let begun = Instant::now();
        for round in 1..=self.rounds {
            for scenario in &self.scenarios {
                eprintln!("{:>4} s: round {round} of {}, {}", begun.elapsed().as_secs(), self.rounds, scenario.name());
                scenario.run(&kinds, self.scale, &mut report)?;
            }
            // Whoever came first comes last: a machine that warms up, or tires, does it for all.
            kinds.reverse();
        }
        report.compare_states();
        Ok(report)
    }
}

/// Those of `all` that are named in `names`, in the order of `all`.
fn pick<T: Copy>(names: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<Vec<T>, String> {
    if let Some(unknown) = names.split(',').find(|wanted| all.iter().all(|known| name(*known) != *wanted)) {
        return Err(format!(
            "unknown name {unknown}, known are {:?}",
            all.iter().map(|t| name(*t)).collect::<Vec<_>>()
        ));
    }
    Ok(all.iter().copied().filter(|known| names.split(',').any(|wanted| wanted == name(*known))).collect())
}

/// A connection is an open file. The servers inherit the limit, which is returned.
fn raise_open_files() -> Result<Option<u64>, Box<dyn Error>> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum)
}
