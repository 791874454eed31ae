//! What each part of a connection has been seen to do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// The connection's future.
    Connection,
    /// The IO that it was given.
    Io,
    /// The service, while it handles a request.
    Request(usize),
    /// The body of a request's response.
    Response(usize),
    /// A task that a request has started.
    Task(usize),
    /// The task that waits for a request's upgrade.
    Upgrade(usize),
}

/// Something that was done.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    Note(String),
    /// Bytes, those of several reads joined.
    Data(Vec<u8>),
}

/// What was done since it was last taken, apart for each actor: how they interleave is nobody's business.
pub type Events = BTreeMap<Actor, Vec<Event>>;

#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Events>>);

impl Log {
    pub fn note(&self, actor: Actor, note: impl Into<String>) {
        self.0.lock().unwrap().entry(actor).or_default().push(Event::Note(note.into()));
    }

    pub fn data(&self, actor: Actor, bytes: &[u8]) {
        push(self.0.lock().unwrap().entry(actor).or_default(), Event::Data(bytes.to_vec()));
    }

    pub fn take(&self) -> Events {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(note) => f.write_str(note),
            Self::Data(data) => write!(f, "{} bytes \"{}\"", data.len(), data[..data.len().min(200)].escape_ascii()),
        }
    }
}

/// Adds an event, or the bytes of one to the last.
pub fn push(events: &mut Vec<Event>, event: Event) {
    match (events.last_mut(), event) {
        (Some(Event::Data(data)), Event::Data(more)) => data.extend(more),
        (_, event) => events.push(event),
    }
}

/// All that can be asked of hyper's error.
pub fn describe(error: &hyper::Error) -> String {
    let kinds = [
        ("parse", error.is_parse()),
        ("parse_too_large", error.is_parse_too_large()),
        ("parse_status", error.is_parse_status()),
        ("user", error.is_user()),
        ("canceled", error.is_canceled()),
        ("closed", error.is_closed()),
        ("incomplete_message", error.is_incomplete_message()),
        ("body_write_aborted", error.is_body_write_aborted()),
        ("shutdown", error.is_shutdown()),
        ("timeout", error.is_timeout()),
    ];
    let kinds: Vec<_> = kinds.iter().filter(|(_, is)| *is).map(|(kind, _)| *kind).collect();
    format!("{error} | {error:?} | {kinds:?}")
}
