//! What it costs to have work done elsewhere, and what it saves everybody else.
//!
//! `cargo bench --bench offload --features full` prints ratios, each of both sides measured in turns in this run, and
//! writes them to `target/offload.json`. `ROUNDS=n` changes how often each is measured.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints, and has nobody to report to")]

mod jobs;
mod neighbours;

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_deferred::zeromq::worker;

/// The work of a job: some arithmetic, for about as long as it is told.
fn compute(micros: u64) -> u64 {
    let until = std::time::Instant::now() + std::time::Duration::from_micros(micros);
    let mut sum = 1_u64;
    while std::time::Instant::now() < until {
        for _ in 0..100 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
    }
    sum
}

/// Serves jobs until killed: `POST` with the microseconds in the body.
fn serve_jobs(endpoint: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answered = runtime.block_on(worker(endpoint, |job: Request<Bytes>| async move {
        let micros = std::str::from_utf8(job.body()).unwrap().parse().unwrap();
        Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(compute(micros).to_string()))))
    }));
    match answered {
        Err(error) => panic!("{error}"),
    }
}

/// One line of the result.
struct Measured {
    name: &'static str,
    unit: &'static str,
    value: f64,
    /// To the first of its group.
    ratio: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The rounds of each candidate as its median, and its ratio to the first one's.
fn summarize(unit: &'static str, rounds: Vec<(&'static str, Vec<f64>)>) -> Vec<Measured> {
    let medians: Vec<_> = rounds.into_iter().map(|(name, values)| (name, median(values))).collect();
    let first = medians[0].1;
    medians.into_iter().map(|(name, value)| Measured { name, unit, value, ratio: value / first }).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("worker") {
        serve_jobs(&arguments.next().unwrap());
        return;
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let groups = [
        ("jobs each second", jobs::measure(rounds)),
        ("99th percentile of unrelated requests", neighbours::measure(rounds)),
    ];
    let mut json = String::from("{\n");
    for (n, (title, group)) in groups.iter().enumerate() {
        println!("\n{title}");
        let _ = writeln!(json, "  \"{title}\": {{");
        for (m, Measured { name, unit, value, ratio }) in group.iter().enumerate() {
            println!("  {name:<42} {value:>12.1} {unit:<8} {ratio:>8.3}");
            let comma = if m + 1 < group.len() { "," } else { "" };
            let _ = writeln!(
                json,
                "    \"{name}\": {{ \"value\": {value:.1}, \"unit\": \"{unit}\", \"ratio\": {ratio:.3} }}{comma}"
            );
        }
        let _ = writeln!(json, "  }}{}", if n + 1 < groups.len() { "," } else { "" });
    }
    json.push_str("}\n");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/offload.json");
    std::fs::write(path, json).unwrap();
}
