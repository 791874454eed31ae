//! Publishing to 17,000 long polls, to 17,000 streams of events, and to 10,000 topics of one to three waiters each:
//! `cargo bench --bench topic --features full`. A part of it: `-- long_poll`, `-- events`, `-- many_topics`, `-- memory`.
//!
//! A topic is compared with the same written plainly on hyper with tokio's `broadcast` and `watch`. All of them take turns
//! in one run, each in a process of its own with its clients in another one; what is told are medians, and what
//! counts are the ratios. They are also written to `target/topic.json`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

mod clients;
mod hub;
mod measure;
mod plain;
mod scenario;
mod server;

use serde_json::{Map, Value, json};

use crate::measure::{Figures, Session};
use crate::scenario::{Scenario, Variant};

/// How often each of them has its turn.
const TURNS: usize = 5;

/// How many messages are measured in each turn.
const MESSAGES: usize = 6;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", scenario, variant] => {
            exit_on_panic();
            server::run(scenario.parse().unwrap(), variant.parse().unwrap());
        }
        ["clients", scenario, port] => {
            exit_on_panic();
            clients::run(scenario.parse().unwrap(), port.parse().unwrap());
        }
        // cargo says `--bench`.
        _ => bench(&args.into_iter().filter(|arg| !arg.starts_with("--")).collect::<Vec<_>>()),
    }
}

/// A process of which a part has failed ends, so that nobody waits for it.
fn exit_on_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        std::process::exit(1);
    }));
}

/// Measures the parts that are named, or all.
fn bench(parts: &[String]) {
    let chosen = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
    let mut report = Map::new();
    for scenario in Scenario::ALL.into_iter().filter(|scenario| chosen(&scenario.to_string())) {
        println!("{}: {} waiters", scenario.title(), scenario.waiters());
        report.insert(scenario.to_string(), compare(scenario));
    }
    if chosen("memory") {
        println!("memory of a waiter, in bytes of the server's own");
        report.insert("memory".to_owned(), memory());
    }
    let path = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), std::path::PathBuf::from);
    std::fs::write(path.join("topic.json"), serde_json::to_vec_pretty(&report).unwrap()).unwrap();
}

fn compare(scenario: Scenario) -> Value {
    let mut all: Vec<(Variant, Vec<Figures>)> = Variant::COMPARED.map(|variant| (variant, Vec::new())).into();
    for _ in 0..TURNS {
        for (variant, figures) in &mut all {
            let mut session = Session::start(scenario, *variant);
            session.open(scenario.waiters());
            session.publish();
            figures.extend((0..MESSAGES).map(|_| session.publish()));
        }
    }
    let medians: Vec<(Variant, Figures)> =
        all.iter().map(|(variant, figures)| (*variant, Figures::median(figures))).collect();
    let own = medians[0].1;
    let mut values = Map::new();
    for (variant, figures) in medians {
        let ratio = own.per_cpu_second / figures.per_cpu_second;
        println!(
            "  {variant:12} {:8.0} delivered for each CPU second, first after {:6.1} ms, last after {:6.1} ms; topic does {ratio:.2} times as many",
            figures.per_cpu_second, figures.first_ms, figures.last_ms
        );
        values.insert(
            variant.to_string(),
            json!({
                "delivered_for_each_cpu_second": figures.per_cpu_second.round(),
                "first_ms": figures.first_ms,
                "last_ms": figures.last_ms,
                "topic_does_times_as_many": ratio,
            }),
        );
    }
    values.into()
}

/// What one more parked request costs the server: the slope between the first thousand and all.
fn memory() -> Value {
    const FIRST: usize = 1000;
    let scenario = Scenario::LongPoll;
    let mut values = Map::new();
    for variant in [Variant::Deferred, Variant::Topic, Variant::TopicOnHyper, Variant::Broadcast, Variant::Watch] {
        let mut slopes: Vec<f64> = (0..TURNS)
            .map(|_| {
                let mut session = Session::start(scenario, variant);
                session.open(FIRST);
                let before = session.settle().rss_bytes;
                session.open(scenario.waiters() - FIRST);
                (session.settle().rss_bytes - before) / (scenario.waiters() - FIRST) as f64
            })
            .collect();
        slopes.sort_by(f64::total_cmp);
        let slope = slopes[TURNS / 2];
        println!("  {variant:12} {slope:8.0}");
        values.insert(variant.to_string(), json!(slope.round()));
    }
    values.into()
}
