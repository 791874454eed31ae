//! The workers: who is there, who is free and since when, and what each has in hand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use crate::zeromq::frames::Ticket;
use crate::zeromq::settings::{JOBS_PER_WORKER_MAX, WORKERS_MAX};

/// What ROUTER calls a connection.
pub(super) type Identity = Bytes;

/// Why a worker's last word on a job is not wanted. It keeps the job's place until it has said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// The client left, or the worker was told to leave the job.
    Unwanted,
    /// Its time was up.
    Late,
}

#[derive(Default)]
pub(super) struct Pool {
    workers: HashMap<Identity, Worker>,
    // By when they became free, in a count of such events: the first is the least recently used.
    free: BTreeMap<u64, Identity>,
    events: u64,
}

struct Worker {
    jobs_max: usize,
    in_hand: HashSet<Ticket>,
    owed: HashMap<Ticket, Owed>,
    heard: Instant,
    silent: bool,
    free_since: Option<u64>,
}

// ===== impl Pool =====

impl Pool {
    /// A worker says how many jobs it takes. It may say so more than once: it is asked whenever it is not known yet, and
    /// the question and its answer may cross. `false` when there are too many.
    pub(super) fn joins(&mut self, identity: &Identity, jobs_max: usize, now: Instant) -> bool {
        if !self.heard(identity, now) {
            if self.workers.len() >= WORKERS_MAX {
                return false;
            }
            self.workers.insert(identity.clone(), Worker::new(now));
        }
        if let Some(worker) = self.workers.get_mut(identity) {
            worker.jobs_max = jobs_max.min(JOBS_PER_WORKER_MAX);
        }
        self.update(identity);
        true
    }

    /// Gets no more jobs; those that it has it may finish.
    pub(super) fn leaves(&mut self, identity: &Identity) {
        if let Some(worker) = self.workers.get_mut(identity) {
            worker.jobs_max = 0;
        }
        self.update(identity);
        self.drop_if_left(identity);
    }

    /// Drops a worker, and gives what it had in hand.
    pub(super) fn forget(&mut self, identity: &Identity) -> HashSet<Ticket> {
        let Some(worker) = self.workers.remove(identity) else { return HashSet::new() };
        if let Some(since) = worker.free_since {
            self.free.remove(&since);
        }
        worker.in_hand
    }

    pub(super) fn contains(&self, identity: &Identity) -> bool {
        self.workers.contains_key(identity)
    }

    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn identities(&self) -> Vec<Identity> {
        self.workers.keys().cloned().collect()
    }

    /// A sign of life. `false` when it is not known.
    pub(super) fn heard(&mut self, identity: &Identity, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(identity) else { return false };
        worker.heard = now;
        if std::mem::take(&mut worker.silent) {
            self.update(identity);
        }
        true
    }

    /// Those that were not heard since get no more jobs. Gives those of them that have nothing in hand.
    ///
    /// A worker of one thread cannot answer a ping while it works: its job's deadline decides.
    pub(super) fn silent(&mut self, since: Option<Instant>) -> Vec<Identity> {
        let Some(since) = since else { return Vec::new() };
        let silent: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.heard < since)
            .map(|(identity, _)| identity.clone())
            .collect();
        let mut gone = Vec::new();
        for identity in silent {
            let Some(worker) = self.workers.get_mut(&identity) else { continue };
            worker.silent = true;
            let idle = worker.in_hand.is_empty() && !worker.owed.values().any(|owed| *owed == Owed::Unwanted);
            self.update(&identity);
            if idle {
                gone.push(identity);
            }
        }
        gone
    }

    pub(super) fn least_recently_used(&self) -> Option<Identity> {
        self.free.values().next().cloned()
    }

    pub(super) fn took(&mut self, identity: &Identity, ticket: Ticket) {
        if let Some(worker) = self.workers.get_mut(identity) {
            worker.in_hand.insert(ticket);
            // It was used just now: if it is still free, it is the last in line.
            if let Some(since) = worker.free_since.take() {
                self.free.remove(&since);
            }
        }
        self.update(identity);
    }

    pub(super) fn finished(&mut self, identity: &Identity, ticket: Ticket) {
        if let Some(worker) = self.workers.get_mut(identity) {
            worker.in_hand.remove(&ticket);
        }
        self.update(identity);
        self.drop_if_left(identity);
    }

    pub(super) fn owes(&mut self, identity: &Identity, ticket: Ticket, owed: Owed) {
        if let Some(worker) = self.workers.get_mut(identity) {
            if worker.in_hand.remove(&ticket) {
                worker.owed.insert(ticket, owed);
            }
        }
        self.drop_if_left(identity);
    }

    /// It has said its last word on something that is not wanted any more.
    pub(super) fn pays(&mut self, identity: &Identity, ticket: Ticket) -> Option<Owed> {
        let owed = self.workers.get_mut(identity)?.owed.remove(&ticket);
        self.update(identity);
        owed
    }

    /// Puts it in line, or takes it out, after something about it changed.
    fn update(&mut self, identity: &Identity) {
        let Some(worker) = self.workers.get_mut(identity) else { return };
        let is_free = !worker.silent && worker.in_hand.len() + worker.owed.len() < worker.jobs_max;
        match worker.free_since {
            None if is_free => {
                worker.free_since = Some(self.events);
                self.free.insert(self.events, identity.clone());
                self.events += 1;
            }
            Some(since) if !is_free => {
                worker.free_since = None;
                self.free.remove(&since);
            }
            _ => {}
        }
    }

    fn drop_if_left(&mut self, identity: &Identity) {
        if self.workers.get(identity).is_some_and(|worker| worker.jobs_max == 0 && worker.in_hand.is_empty()) {
            self.forget(identity);
        }
    }
}

// ===== impl Worker =====

impl Worker {
    fn new(now: Instant) -> Self {
        let (in_hand, owed) = (HashSet::new(), HashMap::new());
        Self { jobs_max: 0, in_hand, owed, heard: now, silent: false, free_since: None }
    }
}

/// An identity for the log.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
