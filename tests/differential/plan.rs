//! How a service treats each request, and what it answers.

use http::Version;

/// What is done with a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBody {
    /// Dropped in `call`.
    DropInCall,
    /// Dropped in the first poll.
    Drop,
    /// Kept, and never looked at.
    Keep,
    /// Polled once and kept.
    PollOnce,
    /// Read until this many bytes have come, and dropped.
    Some(usize),
    /// The same, in the poll after that in which the last came.
    SomeThenYield(usize),
    /// Read until this many bytes have come, and kept.
    SomeAndKeep(usize),
    /// Read to its end and dropped.
    All,
    /// Read to its end and kept for ever.
    AllAndKeep,
    /// Handed to a task which reads it to its end.
    Task,
    /// Handed to a task which drops it when its gate is opened.
    DropByTask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    No,
    /// The task wakes itself.
    Yield,
    /// The driver opens a gate.
    Gate,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub read: ReadBody,
    pub wait_before: Wait,
    pub wait_after: Wait,
    /// Headers and URI live as long as the future, or the connection.
    pub keep_parts: bool,
    /// A task waits for the upgrade. Otherwise it is kept, or dropped, with the request's parts.
    pub take_upgrade: bool,
    /// Each waker that is seen is kept for ever.
    pub keep_wakers: bool,
    pub answer: Answer,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Error,
    Response { status: u16, version: Version, headers: Vec<(&'static str, String)>, size: Size, body: Vec<BodyStep> },
}

/// What a body tells of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Unknown,
    Exact,
    /// In a `content-length` header, from a body that does not know it, off by this much.
    Header(i64),
}

#[derive(Clone, Debug)]
pub enum BodyStep {
    Data(usize),
    Wait(Wait),
    Trailers,
    Error,
}

// ===== impl Plan =====

impl Plan {
    /// Reads the body and answers at once with an empty response.
    pub fn new() -> Self {
        Self {
            read: ReadBody::All,
            wait_before: Wait::No,
            wait_after: Wait::No,
            keep_parts: false,
            take_upgrade: false,
            keep_wakers: false,
            answer: Answer::Response {
                status: 200,
                version: Version::HTTP_11,
                headers: Vec::new(),
                size: Size::Unknown,
                body: Vec::new(),
            },
        }
    }

    /// The same when a gate has been opened.
    pub fn gated() -> Self {
        Self { wait_after: Wait::Gate, ..Self::new() }
    }

    /// Whether the whole body is read before the response, which may fail, is written.
    pub fn reads_to_the_end(&self) -> bool {
        matches!(self.read, ReadBody::All | ReadBody::AllAndKeep)
    }
}
