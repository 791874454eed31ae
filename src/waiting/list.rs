//! Doubly linked lists whose nodes live in one slab: whoever waits can leave from the middle at once.
//!
//! A node is named by a `u32` that its waiter keeps, so that the link fields are as small as they can be without
//! `unsafe`.

use slab::Slab;

/// No node.
pub(crate) const NONE: u32 = u32::MAX;

// Stands in `prev` of a node that is in no list.
const DETACHED: u32 = u32::MAX - 1;

// A slab at its limit grows by an eighth, not to the double: the room is paid for by those who wait.
const GROWTH_DIVISOR: usize = 8;

// Room for so many nodes is kept for the next ones, of 32 bytes each: many lists have one or two who come and go.
const KEPT_MAX: usize = 2;

/// The nodes, each in at most one list.
pub(crate) struct Slots<T> {
    slab: Slab<Node<T>>,
}

struct Node<T> {
    item: T,
    prev: u32,
    next: u32,
}

/// The two ends of a list through [`Slots`].
pub(crate) struct List {
    head: u32,
    tail: u32,
}

// ===== impl List =====

impl List {
    pub(crate) const fn new() -> Self {
        Self { head: NONE, tail: NONE }
    }

    /// The node that has been in it for longest.
    pub(crate) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
}

// ===== impl Slots =====

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { slab: Slab::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    #[cfg(feature = "topic")]
    pub(crate) fn get(&self, key: u32) -> &T {
        &self.slab[key as usize].item
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> &mut T {
        &mut self.slab[key as usize].item
    }

    /// All nodes, in no order.
    #[cfg(feature = "topic")]
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slab.iter_mut().map(|(_, node)| &mut node.item)
    }

    /// Adds a node that is in no list yet.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        if self.slab.len() == self.slab.capacity() {
            self.slab.reserve_exact((self.slab.len() / GROWTH_DIVISOR).max(1));
        }
        let key = self.slab.insert(Node { item, prev: DETACHED, next: NONE });
        u32::try_from(key).expect("nodes of 32 bytes fill the memory long before there are four thousand million")
    }

    /// Takes the node out of `list`, if it is in it, and out of the slab.
    pub(crate) fn remove(&mut self, list: &mut List, key: u32) -> T {
        self.unlink(list, key);
        self.remove_detached(key)
    }

    /// Takes a node that is in no list out of the slab.
    pub(crate) fn remove_detached(&mut self, key: u32) -> T {
        debug_assert!(!self.is_linked(key), "its list would still lead to it");
        let item = self.slab.remove(key as usize).item;
        if self.slab.is_empty() && self.slab.capacity() > KEPT_MAX {
            // Nobody waits: a crowd of the past must cost nothing.
            self.slab = Slab::new();
        }
        item
    }

    pub(crate) fn is_linked(&self, key: u32) -> bool {
        self.slab[key as usize].prev != DETACHED
    }

    /// The node behind `key` in its list.
    pub(crate) fn next(&self, key: u32) -> Option<u32> {
        let next = self.slab[key as usize].next;
        (next != NONE).then_some(next)
    }

    /// Appends a node that is in no list.
    pub(crate) fn push_back(&mut self, list: &mut List, key: u32) {
        debug_assert!(!self.is_linked(key), "a node is in one list at most");
        let tail = list.tail;
        let node = &mut self.slab[key as usize];
        node.prev = tail;
        node.next = NONE;
        match tail {
            NONE => list.head = key,
            _ => self.slab[tail as usize].next = key,
        }
        list.tail = key;
    }

    /// Appends all of `from` to `to`, which leaves `from` empty.
    #[cfg(feature = "topic")]
    pub(crate) fn append(&mut self, to: &mut List, from: &mut List) {
        let from = std::mem::replace(from, List::new());
        if from.head == NONE {
            return;
        }
        match to.tail {
            NONE => to.head = from.head,
            tail => {
                self.slab[tail as usize].next = from.head;
                self.slab[from.head as usize].prev = tail;
            }
        }
        to.tail = from.tail;
    }

    /// Takes the node out of the one of two lists that it is in; does nothing when it is in no list.
    #[cfg(feature = "topic")]
    pub(crate) fn unlink_from_either(&mut self, one: &mut List, other: &mut List, key: u32) {
        // Only its ends are named by a list: a node between two others leaves either in the same way.
        if other.head == key || other.tail == key {
            self.unlink(other, key);
        } else {
            self.unlink(one, key);
        }
    }

    /// Takes the node out of `list`; does nothing when it is in no list.
    pub(crate) fn unlink(&mut self, list: &mut List, key: u32) {
        let node = &mut self.slab[key as usize];
        let (prev, next) = (node.prev, node.next);
        if prev == DETACHED {
            return;
        }
        node.prev = DETACHED;
        node.next = NONE;
        match prev {
            NONE => list.head = next,
            _ => self.slab[prev as usize].next = next,
        }
        match next {
            NONE => list.tail = prev,
            _ => self.slab[next as usize].prev = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys<T>(slots: &Slots<T>, list: &List) -> Vec<u32> {
        std::iter::successors(list.front(), |key| slots.next(*key)).collect()
    }

    #[test]
    fn a_node_leaves_from_the_front_the_middle_and_the_end() {
        let (mut slots, mut list) = (Slots::new(), List::new());
        let added: Vec<u32> = (0..5).map(|n| slots.insert(n)).collect();
        for key in &added {
            slots.push_back(&mut list, *key);
        }
        assert_eq!(slots.remove(&mut list, added[2]), 2);
        assert_eq!(slots.remove(&mut list, added[0]), 0);
        assert_eq!(slots.remove(&mut list, added[4]), 4);
        assert_eq!(keys(&slots, &list), [added[1], added[3]]);
        slots.unlink(&mut list, added[3]);
        slots.unlink(&mut list, added[3]);
        assert!(!slots.is_linked(added[3]));
        slots.push_back(&mut list, added[3]);
        assert_eq!(keys(&slots, &list), [added[1], added[3]]);
    }

    #[cfg(feature = "topic")]
    #[test]
    fn a_list_is_appended_and_left_from_either() {
        for (first, second) in [(0, 0), (0, 3), (3, 0), (1, 1), (3, 3)] {
            for leaves in 0..first + second {
                let (mut slots, mut due, mut parked) = (Slots::new(), List::new(), List::new());
                let added: Vec<u32> = (0..first + second).map(|n| slots.insert(n)).collect();
                added[..first].iter().for_each(|key| slots.push_back(&mut due, *key));
                added[first..].iter().for_each(|key| slots.push_back(&mut parked, *key));
                slots.unlink_from_either(&mut due, &mut parked, added[leaves]);
                let left = |range: std::ops::Range<usize>| -> Vec<u32> {
                    range.filter(|n| *n != leaves).map(|n| added[n]).collect()
                };
                assert_eq!(keys(&slots, &due), left(0..first));
                assert_eq!(keys(&slots, &parked), left(first..first + second));
                slots.append(&mut due, &mut parked);
                assert_eq!(keys(&slots, &due), left(0..first + second));
                assert_eq!(parked.front(), None);
                assert_eq!(slots.remove_detached(added[leaves]), leaves);
            }
        }
    }

    #[test]
    fn an_empty_list_can_be_filled_again() {
        let (mut slots, mut list) = (Slots::new(), List::new());
        for _ in 0..3 {
            let key = slots.insert(());
            slots.push_back(&mut list, key);
            slots.remove(&mut list, key);
            assert_eq!(list.front(), None);
            assert_eq!(slots.len(), 0);
        }
    }
}
