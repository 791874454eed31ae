//! The table of a queue's leases: who names them, and when each ends.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use tokio::time::Instant;

use super::line::Value;

/// How many leases end before the loop has a turn.
const ENDS_IN_SLICE: usize = 64;

/// Names a lease. Its text is 16 hexadecimal digits that nobody can guess who has seen others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u64);

/// A text that is no [`LeaseId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseLeaseIdError(());

/// There is no such lease any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseExpired(());

/// A value that was leased too often without a confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter<T> {
    /// The value.
    pub value: T,
    /// How often it was leased.
    pub deliveries: u32,
}

/// The leases of one queue.
pub(super) struct Leases<T> {
    by_id: HashMap<LeaseId, Leased<T>>,
    // By end, then by the value's place among all values: those that end together come back in order.
    ends: BTreeMap<(Instant, u64), LeaseId>,
    // Its keys are random and secret, which makes its hashes such names.
    names: RandomState,
    next: u64,
    /// Someone looks after them.
    pub(super) driven: bool,
}

struct Leased<T> {
    value: Value<T>,
    end: Instant,
}

// ===== impl Leases =====

impl<T> Leases<T> {
    pub(super) fn new() -> Self {
        Self { by_id: HashMap::new(), ends: BTreeMap::new(), names: RandomState::new(), next: 0, driven: false }
    }

    pub(super) fn begin(&mut self, value: Value<T>, end: Instant) -> LeaseId {
        let id = loop {
            let id = LeaseId(self.names.hash_one(self.next));
            self.next += 1;
            // Two numbers have the same hash once in 2^64.
            if !self.by_id.contains_key(&id) {
                break id;
            }
        };
        self.ends.insert((end, value.seq), id);
        self.by_id.insert(id, Leased { value, end });
        id
    }

    pub(super) fn end(&mut self, id: LeaseId) -> Option<Value<T>> {
        let leased = self.by_id.remove(&id)?;
        self.ends.remove(&(leased.end, leased.value.seq));
        Some(leased.value)
    }

    /// When the first of them ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first_key_value().map(|((end, _), _)| *end)
    }

    /// Ends the leases whose time is up, or as many as a slice allows.
    pub(super) fn end_due(&mut self, now: Instant) -> Vec<Value<T>> {
        let mut values = Vec::new();
        while values.len() < ENDS_IN_SLICE {
            match self.ends.first_key_value() {
                Some((&(end, _), &id)) if end <= now => values.extend(self.end(id)),
                _ => break,
            }
        }
        values
    }
}

// ===== impl LeaseId =====

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

impl FromStr for LeaseId {
    type Err = ParseLeaseIdError;

    /// Reads what [`Display`](fmt::Display) writes and nothing else.
    fn from_str(text: &str) -> Result<Self, ParseLeaseIdError> {
        let canonical = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| canonical);
        number.map(Self).ok_or(ParseLeaseIdError(()))
    }
}

// ===== impl errors =====

impl LeaseExpired {
    pub(super) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for LeaseExpired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such lease: its time was up or it was confirmed, drop what was made of it")
    }
}

impl std::error::Error for LeaseExpired {}

impl fmt::Display for ParseLeaseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the id of a lease: use it as it was given")
    }
}

impl std::error::Error for ParseLeaseIdError {}
