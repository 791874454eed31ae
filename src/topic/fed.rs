//! A topic that has its messages, and their cursors, from a topic elsewhere.

use super::Cursor;
use super::cursor::Epoch;

/// What a fed topic knows of its source.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fed {
    heard: bool,
}

/// What becomes of a message that has come.
pub(super) enum Place {
    /// It is here already.
    Had,
    /// It follows the last one.
    Next,
    /// There is a hole before it, or it is of another life: the history begins anew with it.
    Anew(Epoch),
}

// ===== impl Fed =====

impl Fed {
    /// Whether who stands at `cursor` waits though it is not where the topic ends: for the source to be heard for the first
    /// time, or for messages that the source gave out itself and that have not come yet.
    pub(super) fn is_ahead(self, cursor: Cursor, latest: Cursor) -> bool {
        !self.heard || (cursor.epoch == latest.epoch && cursor.seq > latest.seq)
    }

    /// Where the source's message at `at` goes.
    pub(super) fn place(&mut self, at: Cursor, latest: Cursor) -> Place {
        let heard = std::mem::replace(&mut self.heard, true);
        if !heard || at.epoch != latest.epoch || at.seq > latest.seq {
            Place::Anew(at.epoch)
        } else if at.seq < latest.seq {
            Place::Had
        } else {
            Place::Next
        }
    }
}
