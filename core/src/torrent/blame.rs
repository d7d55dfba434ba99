//! Blame: finding the peers that sent the bad bytes of a piece that failed its hash.
//!
//! ```text
//!  failed, one sender ──▶ Verdict::Guilty
//!  failed, several ──▶ Verdict::Remember ──▶ note() each block ─┐
//!                                                               ▼
//!  verified at last ──is_suspect()──▶ compare() each block ──▶ the senders who differed
//! ```
//!
//! A peer that sent all of a bad piece is to blame: TCP and uTP have checksums, so transmission errors are unlikely. Where
//! several peers took part, the torrent reads the bad blocks back before they are overwritten and passes them to
//! [`Blame::note`], which keeps a keyed digest of each with its sender. When the piece passes, the good blocks are compared
//! with these, and only the senders of blocks that differ are to blame.

use alloc::{collections::BTreeMap, vec::Vec};

use sha1::{Digest, Sha1};

use super::picker::PeerKey;
use crate::Cx;

/// The maximum number of failed pieces that are remembered. Beyond it, the oldest is forgotten.
const MAX_SUSPECTS: usize = 32;
/// The maximum number of digests of all pieces: about 300 KiB.
const MAX_NOTES: usize = 8192;

/// What to do about a failed piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One peer sent all of it: ban it.
    Guilty(PeerKey),
    /// Several peers sent it: read the blocks back and [`Blame::note`] each before the piece is requested again.
    Remember,
    /// No peer is to blame: it came from an earlier session.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    block: u32,
    sender: PeerKey,
    digest: u64,
}

#[derive(Debug, Default)]
struct Suspect {
    /// When it failed.
    order: u64,
    notes: Vec<Note>,
}

/// The failed pieces of a torrent, and the senders of their blocks.
#[derive(Debug)]
pub struct Blame {
    /// The key of the digests, so that no peer can prepare two blocks with the same digest.
    key: [u8; 16],
    suspects: BTreeMap<u32, Suspect>,
    notes: usize,
    failures: u64,
}

impl Blame {
    /// Creates an empty record with a random key.
    pub fn new(cx: &mut Cx<'_>) -> Self {
        let mut key = [0; 16];
        cx.rng.fill_bytes(&mut key);
        Self {
            key,
            suspects: BTreeMap::new(),
            notes: 0,
            failures: 0,
        }
    }

    /// `piece` failed its hash. `senders` are the senders of its blocks, `None` for blocks of an earlier session.
    pub fn failed(
        &mut self,
        piece: u32,
        senders: impl IntoIterator<Item = Option<PeerKey>>,
    ) -> Verdict {
        let mut first = None;
        let (mut single, mut any_unknown) = (true, false);
        for sender in senders {
            match (first, sender) {
                (_, None) => any_unknown = true,
                (None, Some(_)) => first = sender,
                (Some(a), Some(b)) => single &= a == b,
            }
        }
        let Some(sender) = first else {
            return Verdict::Unknown;
        };
        if single && !any_unknown {
            return Verdict::Guilty(sender);
        }
        self.make_room();
        self.failures += 1;
        self.suspects.entry(piece).or_default().order = self.failures;
        Verdict::Remember
    }

    /// Remembers a block that `sender` sent, of a piece for which [`Verdict::Remember`] was returned.
    pub fn note(&mut self, piece: u32, block: u32, sender: PeerKey, bytes: &[u8]) {
        let digest = self.digest(piece, block, bytes);
        let Some(suspect) = self.suspects.get_mut(&piece) else {
            return;
        };
        let known = suspect
            .notes
            .iter()
            .any(|n| n.block == block && n.sender == sender && n.digest == digest);
        if !known && self.notes < MAX_NOTES {
            suspect.notes.push(Note {
                block,
                sender,
                digest,
            });
            self.notes += 1;
        }
    }

    /// Whether blocks of `piece` are remembered, and have to be compared once it passes.
    #[must_use]
    pub fn is_suspect(&self, piece: u32) -> bool {
        self.suspects.contains_key(&piece)
    }

    /// Returns the senders whose bytes of a block differ from `good`: they are to blame.
    pub fn compare(
        &self,
        piece: u32,
        block: u32,
        good: &[u8],
    ) -> impl Iterator<Item = PeerKey> + '_ {
        let suspect = self.suspects.get(&piece);
        let digest = suspect.map_or(0, |_| self.digest(piece, block, good));
        suspect
            .into_iter()
            .flat_map(|s| &s.notes)
            .filter(move |n| n.block == block && n.digest != digest)
            .map(|n| n.sender)
    }

    /// Forgets `piece`: it was compared, or is no longer wanted.
    pub fn forget(&mut self, piece: u32) {
        if let Some(suspect) = self.suspects.remove(&piece) {
            self.notes -= suspect.notes.len();
        }
    }

    fn make_room(&mut self) {
        while self.suspects.len() >= MAX_SUSPECTS || self.notes >= MAX_NOTES {
            let oldest = self.suspects.iter().min_by_key(|(_, s)| s.order);
            let Some((&piece, _)) = oldest else {
                return;
            };
            self.forget(piece);
        }
    }

    /// The first 64 bits of a SHA-1 with the key at both ends, which a peer can only guess.
    fn digest(&self, piece: u32, block: u32, bytes: &[u8]) -> u64 {
        let sum: [u8; 20] = Sha1::new()
            .chain_update(self.key)
            .chain_update(piece.to_be_bytes())
            .chain_update(block.to_be_bytes())
            .chain_update(bytes)
            .chain_update(self.key)
            .finalize()
            .into();
        sum.first_chunk()
            .map_or(0, |head| u64::from_be_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quickcheck::quickcheck;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::Instant;

    fn blame() -> Blame {
        Blame::new(&mut Cx {
            now: Instant::ORIGIN,
            rng: &mut ChaCha8Rng::seed_from_u64(1),
        })
    }

    #[test]
    fn a_lone_sender_is_guilty_at_once() {
        let mut blame = blame();
        assert_eq!(blame.failed(1, [Some(7), Some(7)]), Verdict::Guilty(7));
        assert!(!blame.is_suspect(1));
    }

    #[test]
    fn blocks_from_an_earlier_session_keep_a_lone_sender_from_being_guilty() {
        let mut blame = blame();
        assert_eq!(blame.failed(1, [Some(7), None]), Verdict::Remember);
        assert_eq!(blame.failed(2, [None, None]), Verdict::Unknown);
    }

    #[test]
    fn a_piece_that_fails_twice_names_both_liars() {
        let mut blame = blame();
        for liar in [3, 4] {
            assert_eq!(blame.failed(9, [Some(1), Some(liar)]), Verdict::Remember);
            blame.note(9, 0, 1, b"right");
            blame.note(9, 1, liar, b"wrong");
        }
        assert_eq!(blame.compare(9, 0, b"right").count(), 0);
        assert_eq!(blame.compare(9, 1, b"right").collect::<Vec<_>>(), [3, 4]);
        blame.forget(9);
        assert!(!blame.is_suspect(9));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_gives_way() {
        let mut blame = blame();
        for piece in 0..100 {
            blame.failed(piece, [Some(1), Some(2)]);
            for block in 0..1000 {
                blame.note(piece, block, 1, b"x");
            }
        }
        assert!(blame.notes <= MAX_NOTES && blame.suspects.len() <= MAX_SUSPECTS);
        assert!(blame.is_suspect(99) && !blame.is_suspect(0));
        for piece in 0..100 {
            blame.forget(piece);
        }
        assert_eq!(blame.notes, 0);
    }

    quickcheck! {
        /// Whatever is sent: exactly those whose bytes differ are named.
        fn names_the_liars_and_nobody_else(sent: Vec<(u8, bool)>) -> bool {
            let mut blame = blame();
            let senders: Vec<_> = sent.iter().map(|&(peer, _)| Some(u32::from(peer))).collect();
            if blame.failed(0, senders) != Verdict::Remember { return true; }
            for (block, &(peer, lies)) in (0..).zip(&sent) {
                let bytes = if lies { [1, block as u8] } else { [0, block as u8] };
                blame.note(0, block, peer.into(), &bytes);
            }
            let mut named = vec![];
            for block in 0..sent.len() as u32 {
                named.extend(blame.compare(0, block, &[0, block as u8]));
            }
            named == sent.iter().filter(|s| s.1).map(|s| u32::from(s.0)).collect::<Vec<_>>()
        }
    }
}
