//! The body of a worker's reply.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::broker::Command;
use super::frames::Ticket;
use super::socket::Commander;
use crate::BoxError;

/// The body of a worker's reply: whole, or in parts as they come.
///
/// # What happens on drop
///
/// Of parts that go on, the worker is told that nobody waits for more.
pub struct ReplyBody {
    kind: Kind,
}

enum Kind {
    Whole(Bytes),
    Parts(Parts),
}

struct Parts {
    parts: mpsc::Receiver<Part>,
    ticket: Ticket,
    commander: Commander<Command>,
    ended: bool,
}

pub(super) enum Part {
    Data(Bytes),
    /// The reply is complete. A channel that closes without it has broken off.
    End,
}

/// A worker broke off in the middle of its reply.
#[derive(Debug)]
struct BrokenOff;

// ===== impl ReplyBody =====

impl ReplyBody {
    pub(super) fn whole(body: Bytes) -> Self {
        Self { kind: Kind::Whole(body) }
    }

    pub(super) fn parts(parts: mpsc::Receiver<Part>, ticket: Ticket, commander: Commander<Command>) -> Self {
        Self { kind: Kind::Parts(Parts { parts, ticket, commander, ended: false }) }
    }
}

impl Default for ReplyBody {
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Whole(body) if body.is_empty() => Poll::Ready(None),
            Kind::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
            Kind::Parts(parts) => parts.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(body) => body.is_empty(),
            Kind::Parts(parts) => parts.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Kind::Parts(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBody").field("in_parts", &matches!(self.kind, Kind::Parts(_))).finish()
    }
}

// ===== impl Parts =====

impl Parts {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(cx).map(|part| match part {
            Some(Part::Data(data)) => {
                let _worker_is_gone = self.commander.command(Command::Taken(self.ticket));
                Some(Ok(Frame::data(data)))
            }
            Some(Part::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(BrokenOff.into()))
            }
        })
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if !self.ended {
            let _worker_is_gone = self.commander.command(Command::BodyDropped(self.ticket));
        }
    }
}

// ===== impl BrokenOff =====

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker broke off in the middle of its reply")
    }
}

impl std::error::Error for BrokenOff {}
