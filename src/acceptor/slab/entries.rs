//! The slab: every connection of a worker, 56 bytes each.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::pin::Pin;
use std::sync::Arc;

use socket2::Socket;
use tokio::sync::Semaphore;

use super::super::service::Client;
use super::ready::EntryWaker;
use super::stream::Input;
use super::wheel::Tick;
use crate::server::conn::head::Head;
use crate::server::conn::notes::Notes;

/// Entries of one allocation. It is given back when the last of them has gone: few enough for that to happen, and
/// many enough that an allocation is small change.
const CHUNK_ENTRIES: usize = 64;

/// A dormant connection, as small as it gets: what all of a worker's connections share is left out.
pub(super) struct Dormant<F> {
    pub(super) socket: Socket,
    pub(super) input: Input,
    /// The request that `future` answers.
    pub(super) head: Head,
    pub(super) notes: Notes,
    /// When it is to be looked at, because it is overdue or because the future has a deadline.
    pub(super) due: Tick,
    /// Where it stands in the wheel, at that time or before.
    pub(super) queued: Tick,
    pub(super) peer: Peer,
    pub(super) future: Option<Pin<Box<F>>>,
    // Boxed: nearly always there is none, and then it is one word.
    pub(super) leftover: Option<Box<Leftover>>,
    pub(super) waker: Option<Arc<EntryWaker>>,
}

/// What a client has sent beyond the request in hand, see the fields of the same names of the builders' own record.
pub(super) struct Leftover {
    pub(super) bytes: Box<[u8]>,
    pub(super) seen: usize,
}

/// Who the client is. An IPv6 address is rare, and too large to be carried by everyone.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// Has no address, or none that is asked for.
    Unnamed,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

/// The place of a connection.
pub(super) enum Entry<F> {
    Vacant,
    Dormant(Dormant<F>),
    /// It is in a task of its own.
    Away,
}

struct Chunk<F> {
    entries: [Entry<F>; CHUNK_ENTRIES],
    // A bit for each vacant cell.
    vacant: u64,
}

/// The places of all connections of a worker.
///
/// A place is given to the next connection as soon as it is free. A wake, an event or a moment that was meant for the
/// last one then reaches the next, who is looked at and found to need nothing.
pub(super) struct Entries<F> {
    chunks: Vec<Option<Box<Chunk<F>>>>,
    // Which chunks have room, or would have if they were there. The lowest is filled first, so that the last empty.
    open: BTreeSet<u32>,
    len: usize,
    // Where a permit goes for each that leaves.
    room: Arc<Semaphore>,
}

// ===== impl Peer =====

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self::V4(addr),
            SocketAddr::V6(addr) => Self::V6(Box::new(addr)),
        }
    }
}

impl Client for Peer {
    fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Unnamed => None,
            Self::V4(addr) => Some(SocketAddr::V4(*addr)),
            Self::V6(addr) => Some(SocketAddr::V6(**addr)),
        }
    }
}

// ===== impl Entries =====

impl<F> Entries<F> {
    /// None yet. A permit of `room` is forgotten for each place that is taken, and added again when it is given up.
    pub(super) fn new(room: Arc<Semaphore>) -> Self {
        Self { chunks: Vec::new(), open: BTreeSet::new(), len: 0, room }
    }

    /// How many places are taken.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One more than the largest key that can be taken.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK_ENTRIES).unwrap_or(u32::MAX)
    }

    /// The slab's own memory.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().flatten().count();
        chunks * size_of::<Chunk<F>>() + self.chunks.capacity() * size_of::<Option<Box<Chunk<F>>>>()
    }

    /// Takes a place, which is [away](Entry::Away) until it is filled. Returns its key.
    pub(super) fn reserve(&mut self) -> u32 {
        let index = match self.open.first() {
            Some(index) => *index,
            None => {
                let index = u32::try_from(self.chunks.len()).expect("descriptors run out before keys do");
                self.chunks.push(None);
                self.open.insert(index);
                index
            }
        };
        let chunk = self.chunks[index as usize].get_or_insert_with(|| {
            Box::new(Chunk { entries: std::array::from_fn(|_| Entry::Vacant), vacant: u64::MAX })
        });
        let place = chunk.vacant.trailing_zeros();
        chunk.vacant &= !(1 << place);
        if chunk.vacant == 0 {
            self.open.remove(&index);
        }
        self.len += 1;
        chunk.entries[place as usize] = Entry::Away;
        index * CHUNK_ENTRIES as u32 + place
    }

    fn entry(&mut self, key: u32) -> Option<&mut Entry<F>> {
        let chunk = self.chunks.get_mut(key as usize / CHUNK_ENTRIES)?.as_mut()?;
        Some(&mut chunk.entries[key as usize % CHUNK_ENTRIES])
    }

    /// The dormant connection at a key, if it is one.
    pub(super) fn dormant(&mut self, key: u32) -> Option<&mut Dormant<F>> {
        match self.entry(key)? {
            Entry::Dormant(dormant) => Some(dormant),
            Entry::Vacant | Entry::Away => None,
        }
    }

    /// Looks at the wakers of connections whose turn it will be. With very many connections they are not in the cache; here
    /// the memory is waited for once, and not by each in its turn.
    pub(super) fn look_ahead(&mut self, keys: impl Iterator<Item = u32>) {
        for key in keys {
            if let Some(Dormant { waker: Some(waker), .. }) = self.dormant(key) {
                black_box(waker.peek());
            }
        }
    }

    /// Takes the dormant connection at a key out; its place is kept.
    pub(super) fn take(&mut self, key: u32) -> Option<Dormant<F>> {
        let entry = self.entry(key)?;
        match std::mem::replace(entry, Entry::Away) {
            Entry::Dormant(dormant) => Some(dormant),
            other => {
                *entry = other;
                None
            }
        }
    }

    /// Puts a connection into a place that is kept for it.
    pub(super) fn put(&mut self, key: u32, dormant: Dormant<F>) {
        if let Some(entry) = self.entry(key) {
            debug_assert!(matches!(entry, Entry::Away), "the place is kept for one connection");
            *entry = Entry::Dormant(dormant);
        }
    }

    /// Gives a place up, and drops what is in it.
    pub(super) fn remove(&mut self, key: u32) {
        let index = key as usize / CHUNK_ENTRIES;
        let Some(Some(chunk)) = self.chunks.get_mut(index) else { return };
        let place = key as usize % CHUNK_ENTRIES;
        if chunk.vacant & (1 << place) != 0 {
            return;
        }
        let entry = std::mem::replace(&mut chunk.entries[place], Entry::Vacant);
        chunk.vacant |= 1 << place;
        self.open.insert(index as u32);
        self.len -= 1;
        self.room.add_permits(1);
        if chunk.vacant == u64::MAX {
            self.chunks[index] = None;
            while let Some(None) = self.chunks.last() {
                self.chunks.pop();
                self.open.remove(&(self.chunks.len() as u32));
            }
        }
        // Last of all: what it runs must find the slab in order.
        drop(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_less_than_a_cache_line() {
        assert_eq!(size_of::<Entry<()>>(), 56);
    }

    #[test]
    fn memory_is_given_back() {
        let room = Arc::new(Semaphore::new(1000));
        let mut entries = Entries::<()>::new(room.clone());
        room.forget_permits(1000);
        let keys: Vec<_> = (0..1000).map(|_| entries.reserve()).collect();
        assert_eq!(keys, (0..1000).collect::<Vec<_>>());
        assert!(entries.bytes() >= 1000 * 56);
        for key in keys {
            entries.remove(key);
            entries.remove(key);
        }
        assert_eq!((entries.len(), room.available_permits()), (0, 1000));
        assert!(entries.chunks.is_empty() && entries.open.is_empty());
        assert_eq!(entries.reserve(), 0);
    }
}
