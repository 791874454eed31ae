//! What a request's context costs: nothing where none is used, and how much where one is.
//!
//! `cargo bench --bench context --features context` prints the instructions of each scenario's one more request, which
//! needs valgrind and no quiet machine, and times and memory, which need one. To see that the feature costs nothing
//! unused, compare the first row with that of `cargo bench --bench context`, which is built without it.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints, and has nobody to report to")]

mod acceptor;
#[cfg(feature = "context")]
mod calls;

use std::process::Command;

/// What can be counted: a name for the command line, what it is, and how it is done so many times.
type Scenario = (&'static str, &'static str, fn(usize));

const SCENARIOS: &[Scenario] = &[
    ("acceptor", "a request to an acceptor, without a context", acceptor::requests),
    #[cfg(feature = "context")]
    ("acceptor-context", "the same, with one", acceptor::requests_with_context),
    #[cfg(feature = "context")]
    ("acceptor-watched", "the same, with a watchdog as well", acceptor::watched_requests),
    #[cfg(feature = "context")]
    ("plain", "a service's call and its polls, without a context", calls::plain),
    #[cfg(feature = "context")]
    ("context", "the same, with one", calls::with_context),
];

/// Little enough for valgrind, many enough that what happens once in a while is in the mean.
const COUNTED: usize = 2000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [name, times] = &arguments[..] {
        let (_, _, run) = SCENARIOS.iter().find(|(known, ..)| known == name).unwrap();
        run(times.parse().unwrap());
        return;
    }
    println!("\ninstructions");
    for (name, title, _) in SCENARIOS {
        match instructions_each(name) {
            Some(instructions) => println!("  {title:<50} {instructions:>10.1}"),
            None => return println!("  valgrind is not there: apt-get install valgrind"),
        }
    }
    #[cfg(feature = "context")]
    calls::measure();
}

/// The difference between so many and twice as many: what happens once does not count.
fn instructions_each(name: &str) -> Option<f64> {
    let (once, twice) = (instructions(name, COUNTED)?, instructions(name, 2 * COUNTED)?);
    Some((twice - once) / COUNTED as f64)
}

fn instructions(name: &str, times: usize) -> Option<f64> {
    let program = std::env::current_exe().unwrap();
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &times.to_string()])
        .output();
    let report = String::from_utf8(valgrind.ok()?.stderr).unwrap();
    let counted = report.lines().find_map(|line| line.split_once("Collected : ")).unwrap().1;
    Some(counted.trim().parse().unwrap())
}
