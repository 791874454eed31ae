//! What the kernel tells of a worker's sockets.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use mio::{Registry, Token};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::reactor;

/// How many events are taken from the kernel at once, as tokio does: one system call for that many, of which a slice at a
/// time is served.
const EVENTS_MAX: usize = 1024;

/// After so many events there are likely to be more soon. After fewer most often there is none: a loop that has nothing
/// else to do leaves it to tokio to tell it of the next.
const EVENTS_MANY: usize = 4;

/// The listener's; those of connections are their keys.
pub(super) const LISTENER: Token = Token(usize::MAX);

/// A poll of its own for all of a worker's sockets, which tokio watches in its stead.
pub(super) struct Events {
    poll: AsyncFd<mio::Poll>,
    taken: mio::Events,
    // Those of connections that are not looked at yet. The next is the last.
    happened: Vec<Happened>,
}

/// An event of a connection.
pub(super) struct Happened {
    pub(super) key: u32,
    pub(super) hung_up: bool,
}

// ===== impl Events =====

impl Events {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: reactor::watch(mio::Poll::new()?, Interest::READABLE)?,
            taken: mio::Events::with_capacity(EVENTS_MAX),
            happened: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Where sockets are registered.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.get_ref().registry()
    }

    /// Looks for events, unless there are some left. A loop that is `busy` goes on in any case, and looks whether tokio has
    /// told it of one or not. Returns whether there may be someone to accept.
    pub(super) fn look(&mut self, cx: &mut Context<'_>, busy: bool) -> io::Result<bool> {
        if !self.happened.is_empty() {
            return Ok(false);
        }
        let Self { poll, taken, happened } = self;
        match poll.poll_read_ready_mut(cx) {
            Poll::Ready(told) => {
                let mut told = told?;
                let (count, listener) = take(told.get_inner_mut(), taken, happened)?;
                if count < EVENTS_MANY && !busy {
                    told.clear_ready();
                }
                Ok(listener)
            }
            Poll::Pending if busy => take(poll.get_mut(), taken, happened).map(|(_, listener)| listener),
            Poll::Pending => Ok(false),
        }
    }

    /// The next of those that were found.
    pub(super) fn next(&mut self) -> Option<Happened> {
        self.happened.pop()
    }

    /// The keys of those that are next.
    pub(super) fn next_keys(&self, count_max: usize) -> impl Iterator<Item = u32> {
        self.happened.iter().rev().take(count_max).map(|happened| happened.key)
    }

    /// Whether another look is due at once. If not, the next event wakes the loop.
    pub(super) fn has_more(&mut self, cx: &mut Context<'_>) -> bool {
        !self.happened.is_empty() || self.poll.poll_read_ready_mut(cx).is_ready()
    }

    /// A connection gets this key: what was found of whoever had it before is none of its.
    pub(super) fn forget(&mut self, key: u32) {
        self.happened.retain(|happened| happened.key != key);
    }
}

// ===== helpers =====

/// Takes what there is. Returns how many events that were, or as many as can be if it was interrupted, and whether one is the
/// listener's.
fn take(poll: &mut mio::Poll, taken: &mut mio::Events, happened: &mut Vec<Happened>) -> io::Result<(usize, bool)> {
    match poll.poll(taken, Some(Duration::ZERO)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok((EVENTS_MAX, false)),
        polled => polled?,
    }
    let (mut count, mut listener) = (0, false);
    for event in &*taken {
        count += 1;
        if event.token() == LISTENER {
            listener = true;
        } else {
            let key = event.token().0 as u32;
            happened.push(Happened { key, hung_up: event.is_read_closed() || event.is_error() });
        }
    }
    happened.reverse();
    Ok((count, listener))
}
