//! Coarse deadlines for very many who wait: one calendar for each runtime, and one task that looks into it.
//!
//! A deadline is met at most [`TICK`] late and never early. It costs some eight bytes in the calendar and an allocation
//! of 48, which is small enough for the gaps that an allocator leaves beside a task: a timer of tokio's is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::{Driven, drive, lock};
use crate::timer::Alarm;

/// Nobody waits for less than a second or two here: a tenth of one more is not noticed.
const TICK: Duration = Duration::from_millis(100);

/// How many are woken before the loop has a turn.
const WAKES_IN_SLICE: usize = 256;

/// The calendars of all runtimes in which anyone waits, each there for as long as its task.
static CALENDARS: Mutex<Vec<Arc<Calendar>>> = Mutex::new(Vec::new());

/// One deadline's place in the calendar of a runtime. Dropping it takes it out at once.
pub(super) struct Place {
    calendar: Arc<Calendar>,
    node: Arc<Node>,
}

/// The deadlines of one runtime: another's may not be driven, or end first.
struct Calendar {
    runtime: Id,
    pages: Mutex<Pages>,
}

struct Pages {
    base: Instant,
    // By the tick at which they are due.
    nodes: BTreeMap<u32, Vec<Arc<Node>>>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Whoever comes first has to see to it that it is looked into.
    New,
    Driven,
    /// Nobody waited any more, or the runtime has ended. A new one takes its place.
    Over,
}

/// Its lock is taken with that of the pages or alone.
struct Node(Mutex<Entry>);

struct Entry {
    waker: Waker,
    tick: u32,
    // Among those of its tick, or one of the two below. It changes under the lock of the pages.
    index: u32,
}

/// The index of one whose deadline has passed.
const DUE: u32 = u32::MAX;

/// The index of one whose calendar is over.
const LOST: u32 = u32::MAX - 1;

// ===== impl Place =====

impl Place {
    /// A place in the calendar of `runtime`, which must be the one that polls. `None` if that runtime has ended. Panics
    /// if it does not have its timer enabled.
    pub(super) fn take(alarm: Alarm, runtime: &Handle) -> Option<Self> {
        let node = Arc::new(Node::new());
        loop {
            let calendar = Calendar::of(runtime.id());
            let mut pages = lock(&calendar.pages);
            if pages.stage == Stage::Over {
                drop(pages);
                calendar.forget();
                continue;
            }
            let is_new = std::mem::replace(&mut pages.stage, Stage::Driven) == Stage::New;
            pages.arm(&node, alarm);
            drop(pages);
            let place = Self { calendar, node };
            if is_new {
                drive(&place.calendar, runtime);
                // Dropped at once by a runtime that has ended, and the next would be, too.
                if lock(&place.calendar.pages).stage == Stage::Over {
                    return None;
                }
            }
            return Some(place);
        }
    }

    /// Ready once the deadline has passed. `None` if this is the wrong place to wait for it: the runtime has ended, or
    /// another one polls.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Option<Poll<()>> {
        let mut entry = lock(&self.node.0);
        match entry.index {
            DUE => return Some(Poll::Ready(())),
            LOST => return None,
            _ if entry.waker.will_wake(cx.waker()) => return Some(Poll::Pending),
            _ => {}
        }
        // Who is polled by another runtime is polled by another task. Outside of any this one is as good as ever.
        if Handle::try_current().is_ok_and(|runtime| runtime.id() != self.calendar.runtime) {
            return None;
        }
        let replaced = std::mem::replace(&mut entry.waker, cx.waker().clone());
        drop(entry);
        // A waker may run foreign code when it is dropped, which must not find the lock taken.
        drop(replaced);
        Some(Poll::Pending)
    }

    /// Moves the deadline, also one that has passed.
    pub(super) fn rearm(&self, alarm: Alarm) {
        let mut pages = lock(&self.calendar.pages);
        pages.disarm(&self.node);
        match pages.stage {
            Stage::New | Stage::Driven => pages.arm(&self.node, alarm),
            Stage::Over => lock(&self.node.0).index = LOST,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The node goes after the lock, and its waker with it.
        lock(&self.calendar.pages).disarm(&self.node);
    }
}

// ===== impl Calendar =====

impl Calendar {
    fn of(runtime: Id) -> Arc<Self> {
        let mut calendars = lock(&CALENDARS);
        if let Some(calendar) = calendars.iter().find(|calendar| calendar.runtime == runtime) {
            return calendar.clone();
        }
        // Without a timer a runtime could not look into it. This panics then, as every other sleep does.
        drop(tokio::time::sleep(TICK));
        let pages = Pages { base: Instant::now(), nodes: BTreeMap::new(), stage: Stage::New };
        let calendar = Arc::new(Self { runtime, pages: Mutex::new(pages) });
        calendars.push(calendar.clone());
        calendar
    }

    fn forget(&self) {
        let mut calendars = lock(&CALENDARS);
        calendars.retain(|calendar| !std::ptr::eq(&**calendar, self));
        if calendars.is_empty() {
            calendars.shrink_to_fit();
        }
    }
}

impl Driven for Calendar {
    fn step(&self) -> Option<Instant> {
        let mut wakes = Vec::new();
        let next = lock(&self.pages).turn(&mut wakes);
        if next.is_none() {
            self.forget();
        }
        wakes.into_iter().for_each(Waker::wake);
        next
    }

    fn abandoned(&self) {
        self.forget();
        let nodes = {
            let mut pages = lock(&self.pages);
            pages.stage = Stage::Over;
            let nodes: Vec<_> = std::mem::take(&mut pages.nodes).into_values().flatten().collect();
            nodes.iter().map(|node| node.leave(LOST)).collect::<Vec<_>>()
        };
        // Each of them is polled again, if anybody is there to do it, and finds another calendar.
        nodes.into_iter().for_each(Waker::wake);
    }
}

// ===== impl Pages =====

impl Pages {
    fn tick_at(&self, at: Instant) -> u32 {
        let ticks = at.saturating_duration_since(self.base).as_millis() / TICK.as_millis();
        // Thirteen years of ticks: a deadline beyond that is never met.
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    fn arm(&mut self, node: &Arc<Node>, alarm: Alarm) {
        let tick = alarm.instant().map_or(u32::MAX, |at| self.tick_at(at).saturating_add(1));
        let nodes = self.nodes.entry(tick).or_default();
        let mut entry = lock(&node.0);
        entry.tick = tick;
        entry.index = u32::try_from(nodes.len()).expect("nodes fill the memory long before there are so many");
        nodes.push(node.clone());
    }

    fn disarm(&mut self, node: &Arc<Node>) {
        let (tick, index) = {
            let entry = lock(&node.0);
            (entry.tick, entry.index)
        };
        if matches!(index, DUE | LOST) {
            return;
        }
        let Some(nodes) = self.nodes.get_mut(&tick) else { return };
        nodes.swap_remove(index as usize);
        match nodes.get(index as usize) {
            Some(moved) => lock(&moved.0).index = index,
            None if nodes.is_empty() => drop(self.nodes.remove(&tick)),
            None => {}
        }
    }

    /// Takes out those that are due, or as many as a slice allows, and tells when to come back.
    fn turn(&mut self, wakes: &mut Vec<Waker>) -> Option<Instant> {
        let now = self.tick_at(Instant::now());
        while let Some(mut first) = self.nodes.first_entry() {
            if *first.key() > now {
                break;
            }
            let nodes = first.get_mut();
            let rest = nodes.len().saturating_sub(WAKES_IN_SLICE - wakes.len());
            wakes.extend(nodes.drain(rest..).map(|node| node.leave(DUE)));
            if rest > 0 {
                return Some(Instant::now());
            }
            first.remove();
        }
        // Who has been woken just now may set the next deadline.
        if self.nodes.is_empty() && wakes.is_empty() {
            self.stage = Stage::Over;
            return None;
        }
        Some(self.base + TICK * (now + 1))
    }
}

// ===== impl Node =====

impl Node {
    fn new() -> Self {
        Self(Mutex::new(Entry { waker: Waker::noop().clone(), tick: 0, index: LOST }))
    }

    /// Whom to wake.
    fn leave(&self, index: u32) -> Waker {
        let mut entry = lock(&self.0);
        entry.index = index;
        std::mem::replace(&mut entry.waker, Waker::noop().clone())
    }
}
