//! What workers say of their jobs, and what becomes of it at the client's end.

use std::time::Instant;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::Broker;
use super::jobs::{Answer, Given, NeverGiven, Parts};
use super::workers::{Hex, Identity, Owed};
use crate::zeromq::body::ReplyBody;
use crate::zeromq::frames::{Malformed, ReplyHead, Ticket, ToWorker};
use crate::zeromq::stats::count;

impl Broker {
    /// The hand-over that a worker's last word on it is about; `None`, and counted, if nobody waits for that word.
    pub(super) fn take(&mut self, worker: &Identity, ticket: Ticket) -> Option<Given> {
        match self.jobs.take(ticket, worker) {
            Ok(Some(given)) => {
                self.pool.finished(worker, ticket);
                Some(given)
            }
            Ok(None) => {
                if self.pool.pays(worker, ticket) != Some(Owed::Unwanted) {
                    count(&self.counters.late);
                }
                None
            }
            Err(NeverGiven) => {
                self.malformed(worker, &Malformed { what: "a ticket that was never given", ticket: None });
                None
            }
        }
    }

    pub(super) fn reply(&self, worker: &Identity, given: Given, head: ReplyHead, body: Bytes) {
        let is_head = given.job.is_head;
        match given.answer {
            Answer::Awaited(responder) => {
                count(&self.counters.answered);
                let body = if is_head { Bytes::new() } else { body };
                let _client_has_gone = responder.send(response(head, is_head, ReplyBody::whole(body)));
            }
            Answer::Parts(_) => self.nonsense(worker, given, "a reply after a head"),
        }
    }

    pub(super) fn head(&mut self, worker: &Identity, ticket: Ticket, head: ReplyHead, now: Instant) {
        let Some(given) = self.jobs.get(ticket, worker) else { return };
        if !matches!(given.answer, Answer::Awaited(_)) {
            self.abandon(worker, ticket, "a second head");
            return;
        }
        let is_head = given.job.is_head;
        let (parts, received) = Parts::new();
        let body = ReplyBody::parts(received, ticket, self.commander.clone());
        if let Answer::Awaited(responder) = std::mem::replace(&mut given.answer, Answer::Parts(parts)) {
            // A client that has gone drops the body, and that is a command of its own.
            let _client_has_gone = responder.send(response(head, is_head, body));
        }
        self.jobs.set_due(ticket, Some(now + self.settings.deadline));
    }

    pub(super) fn part(&mut self, worker: &Identity, ticket: Ticket, data: Bytes, now: Instant) {
        let Some(given) = self.jobs.get(ticket, worker) else { return };
        let Answer::Parts(parts) = &mut given.answer else {
            self.abandon(worker, ticket, "a part without a head");
            return;
        };
        if data.is_empty() {
            self.send(worker, ToWorker::More(ticket));
        } else if !parts.push(data) {
            self.abandon(worker, ticket, "more parts than it was allowed");
        } else {
            // One that may not send is not late.
            let due = parts.may_send().then(|| now + self.settings.deadline);
            self.jobs.set_due(ticket, due);
        }
    }

    pub(super) fn taken(&mut self, ticket: Ticket, now: Instant) {
        let Some(given) = self.jobs.get_any(ticket) else { return };
        let Answer::Parts(parts) = &mut given.answer else { return };
        let worker = given.worker.clone();
        let waited = !parts.may_send();
        parts.taken();
        if waited {
            self.jobs.set_due(ticket, Some(now + self.settings.deadline));
        }
        self.send(&worker, ToWorker::More(ticket));
    }

    /// Nobody wants the answer any more. The worker keeps the place until it has given one.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        let Some(given) = self.jobs.take_any(ticket) else { return };
        count(&self.counters.cancelled);
        self.pool.owes(&given.worker, ticket, Owed::Unwanted);
        self.send(&given.worker, ToWorker::Cancel(ticket));
    }

    /// A worker breaks the protocol in the middle of a job: the job fails, and the worker is told to leave it.
    pub(super) fn abandon(&mut self, worker: &Identity, ticket: Ticket, what: &'static str) {
        let Some(given) = self.jobs.take_any(ticket) else { return };
        self.pool.owes(worker, ticket, Owed::Unwanted);
        self.send(worker, ToWorker::Cancel(ticket));
        self.nonsense(worker, given, what);
    }

    pub(super) fn nonsense(&self, worker: &Identity, given: Given, what: &'static str) {
        self.malformed(worker, &Malformed { what, ticket: None });
        self.fail(given);
    }

    pub(super) fn malformed(&self, worker: &Identity, malformed: &Malformed) {
        count(&self.counters.malformed);
        tracing::warn!(worker = %Hex(worker), %malformed, "a message from a worker was dropped");
    }

    /// `502`, or a reply that breaks off.
    pub(super) fn fail(&self, given: Given) {
        count(&self.counters.failed);
        given.answer.give_up(StatusCode::BAD_GATEWAY);
    }
}

/// The length is what comes, not what a worker says it is, except where nothing comes.
fn response(head: ReplyHead, is_head: bool, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if !is_head {
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
    }
    response
}
