//! Coarse deadlines for very many who wait: one calendar for each runtime, and one task that looks into it.
//!
//! A deadline is met at most [`TICK`] late and never early. It costs some 30 bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::{Driven, drive, insert, lock, remove};
use crate::timer::Alarm;

/// Nobody waits for less than a second or two here: a tenth of one more is not noticed.
const TICK: Duration = Duration::from_millis(100);
const TICK_NANOS: i64 = TICK.as_nanos() as i64;

/// How many are woken before the loop has a turn.
const WAKES_IN_SLICE: usize = 256;

/// The calendars of all runtimes in which anyone waits, each there for as long as its task.
static CALENDARS: Mutex<Vec<Arc<Calendar>>> = Mutex::new(Vec::new());

/// One deadline's place in the calendar of a runtime. Dropping it takes it out at once.
pub(super) struct Place {
    calendar: Arc<Calendar>,
    key: u32,
}

/// The deadlines of one runtime: another's may not be driven, or end first.
struct Calendar {
    runtime: Id,
    pages: Mutex<Pages>,
}

struct Pages {
    begin: Alarm,
    entries: Slab<Entry>,
    // The keys of those who wait, by the tick at which they are due.
    pages: BTreeMap<u32, Vec<u32>>,
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

struct Entry {
    waker: Waker,
    tick: u32,
    // Its place in the page of that tick, or one of the two below.
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
        loop {
            let calendar = Calendar::of(runtime.id());
            let mut pages = lock(&calendar.pages);
            if pages.stage == Stage::Over {
                drop(pages);
                calendar.forget();
                continue;
            }
            let is_new = std::mem::replace(&mut pages.stage, Stage::Driven) == Stage::New;
            let key = pages.insert(alarm);
            drop(pages);
            let place = Self { calendar, key };
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
        let mut pages = lock(&self.calendar.pages);
        let entry = &mut pages.entries[self.key as usize];
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
        drop(pages);
        // A waker may run foreign code when it is dropped, which must not find the lock taken.
        drop(replaced);
        Some(Poll::Pending)
    }

    /// Moves the deadline, also one that has passed.
    pub(super) fn rearm(&self, alarm: Alarm) {
        let mut pages = lock(&self.calendar.pages);
        pages.disarm(self.key);
        match pages.stage {
            Stage::New | Stage::Driven => pages.arm(self.key, alarm),
            Stage::Over => pages.entries[self.key as usize].index = LOST,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut pages = lock(&self.calendar.pages);
        pages.disarm(self.key);
        let entry = remove(&mut pages.entries, self.key);
        drop(pages);
        drop(entry);
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
        let calendar = Arc::new(Self { runtime, pages: Mutex::new(Pages::new()) });
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
        // Each of them is polled again, if anybody is there to do it, and finds another calendar.
        let wakes = lock(&self.pages).end();
        wakes.into_iter().for_each(Waker::wake);
    }
}

// ===== impl Pages =====

impl Pages {
    fn new() -> Self {
        let begin = Alarm::at(Instant::now());
        Self { begin, entries: Slab::new(), pages: BTreeMap::new(), stage: Stage::New }
    }

    fn tick_at(&self, at: Alarm) -> u32 {
        let ticks = at.nanos().saturating_sub(self.begin.nanos()).max(0) / TICK_NANOS;
        // Thirteen years of ticks: a deadline beyond that is never met.
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    fn insert(&mut self, alarm: Alarm) -> u32 {
        let key = insert(&mut self.entries, Entry { waker: Waker::noop().clone(), tick: 0, index: LOST });
        self.arm(key, alarm);
        key
    }

    fn arm(&mut self, key: u32, alarm: Alarm) {
        let tick = self.tick_at(alarm).saturating_add(1);
        let page = self.pages.entry(tick).or_default();
        let entry = &mut self.entries[key as usize];
        entry.tick = tick;
        entry.index = u32::try_from(page.len()).expect("a page has no more entries than there are keys");
        page.push(key);
    }

    fn disarm(&mut self, key: u32) {
        let Entry { tick, index, .. } = self.entries[key as usize];
        if matches!(index, DUE | LOST) {
            return;
        }
        let Some(page) = self.pages.get_mut(&tick) else { return };
        page.swap_remove(index as usize);
        match page.get(index as usize) {
            Some(moved) => self.entries[*moved as usize].index = index,
            None if page.is_empty() => drop(self.pages.remove(&tick)),
            None => {}
        }
    }

    /// Takes out those that are due, or as many as a slice allows, and tells when to come back.
    fn turn(&mut self, wakes: &mut Vec<Waker>) -> Option<Instant> {
        let now = self.tick_at(Alarm::at(Instant::now()));
        while let Some(mut first) = self.pages.first_entry() {
            if *first.key() > now {
                break;
            }
            let page = first.get_mut();
            let rest = page.len().saturating_sub(WAKES_IN_SLICE - wakes.len());
            wakes.extend(page.drain(rest..).map(|key| self.entries[key as usize].leave(DUE)));
            if rest > 0 {
                return Some(Instant::now());
            }
            first.remove();
        }
        // Who has been woken just now may set the next deadline.
        if self.pages.is_empty() && wakes.is_empty() {
            self.stage = Stage::Over;
            return None;
        }
        self.begin.plus(TICK * now.saturating_add(1)).instant()
    }

    /// Whom to wake because nobody will look into it again.
    fn end(&mut self) -> Vec<Waker> {
        self.stage = Stage::Over;
        let keys = std::mem::take(&mut self.pages).into_values().flatten();
        keys.map(|key| self.entries[key as usize].leave(LOST)).collect()
    }
}

// ===== impl Entry =====

impl Entry {
    /// Whom to wake.
    fn leave(&mut self, index: u32) -> Waker {
        self.index = index;
        std::mem::replace(&mut self.waker, Waker::noop().clone())
    }
}
