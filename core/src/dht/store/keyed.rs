//! A table by id: look-ups in constant time, expiry in order, and eviction of the farthest.
//!
//! Values lie in slots without gaps. A keyed hash finds the slot of an id; a ring for each distance
//! from our own id, the last used in front, tells which to give up; and a wheel of 32 ticks tells
//! which may have expired. All of it is linked through the slots: 28 bytes each, and 5 to 10 more
//! for the hash table.

use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::lists::{LISTS, Link, Links, Lists};
use crate::{Instant, NodeId};

/// Least growth of the slots, in slots.
const MIN_GROWTH: usize = 8;
/// And in parts of what there is: a sixteenth.
const GROWTH_SHIFT: u32 = 4;

#[derive(Clone, Debug)]
pub(super) struct Slot<T> {
    pub(super) id: NodeId,
    /// When it expires, as far as is known, in ticks.
    deadline: u32,
    /// The list of the wheel that it is in. A deadline beyond one turn of the wheel is looked at too early, and put off.
    list: u8,
    near: Link,
    wheel: Link,
    pub(super) value: T,
}

/// A table by id; see the module documentation.
#[derive(Clone, Debug)]
pub(super) struct Keyed<T> {
    key: (u64, u64),
    own: NodeId,
    slots: Vec<Slot<T>>,
    index: HashTable<u32>,
    /// By the prefix that is shared with our own id.
    near: Lists,
    /// By deadline, modulo their number.
    wheel: Lists,
    tick: Duration,
    /// Ticks up to this one were served: deadlines are later, by 32 at most.
    served: u32,
}

/// The links of one kind.
struct Near<'a, T>(&'a mut [Slot<T>]);
struct Wheel<'a, T>(&'a mut [Slot<T>]);

impl<T> Links for Near<'_, T> {
    fn link(&mut self, slot: u32) -> &mut Link {
        &mut self.0[slot as usize].near
    }
}

impl<T> Links for Wheel<'_, T> {
    fn link(&mut self, slot: u32) -> &mut Link {
        &mut self.0[slot as usize].wheel
    }
}

impl<T> Keyed<T> {
    /// Empty; deadlines are counted in ticks.
    pub(super) const fn new(key: (u64, u64), tick: Duration) -> Self {
        Self {
            key,
            own: NodeId([0; 20]),
            slots: Vec::new(),
            index: HashTable::new(),
            near: Lists::new(),
            wheel: Lists::new(),
            tick,
            served: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slot(&self, slot: u32) -> &Slot<T> {
        &self.slots[slot as usize]
    }

    pub(super) fn value(&mut self, slot: u32) -> &mut T {
        &mut self.slots[slot as usize].value
    }

    pub(super) fn find(&self, id: &NodeId) -> Option<u32> {
        let slots = &self.slots;
        self.index
            .find(hash(self.key, id), |slot| slots[*slot as usize].id == *id)
            .copied()
    }

    /// Distances are from `own` from now on.
    pub(super) fn set_own(&mut self, own: NodeId) {
        if own == self.own {
            return;
        }
        self.own = own;
        self.near = Lists::new();
        for slot in 0..self.slots.len() as u32 {
            let list = self.distance_list(slot);
            self.near.push_front(&mut Near(&mut self.slots), list, slot);
        }
    }

    pub(super) fn is_farther(&self, than: &NodeId, slot: u32) -> bool {
        self.own.distance(&self.slot(slot).id) > self.own.distance(than)
    }

    /// Adds what is not there yet, to be looked at by `deadline`.
    pub(super) fn insert(&mut self, now: Instant, id: NodeId, deadline: u32, value: T) -> u32 {
        self.serve(now);
        let slot = self.slots.len() as u32;
        if self.slots.len() == self.slots.capacity() {
            let growth = (self.slots.len() >> GROWTH_SHIFT).max(MIN_GROWTH);
            self.slots.reserve_exact(growth);
        }
        self.slots.push(Slot {
            id,
            deadline,
            list: 0,
            near: Link::alone(slot),
            wheel: Link::alone(slot),
            value,
        });
        let (key, slots) = (self.key, &self.slots);
        self.index.insert_unique(hash(key, &id), slot, |slot| {
            hash(key, &slots[*slot as usize].id)
        });
        let list = self.distance_list(slot);
        self.near.push_front(&mut Near(&mut self.slots), list, slot);
        self.enter_wheel(slot, deadline);
        slot
    }

    /// Removes a slot; the last one takes its number.
    pub(super) fn remove(&mut self, slot: u32) -> T {
        let list = self.distance_list(slot);
        self.near.unlink(&mut Near(&mut self.slots), list, slot);
        self.leave_wheel(slot);
        let id = self.slot(slot).id;
        if let Ok(entry) = self.index.find_entry(hash(self.key, &id), |s| *s == slot) {
            entry.remove();
        }
        let removed = self.slots.swap_remove(slot as usize);
        let last = self.slots.len() as u32;
        if slot != last {
            let id = self.slot(slot).id;
            if let Some(entry) = self.index.find_mut(hash(self.key, &id), |s| *s == last) {
                *entry = slot;
            }
            let list = self.distance_list(slot);
            self.near
                .renamed(&mut Near(&mut self.slots), list, last, slot);
            let list = self.wheel_list(slot);
            self.wheel
                .renamed(&mut Wheel(&mut self.slots), list, last, slot);
        }
        // Memory that a flood took is given back once three quarters of it are unused.
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
            let (key, slots) = (self.key, &self.slots);
            self.index
                .shrink_to(slots.len() * 2, |slot| hash(key, &slots[*slot as usize].id));
        }
        removed.value
    }

    /// Marks a slot as used: it is evicted after the others at its distance.
    pub(super) fn touch(&mut self, slot: u32) {
        let list = self.distance_list(slot);
        if self.near.front(list) != Some(slot) {
            self.near.unlink(&mut Near(&mut self.slots), list, slot);
            self.near.push_front(&mut Near(&mut self.slots), list, slot);
        }
    }

    /// The slot to evict first: the least recently used of those that are farthest away (within a factor of two).
    pub(super) fn farthest(&mut self) -> Option<u32> {
        let list = self.near.used().trailing_zeros() as usize;
        if list >= LISTS {
            return None;
        }
        self.near.back(&mut Near(&mut self.slots), list)
    }

    /// The tick of `at`.
    pub(super) fn tick_of(&self, at: Instant) -> u32 {
        let tick = (self.tick.as_micros() as u64).max(1);
        u32::try_from(at.as_micros() / tick).unwrap_or(u32::MAX)
    }

    /// A slot whose deadline may have passed, which must be removed or put off before the next call.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        // After a long sleep all are due, and one turn of the wheel finds them.
        let turn_ago = self.tick_of(now).saturating_sub(LISTS as u32);
        self.served = self.served.max(turn_ago);
        self.serve(now);
        let next = self.next_used()?;
        (next <= self.tick_of(now)).then_some(())?;
        self.wheel.front(next as usize % LISTS)
    }

    /// Whether the deadline of a slot has passed.
    pub(super) fn is_due(&self, now: Instant, slot: u32) -> bool {
        self.slot(slot).deadline <= self.tick_of(now)
    }

    /// Looks at a slot again, as it is not due yet.
    pub(super) fn wait(&mut self, slot: u32) {
        self.put_off(slot, self.slot(slot).deadline);
    }

    /// The next look at a slot is at `deadline`.
    pub(super) fn put_off(&mut self, slot: u32, deadline: u32) {
        self.leave_wheel(slot);
        self.enter_wheel(slot, deadline);
    }

    /// Skips the ticks that have nothing.
    fn serve(&mut self, now: Instant) {
        let now = self.tick_of(now);
        let before = self.next_used().map_or(now, |next| now.min(next - 1));
        self.served = self.served.max(before);
    }

    /// When [`Keyed::pop_due`] has something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let micros = u64::from(self.next_used()?).saturating_mul(self.tick.as_micros() as u64);
        Some(Instant::from_micros(micros))
    }

    /// The first tick after `served` whose list is not empty.
    const fn next_used(&self) -> Option<u32> {
        let first = self.served.saturating_add(1);
        match self.wheel.used().rotate_right(first % LISTS as u32) {
            0 => None,
            used => Some(first.saturating_add(used.trailing_zeros())),
        }
    }

    fn enter_wheel(&mut self, slot: u32, deadline: u32) {
        let first = self.served.saturating_add(1);
        let last = self.served.saturating_add(LISTS as u32);
        let list = deadline.clamp(first, last) as usize % LISTS;
        let entry = &mut self.slots[slot as usize];
        (entry.deadline, entry.list) = (deadline, list as u8);
        self.wheel
            .push_front(&mut Wheel(&mut self.slots), list, slot);
    }

    fn leave_wheel(&mut self, slot: u32) {
        let list = self.wheel_list(slot);
        self.wheel.unlink(&mut Wheel(&mut self.slots), list, slot);
    }

    fn wheel_list(&self, slot: u32) -> usize {
        self.slot(slot).list.into()
    }

    fn distance_list(&self, slot: u32) -> usize {
        let shared = self.own.common_prefix(&self.slot(slot).id) as usize;
        shared.min(LISTS - 1)
    }
}

fn hash(key: (u64, u64), id: &NodeId) -> u64 {
    SipHasher13::new_with_keys(key.0, key.1).hash(&id.0)
}

#[cfg(test)]
mod tests;
