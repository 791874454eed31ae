//! The figures, side by side: a table to read, and JSON to keep.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::server::Kind;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    ParkedBytes,
    ParkedSlopes,
    ArmedBytes,
    ArmedSlopes,
    PostBytes,
    IdleBytes,
    IdleToParked,
    PostToArmed,
    WakePeakBytes,
    WokenBytes,
    CycledBytes,
    Growth,
    WakeWall,
    WakeCpu,
    CycleCpu,
    PostCycleCpu,
    PacedCycleCpu,
    Hello,
    HelloBrowser,
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Nothing,
    AtMost(f64),
    Between(f64, f64),
    /// Of plain hyper's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

/// All that was measured, by figure and server, a value for each round.
#[derive(Debug, Default)]
pub(crate) struct Report {
    values: BTreeMap<Figure, Vec<(Kind, Vec<f64>)>>,
}

// ===== impl Figure =====

impl Figure {
    /// Key in the JSON, and what it is.
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::ParkedBytes => ("parked_bytes", "bytes for each parked GET"),
            Self::ParkedSlopes => ("parked_slopes", "  lower slope to upper slope"),
            Self::ArmedBytes => ("armed_bytes", "bytes for each parked GET, timeout armed"),
            Self::ArmedSlopes => ("armed_slopes", "  lower slope to upper slope"),
            Self::PostBytes => ("post_bytes", "bytes for each parked POST, timeout armed"),
            Self::IdleBytes => ("idle_bytes", "bytes for each idle connection"),
            Self::IdleToParked => ("idle_to_parked", "  idle to parked GET"),
            Self::PostToArmed => ("post_to_armed", "  parked POST to parked GET, timeout armed"),
            Self::WakePeakBytes => ("wake_peak_bytes", "bytes above parked for each woken, at the peak"),
            Self::WokenBytes => ("woken_bytes", "bytes for each connection after a wake"),
            Self::CycledBytes => ("cycled_bytes", "bytes for each connection after more wakes"),
            Self::Growth => ("growth", "  after more wakes to after one"),
            Self::WakeWall => ("wake_wall_ms", "time to wake all, ms"),
            Self::WakeCpu => ("wake_cpu_ms", "server CPU to wake all, ms"),
            Self::CycleCpu => ("cycle_cpu_us", "CPU of request, park, wake, response, us"),
            Self::PostCycleCpu => ("post_cycle_cpu_us", "  the same, POST, timeout armed"),
            Self::PacedCycleCpu => ("paced_cycle_cpu_us", "  GETs that come as one thread sends them"),
            Self::Hello => ("hello_per_cpu_s", "hello for each CPU second, short head"),
            Self::HelloBrowser => ("hello_browser_per_cpu_s", "hello for each CPU second, browser's head"),
        }
    }

    /// Whether it already sets two states of one server against each other: no ratio of ratios is told.
    fn is_relative(self) -> bool {
        matches!(self, Self::ParkedSlopes | Self::ArmedSlopes | Self::IdleToParked | Self::PostToArmed | Self::Growth)
    }

    fn wanted(self, kind: Kind) -> Wanted {
        use Wanted::{AtMost, Between, Nothing, RatioAtLeast, RatioAtMost};
        match (kind, self) {
            (Kind::Builder, Self::ParkedBytes) => AtMost(1350.0),
            (Kind::Builder, Self::IdleToParked) => AtMost(1.0),
            (Kind::Builder, Self::PostToArmed) => AtMost(1.05),
            (Kind::Builder, Self::WakeWall | Self::WakeCpu) => RatioAtMost(1.05),
            (Kind::Builder, Self::Hello | Self::HelloBrowser) => RatioAtLeast(0.97),
            (Kind::Acceptor, Self::ArmedBytes | Self::PostBytes) => AtMost(256.0),
            (Kind::Acceptor, Self::ParkedSlopes | Self::ArmedSlopes) => Between(0.9, 1.1),
            (Kind::Acceptor, Self::IdleBytes) => AtMost(128.0),
            (Kind::Acceptor, Self::WakePeakBytes) => AtMost(250.0),
            (Kind::Acceptor, Self::WokenBytes | Self::CycledBytes) => AtMost(400.0),
            // Not growing, but for what the measurement itself is unsure of.
            (Kind::Acceptor, Self::Growth) => AtMost(1.05),
            (Kind::Acceptor, Self::WakeWall) => RatioAtMost(0.95),
            (Kind::Acceptor, Self::CycleCpu) => RatioAtMost(0.85),
            (Kind::Acceptor, Self::Hello) => RatioAtLeast(1.05),
            _ => Nothing,
        }
    }
}

// ===== impl Wanted =====

impl Wanted {
    fn is_met(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::AtMost(most) => Some(value <= most),
            Self::Between(least, most) => Some((least..=most).contains(&value)),
            Self::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::AtMost(most) => format!("<= {most}"),
            Self::Between(least, most) => format!("{least} to {most}"),
            Self::RatioAtMost(most) => format!("ratio <= {most}"),
            Self::RatioAtLeast(least) => format!("ratio >= {least}"),
        }
    }
}

// ===== impl Report =====

impl Report {
    /// Takes one round's value.
    pub(crate) fn record(&mut self, kind: Kind, figure: Figure, value: f64) {
        let kinds = self.values.entry(figure).or_default();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, values)) => values.push(value),
            None => kinds.push((kind, vec![value])),
        }
    }

    /// Sets against each other what one server needs in two states.
    pub(crate) fn compare_states(&mut self) {
        for kind in Kind::ALL {
            for (figure, of, to) in [
                (Figure::IdleToParked, Figure::IdleBytes, Figure::ParkedBytes),
                (Figure::PostToArmed, Figure::PostBytes, Figure::ArmedBytes),
            ] {
                let ratios: Vec<_> = self.values_of(of, kind).iter().zip(self.values_of(to, kind)).collect();
                let ratios: Vec<_> = ratios.into_iter().map(|(of, to)| of / to).collect();
                for ratio in ratios {
                    self.record(kind, figure, ratio);
                }
            }
        }
    }

    fn values_of(&self, figure: Figure, kind: Kind) -> &[f64] {
        let kinds = self.values.get(&figure).into_iter().flatten();
        kinds.into_iter().find(|(known, _)| *known == kind).map_or(&[], |(_, values)| values)
    }

    /// The median of the rounds' ratios to plain hyper: what disturbs one round disturbs both.
    fn ratio(&self, figure: Figure, kind: Kind) -> Option<f64> {
        if kind == Kind::Hyper || figure.is_relative() {
            return None;
        }
        let ours = self.values_of(figure, kind);
        let ratios: Vec<_> =
            ours.iter().zip(self.values_of(figure, Kind::Hyper)).map(|(ours, hyper)| ours / hyper).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    /// A line for each figure and server.
    pub(crate) fn table(&self) -> String {
        let mut table = format!("{:<47}{:<10}{:>10}{:>8}  {}\n", "figure", "server", "median", "ratio", "wanted");
        for (figure, kinds) in &self.values {
            for (kind, values) in kinds {
                let value = median(values.clone());
                let ratio = self.ratio(*figure, *kind);
                let wanted = figure.wanted(*kind);
                let verdict = match wanted.is_met(value, ratio) {
                    None => String::new(),
                    Some(met) => format!("{} {}", wanted.describe(), if met { "yes" } else { "NO" }),
                };
                let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
                let digits = if value < 100.0 { 2 } else { 0 };
                let (_, what) = figure.describe();
                let line = format!("{what:<47}{:<10}{value:>10.digits$}{ratio:>8}  {verdict}", kind.name());
                let _strings_take_everything = writeln!(table, "{}", line.trim_end());
            }
        }
        table
    }

    /// The same, with every round's value.
    pub(crate) fn json(&self) -> Value {
        let figures = self.values.iter().map(|(figure, kinds)| {
            let servers = kinds.iter().map(|(kind, values)| {
                let (value, ratio) = (median(values.clone()), self.ratio(*figure, *kind));
                let wanted = figure.wanted(*kind);
                let server = json!({
                    "median": value,
                    "ratio_to_hyper": ratio,
                    "rounds": values,
                    "wanted": wanted.describe(),
                    "met": wanted.is_met(value, ratio),
                });
                (kind.name().to_owned(), server)
            });
            let (key, what) = figure.describe();
            let mut entry = json!({ "figure": what.trim_start() });
            entry["servers"] = Value::Object(servers.collect());
            (key.to_owned(), entry)
        });
        Value::Object(figures.collect())
    }
}

/// The middle of `values`, of which there must be one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}
