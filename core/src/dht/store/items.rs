//! Items that other nodes put here (BEP 44), by the hash that they are found under.

use alloc::boxed::Box;
use core::time::Duration;

use super::keyed::Keyed;
use crate::dht::item::{self, Refusal};
use crate::wire::krpc::Item;
use crate::{Instant, NodeId};

/// How long an item is kept unless it is put again (BEP 44: two hours).
pub const ITEM_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);
/// A tick of the wheel, whose 32 are two hours and a quarter.
const TICK: Duration = Duration::from_secs(256);
/// Items that one call of [`ItemStore::expire`] drops.
const EXPIRE_BATCH: usize = 64;
/// Pause between batches.
const EXPIRE_PAUSE: Duration = Duration::from_millis(10);

/// Why an item was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError {
    /// The item is not valid.
    Refused(Refusal),
    /// The store is full of items that are closer to our id.
    Full,
}

impl PutError {
    /// The code to answer with (BEP 5, 44).
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Full => 202,
        }
    }

    /// The text to answer with.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.text(),
            Self::Full => "Full.",
        }
    }
}

impl From<Refusal> for PutError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// An item that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredItem<'a> {
    /// The value, as bencode.
    pub v: &'a [u8],
    /// The key of a mutable one.
    pub k: Option<&'a [u8; 32]>,
    /// Its signature.
    pub sig: Option<&'a [u8; 64]>,
    /// Its version.
    pub seq: Option<i64>,
}

#[derive(Clone, Debug)]
struct Stored {
    v: Box<[u8]>,
    version: Option<Box<Version>>,
}

#[derive(Clone, Debug)]
struct Version {
    k: [u8; 32],
    sig: [u8; 64],
    seq: i64,
}

/// Items by target.
#[derive(Clone, Debug)]
pub struct ItemStore {
    items: Keyed<Stored>,
    max_items: u32,
    /// When the next batch may be dropped.
    resume: Instant,
}

impl ItemStore {
    /// Empty; `key` is drawn from the node's randomness.
    #[must_use]
    pub const fn new(key: (u64, u64), max_items: u32) -> Self {
        Self {
            items: Keyed::new(key, TICK),
            max_items,
            resume: Instant::ORIGIN,
        }
    }

    /// Sets our id: the items that are farthest from it are evicted when the store is full.
    pub fn set_own(&mut self, id: NodeId) {
        self.items.set_own(id);
    }

    /// Keeps what a `put` brings for two hours, if it is sound, signed, and not older than what
    /// there is (BEP 44). Returns its target.
    ///
    /// # Errors
    /// The error to answer with if it is not stored; nothing is changed then.
    pub fn put(&mut self, now: Instant, put: &Item<'_>) -> Result<NodeId, PutError> {
        if let Some(renewed) = self.renews(now, put)? {
            return Ok(renewed);
        }
        let target = item::check(put)?;
        let version = match (put.k, put.sig, put.seq) {
            (Some(&k), Some(&sig), Some(seq)) => Some(Box::new(Version { k, sig, seq })),
            _ => None,
        };
        let v = put.v.unwrap_or_default().into();
        let stored = Stored { v, version };
        if let Some(slot) = self.items.find(&target) {
            *self.items.value(slot) = stored;
            self.renew(now, slot);
        } else {
            self.make_room(&target)?;
            let deadline = self.deadline(now);
            self.items.insert(now, target, deadline, stored);
        }
        Ok(target)
    }

    /// What a `get` is told of the item at `target` (BEP 44): of a mutable one that is not newer than `seq`, which the
    /// querier has, only the version.
    #[must_use]
    pub fn reply(&self, target: &NodeId, seq: Option<i64>) -> Item<'_> {
        let Some(kept) = self.get(target) else {
            return Item::default();
        };
        if kept.seq.is_some() && seq >= kept.seq {
            return Item {
                seq: kept.seq,
                ..Item::default()
            };
        }
        Item {
            v: Some(kept.v),
            k: kept.k,
            sig: kept.sig,
            seq: kept.seq,
            ..Item::default()
        }
    }

    /// Renews a mutable item that is stored already with the same bytes, and returns its target: it was verified before.
    /// An item that may not replace the stored one is refused before its signature is verified, which is expensive.
    fn renews(&mut self, now: Instant, put: &Item<'_>) -> Result<Option<NodeId>, Refusal> {
        let (Some(v), Some(k), Some(sig), Some(seq @ 0..)) = (put.v, put.k, put.sig, put.seq)
        else {
            return Ok(None);
        };
        let target = item::mutable_target(k, put.salt.unwrap_or_default());
        let Some(slot) = self.items.find(&target) else {
            return Ok(None);
        };
        let stored = &self.items.slot(slot).value;
        let Some(kept) = &stored.version else {
            return Ok(None);
        };
        item::check_update((kept.seq, &stored.v), (seq, v), put.cas)?;
        if put.malformed || seq != kept.seq || *sig != kept.sig {
            return Ok(None);
        }
        self.renew(now, slot);
        Ok(Some(target))
    }

    /// The item that is stored under a target.
    #[must_use]
    pub fn get(&self, target: &NodeId) -> Option<StoredItem<'_>> {
        let Stored { v, version } = &self.items.slot(self.items.find(target)?).value;
        let version = version.as_deref();
        Some(StoredItem {
            v,
            k: version.map(|version| &version.k),
            sig: version.map(|version| &version.sig),
            seq: version.map(|version| version.seq),
        })
    }

    /// How many items are stored.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.items.len() as u32
    }

    /// Drops items that were not put for two hours; only some of them, if many are due.
    pub fn expire(&mut self, now: Instant) {
        if now < self.resume {
            return;
        }
        for _ in 0..EXPIRE_BATCH {
            let Some(slot) = self.items.pop_due(now) else {
                return;
            };
            if self.items.is_due(now, slot) {
                self.items.remove(slot);
            } else {
                self.items.wait(slot);
            }
        }
        self.resume = now + EXPIRE_PAUSE;
    }

    /// When [`ItemStore::expire`] has something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        Some(self.items.next_due()?.max(self.resume))
    }

    fn deadline(&self, now: Instant) -> u32 {
        self.items.tick_of(now + ITEM_LIFETIME).saturating_add(1)
    }

    fn renew(&mut self, now: Instant, slot: u32) {
        let deadline = self.deadline(now);
        self.items.put_off(slot, deadline);
        self.items.touch(slot);
    }

    fn make_room(&mut self, target: &NodeId) -> Result<(), PutError> {
        if self.items.len() < self.max_items as usize {
            return Ok(());
        }
        let victim = self.items.farthest();
        let victim = victim.filter(|slot| self.items.is_farther(target, *slot));
        self.items.remove(victim.ok_or(PutError::Full)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
