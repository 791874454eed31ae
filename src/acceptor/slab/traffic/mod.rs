//! What goes over the wire for a slice of connections, in a row.
//!
//! A system call after another of the same kind costs less than one in the middle of something else: what the kernel
//! needs for it is in the cache, and then what hyper needs is. So all that a slice of connections has sent is read before
//! the first of them is served, and what they are to be sent is sent after the last.

mod incoming;
mod outgoing;

pub(super) use incoming::{Arrived, Incoming, News};
pub(super) use outgoing::{Outgoing, Unsent};

/// Both directions.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
}

// ===== impl Traffic =====

impl Traffic {
    /// For rows of so many connections. All that it needs is allocated at once: what is allocated while very many are woken
    /// stands above all that is freed then, and keeps that from the system.
    pub(super) fn new(row_len: usize) -> Self {
        Self { incoming: Incoming::new(row_len), outgoing: Outgoing::new(row_len) }
    }

    /// The connection in hand is no more, and nothing of it can be read or sent.
    pub(super) fn forget(&mut self) {
        drop(self.incoming.take_current());
        self.outgoing.take_back(&mut Vec::new());
    }
}
