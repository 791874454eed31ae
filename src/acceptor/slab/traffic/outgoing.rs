//! What clients are sent, after they were served.
//!
//! A connection is dormant meanwhile. Before it is looked at again, or closed, it is sent what is its.

use super::super::entries::Entries;
use super::super::stream::send;

/// Room for so many bytes of each connection of a row is kept. There may be twice as many.
const BYTES_KEPT_EACH: usize = 2048;

/// What connections are to be sent.
#[derive(Debug)]
pub(in super::super) struct Outgoing {
    /// All in one buffer, in the order of the parcels; behind those is what the connection in hand has written.
    bytes: Vec<u8>,
    parcels: Vec<Parcel>,
    /// A bit for each 64th key: of those without one there is no parcel.
    marks: u64,
    bytes_kept_max: usize,
}

/// What one connection is to be sent: the bytes between the end of the parcel before and this.
#[derive(Debug)]
struct Parcel {
    key: u32,
    end: usize,
}

/// What a connection could not be sent.
pub(in super::super) struct Unsent {
    pub(in super::super) key: u32,
    /// The bytes for which there is no room, or why there is none any more.
    pub(in super::super) rest: std::io::Result<Vec<u8>>,
}

// ===== impl Outgoing =====

impl Outgoing {
    /// With room for as many as are served in a row.
    pub(in super::super) fn new(row_len: usize) -> Self {
        let bytes_kept_max = row_len * BYTES_KEPT_EACH;
        let (bytes, parcels) = (Vec::with_capacity(bytes_kept_max), Vec::with_capacity(row_len));
        Self { bytes, parcels, marks: 0, bytes_kept_max }
    }

    /// Whether there is something for this connection.
    pub(in super::super) fn holds(&self, key: u32) -> bool {
        self.marks & mark(key) != 0 && self.parcels.iter().any(|parcel| parcel.key == key)
    }

    /// Adds to what the connection in hand is to be sent.
    pub(in super::super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The connection in hand is put into the slab: what it has written waits for the end of the slice.
    pub(in super::super) fn put(&mut self, key: u32) {
        let end = self.bytes.len();
        if end > self.parcels_end() {
            self.parcels.push(Parcel { key, end });
            self.marks |= mark(key);
        }
    }

    /// The connection in hand needs what it has written before: it is added to `written`.
    pub(in super::super) fn take_back(&mut self, written: &mut Vec<u8>) {
        let end = self.parcels_end();
        written.extend_from_slice(&self.bytes[end..]);
        self.bytes.truncate(end);
    }

    /// Sends it all. Returns what had no room.
    pub(in super::super) fn send<F>(&mut self, entries: &mut Entries<F>) -> Vec<Unsent> {
        let mut unsent = Vec::new();
        let mut begin = 0;
        for Parcel { key, end } in self.parcels.drain(..) {
            let bytes = &self.bytes[begin..end];
            begin = end;
            let Some(entry) = entries.dormant(key) else { continue };
            match send(&entry.socket, bytes) {
                Ok(len) if len == bytes.len() => {}
                Ok(len) => unsent.push(Unsent { key, rest: Ok(bytes[len..].to_vec()) }),
                Err(error) => unsent.push(Unsent { key, rest: Err(error) }),
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(self.bytes_kept_max);
        self.marks = 0;
        unsent
    }

    fn parcels_end(&self) -> usize {
        self.parcels.last().map_or(0, |parcel| parcel.end)
    }
}

fn mark(key: u32) -> u64 {
    1 << (key % u64::BITS)
}
