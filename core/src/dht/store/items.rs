//! Items that others put here (BEP 44), under what they hash to.

use alloc::{boxed::Box, format, vec::Vec};
use core::time::Duration;

use ed25519_dalek::{Signature, VerifyingKey};

use super::keyed::Keyed;
use crate::hash::{Hasher, sha1};
use crate::wire::krpc::Item;
use crate::{Instant, NodeId};

/// Longest value, as bencode (BEP 44).
pub const MAX_VALUE: usize = 1000;
/// Longest salt (BEP 44).
pub const MAX_SALT: usize = 64;
/// How long an item is kept that nobody puts again (BEP 44: two hours).
pub const ITEM_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);
/// A tick of the wheel, whose 32 are two hours and a quarter.
const TICK: Duration = Duration::from_secs(256);
/// Items that one call of [`ItemStore::expire`] drops.
const EXPIRE_BATCH: usize = 64;
/// Pause between batches.
const EXPIRE_PAUSE: Duration = Duration::from_millis(10);

/// Why an item was not taken: the errors of BEP 44.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError {
    /// A field is missing, of the wrong type, or out of range.
    Malformed,
    /// The value is longer than 1000 bytes.
    TooBig,
    /// The signature is not the key's.
    BadSignature,
    /// The salt is longer than 64 bytes.
    SaltTooBig,
    /// The item to replace is not of the version that the sender believes.
    CasMismatch,
    /// There is one as new or newer.
    OldSeq,
    /// The store is full of what is closer to us.
    Full,
}

impl PutError {
    /// The code to answer with.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Full => 202,
            Self::Malformed => 203,
            Self::TooBig => 205,
            Self::BadSignature => 206,
            Self::SaltTooBig => 207,
            Self::CasMismatch => 301,
            Self::OldSeq => 302,
        }
    }

    /// The text to answer with; short, since an error must not be longer than the query.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Full => "Full",
            Self::Malformed => "Malformed item",
            Self::TooBig => "Value too big",
            Self::BadSignature => "Bad signature",
            Self::SaltTooBig => "Salt too big",
            Self::CasMismatch => "CAS mismatch",
            Self::OldSeq => "Sequence number too old",
        }
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
    /// No batch before this moment.
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

    /// Our id: what is farthest from it gives way when the store is full.
    pub fn set_own(&mut self, id: NodeId) {
        self.items.set_own(id);
    }

    /// Keeps what a `put` brings, for two hours; returns its target.
    ///
    /// # Errors
    /// What to answer, if it is not taken.
    pub fn put(&mut self, now: Instant, item: &Item<'_>) -> Result<NodeId, PutError> {
        match item.v {
            _ if item.malformed => Err(PutError::Malformed),
            None => Err(PutError::Malformed),
            Some(v) if item.k.is_none() => self.put_immutable(now, v),
            Some(_) => self.put_mutable(now, item),
        }
    }

    /// Keeps a value, sound bencode, under its hash.
    ///
    /// # Errors
    /// What to answer, if it is not taken.
    pub fn put_immutable(&mut self, now: Instant, v: &[u8]) -> Result<NodeId, PutError> {
        if v.len() > MAX_VALUE {
            return Err(PutError::TooBig);
        }
        let target = NodeId(sha1(v));
        if let Some(slot) = self.items.find(&target) {
            self.renew(now, slot);
            return Ok(target);
        }
        self.make_room(&target)?;
        let deadline = self.deadline(now);
        let stored = Stored {
            v: v.into(),
            version: None,
        };
        self.items.insert(now, target, deadline, stored);
        Ok(target)
    }

    /// Keeps a signed value under the hash of its key and salt, unless there is a newer one.
    ///
    /// # Errors
    /// What to answer, if it is not taken.
    pub fn put_mutable(&mut self, now: Instant, item: &Item<'_>) -> Result<NodeId, PutError> {
        let (Some(v), Some(k), Some(sig), Some(seq @ 0..)) = (item.v, item.k, item.sig, item.seq)
        else {
            return Err(PutError::Malformed);
        };
        let salt = item.salt.unwrap_or_default();
        if v.len() > MAX_VALUE {
            return Err(PutError::TooBig);
        }
        if salt.len() > MAX_SALT {
            return Err(PutError::SaltTooBig);
        }
        let target = mutable_target(k, salt);
        let there = self.items.find(&target);
        // Cheap checks first: a signature costs as much as a hundred of them.
        if let Some(slot) = there {
            let stored = &self.items.slot(slot).value;
            if let Some(version) = &stored.version {
                if item.cas.is_some_and(|cas| cas != version.seq) {
                    return Err(PutError::CasMismatch);
                }
                if seq <= version.seq {
                    // The same again is no news, but keeps it alive; it was verified before.
                    if seq < version.seq || *stored.v != *v {
                        return Err(PutError::OldSeq);
                    }
                    if *sig != version.sig {
                        return Err(PutError::BadSignature);
                    }
                    self.renew(now, slot);
                    return Ok(target);
                }
            }
        }
        if !is_signed(v, k, salt, seq, sig) {
            return Err(PutError::BadSignature);
        }
        let (k, sig) = (*k, *sig);
        let stored = Stored {
            v: v.into(),
            version: Some(Box::new(Version { k, sig, seq })),
        };
        if let Some(slot) = there {
            *self.items.value(slot) = stored;
            self.renew(now, slot);
        } else {
            self.make_room(&target)?;
            let deadline = self.deadline(now);
            self.items.insert(now, target, deadline, stored);
        }
        Ok(target)
    }

    /// The item of a target.
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

    /// Items now.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.items.len() as u32
    }

    /// Drops items that nobody put for two hours; a part of them, if many are due.
    pub fn expire(&mut self, now: Instant) {
        if now < self.resume {
            return;
        }
        for _ in 0..EXPIRE_BATCH {
            let Some(slot) = self.items.pop_due(now) else {
                return;
            };
            self.items.remove(slot);
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

/// The target of a mutable item: SHA-1 of key and salt.
fn mutable_target(k: &[u8; 32], salt: &[u8]) -> NodeId {
    let mut hasher = Hasher::sha1();
    hasher.update(k);
    hasher.update(salt);
    NodeId(hasher.finish())
}

/// Whether `sig` is the signature of `k` over salt, version and value.
fn is_signed(v: &[u8], k: &[u8; 32], salt: &[u8], seq: i64, sig: &[u8; 64]) -> bool {
    let mut signed = Vec::with_capacity(v.len() + salt.len() + 48);
    if !salt.is_empty() {
        signed.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        signed.extend_from_slice(salt);
    }
    signed.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    signed.extend_from_slice(v);
    let signature = Signature::from_bytes(sig);
    VerifyingKey::from_bytes(k).is_ok_and(|key| key.verify_strict(&signed, &signature).is_ok())
}
