//! One message, and several on their way to a reader.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::Cursor;
use super::settings::Settings;

/// A published value. Cheap to clone; it dereferences to the value.
pub struct Message<T>(Arc<Entry<T>>);

pub(super) struct Entry<T> {
    pub(super) seq: u64,
    pub(super) at: Instant,
    pub(super) encoded: Bytes,
    pub(super) value: T,
}

/// What a reader gets: messages in the order in which they were published, where to go on, and what is missing.
///
/// Cheap to clone: all who get the same messages share them.
pub struct Batch<T> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) gap: Gap,
}

/// What lies between the cursor that was asked with and the first message of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gap {
    /// Nothing: the reader has not missed a message.
    None,
    /// So many messages, which had left the history.
    Missed(u64),
    /// Nobody can tell: the cursor was from another topic, from before a restart or from the future. The batch begins
    /// with the oldest message that is kept.
    Unknown,
}

/// The part of a batch that does not depend on who asked.
pub(super) struct Shared<T> {
    settings: Arc<Settings<T>>,
    messages: Box<[Message<T>]>,
    /// Where its messages begin.
    pub(super) first: u64,
    /// Where the topic ended when this was put together: with more in it, a batch could hold more.
    pub(super) head: u64,
    next: Cursor,
    body: OnceLock<Bytes>,
    events: OnceLock<Bytes>,
    headers: OnceLock<HeaderMap>,
}

// ===== impl Message =====

impl<T> Message<T> {
    pub(super) fn new(entry: Entry<T>) -> Self {
        Self(Arc::new(entry))
    }

    /// The value as the topic's [encoder](super::Encode) wrote it.
    pub fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }

    pub(super) fn seq(&self) -> u64 {
        self.0.seq
    }

    pub(super) fn at(&self) -> Instant {
        self.0.at
    }
}

impl<T> Deref for Message<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Message<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Message").field(&self.0.value).finish()
    }
}

// ===== impl Batch =====

impl<T> Batch<T> {
    /// The messages, oldest first. None at all when the only news is a [gap](Self::gap).
    pub fn messages(&self) -> &[Message<T>] {
        &self.shared.messages
    }

    /// Where to go on.
    pub fn next(&self) -> Cursor {
        self.shared.next
    }

    /// Where the first message is.
    pub(crate) fn begins(&self) -> Cursor {
        Cursor { seq: self.shared.first, ..self.shared.next }
    }

    /// What is missing before the first message.
    pub fn gap(&self) -> Gap {
        self.gap
    }

    /// The messages as server-sent events, built once like [`body`](Self::body).
    pub(super) fn events(&self, write: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.shared.events.get_or_init(|| write(self)).clone()
    }

    /// The headers of an answer without a gap, built once like [`body`](Self::body).
    pub(super) fn into_headers(mut self, build: impl FnOnce(&Self) -> HeaderMap) -> HeaderMap {
        if let Some(alone) = Arc::get_mut(&mut self.shared) {
            // The last who gets them need not copy them.
            return alone.headers.take().unwrap_or_else(|| build(&self));
        }
        self.shared.headers.get_or_init(|| build(&self)).clone()
    }
}

impl<T: 'static> Batch<T> {
    /// The name of a message's event, if its topic gives it one.
    pub(super) fn event<'a>(&self, message: &'a Message<T>) -> Option<&'a str> {
        self.shared.settings.encode.event(message).filter(|event| !event.is_empty())
    }

    /// Whether the messages are JSON (RFC 8259 section 11, and RFC 6839 section 3.1 for the media types that build on it).
    #[cfg(feature = "json")]
    pub(super) fn is_json(&self) -> bool {
        let content_type = self.shared.settings.encode.content_type();
        let media_type = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/json") || media_type.to_ascii_lowercase().ends_with("+json")
    }

    /// The messages as one body, built once for all who get these same messages. Empty when there are none.
    pub fn body(&self) -> Bytes {
        self.shared.body.get_or_init(|| self.shared.join()).clone()
    }
}

impl<T> Clone for Batch<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), gap: self.gap }
    }
}

impl<T: fmt::Debug> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("messages", &self.shared.messages)
            .field("next", &self.shared.next)
            .field("gap", &self.gap)
            .finish()
    }
}

// ===== impl Shared =====

impl<T> Shared<T> {
    pub(super) fn new(settings: Arc<Settings<T>>, messages: Box<[Message<T>]>, first: Cursor, head: u64) -> Self {
        let seq = first.seq + messages.len() as u64;
        Self {
            settings,
            messages,
            first: first.seq,
            head,
            next: Cursor { epoch: first.epoch, seq },
            body: OnceLock::new(),
            events: OnceLock::new(),
            headers: OnceLock::new(),
        }
    }
}

impl<T: 'static> Shared<T> {
    fn join(&self) -> Bytes {
        let encode = &self.settings.encode;
        match &self.messages[..] {
            [] => Bytes::new(),
            [message] => encode.join(std::slice::from_ref(message.encoded())),
            messages => encode.join(&messages.iter().map(|message| message.encoded().clone()).collect::<Vec<_>>()),
        }
    }
}
