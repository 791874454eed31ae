//! Drives both connections through a case.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::test_runner::TestCaseError;
use tokio::runtime::Runtime;

use super::case::{Case, Input, READ_BYTES_MIN, Step};
use super::log::{Actor, Event, Events, push};
use super::service::{REFUSED, UNANSWERED};
use super::wire::End;
use super::world::World;

struct Pair<'a> {
    case: &'a Case,
    hyper: World,
    ours: World,
    /// How much of the input is delivered.
    delivered: usize,
    /// The requests that the services have seen, if only these are compared.
    seen: Option<[Vec<String>; 2]>,
    /// Hyper may be kept at hand where ours would rest without a clock.
    may_linger: bool,
}

/// Steps between two pauses, where time passes: enough for a few requests to follow each other.
const STEPS_BEFORE_PAUSE: usize = 4;
/// Twice this after the last request hyper is put away.
const LOOK_AT_CLOCK: Duration = Duration::from_millis(11);

/// Bytes that come one by one: long inputs are long for the sake of their bodies.
const TRICKLE_MAX: usize = 600;

/// Enough for a response of as many parts as there are in a case.
const POLLS_FOR_NOTHING: usize = 8;

/// What a connection did in a step.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    events: Events,
    written: Input,
}

/// What a step led to.
enum Outcome {
    Same,
    /// What differs is meant to: there is nothing more to compare.
    Apart,
}

/// Without a clock no time passes.
pub fn run(case: &Case, clock: Option<&Runtime>) -> Result<(), TestCaseError> {
    let mut pair = Pair {
        case,
        hyper: World::hyper(case),
        ours: World::ours(case),
        delivered: 0,
        seen: case.depends_on_reads().then(Default::default),
        may_linger: clock.is_some(),
    };
    pair.settle("the beginning")?;
    for (n, step) in case.steps.iter().enumerate() {
        let times = if matches!(step, Step::Trickle) { pair.undelivered().min(TRICKLE_MAX) } else { 1 };
        for _ in 0..times {
            pair.apply(*step);
            if let Outcome::Apart = pair.settle(&format!("step {n}, {step:?}"))? {
                return Ok(());
            }
        }
        if let (Some(clock), 0) = (clock, (n + 1) % STEPS_BEFORE_PAUSE) {
            if let Outcome::Apart = pair.pause(clock)? {
                return Ok(());
            }
        }
    }
    pair.finish()
}

impl Pair<'_> {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Deliver(len) => self.deliver(len),
            Step::DeliverRest => self.deliver(usize::MAX),
            Step::Trickle => self.deliver(1),
            Step::Open(n) => self.open(n, |world, gate| world.shared.open(gate)),
            Step::OpenElsewhere(n) => self.open(n, |world, gate| {
                let shared = world.shared.clone();
                std::thread::spawn(move || shared.open(gate)).join().unwrap();
            }),
            Step::End(end) => self.both(|world| world.wire.end(end)),
            Step::Allow(bytes) => self.both(|world| world.wire.allow(bytes)),
            Step::BreakWrites => self.both(|world| world.wire.break_writes()),
            Step::GracefulShutdown => self.both(World::graceful_shutdown),
            Step::PollForNothing => self.both(|world| world.poll_for_nothing()),
            Step::DropConnection => self.both(World::drop_connection),
            Step::IntoParts => self.both(World::into_parts),
        }
    }

    /// Nothing comes from the client for a while.
    fn pause(&mut self, clock: &Runtime) -> Result<Outcome, TestCaseError> {
        clock.block_on(tokio::time::advance(LOOK_AT_CLOCK));
        if let Outcome::Apart = self.settle("the beginning of a pause")? {
            return Ok(Outcome::Apart);
        }
        clock.block_on(tokio::time::advance(LOOK_AT_CLOCK));
        self.may_linger = false;
        let outcome = self.settle("a pause");
        self.may_linger = true;
        outcome
    }

    fn both(&mut self, apply: impl Fn(&mut World)) {
        apply(&mut self.hyper);
        apply(&mut self.ours);
    }

    fn undelivered(&self) -> usize {
        self.case.input.0.len() - self.delivered
    }

    fn deliver(&mut self, len: usize) {
        if self.hyper.wire.has_ended() {
            return;
        }
        let rest = &self.case.input.0[self.delivered..];
        let bytes = &rest[..len.min(rest.len())];
        self.delivered += bytes.len();
        self.hyper.wire.deliver(bytes);
        self.ours.wire.deliver(bytes);
    }

    fn open(&mut self, n: usize, open: impl Fn(&World, (usize, usize))) {
        let gates = self.hyper.shared.waiting_gates();
        if let Some(gate) = gates.get(n % gates.len().max(1)) {
            open(&self.hyper, *gate);
            open(&self.ours, *gate);
        }
    }

    /// Everything comes to its end: all that the client has to say, all that was waited for.
    fn finish(mut self) -> Result<(), TestCaseError> {
        let (first, last) = if self.case.leaves_first {
            (Step::End(End::Eof), None)
        } else {
            (Step::DeliverRest, Some(Step::End(End::Eof)))
        };
        let opens = std::iter::repeat_n(Step::Open(0), 200);
        let steps = [Step::DeliverRest, Step::Allow(1 << 40), first].into_iter().chain(opens).chain(last);
        for step in steps {
            if matches!(step, Step::Open(_)) && self.hyper.shared.waiting_gates().is_empty() {
                continue;
            }
            self.apply(step);
            if let Outcome::Apart = self.settle(&format!("the end, {step:?}"))? {
                return Ok(());
            }
        }
        self.apply(Step::DropConnection);
        self.settle("the drop").map(|_| ())
    }

    /// Polls both and compares what they did.
    fn settle(&mut self, step: &str) -> Result<Outcome, TestCaseError> {
        self.hyper.settle()?;
        self.ours.settle()?;
        let mut hyper = Done::by(&self.hyper);
        let mut ours = Done::by(&self.ours);
        if let Some(seen) = &mut self.seen {
            seen[0].extend(requests(&hyper.events));
            seen[1].extend(requests(&ours.events));
            return match seen[0].iter().zip(&seen[1]).find(|(hyper, ours)| hyper != ours) {
                Some(differs) => Err(TestCaseError::fail(format!("after {step}, requests differ: {differs:#?}"))),
                None => Ok(Outcome::Same),
            };
        }
        if self.case.has_narrow_window() {
            self.poll_on(step, &mut hyper, &mut ours)?;
        }
        if self.hyper.shared.upgrade_refused.load(Ordering::Relaxed) {
            forget_refused_upgrade(&mut hyper.events);
            forget_refused_upgrade(&mut ours.events);
        }
        let apart = || {
            self.left_early(&hyper, &ours)
                || self.left_late(&hyper, &ours)
                || self.cut_short()
                || self.refused_elsewhere(&hyper, &ours)
                || self.failed_elsewhere(&hyper, &ours)
        };
        if hyper != ours && apart() {
            return Ok(Outcome::Apart);
        }
        if self.case.has_short_reads() {
            forget_failed_body(&mut hyper.events);
            forget_failed_body(&mut ours.events);
        }
        if hyper == ours {
            self.check_promises(step).map(|()| Outcome::Same)
        } else {
            Err(TestCaseError::fail(format!("after {step}\nhyper: {hyper:#?}\nours: {ours:#?}")))
        }
    }

    /// What ours promises beyond hyper.
    fn check_promises(&self, step: &str) -> Result<(), TestCaseError> {
        let Self { case, ours, .. } = self;
        let within_bounds = self.delivered < READ_BYTES_MIN && !case.settings.pipeline_flush;
        if ours.is_over() || !within_bounds {
            return Ok(());
        }
        let waiting = ours.shared.waiting.load(Ordering::Relaxed) > 0;
        let ignores_end = case.settings.half_close && waiting;
        if ours.wire.has_ended() && !ignores_end && waiting {
            return Err(TestCaseError::fail(format!("after {step}, the client has left and nobody cares")));
        }
        let may_rest = ours.shared.may_rest() && !ours.wire.is_full();
        if may_rest && !self.may_linger && !ours.wire.has_ended() && !ours.is_dormant() {
            return Err(TestCaseError::fail(format!("after {step}, the connection is not dormant")));
        }
        Ok(())
    }

    /// Polls both though nothing has woken them. Where writes wait for room hyper makes some of its progress only when
    /// it is polled again, and ours is woken, or polls hyper, where hyper is not.
    fn poll_on(&mut self, step: &str, hyper: &mut Done, ours: &mut Done) -> Result<(), TestCaseError> {
        let refused = self.hyper.shared.upgrade_refused.load(Ordering::Relaxed);
        if !refused && !self.case.has_short_reads() && ours.has_written_less(hyper) {
            return Err(TestCaseError::fail(format!("after {step}, ours lags\nhyper: {hyper:#?}\nours: {ours:#?}")));
        }
        for _ in 0..POLLS_FOR_NOTHING {
            for (world, done) in [(&mut self.hyper, &mut *hyper), (&mut self.ours, &mut *ours)] {
                world.poll_for_nothing();
                world.settle()?;
                done.append(Done::by(world));
            }
        }
        Ok(())
    }

    /// Whether hyper has ended with a refused upgrade in hand, which it carries out though it has not written all, and
    /// ours, which has forgotten it, has still to write before it closes.
    fn cut_short(&self) -> bool {
        self.hyper.shared.upgrade_refused.load(Ordering::Relaxed)
            && self.hyper.is_over()
            && !self.ours.is_over()
            && self.ours.wire.is_full()
    }

    /// Whether hyper has seen the client leave behind more than is read ahead of it.
    fn left_late(&self, hyper: &Done, ours: &Done) -> bool {
        self.case.has_short_reads()
            && self.ours.wire.has_ended()
            && matches!(&self.hyper.result, Some(Err(_)))
            && !self.ours.is_over()
            && hyper.written.0.starts_with(&ours.written.0)
    }

    /// Whether one has found a head malformed before it was whole. hyper parses one that is not with its first read, and
    /// then when it finds a blank line, which may be one before the head.
    fn refused_elsewhere(&self, hyper: &Done, ours: &Done) -> bool {
        let refuses = |world: &World| matches!(&world.result, Some(Err(error)) if error.contains("Parse("));
        (self.case.has_short_reads() || self.case.has_blank_lines())
            && self.hyper.result != self.ours.result
            && (refuses(&self.hyper) && refuses(&self.ours)
                || (refuses(&self.hyper) || refuses(&self.ours)) && hyper.written_overlaps(ours))
    }

    /// Whether both have failed because of the service or of a write, one before it has written as much as the other.
    fn failed_elsewhere(&self, hyper: &Done, ours: &Done) -> bool {
        self.case.has_short_reads()
            && self.hyper.result == self.ours.result
            && matches!(&self.ours.result, Some(Err(error)) if error.contains("User(") || error.contains("BodyWrite"))
            && hyper.written_overlaps(ours)
    }

    /// Whether the client has gone while a request waits and ours has ended because of that, having done until then
    /// what hyper has done.
    fn left_early(&self, hyper: &Done, ours: &Done) -> bool {
        let ended = matches!(&self.ours.result, Some(Err(_)));
        if self.case.settings.half_close || !self.ours.wire.has_ended() || !ended {
            return false;
        }
        let nothing = Vec::new();
        let mut unanswered = false;
        let same_until_then = ours.events.iter().all(|(actor, events)| {
            let at_hyper = hyper.events.get(actor).unwrap_or(&nothing);
            let until_then = events.iter().position(is_end).unwrap_or(events.len());
            unanswered |= events[until_then..].contains(&Event::Note(UNANSWERED.to_owned()));
            matches!(actor, Actor::Connection | Actor::Io | Actor::Upgrade(_))
                || is_prefix(&events[..until_then], at_hyper)
        });
        same_until_then && unanswered && hyper.written.0.starts_with(&ours.written.0)
    }
}

impl Done {
    fn by(world: &World) -> Self {
        Self { events: world.log.take(), written: Input(world.wire.take_written()) }
    }

    /// Whether one has written what the other has, and perhaps more.
    fn written_overlaps(&self, other: &Self) -> bool {
        let (Input(one), Input(other)) = (&self.written, &other.written);
        one.starts_with(other) || other.starts_with(one)
    }

    /// Whether the other has written more, though both had the same to do.
    fn has_written_less(&self, other: &Self) -> bool {
        self.written.0.len() < other.written.0.len() && !self.events.values().flatten().any(is_end)
    }

    fn append(&mut self, more: Self) {
        self.written.0.extend(more.written.0);
        for (actor, events) in more.events {
            let all = self.events.entry(actor).or_default();
            for event in events {
                push(all, event);
            }
        }
    }
}

/// Whether events begin as others do, the last bytes perhaps cut short.
fn is_prefix(events: &[Event], of: &[Event]) -> bool {
    let Some((last, before)) = events.split_last() else { return true };
    of.starts_with(before)
        && match (last, of.get(before.len())) {
            (Event::Data(last), Some(Event::Data(of))) => of.starts_with(last),
            (last, of) => Some(last) == of,
        }
}

/// Whether it may come of a connection that ends with a request in hand.
fn is_end(event: &Event) -> bool {
    let ends = [UNANSWERED, "body failed", "dropped with"];
    matches!(event, Event::Note(note) if ends.iter().any(|end| note.starts_with(end)))
}

/// The requests that a service was called with.
fn requests(events: &Events) -> Vec<String> {
    let mut requests = Vec::new();
    for (actor, events) in events {
        if let (Actor::Request(_), Some(Event::Note(note))) = (actor, events.first()) {
            if note.contains(" HTTP/") {
                requests.push(note.clone());
            }
        }
    }
    requests
}

/// How much of a body was read when its request failed depends on how much is read at a time.
fn forget_failed_body(events: &mut Events) {
    for events in events.values_mut() {
        if events.iter().any(is_end) {
            events.retain(|event| matches!(event, Event::Note(_)));
        }
    }
}

/// hyper remembers an upgrade that was refused until the connection ends, and then carries it out instead of closing
/// the IO. Ours forgets it when the connection goes dormant, and closes the IO.
fn forget_refused_upgrade(events: &mut Events) {
    events.retain(|actor, events| {
        events.retain(
            |event| !matches!(event, Event::Note(note) if REFUSED.iter().any(|refused| note.starts_with(refused))),
        );
        *actor != Actor::Io && !events.is_empty()
    });
}
