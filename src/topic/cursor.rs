//! Where a reader stands in a topic.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::time::SystemTime;

#[cfg(all(unix, feature = "zeromq"))]
use super::Gap;

/// A place in one life of one topic: everything before it has been read.
///
/// Opaque to clients and short: at most 24 characters of `0-9`, `a-v` and `.`, so that it goes into a URL, an entity
/// tag or an event's id as it is. It is made of an epoch, new for each life of a topic, and a sequence number: one that
/// comes from another topic, from before a restart or from the future is recognised when it is
/// [polled](super::Topic::poll) with.
///
/// ```
/// use hyper_deferred::topic::Cursor;
///
/// let topic = hyper_deferred::Topic::raw();
/// let cursor = topic.latest();
/// assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
/// assert!("garbage".parse::<Cursor>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
}

/// One life of a topic. Two lives share one by chance once in 2^50.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Epoch(u64);

/// A text that is no [`Cursor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseCursorError(());

// Ten digits of base 32.
const EPOCH_BITS: u32 = 50;
const EPOCH_DIGITS: usize = 10;

// The alphabet of base32hex (RFC 4648 section 7) in lower case: digits sort as the numbers do.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

// Sequence numbers begin at 0 and a topic would need centuries to reach this.
const SEQ_DIGITS_MAX: usize = 13;

/// How long the text of a cursor is at most.
pub(super) const CURSOR_BYTES_MAX: usize = EPOCH_DIGITS + 1 + SEQ_DIGITS_MAX;

// ===== impl Epoch =====

impl Epoch {
    /// A new one. The keys that the standard library hashes with are random and differ from call to call; the time
    /// keeps lives of different processes apart where the system has no randomness to give.
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Self(RandomState::new().hash_one(now) >> (u64::BITS - EPOCH_BITS))
    }
}

// ===== impl Cursor =====

#[cfg(all(unix, feature = "zeromq"))]
impl Cursor {
    /// So many messages further on in the same life.
    pub(crate) fn behind(self, messages: u64) -> Self {
        Self { seq: self.seq.saturating_add(messages), ..self }
    }

    /// So many messages back; `None` before the first.
    pub(crate) fn before(self, messages: u64) -> Option<Self> {
        Some(Self { seq: self.seq.checked_sub(messages)?, ..self })
    }

    /// What was missed by who stands at `former` and finds the next message here.
    pub(crate) fn gap_from(self, former: Option<Self>) -> Gap {
        match former {
            // Before the first one there is nothing to miss.
            None if self.seq == 0 => Gap::None,
            Some(former) if former.epoch == self.epoch => match self.seq.checked_sub(former.seq) {
                None | Some(0) => Gap::None,
                Some(missed) => Gap::Missed(missed),
            },
            None | Some(_) => Gap::Unknown,
        }
    }
}

impl Cursor {
    /// Writes its text and tells how long that is.
    pub(super) fn write(&self, text: &mut [u8; CURSOR_BYTES_MAX]) -> usize {
        for (n, place) in text[..EPOCH_DIGITS].iter_mut().rev().enumerate() {
            *place = digit(self.epoch.0 >> (5 * n));
        }
        text[EPOCH_DIGITS] = b'.';
        let length = (1..SEQ_DIGITS_MAX).find(|length| self.seq >> (5 * length) == 0).unwrap_or(SEQ_DIGITS_MAX);
        let end = EPOCH_DIGITS + 1 + length;
        for (n, place) in text[EPOCH_DIGITS + 1..end].iter_mut().rev().enumerate() {
            *place = digit(self.seq >> (5 * n));
        }
        end
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; CURSOR_BYTES_MAX];
        let length = self.write(&mut text);
        f.pad(std::str::from_utf8(&text[..length]).expect("the digits are ASCII"))
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({self})")
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    /// Reads what [`Display`](fmt::Display) writes and nothing else: one cursor has one text.
    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let (epoch, rest) = text.split_at_checked(EPOCH_DIGITS).ok_or(ParseCursorError(()))?;
        let seq = rest.strip_prefix('.').ok_or(ParseCursorError(()))?;
        let canonical = !seq.is_empty() && seq.len() <= SEQ_DIGITS_MAX && (seq == "0" || !seq.starts_with('0'));
        if !canonical {
            return Err(ParseCursorError(()));
        }
        Ok(Self { epoch: Epoch(number(epoch)?), seq: number(seq)? })
    }
}

fn digit(value: u64) -> u8 {
    DIGITS[(value & 31) as usize]
}

fn number(text: &str) -> Result<u64, ParseCursorError> {
    text.bytes().try_fold(0_u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'v' => byte - b'a' + 10,
            _ => return Err(ParseCursorError(())),
        };
        if value.leading_zeros() < 5 {
            return Err(ParseCursorError(()));
        }
        Ok(value << 5 | u64::from(digit))
    })
}

// ===== impl ParseCursorError =====

impl fmt::Display for ParseCursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cursor: use one that this topic gave, unchanged, or none to start anew")
    }
}

impl std::error::Error for ParseCursorError {}
