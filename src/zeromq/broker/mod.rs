//! Who gets which job, and what becomes of it: the state behind [`Workers`](super::Workers), without sockets.
//!
//! ```text
//!             submit                    READY, a reply
//!   client ----------> queue           free <---------- worker
//!                        |               |
//!                        +--- assign ----+
//!                               |
//!                               v                 REPLY, HEAD .. END, ERROR
//!                             given  -------------------------------------------> answered
//!                               |    client leaves: CANCEL, the worker owes an answer for its place
//!                               |
//!                               |    worker lost, deadline: back to the queue if the job may be repeated,
//!                               +--> else 504
//! ```
//!
//! Each hand-over has a [`Ticket`] of its own, so that an answer to a former one is told from an answer to this one.

mod jobs;
mod replies;
#[cfg(test)]
mod tests;
mod workers;

pub(super) use jobs::{Job, Seq};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;

use self::jobs::{Answer, Given, Jobs};
use self::workers::{Identity, Owed, Pool};
use super::frames::{Frames, FromWorker, Ticket, ToWorker};
use super::settings::Settings;
use super::socket::{Commander, Machine, Unsent};
use super::stats::{Counters, count};

/// What the broker is told by the process that it works for.
pub(super) enum Command {
    Submit(Box<Job>),
    /// Nobody waits for this job any more.
    Gone(Seq),
    /// The client has taken a part.
    Taken(Ticket),
    /// The client has gone while its reply came in parts.
    BodyDropped(Ticket),
    /// No more jobs will be submitted.
    Stop,
}

pub(super) struct Broker {
    settings: Settings,
    counters: Arc<Counters>,
    commander: Commander<Command>,
    jobs: Jobs,
    pool: Pool,
    outgoing: VecDeque<Frames>,
    next_heartbeat: Instant,
    stopping: bool,
}

impl Broker {
    pub(super) fn new(settings: Settings, counters: Arc<Counters>, commander: Commander<Command>) -> Self {
        Self {
            settings,
            counters,
            commander,
            jobs: Jobs::default(),
            pool: Pool::default(),
            outgoing: VecDeque::new(),
            next_heartbeat: Instant::now(),
            stopping: false,
        }
    }

    fn send(&mut self, worker: &Identity, message: ToWorker) {
        let mut frames = message.encode();
        frames.insert(0, worker.clone());
        self.outgoing.push_back(frames);
    }

    /// Gives jobs to free workers, the oldest job to the worker that has been free the longest.
    fn assign(&mut self, now: Instant) {
        while let Some(worker) = self.pool.least_recently_used() {
            let Some(job) = self.jobs.next_queued() else { break };
            if job.attempts > 0 {
                count(&self.counters.given_again);
            }
            let frames = job.frames.clone();
            let ticket = self.jobs.give(job, worker.clone(), now + self.settings.deadline);
            self.pool.took(&worker, ticket);
            self.send(&worker, ToWorker::Job(ticket, frames));
        }
        let order = std::sync::atomic::Ordering::Relaxed;
        self.counters.workers.store(self.pool.len() as u64, order);
        self.counters.queued.store(self.jobs.queued_len() as u64, order);
        self.counters.in_hand.store(self.jobs.given_len() as u64, order);
    }

    fn heard(&mut self, worker: &Identity, message: FromWorker, now: Instant) {
        match message {
            FromWorker::Ready { jobs_max } => {
                if !self.pool.joins(worker, jobs_max, now) {
                    tracing::warn!("a worker was turned away: there are too many");
                }
            }
            FromWorker::Probe => {
                // A new connection. What was given to a former one of this name is lost with it.
                self.lose_worker(worker, "it connected anew", now);
                self.ask(worker);
            }
            _ if !self.pool.heard(worker, now) => {
                if matches!(message, FromWorker::Reply(..) | FromWorker::End(_) | FromWorker::Failed(..)) {
                    count(&self.counters.late);
                }
                self.ask(worker);
            }
            FromWorker::Ping => self.send(worker, ToWorker::Pong),
            FromWorker::Pong => {}
            FromWorker::Bye => self.pool.leaves(worker),
            FromWorker::Reply(ticket, head, body) => {
                if let Some(given) = self.take(worker, ticket) {
                    self.reply(worker, given, head, body);
                }
            }
            FromWorker::Head(ticket, head) => self.head(worker, ticket, head, now),
            FromWorker::Part(ticket, data) => self.part(worker, ticket, data, now),
            FromWorker::End(ticket) => match self.take(worker, ticket) {
                Some(Given { answer: Answer::Parts(parts), .. }) => {
                    count(&self.counters.answered);
                    parts.end();
                }
                Some(given) => self.nonsense(worker, given, "an end without a head"),
                None => {}
            },
            FromWorker::Failed(ticket, why) => {
                if let Some(given) = self.take(worker, ticket) {
                    let why = String::from_utf8_lossy(&why);
                    tracing::warn!(worker = %workers::Hex(worker), %why, "a worker failed with its job");
                    self.fail(given);
                }
            }
        }
    }

    fn ask(&mut self, worker: &Identity) {
        self.send(worker, ToWorker::Who { frame_bytes_max: self.settings.frame_bytes_max });
    }

    /// The worker will not answer any more: again with another, or `504`.
    fn lost(&mut self, ticket: Ticket, why: &'static str, now: Instant) {
        let Some(given) = self.jobs.take_any(ticket) else { return };
        let Given { mut job, answer, .. } = given;
        job.attempts += 1;
        match answer {
            Answer::Awaited(responder) if job.repeatable && job.attempts <= self.settings.retries_max => {
                tracing::info!(why, attempts = job.attempts, "a job is given to another worker");
                self.jobs.requeue(job, responder, now + self.settings.wait_max);
            }
            answer => {
                tracing::warn!(why, attempts = job.attempts, repeatable = job.repeatable, "a job was given up");
                count(&self.counters.given_up);
                answer.give_up(StatusCode::GATEWAY_TIMEOUT);
            }
        }
    }

    fn lose_worker(&mut self, worker: &Identity, why: &'static str, now: Instant) {
        if !self.pool.contains(worker) {
            return;
        }
        tracing::warn!(worker = %workers::Hex(worker), why, "a worker is lost");
        count(&self.counters.workers_lost);
        for ticket in self.pool.forget(worker) {
            self.lost(ticket, why, now);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(ticket) = self.jobs.next_overdue(now) {
            if let Some(given) = self.jobs.get_any(ticket) {
                let worker = given.worker.clone();
                self.pool.owes(&worker, ticket, Owed::Late);
                self.send(&worker, ToWorker::Cancel(ticket));
            }
            self.lost(ticket, "the worker did not answer within the deadline", now);
        }
        for job in self.jobs.waited_too_long(now) {
            count(&self.counters.refused);
            tracing::warn!("no worker became free for a job, its client gets 503");
            drop(job);
        }
    }

    fn heartbeat(&mut self, now: Instant) {
        self.next_heartbeat = now + self.settings.heartbeat;
        let silent_since = now.checked_sub(self.settings.heartbeat * super::settings::SILENT_HEARTBEATS_MAX);
        for worker in self.pool.silent(silent_since) {
            self.lose_worker(&worker, "its heartbeat stopped", now);
        }
        // To every one of them, also to those just heard: a message that finds no connection tells that it is lost.
        for worker in self.pool.identities() {
            self.send(&worker, ToWorker::Ping);
        }
    }

    fn say_bye(&mut self) {
        for worker in self.pool.identities() {
            self.pool.forget(&worker);
            self.send(&worker, ToWorker::Bye);
        }
    }

    fn is_done(&self) -> bool {
        self.stopping && self.jobs.is_empty()
    }
}

impl Machine for Broker {
    type Command = Command;

    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Submit(job) => self.jobs.submit(*job, now + self.settings.wait_max),
            Command::Gone(seq) => match self.jobs.ticket(seq) {
                Some(ticket) => self.cancel(ticket),
                None if self.jobs.remove_queued(seq) => count(&self.counters.cancelled),
                None => {}
            },
            Command::Taken(ticket) => self.taken(ticket, now),
            Command::BodyDropped(ticket) => self.cancel(ticket),
            Command::Stop => self.stopping = true,
        }
    }

    fn received(&mut self, mut frames: Frames, now: Instant) {
        // ROUTER puts the sender's identity in front.
        let worker = frames.remove(0);
        match FromWorker::decode(&frames) {
            Ok(message) => self.heard(&worker, message, now),
            Err(malformed) => {
                self.pool.heard(&worker, now);
                self.malformed(&worker, &malformed);
                // What it is about has no other end.
                let given = malformed
                    .ticket
                    .and_then(|ticket| self.jobs.take(ticket, &worker).ok().flatten().zip(Some(ticket)));
                if let Some((given, ticket)) = given {
                    self.pool.finished(&worker, ticket);
                    self.fail(given);
                }
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Option<Instant> {
        self.expire(now);
        if now >= self.next_heartbeat {
            self.heartbeat(now);
        }
        self.assign(now);
        if self.is_done() {
            self.say_bye();
        }
        let heartbeat = (self.pool.len() > 0).then_some(self.next_heartbeat);
        [self.jobs.next_due(), heartbeat].into_iter().flatten().min()
    }

    fn outgoing(&mut self) -> Option<Frames> {
        self.outgoing.pop_front()
    }

    fn unsent(&mut self, frames: Frames, why: Unsent, now: Instant) {
        let worker = &frames[0];
        if let Ok(ToWorker::Job(ticket, _)) = ToWorker::decode(&frames[1..]) {
            // It never left: another worker may have it, whatever the method.
            if let Some(Given { job, answer: Answer::Awaited(responder), .. }) = self.jobs.take_any(ticket) {
                self.jobs.requeue(job, responder, now + self.settings.wait_max);
            }
        }
        let why = match why {
            Unsent::NoSuchPeer => "its connection is gone: it ended, or it sent a frame above the bound",
            Unsent::Full => "it does not read what it is sent",
            Unsent::Failed => "it could not be sent to",
        };
        self.lose_worker(&worker.clone(), why, now);
    }

    fn is_over(&self) -> bool {
        self.is_done() && self.outgoing.is_empty()
    }
}
