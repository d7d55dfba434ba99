//! The table of flows. A flow is found from either side in one look-up, is linked into lists by
//! what it shares with others, and is removed when it expires. Nothing depends on the order of a
//! hash table.

use std::{cmp::Reverse, collections::BinaryHeap};

use dunlin_core::Instant;
use hashbrown::HashTable;

use super::key::{End, Key, Kind};
use crate::{middlebox::conntrack::Track, packet::Proto};

/// The index that stands for no slot.
const NIL: u32 = u32::MAX;

/// The lists that a flow may be in; the first four are those of a [`Key`].
const LISTS: usize = 5;
const LRU: usize = 4;
/// Which endpoint sent the first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The internal endpoint.
    Inside,
    /// The remote endpoint, to a mapping or a forwarded port.
    Outside,
    /// The remote endpoint, to the box itself.
    Stray,
}

/// A flow.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) inside: End,
    pub(super) external: End,
    pub(super) remote: End,
    pub(super) track: Track,
    pub(super) expires: Instant,
    pub(super) proto: Proto,
    pub(super) origin: Origin,
    /// The remote endpoint is one of the box's own.
    pub(super) hairpin: bool,
}

/// A flow with its links in the lists and its timer.
#[derive(Clone, Debug)]
struct Slot {
    flow: Flow,
    live: bool,
    /// When the timer that is in force fires; never later than the flow expires.
    timer: Instant,
    groups: [u32; 4],
    links: [(u32, u32); LISTS],
}

/// A list of flows, oldest first.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
    };
}

#[derive(Clone, Copy, Debug)]
struct Group {
    key: Key,
    list: List,
}

/// The lists that a new flow joins.
pub(super) struct Joins {
    pub(super) source: Option<Key>,
    pub(super) external: Option<Key>,
    pub(super) permit: Option<Key>,
    pub(super) host: Option<Key>,
}

/// All flows.
#[derive(Clone, Debug)]
pub(super) struct Table {
    seed: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    outs: HashTable<u32>,
    ins: HashTable<u32>,
    groups: Vec<Group>,
    free_groups: Vec<u32>,
    group_index: HashTable<u32>,
    lru: List,
    keep_lru: bool,
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
}

fn out_key(flow: &Flow) -> Key {
    Key::new(Kind::Out, flow.proto, flow.inside, flow.remote)
}

fn in_key(flow: &Flow) -> Key {
    Key::new(Kind::In, flow.proto, flow.external, flow.remote)
}

impl Table {
    /// Creates an empty table; with `keep_lru` it tracks which flow has been idle longest.
    pub(super) fn new(seed: u64, keep_lru: bool) -> Self {
        Self {
            seed,
            slots: Vec::new(),
            free: Vec::new(),
            outs: HashTable::new(),
            ins: HashTable::new(),
            groups: Vec::new(),
            free_groups: Vec::new(),
            group_index: HashTable::new(),
            lru: List::EMPTY,
            keep_lru,
            timers: BinaryHeap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ins.len()
    }

    pub(super) fn flow(&self, slot: u32) -> &Flow {
        &self.slots[slot as usize].flow
    }

    pub(super) fn flow_mut(&mut self, slot: u32) -> &mut Flow {
        &mut self.slots[slot as usize].flow
    }

    /// Every flow, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.slots.iter().filter(|s| s.live).map(|s| &s.flow)
    }

    pub(super) fn find_out(&self, proto: Proto, inside: End, remote: End) -> Option<u32> {
        let hash = Key::new(Kind::Out, proto, inside, remote).hash(self.seed);
        let same = |slot: &u32| {
            let flow = self.flow(*slot);
            flow.inside == inside && flow.remote == remote && flow.proto == proto
        };
        self.outs.find(hash, same).copied()
    }

    pub(super) fn find_in(&self, proto: Proto, external: End, remote: End) -> Option<u32> {
        let hash = Key::new(Kind::In, proto, external, remote).hash(self.seed);
        let same = |slot: &u32| {
            let flow = self.flow(*slot);
            flow.external == external && flow.remote == remote && flow.proto == proto
        };
        self.ins.find(hash, same).copied()
    }

    fn group(&self, key: Key) -> Option<u32> {
        let same = |group: &u32| self.groups[*group as usize].key == key;
        self.group_index.find(key.hash(self.seed), same).copied()
    }

    /// The number of flows that share `key`.
    pub(super) fn count(&self, key: Key) -> u32 {
        self.group(key)
            .map_or(0, |g| self.groups[g as usize].list.len)
    }

    /// The oldest flow of `key`.
    pub(super) fn oldest(&self, key: Key) -> Option<u32> {
        self.group(key).map(|g| self.groups[g as usize].list.head)
    }

    /// The newest flow of `key`.
    pub(super) fn newest(&self, key: Key) -> Option<u32> {
        self.group(key).map(|g| self.groups[g as usize].list.tail)
    }

    /// Adds a flow. No other flow may have the same external and remote endpoints, or the same
    /// internal and remote ones. A flow of the box itself can be found from outside only.
    pub(super) fn insert(&mut self, flow: Flow, joins: &Joins) -> u32 {
        let (out, into) = (
            out_key(&flow).hash(self.seed),
            in_key(&flow).hash(self.seed),
        );
        let expires = flow.expires;
        let stray = flow.origin == Origin::Stray;
        debug_assert!(
            stray
                || self
                    .find_out(flow.proto, flow.inside, flow.remote)
                    .is_none()
        );
        let entry = Slot {
            flow,
            live: true,
            timer: expires,
            groups: [NIL; 4],
            links: [(NIL, NIL); LISTS],
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                (self.slots.len() - 1) as u32
            }
        };
        let (slots, seed) = (&self.slots, self.seed);
        let rehash = |s: &u32| in_key(&slots[*s as usize].flow).hash(seed);
        self.ins.insert_unique(into, slot, rehash);
        if !stray {
            let rehash = |s: &u32| out_key(&slots[*s as usize].flow).hash(seed);
            self.outs.insert_unique(out, slot, rehash);
        }
        let joins = [joins.source, joins.external, joins.permit, joins.host];
        for (list, key) in joins.into_iter().enumerate() {
            if let Some(key) = key {
                debug_assert_eq!(key.list(), list);
                self.join(slot, list, key);
            }
        }
        if self.keep_lru {
            self.push(LRU, None, slot);
        }
        self.timers.push(Reverse((expires, slot)));
        slot
    }

    fn join(&mut self, slot: u32, list: usize, key: Key) {
        let group = self.group(key).unwrap_or_else(|| {
            let group = Group {
                key,
                list: List::EMPTY,
            };
            let at = match self.free_groups.pop() {
                Some(at) => {
                    self.groups[at as usize] = group;
                    at
                }
                None => {
                    self.groups.push(group);
                    (self.groups.len() - 1) as u32
                }
            };
            let (groups, seed) = (&self.groups, self.seed);
            let rehash = |g: &u32| groups[*g as usize].key.hash(seed);
            self.group_index.insert_unique(key.hash(seed), at, rehash);
            at
        });
        self.slots[slot as usize].groups[list] = group;
        self.push(list, Some(group), slot);
    }

    fn list(&mut self, group: Option<u32>) -> &mut List {
        match group {
            Some(group) => &mut self.groups[group as usize].list,
            None => &mut self.lru,
        }
    }

    fn push(&mut self, list: usize, group: Option<u32>, slot: u32) {
        let ends = self.list(group);
        let last = std::mem::replace(&mut ends.tail, slot);
        ends.len += 1;
        if last == NIL {
            ends.head = slot;
        } else {
            self.slots[last as usize].links[list].1 = slot;
        }
        self.slots[slot as usize].links[list] = (last, NIL);
    }

    fn unlink(&mut self, list: usize, group: Option<u32>, slot: u32) {
        let (before, after) = self.slots[slot as usize].links[list];
        if before != NIL {
            self.slots[before as usize].links[list].1 = after;
        }
        if after != NIL {
            self.slots[after as usize].links[list].0 = before;
        }
        let ends = self.list(group);
        if before == NIL {
            ends.head = after;
        }
        if after == NIL {
            ends.tail = before;
        }
        ends.len -= 1;
    }

    /// Removes a flow.
    pub(super) fn remove(&mut self, slot: u32) -> Flow {
        let flow = self.flow(slot).clone();
        let (out, into) = (
            out_key(&flow).hash(self.seed),
            in_key(&flow).hash(self.seed),
        );
        if let Ok(entry) = self.ins.find_entry(into, |s| *s == slot) {
            entry.remove();
        }
        if let Ok(entry) = self.outs.find_entry(out, |s| *s == slot) {
            entry.remove();
        }
        for list in 0..LRU {
            let group = self.slots[slot as usize].groups[list];
            if group == NIL {
                continue;
            }
            self.unlink(list, Some(group), slot);
            let Group { key, list } = self.groups[group as usize];
            if list.len == 0 {
                let hash = key.hash(self.seed);
                if let Ok(entry) = self.group_index.find_entry(hash, |g| *g == group) {
                    entry.remove();
                }
                self.free_groups.push(group);
            }
        }
        if self.keep_lru {
            self.unlink(LRU, None, slot);
        }
        self.slots[slot as usize].live = false;
        self.free.push(slot);
        flow
    }

    /// Prolongs a flow that was used just now until `expires`.
    pub(super) fn refresh(&mut self, slot: u32, expires: Instant) {
        let entry = &mut self.slots[slot as usize];
        entry.flow.expires = expires;
        if expires < entry.timer {
            entry.timer = expires;
            self.timers.push(Reverse((expires, slot)));
            self.remove_stale_timers();
        }
        if self.keep_lru && self.lru.tail != slot {
            self.unlink(LRU, None, slot);
            self.push(LRU, None, slot);
        }
    }

    /// Removes timers that are no longer in force once they are the majority.
    fn remove_stale_timers(&mut self) {
        if self.timers.len() > 4 * self.slots.len() + 64 {
            let slots = &self.slots;
            self.timers.retain(|Reverse((at, slot))| {
                let entry = &slots[*slot as usize];
                entry.live && entry.timer == *at
            });
        }
    }

    /// A flow that has expired, if there is one. It stays in the table.
    pub(super) fn due(&mut self, now: Instant) -> Option<u32> {
        while let Some(Reverse((at, slot))) = self.timers.peek().copied() {
            if at > now {
                return None;
            }
            self.timers.pop();
            let entry = &mut self.slots[slot as usize];
            if !entry.live || entry.timer != at {
                continue;
            }
            let expires = entry.flow.expires;
            if expires <= now {
                return Some(slot);
            }
            // The flow was refreshed, so the timer fires again later.
            entry.timer = expires;
            self.timers.push(Reverse((expires, slot)));
        }
        None
    }

    /// The flow that has been idle longest.
    pub(super) fn least_recent(&self) -> Option<u32> {
        (self.lru.head != NIL).then_some(self.lru.head)
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.seed, self.keep_lru);
    }
}
