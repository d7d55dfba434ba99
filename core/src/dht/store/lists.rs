//! Doubly linked rings through the slots of a table: each slot is in one of 32 of them.

/// Lists of a set.
pub(super) const LISTS: usize = 32;

/// A slot's neighbours in its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    next: u32,
    prev: u32,
}

/// The place of [`Link`]s, by slot.
pub(super) trait Links {
    fn link(&mut self, slot: u32) -> &mut Link;
}

/// The heads of 32 rings, and which of them are not empty.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    heads: [u32; LISTS],
    used: u32,
}

impl Link {
    /// In a ring of its own.
    pub(super) const fn alone(slot: u32) -> Self {
        Self {
            next: slot,
            prev: slot,
        }
    }
}

impl Lists {
    pub(super) const fn new() -> Self {
        Self {
            heads: [0; LISTS],
            used: 0,
        }
    }

    /// Which lists are not empty: bit n for list n.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// The slot that was put last into `list`, if it is not empty.
    pub(super) const fn front(&self, list: usize) -> Option<u32> {
        if self.used >> list & 1 == 1 {
            Some(self.heads[list])
        } else {
            None
        }
    }

    /// The slot that was put first into `list`.
    pub(super) fn back(&self, links: &mut impl Links, list: usize) -> Option<u32> {
        self.front(list).map(|front| links.link(front).prev)
    }

    pub(super) fn push_front(&mut self, links: &mut impl Links, list: usize, slot: u32) {
        match self.front(list) {
            None => *links.link(slot) = Link::alone(slot),
            Some(next) => {
                let prev = core::mem::replace(&mut links.link(next).prev, slot);
                links.link(prev).next = slot;
                *links.link(slot) = Link { next, prev };
            }
        }
        self.heads[list] = slot;
        self.used |= 1 << list;
    }

    /// Takes `slot` out of `list`, which it is in.
    pub(super) fn unlink(&mut self, links: &mut impl Links, list: usize, slot: u32) {
        let Link { next, prev } = *links.link(slot);
        if next == slot {
            self.used &= !(1 << list);
            return;
        }
        links.link(prev).next = next;
        links.link(next).prev = prev;
        if self.heads[list] == slot {
            self.heads[list] = next;
        }
    }

    /// What was in slot `from` of `list` is in `to` from now on, its link with it.
    pub(super) fn renamed(&mut self, links: &mut impl Links, list: usize, from: u32, to: u32) {
        let Link { next, prev } = *links.link(to);
        if next == from {
            *links.link(to) = Link::alone(to);
        } else {
            links.link(prev).next = to;
            links.link(next).prev = to;
        }
        if self.heads[list] == from {
            self.heads[list] = to;
        }
    }
}
