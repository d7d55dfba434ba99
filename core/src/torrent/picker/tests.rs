//! The picker against a naive model made of sets.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use quickcheck::{Arbitrary, Gen, quickcheck};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{pick::RANDOM_FIRST, *};
use crate::Cx;

const PEERS: u32 = 5;
/// Small pieces, the last block and the last piece short.
const PIECE: u32 = 2 * BLOCK_LEN as u32 + 100;

#[derive(Clone, Debug)]
enum Action {
    Have(u8, u8),
    Lost(u8, u8),
    Pick {
        peer: u8,
        count: u8,
        fast: bool,
        allowed: Option<Vec<u8>>,
    },
    Deliver(u8),
    Abort(u8),
    Hash(u8, bool),
    Priority(u8, u8),
    Rejoin(u8, Vec<u8>),
    Reset(u8, bool),
    Replace(u8, Vec<u8>),
    Sequential(Option<u8>),
}

impl Arbitrary for Action {
    fn arbitrary(g: &mut Gen) -> Self {
        let n = u8::arbitrary;
        match n(g) % 18 {
            0..=2 => Self::Have(n(g), n(g)),
            3 => Self::Lost(n(g), n(g)),
            4..=7 => Self::Pick {
                peer: n(g),
                count: n(g) % 8,
                fast: bool::arbitrary(g),
                allowed: (n(g) % 8 == 0).then(|| Vec::arbitrary(g)),
            },
            8..=10 => Self::Deliver(n(g)),
            11 => Self::Abort(n(g)),
            12..=13 => Self::Hash(n(g), n(g) % 4 > 0),
            14 => Self::Priority(n(g), n(g) % 4),
            15 => Self::Reset(n(g), bool::arbitrary(g)),
            16 => Self::Replace(n(g), Vec::arbitrary(g)),
            _ if n(g) % 4 == 0 => Self::Sequential(Option::arbitrary(g)),
            _ => Self::Rejoin(n(g), Vec::arbitrary(g)),
        }
    }
}

/// A picker, its five peers, and what should be true of them.
struct Bench {
    picker: Picker,
    rng: ChaCha8Rng,
    now: Instant,
    pieces: u32,
    has: Vec<Bitfield>,
    states: Vec<PickState>,
    /// In flight, in order of request.
    asked: Vec<(BlockRef, PeerKey)>,
    received: BTreeMap<BlockRef, PeerKey>,
    have: BTreeSet<u32>,
    priority: Vec<Priority>,
}

impl Bench {
    fn new(seed: u64, pieces: u32) -> Self {
        let total = u64::from(pieces) * u64::from(PIECE) - 30_000;
        Self {
            picker: Picker::with_sizes(total, PIECE, Bitfield::new(pieces)),
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Instant::from_micros(1),
            pieces,
            has: (0..PEERS).map(|_| Bitfield::new(pieces)).collect(),
            states: alloc::vec![PickState::default(); PEERS as usize],
            asked: Vec::new(),
            received: BTreeMap::new(),
            have: BTreeSet::new(),
            priority: alloc::vec![Priority::Normal; pieces as usize],
        }
    }

    fn blocks(&self, piece: u32) -> Vec<BlockRef> {
        let size = self.picker.layout.piece_size(piece);
        (0..self.picker.layout.blocks_in(piece))
            .map(|b| Layout::block(piece, size, b))
            .collect()
    }

    fn wanted(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.pieces)
            .filter(|p| self.priority[*p as usize] != Priority::Skip && !self.have.contains(p))
    }

    fn is_free(&self, at: BlockRef) -> bool {
        !self.received.contains_key(&at) && self.asked.iter().all(|(a, _)| *a != at)
    }

    fn is_begun(&self, piece: u32) -> bool {
        self.blocks(piece).into_iter().any(|b| !self.is_free(b))
    }

    fn pick(&mut self, peer: u32, hint: PickHint<'_>, count: u32) -> Vec<BlockRef> {
        let mut out = Vec::new();
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
        };
        let p = peer as usize;
        self.picker.pick(
            &mut cx,
            peer,
            &mut self.states[p],
            &self.has[p],
            hint,
            count,
            &mut out,
        );
        out
    }

    fn pick_checked(&mut self, peer: u32, count: u32, hint: PickHint<'_>) {
        let sequential = self.picker.sequential.is_some();
        let past_random = self.have.len() as u32 + self.picker.partial_count() >= RANDOM_FIRST;
        let out = self.pick(peer, hint, count);
        assert!(out.len() <= count as usize);
        let mut doubled = false;
        for &at in &out {
            assert!(self.has[peer as usize].get(at.piece));
            assert!(self.wanted().any(|p| p == at.piece));
            assert!(!self.received.contains_key(&at));
            assert!(!self.asked.contains(&(at, peer)), "asked twice");
            let others = self.asked.iter().filter(|(a, _)| *a == at).count();
            assert!(others < 3);
            doubled |= others > 0;
            if let Some(allowed) = hint.choked_allowed {
                assert!(allowed.contains(&at.piece));
            } else if !sequential && past_random && !self.is_begun(at.piece) {
                self.assert_rarest(peer, at.piece);
            }
            self.asked.push((at, peer));
        }
        let free: Vec<_> = self
            .wanted()
            .flat_map(|p| self.blocks(p))
            .filter(|&b| self.is_free(b))
            .collect();
        assert!(!doubled || free.is_empty(), "a duplicate outside endgame");
        if hint.choked_allowed.is_none() && out.len() < count as usize {
            let missed = free.iter().find(|b| self.has[peer as usize].get(b.piece));
            assert_eq!(missed, None, "a block was withheld");
        }
    }

    /// Of the pieces not begun that the peer has: none of higher priority, none rarer.
    fn assert_rarest(&self, peer: u32, piece: u32) {
        let rank = |p: u32| {
            let copies = self.has.iter().filter(|h| h.get(p)).count();
            (core::cmp::Reverse(self.priority[p as usize]), copies)
        };
        let better = self.wanted().find(|&p| {
            self.has[peer as usize].get(p) && !self.is_begun(p) && rank(p) < rank(piece)
        });
        assert_eq!(better, None, "not the rarest: {piece}");
    }

    fn deliver(&mut self, index: usize) {
        let (at, peer) = self.asked.remove(index);
        let outcome = self.picker.received(self.now, at, peer);
        if self.have.contains(&at.piece) || self.received.contains_key(&at) {
            assert_eq!(outcome, Received::Duplicate);
            return;
        }
        self.received.insert(at, peer);
        let complete = self
            .blocks(at.piece)
            .iter()
            .all(|b| self.received.contains_key(b));
        assert_eq!(
            outcome,
            Received::Fresh {
                piece_complete: complete
            }
        );
        let others: BTreeSet<_> = self.asked.iter().filter(|(a, _)| *a == at).collect();
        let named: BTreeSet<_> = self.picker.also_requested(at).collect();
        assert_eq!(named, others.into_iter().map(|&(_, p)| p).collect());
    }

    fn hash(&mut self, index: usize, good: bool) {
        let complete: Vec<_> = (0..self.pieces)
            .filter(|p| !self.have.contains(p))
            .filter(|&p| self.blocks(p).iter().all(|b| self.received.contains_key(b)))
            .collect();
        let Some(&piece) = complete.get(index % complete.len().max(1)) else {
            return;
        };
        for (at, sender) in self.picker.contributors(piece) {
            assert_eq!(sender, self.received.get(&at).copied());
        }
        self.received.retain(|at, _| at.piece != piece);
        // Whoever is still asked for it stays in flight with the engine; the picker forgets.
        self.asked.retain(|(at, _)| at.piece != piece);
        if good {
            self.picker.verified(piece);
            self.have.insert(piece);
        } else {
            self.picker.failed(piece);
        }
    }

    fn act(&mut self, action: Action) {
        let pieces = self.pieces;
        let piece_of = |n: u8| u32::from(n) % pieces;
        let peer_of = |n: u8| u32::from(n) % PEERS;
        match action {
            Action::Have(peer, piece) => {
                let has = &mut self.has[peer_of(peer) as usize];
                if has.set(piece_of(piece)) {
                    self.picker.peer_has(piece_of(piece), has);
                }
            }
            Action::Lost(peer, piece) => {
                let has = &mut self.has[peer_of(peer) as usize];
                if has.clear(piece_of(piece)) {
                    self.picker.peer_lost(piece_of(piece), has);
                    self.states[peer_of(peer) as usize].pieces_changed();
                }
            }
            Action::Pick {
                peer,
                count,
                fast,
                allowed,
            } => {
                let allowed: Option<Vec<u32>> =
                    allowed.map(|a| a.into_iter().map(piece_of).collect());
                let hint = PickHint {
                    fast,
                    choked_allowed: allowed.as_deref(),
                    ..PickHint::default()
                };
                self.pick_checked(peer_of(peer), u32::from(count), hint);
            }
            Action::Deliver(n) if !self.asked.is_empty() => {
                self.deliver(usize::from(n) % self.asked.len());
            }
            Action::Abort(n) if !self.asked.is_empty() => {
                let (at, peer) = self.asked.remove(usize::from(n) % self.asked.len());
                self.picker.aborted(at, peer);
            }
            Action::Deliver(_) | Action::Abort(_) => {}
            Action::Hash(n, good) => self.hash(usize::from(n), good),
            Action::Priority(piece, n) => {
                let all = [
                    Priority::Skip,
                    Priority::Low,
                    Priority::Normal,
                    Priority::High,
                ];
                self.priority[piece_of(piece) as usize] = all[usize::from(n)];
                self.picker
                    .set_priority(piece_of(piece), all[usize::from(n)]);
            }
            Action::Rejoin(peer, set) => self.rejoin(peer_of(peer), &set),
            Action::Replace(peer, flipped) => {
                let p = peer_of(peer) as usize;
                let mut now = self.has[p].clone();
                for n in flipped {
                    let piece = piece_of(n);
                    if !now.set(piece) {
                        now.clear(piece);
                    }
                }
                self.picker.peer_replaced(&mut self.has[p], &now);
                assert_eq!(self.has[p], now);
                self.states[p].pieces_changed();
            }
            Action::Reset(peer, all) => {
                let p = peer_of(peer) as usize;
                self.picker.peer_reset(&mut self.has[p], all);
                self.states[p].pieces_changed();
            }
            Action::Sequential(from) => {
                self.picker.set_sequential(from.map(|n| Sequential {
                    from: piece_of(n),
                    window: 4,
                }));
            }
        }
    }

    fn rejoin(&mut self, peer: u32, set: &[u8]) {
        for (at, _) in self.asked.extract_if(.., |(_, p)| *p == peer) {
            self.picker.aborted(at, peer);
        }
        let p = peer as usize;
        self.picker.peer_gone(peer, &mut self.states[p]);
        self.picker.peer_left(&self.has[p]);
        self.states[p] = PickState::default();
        // An empty list stands for a seed.
        self.has[p] = if set.is_empty() {
            Bitfield::full(self.pieces)
        } else {
            Bitfield::new(self.pieces)
        };
        for &n in set {
            self.has[p].set(u32::from(n) % self.pieces);
        }
        self.picker.peer_joined(&self.has[p]);
    }

    fn check(&self) {
        self.picker.check();
        assert_eq!(
            self.picker.have().iter().collect::<BTreeSet<_>>(),
            self.have
        );
        assert_eq!(self.picker.missing() as usize, self.wanted().count());
        assert_eq!(self.picker.is_done(), self.wanted().count() == 0);
        let left: u64 = self
            .wanted()
            .flat_map(|p| self.blocks(p))
            .filter(|b| !self.received.contains_key(b))
            .map(|b| u64::from(b.len))
            .sum();
        assert_eq!(self.picker.bytes_left(), left);
        for piece in 0..self.pieces {
            let copies = self.has.iter().filter(|h| h.get(piece)).count();
            assert_eq!(self.picker.availability(piece) as usize, copies);
            assert_eq!(self.picker.wants(piece), self.wanted().any(|p| p == piece));
            let begun = self.is_begun(piece) && !self.have.contains(&piece);
            assert_eq!(self.picker.partial(piece).is_some(), begun);
        }
        for has in &self.has {
            let interesting = self.wanted().filter(|&p| has.get(p)).count();
            assert_eq!(self.picker.interesting(has) as usize, interesting);
            assert_eq!(self.picker.is_interesting(has), interesting > 0);
        }
    }

    /// Seeds everything to everybody until done; returns blocks delivered.
    fn finish(&mut self) -> usize {
        for peer in 0..PEERS {
            self.rejoin(peer, &[]);
        }
        let mut delivered = 0;
        for round in 0..10_000 {
            if self.picker.is_done() {
                return delivered;
            }
            let hint = PickHint {
                fast: round % 2 == 0,
                ..PickHint::default()
            };
            self.pick_checked(round % PEERS, 3, hint);
            if !self.asked.is_empty() {
                self.deliver(round as usize % self.asked.len());
                delivered += 1;
            }
            self.hash(0, true);
        }
        panic!("the download does not end");
    }
}

quickcheck! {
    fn agrees_with_the_model(seed: u64, pieces: u8, actions: Vec<Action>) -> bool {
        let mut bench = Bench::new(seed, u32::from(pieces) % 24 + 2);
        for action in actions {
            bench.act(action);
            bench.check();
        }
        bench.finish();
        bench.check();
        true
    }
}
