//! What clients have sent, read before they are served.

use std::io::{self, Read as _};

use socket2::Socket;

use super::super::entries::Dormant;
use super::super::stream::{Input, READ_BYTES_MAX, attempt};
use crate::server::conn::io::End;

/// The buffers that nobody has.
#[derive(Debug)]
pub(in super::super) struct Incoming {
    spare: Vec<Arrived>,
    /// What the connection whose turn it is has sent.
    current: Option<Arrived>,
}

/// Bytes of a client, and the buffer that they are in.
#[derive(Debug)]
pub(in super::super) struct Arrived {
    buffer: Box<[u8]>,
    at: u16,
    end: u16,
}

/// What an event is found to mean.
#[derive(Debug)]
pub(in super::super) enum News {
    /// Bytes of an idle connection.
    Arrived(Arrived),
    /// An idle connection has ended.
    End(End),
    /// Nothing.
    Nothing,
    /// It has to be looked at.
    Unknown,
}

// ===== impl Incoming =====

impl Incoming {
    /// With as many buffers as are read into in a row.
    pub(in super::super) fn new(row_len: usize) -> Self {
        Self { spare: (0..row_len).map(|_| Arrived::default()).collect(), current: None }
    }

    /// Reads what a connection has sent if it is between two requests. Anything else is seen in its turn.
    pub(in super::super) fn read<F>(&mut self, entry: &mut Dormant<F>) -> News {
        let is_idle = entry.future.is_none() && entry.leftover.is_none() && !entry.notes.last;
        if !is_idle || entry.input == Input::HungUp {
            return News::Unknown;
        }
        let mut arrived = self.spare.pop().unwrap_or_default();
        let read = arrived.fill(&entry.socket);
        // What did not fill the buffer has emptied the socket; an event tells of more.
        let is_full = matches!(read, Some(Ok(READ_BYTES_MAX)));
        entry.input = if is_full { Input::Unknown } else { Input::Drained };
        let news = match read {
            Some(Ok(0)) => News::End(End::Eof),
            Some(Ok(_)) => return News::Arrived(arrived),
            Some(Err(error)) => News::End(End::Error(error)),
            None => News::Nothing,
        };
        self.give_back(arrived);
        news
    }

    /// It is the turn of who has sent this.
    pub(in super::super) fn set_current(&mut self, arrived: Arrived) {
        self.current = Some(arrived);
    }

    pub(in super::super) fn take_current(&mut self) -> Option<Arrived> {
        self.current.take()
    }

    /// Keeps a buffer for the next. There are as many as are read in a row.
    pub(in super::super) fn give_back(&mut self, arrived: Arrived) {
        self.spare.push(arrived);
    }
}

// ===== impl Arrived =====

impl Default for Arrived {
    fn default() -> Self {
        // Of zeros that the kernel has made, as long as nothing is written.
        Self { buffer: vec![0; READ_BYTES_MAX].into_boxed_slice(), at: 0, end: 0 }
    }
}

impl Arrived {
    /// Reads once. `None` if there is nothing.
    fn fill(&mut self, mut socket: &Socket) -> Option<io::Result<usize>> {
        let read = attempt(|| socket.read(&mut self.buffer[..]));
        let len = read.as_ref().map_or(0, |read| *read.as_ref().unwrap_or(&0));
        (self.at, self.end) = (0, len as u16);
        read
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Takes as many of the bytes as there are, and as `len_max` allows.
    pub(in super::super) fn take(&mut self, len_max: usize) -> &[u8] {
        let begin = usize::from(self.at);
        let len = len_max.min(usize::from(self.end) - begin);
        self.at += len as u16;
        &self.buffer[begin..begin + len]
    }
}
