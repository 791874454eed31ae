//! What becomes of a message that is published.

use std::error::Error;
use std::fmt;

use super::Cursor;
use crate::BoxError;

/// What became of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The place just behind the message: who polls with it gets what comes after.
    pub cursor: Cursor,
    /// How many were waiting for it.
    pub waiting: usize,
}

/// The message was not published; its value comes back.
pub struct PublishError<T> {
    /// What was to be published.
    pub value: T,
    pub(super) reason: Reason,
}

/// Why.
pub(super) enum Reason {
    Encode(BoxError),
    TooLarge { bytes: usize, bytes_max: usize },
    Fed,
}

// ===== impl PublishError =====

impl<T> fmt::Debug for PublishError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishError({self})")
    }
}

impl<T> fmt::Display for PublishError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Encode(_) => f.write_str("the message was not published: it could not be encoded"),
            Reason::TooLarge { bytes, bytes_max } => write!(
                f,
                "the message was not published: it has {bytes} bytes and the history holds {bytes_max}, make it \
                 smaller or raise `history_bytes_max`"
            ),
            Reason::Fed => f.write_str(
                "the message was not published: this topic has its messages from elsewhere, publish it at the source",
            ),
        }
    }
}

impl<T> Error for PublishError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.reason {
            Reason::Encode(error) => Some(&**error),
            Reason::TooLarge { .. } | Reason::Fed => None,
        }
    }
}
