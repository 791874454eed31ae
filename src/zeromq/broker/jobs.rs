//! The jobs: those that wait, those that a worker has in hand, and when each is due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::workers::Identity;
use crate::Responder;
use crate::zeromq::body::{Part, ReplyBody};
use crate::zeromq::frames::{JobFrames, Ticket};
use crate::zeromq::settings::PARTS_AHEAD_MAX;

/// Numbers the jobs in the order in which they came. One that waits again stands where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::zeromq) struct Seq(pub(in crate::zeromq) u64);

/// A request that a worker is to answer.
pub(in crate::zeromq) struct Job {
    pub(in crate::zeromq) seq: Seq,
    pub(in crate::zeromq) frames: JobFrames,
    /// A reply to HEAD has a length and no body.
    pub(in crate::zeromq) is_head: bool,
    pub(in crate::zeromq) repeatable: bool,
    /// How many hand-overs came to nothing.
    pub(in crate::zeromq) attempts: u32,
    /// There until it is handed over.
    pub(in crate::zeromq) responder: Option<Responder<ReplyBody>>,
    /// Its place in the queue, given back at the first hand-over: those in hand are bounded by the workers.
    pub(in crate::zeromq) place: Option<OwnedSemaphorePermit>,
}

/// A job in a worker's hand.
pub(super) struct Given {
    pub(super) job: Job,
    pub(super) answer: Answer,
    pub(super) worker: Identity,
    due: Option<Instant>,
}

pub(super) enum Answer {
    Awaited(Responder<ReplyBody>),
    /// The head is out.
    Parts(Parts),
}

/// The sending end of a reply in parts.
pub(super) struct Parts {
    parts: mpsc::Sender<Part>,
    credit: usize,
}

/// No job was ever handed over with this ticket.
pub(super) struct NeverGiven;

#[derive(Default)]
pub(super) struct Jobs {
    queue: BTreeMap<Seq, Job>,
    given: HashMap<Ticket, Given>,
    tickets: HashMap<Seq, Ticket>,
    waits_until: BTreeSet<(Instant, Seq)>,
    waits: HashMap<Seq, Instant>,
    dues: BTreeSet<(Instant, Ticket)>,
    next_ticket: u64,
}

// ===== impl Jobs =====

impl Jobs {
    pub(super) fn submit(&mut self, job: Job, until: Instant) {
        self.waits_until.insert((until, job.seq));
        self.waits.insert(job.seq, until);
        self.queue.insert(job.seq, job);
    }

    pub(super) fn requeue(&mut self, mut job: Job, responder: Responder<ReplyBody>, until: Instant) {
        job.responder = Some(responder);
        self.submit(job, until);
    }

    /// The oldest job for which somebody still waits.
    pub(super) fn next_queued(&mut self) -> Option<Job> {
        loop {
            let (_, job) = self.queue.pop_first()?;
            if job.responder.as_ref().is_some_and(|responder| !responder.is_closed()) {
                return Some(job);
            }
            self.no_longer_waits(job.seq);
        }
    }

    pub(super) fn remove_queued(&mut self, seq: Seq) -> bool {
        self.no_longer_waits(seq);
        self.queue.remove(&seq).is_some()
    }

    pub(super) fn give(&mut self, mut job: Job, worker: Identity, due: Instant) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.no_longer_waits(job.seq);
        job.place = None;
        if let Some(responder) = job.responder.take() {
            self.tickets.insert(job.seq, ticket);
            self.dues.insert((due, ticket));
            self.given.insert(ticket, Given { job, answer: Answer::Awaited(responder), worker, due: Some(due) });
        }
        ticket
    }

    /// The hand-over that `worker` speaks of; `None` if it is another's, or is over.
    pub(super) fn take(&mut self, ticket: Ticket, worker: &Identity) -> Result<Option<Given>, NeverGiven> {
        if ticket.0 >= self.next_ticket {
            return Err(NeverGiven);
        }
        Ok(self.get(ticket, worker).is_some().then(|| self.take_any(ticket)).flatten())
    }

    pub(super) fn take_any(&mut self, ticket: Ticket) -> Option<Given> {
        let given = self.given.remove(&ticket)?;
        self.tickets.remove(&given.job.seq);
        if let Some(due) = given.due {
            self.dues.remove(&(due, ticket));
        }
        Some(given)
    }

    pub(super) fn get(&mut self, ticket: Ticket, worker: &Identity) -> Option<&mut Given> {
        self.given.get_mut(&ticket).filter(|given| given.worker == *worker)
    }

    pub(super) fn get_any(&mut self, ticket: Ticket) -> Option<&mut Given> {
        self.given.get_mut(&ticket)
    }

    pub(super) fn ticket(&self, seq: Seq) -> Option<Ticket> {
        self.tickets.get(&seq).copied()
    }

    pub(super) fn set_due(&mut self, ticket: Ticket, due: Option<Instant>) {
        let Some(given) = self.given.get_mut(&ticket) else { return };
        let former = std::mem::replace(&mut given.due, due);
        former.map(|former| self.dues.remove(&(former, ticket)));
        due.map(|due| self.dues.insert((due, ticket)));
    }

    pub(super) fn next_overdue(&self, now: Instant) -> Option<Ticket> {
        self.dues.first().filter(|(due, _)| *due <= now).map(|(_, ticket)| *ticket)
    }

    pub(super) fn waited_too_long(&mut self, now: Instant) -> Vec<Job> {
        let mut jobs = Vec::new();
        while let Some((_, seq)) = self.waits_until.first().filter(|(until, _)| *until <= now).copied() {
            self.no_longer_waits(seq);
            jobs.extend(self.queue.remove(&seq));
        }
        jobs
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.dues.first().map(|(due, _)| *due);
        let until = self.waits_until.first().map(|(until, _)| *until);
        [due, until].into_iter().flatten().min()
    }

    pub(super) fn queued_len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn given_len(&self) -> usize {
        self.given.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.given.is_empty()
    }

    /// Not even an index has anything left.
    #[cfg(test)]
    pub(super) fn is_spotless(&self) -> bool {
        let maps = self.tickets.is_empty() && self.waits.is_empty();
        self.is_empty() && maps && self.waits_until.is_empty() && self.dues.is_empty()
    }

    fn no_longer_waits(&mut self, seq: Seq) {
        if let Some(until) = self.waits.remove(&seq) {
            self.waits_until.remove(&(until, seq));
        }
    }
}

// ===== impl Answer =====

impl Answer {
    /// `status` if no head is out; else the body breaks off, for want of its end.
    pub(super) fn give_up(self, status: StatusCode) {
        if let Self::Awaited(responder) = self {
            let mut response = Response::new(ReplyBody::default());
            *response.status_mut() = status;
            let _client_has_gone = responder.send(response);
        }
    }
}

// ===== impl Parts =====

impl Parts {
    pub(super) fn new() -> (Self, mpsc::Receiver<Part>) {
        // One more for the end.
        let (parts, received) = mpsc::channel(PARTS_AHEAD_MAX + 1);
        (Self { parts, credit: PARTS_AHEAD_MAX }, received)
    }

    pub(super) fn may_send(&self) -> bool {
        self.credit > 0
    }

    /// `false` when the worker was not allowed to send it.
    pub(super) fn push(&mut self, data: Bytes) -> bool {
        if self.credit == 0 {
            return false;
        }
        self.credit -= 1;
        // There is room for as many as there was credit. When the client has gone a command is on its way.
        let _client_has_gone = self.parts.try_send(Part::Data(data));
        true
    }

    pub(super) fn taken(&mut self) {
        self.credit += 1;
    }

    pub(super) fn end(self) {
        let _client_has_gone = self.parts.try_send(Part::End);
    }
}
