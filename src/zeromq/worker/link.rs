//! A worker's end of the protocol, without the socket.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use tokio::sync::mpsc;

use crate::zeromq::frames::{Frames, FromWorker, JobFrames, Ticket, ToWorker};
use crate::zeromq::socket::{Machine, Unsent};

pub(super) enum LinkCommand {
    Send(FromWorker),
    Stop,
}

/// What the jobs' side is told.
pub(super) enum Event {
    /// A job, and how long a frame of its reply may be.
    Job(Ticket, Box<Request<Bytes>>, usize),
    Cancel(Ticket),
    More(Ticket),
    /// The server does not know this worker any more, nor the jobs that it has in hand.
    Forgotten,
}

pub(super) struct Link {
    jobs_max: usize,
    heartbeat: Duration,
    // Unbounded, but for what the server may send: it gives out no more than `jobs_max`, which is checked.
    events: mpsc::UnboundedSender<Event>,
    in_hand: HashSet<Ticket>,
    outgoing: VecDeque<Frames>,
    frame_bytes_max: usize,
    heard: Instant,
    pinged: Instant,
    stopping: bool,
}

impl Link {
    pub(super) fn new(jobs_max: usize, heartbeat: Duration, events: mpsc::UnboundedSender<Event>) -> Self {
        let now = Instant::now();
        Self {
            jobs_max,
            heartbeat,
            events,
            in_hand: HashSet::new(),
            outgoing: VecDeque::new(),
            frame_bytes_max: 0,
            heard: now,
            pinged: now,
            stopping: false,
        }
    }

    fn send(&mut self, message: FromWorker) {
        self.outgoing.push_back(message.encode());
    }

    fn tell(&mut self, event: Event) {
        // Nobody works any more: that ends the thread, too.
        self.stopping |= self.events.send(event).is_err();
    }

    fn job(&mut self, ticket: Ticket, job: JobFrames) {
        if self.in_hand.len() >= self.jobs_max {
            self.send(FromWorker::Failed(ticket, Bytes::from_static(b"more jobs than were asked for")));
            return;
        }
        let request = match job.into_request() {
            Ok(request) => request,
            Err(malformed) => {
                tracing::warn!(%malformed, "a job from the server was refused");
                self.send(FromWorker::Failed(ticket, Bytes::from_static(malformed.what.as_bytes())));
                return;
            }
        };
        self.in_hand.insert(ticket);
        self.tell(Event::Job(ticket, Box::new(request), self.frame_bytes_max));
    }
}

impl Machine for Link {
    type Command = LinkCommand;

    fn command(&mut self, command: LinkCommand, _now: Instant) {
        match command {
            LinkCommand::Send(message) => {
                let ticket = match &message {
                    FromWorker::Reply(ticket, ..) | FromWorker::End(ticket) | FromWorker::Failed(ticket, _) => {
                        Some((ticket, true))
                    }
                    FromWorker::Head(ticket, _) | FromWorker::Part(ticket, _) => Some((ticket, false)),
                    _ => None,
                };
                // A job that was cancelled and done at the same moment has one last word, not two.
                let wanted = match ticket {
                    Some((ticket, true)) => self.in_hand.remove(ticket),
                    Some((ticket, false)) => self.in_hand.contains(ticket),
                    None => true,
                };
                if wanted {
                    self.send(message);
                }
            }
            LinkCommand::Stop => {
                self.stopping = true;
                self.outgoing.clear();
                self.send(FromWorker::Bye);
            }
        }
    }

    fn received(&mut self, frames: Frames, now: Instant) {
        self.heard = now;
        match ToWorker::decode(&frames) {
            Ok(ToWorker::Who { frame_bytes_max }) => {
                self.frame_bytes_max = frame_bytes_max;
                self.in_hand.clear();
                self.tell(Event::Forgotten);
                self.send(FromWorker::Ready { jobs_max: self.jobs_max });
            }
            Ok(ToWorker::Job(ticket, job)) => self.job(ticket, job),
            Ok(ToWorker::Cancel(ticket)) => self.tell(Event::Cancel(ticket)),
            Ok(ToWorker::More(ticket)) => self.tell(Event::More(ticket)),
            Ok(ToWorker::Ping) => self.send(FromWorker::Pong),
            Ok(ToWorker::Pong | ToWorker::Bye) => {}
            Err(malformed) => tracing::warn!(%malformed, "a message from the server was dropped"),
        }
    }

    fn tick(&mut self, now: Instant) -> Option<Instant> {
        let due = self.heard.max(self.pinged) + self.heartbeat;
        if now < due {
            return Some(due);
        }
        self.pinged = now;
        // With no server there the first waits, and it is enough.
        if self.outgoing.is_empty() {
            self.send(FromWorker::Ping);
        }
        Some(now + self.heartbeat)
    }

    fn outgoing(&mut self) -> Option<Frames> {
        self.outgoing.pop_front()
    }

    fn unsent(&mut self, _frames: Frames, _why: Unsent, _now: Instant) {
        // Logged where it happened. The server's deadline decides what becomes of the job.
    }

    fn is_over(&self) -> bool {
        self.stopping && self.outgoing.is_empty()
    }
}
