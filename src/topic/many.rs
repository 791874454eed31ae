//! Several topics, one request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use super::{Batch, Cursor, ParseCursorError, Subscriber, Topic};

/// How many topics one request waits for: each costs it a place, and its answer may hold a batch of each.
const TOPICS_MAX: usize = 64;

// In no cursor, and nothing that a URL or an entity tag would have to quote.
const SEPARATOR: char = '~';

/// One cursor for several topics, in the order in which they were asked for.
///
/// Its text is those of its cursors with `~` between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CursorSet(Vec<Cursor>);

/// What became of several topics: a batch of each that had news.
#[derive(Debug)]
pub struct ManyBatch<T> {
    /// The batches, each with the position of its topic.
    pub batches: Vec<(usize, Batch<T>)>,
    /// Where to go on.
    pub next: CursorSet,
}

/// The future of [`Topic::poll_many`].
///
/// # What happens on drop
///
/// It leaves all of the topics at once.
#[must_use = "futures do nothing unless polled"]
pub struct WaitingMany<T> {
    subscribers: Vec<Subscriber<T>>,
}

/// The topics and the cursors are not as many, or are too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorCountError {
    topics: usize,
    cursors: usize,
}

impl<T: Send + Sync + 'static> Topic<T> {
    /// Waits until one of `topics` has news behind its cursor, and gives a batch of each that has.
    ///
    /// # Errors
    ///
    /// When there are not as many cursors as topics, or more than 64.
    ///
    /// # Cancel safety
    ///
    /// As that of [`poll`](Self::poll).
    pub fn poll_many(topics: &[Self], cursors: &CursorSet) -> Result<WaitingMany<T>, CursorCountError> {
        if topics.len() != cursors.0.len() || topics.len() > TOPICS_MAX {
            return Err(CursorCountError { topics: topics.len(), cursors: cursors.0.len() });
        }
        let subscribers = topics.iter().zip(&cursors.0).map(|(topic, cursor)| topic.subscribe(*cursor)).collect();
        Ok(WaitingMany { subscribers })
    }
}

// ===== impl CursorSet =====

impl CursorSet {
    /// The cursors, one for each topic.
    pub fn cursors(&self) -> &[Cursor] {
        &self.0
    }
}

impl FromIterator<Cursor> for CursorSet {
    fn from_iter<I: IntoIterator<Item = Cursor>>(cursors: I) -> Self {
        Self(cursors.into_iter().collect())
    }
}

impl fmt::Display for CursorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, cursor) in self.0.iter().enumerate() {
            if n > 0 {
                write!(f, "{SEPARATOR}")?;
            }
            write!(f, "{cursor}")?;
        }
        Ok(())
    }
}

impl FromStr for CursorSet {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        // One more than allowed is enough for the count to be refused later.
        text.split(SEPARATOR).take(TOPICS_MAX + 1).map(Cursor::from_str).collect()
    }
}

// ===== impl WaitingMany =====

impl<T> WaitingMany<T> {
    /// Where it waits, for an answer when its time is up.
    pub fn cursors(&self) -> CursorSet {
        self.subscribers.iter().map(Subscriber::cursor).collect()
    }
}

impl<T> Future for WaitingMany<T> {
    type Output = ManyBatch<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ManyBatch<T>> {
        let mut batches = Vec::new();
        for (n, subscriber) in self.subscribers.iter_mut().enumerate() {
            if let Poll::Ready(batch) = subscriber.poll_next(cx) {
                batches.push((n, batch));
            }
        }
        if batches.is_empty() {
            return Poll::Pending;
        }
        self.subscribers.iter_mut().for_each(Subscriber::leave);
        Poll::Ready(ManyBatch { batches, next: self.cursors() })
    }
}

impl<T> fmt::Debug for WaitingMany<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingMany").field("cursors", &self.cursors()).finish_non_exhaustive()
    }
}

// ===== impl CursorCountError =====

impl fmt::Display for CursorCountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topics, cursors } = self;
        write!(f, "{topics} topics were polled with {cursors} cursors: give one for each, of {TOPICS_MAX} at most")
    }
}

impl std::error::Error for CursorCountError {}
