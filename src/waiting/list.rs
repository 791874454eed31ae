//! Doubly linked lists whose nodes live in one slab: whoever waits can leave from the middle at once.
//!
//! A node is named by a `u32` that its waiter keeps, so that the link fields are as small as they can be without
//! `unsafe`.

use slab::Slab;

/// No node.
pub(crate) const NONE: u32 = u32::MAX;

// Stands in `prev` of a node that is in no list.
const DETACHED: u32 = u32::MAX - 1;

// A slab at its limit grows by a quarter, not to the double: the room is paid for by those who wait.
const GROWTH_DIVISOR: usize = 4;

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
        let item = self.slab.remove(key as usize).item;
        if self.slab.is_empty() {
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
