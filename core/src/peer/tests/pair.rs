//! Two machines, joined by wires that cut the stream anywhere.

use super::*;
use crate::peer::crypto::StreamEncryption;

/// A leecher and a seeder, and a torrent whose pieces are two blocks, the second one short.
struct Pair {
    world: World,
    leecher: End,
    seeder: End,
    wanted: VecDeque<BlockRef>,
    got: usize,
    /// Bytes one read or write moves at most.
    cut: usize,
}

const PIECES: u32 = 20;

impl Pair {
    fn new(seed: u64, ours: Option<CryptoOffer>, theirs: Encryption, cut: usize) -> Self {
        let mut world = World::new(seed);
        let cfg = PeerConfig::default();
        let leecher = Peer::outgoing(&mut world.cx(), &cfg, &local(1), ours);
        let seeder = Peer::incoming(&mut world.cx(), &cfg, theirs);
        let wanted = (0..PIECES)
            .flat_map(|p| [at(p, 0, BLOCK), at(p, BLOCK, 1000 + p)])
            .collect();
        Self {
            world,
            leecher: End::new(leecher),
            seeder: End::new(seeder),
            wanted,
            got: 0,
            cut,
        }
    }

    fn seeder_acts(&mut self) {
        for event in self.seeder.take_events() {
            let peer = &mut self.seeder.peer;
            match event {
                PeerEvent::Handshake { info_hash, .. } => {
                    assert_eq!(info_hash, TORRENT);
                    peer.welcome(&mut self.world.cx(), &local(2));
                }
                PeerEvent::Established => {
                    peer.set_pieces(PIECES);
                    peer.bitfield(&Bitfield::full(PIECES));
                }
                PeerEvent::Interested => peer.unchoke(),
                PeerEvent::Requested(at) => {
                    // Small talk between the blocks spoils the guesses of the other side.
                    if self.world.below(4) == 0 {
                        peer.have(at.piece);
                    }
                    let mut block = self.seeder.pool.take().unwrap();
                    block[..at.len as usize].copy_from_slice(&payload(at));
                    assert!(peer.send_block(at, block).is_none());
                }
                PeerEvent::Closed(fault) => panic!("{fault}"),
                _ => {}
            }
        }
    }

    fn leecher_acts(&mut self) {
        for event in self.leecher.take_events() {
            let peer = &mut self.leecher.peer;
            match event {
                PeerEvent::Established => peer.set_pieces(PIECES),
                PeerEvent::HasChanged | PeerEvent::HasAll => {
                    peer.set_interested(peer.has().is_full());
                }
                PeerEvent::Block { at, block } => {
                    assert!(block[..at.len as usize] == payload(at), "{at:?} is wrong");
                    self.got += 1;
                    self.leecher.pool.give(block);
                }
                PeerEvent::Rejected(at) => self.wanted.push_back(at),
                PeerEvent::Closed(fault) => panic!("{fault}"),
                _ => {}
            }
        }
        if !self.leecher.peer.peer_choking() {
            for _ in 0..self.leecher.peer.request_room(self.world.now) {
                if let Some(at) = self.wanted.pop_front() {
                    self.leecher.peer.request(&mut self.world.cx(), at);
                }
            }
        }
    }

    fn assert_encryption(&self, how: StreamEncryption) {
        let (leecher, seeder) = (&self.leecher.peer, &self.seeder.peer);
        assert_eq!((leecher.encryption(), seeder.encryption()), (how, how));
    }

    fn step(&mut self) {
        self.world.now += Duration::from_millis(1);
        for to_seeder in [true, false] {
            let (limit, max) = (
                self.world.below(self.cut) + 1,
                self.world.below(self.cut) + 1,
            );
            let (from, to) = if to_seeder {
                (&mut self.leecher, &mut self.seeder)
            } else {
                (&mut self.seeder, &mut self.leecher)
            };
            let sent = from.write(&mut self.world.cx(), limit);
            to.wire.extend(sent);
            to.read(&mut self.world.cx(), limit.max(20), max);
        }
        self.seeder_acts();
        self.leecher_acts();
    }

    /// Downloads everything and checks that every block goes home.
    fn run(mut self) -> Totals {
        for _ in 0..2_000_000 {
            if self.got == 2 * PIECES as usize {
                break;
            }
            self.step();
        }
        assert_eq!(self.got, 2 * PIECES as usize);
        let totals = self.leecher.peer.totals();
        assert_eq!(
            totals.payload_down,
            (0..PIECES)
                .map(|p| u64::from(BLOCK + 1000 + p))
                .sum::<u64>()
        );
        assert_eq!(self.seeder.peer.totals().payload_up, totals.payload_down);
        assert_eq!(self.leecher.pool.lent(), 0, "an idle peer holds no block");
        assert_eq!(self.leecher.lent_after_close(), 0);
        assert_eq!(self.seeder.lent_after_close(), 0);
        totals
    }
}

#[test]
fn a_plain_download_is_exact_in_large_and_in_tiny_reads() {
    for cut in [300_000, 40_000, 5_000, 100] {
        Pair::new(cut as u64, None, Encryption::Off, cut).run();
    }
}

#[test]
fn an_encrypted_download_is_exact_in_large_and_in_tiny_reads() {
    for cut in [300_000, 40_000, 5_000, 100] {
        let offer = Encryption::Required.offer();
        let mut pair = Pair::new(cut as u64, offer, Encryption::Required, cut);
        while !pair.leecher.peer.is_open() {
            pair.step();
        }
        pair.assert_encryption(StreamEncryption::Full);
        pair.run();
    }
}

#[test]
fn an_encrypted_handshake_may_lead_to_plaintext() {
    for cut in [300_000, 40_000, 5_000, 100] {
        let offer = Encryption::Preferred.offer();
        let mut pair = Pair::new(cut as u64, offer, Encryption::Preferred, cut);
        while !pair.leecher.peer.is_open() {
            pair.step();
        }
        pair.assert_encryption(StreamEncryption::Handshake);
        pair.run();
    }
}

#[test]
fn all_is_encrypted_where_one_side_requires_it() {
    for (ours, theirs) in [
        (Encryption::Required, Encryption::Preferred),
        (Encryption::Preferred, Encryption::Required),
    ] {
        let mut pair = Pair::new(1, ours.offer(), theirs, 2000);
        while !pair.leecher.peer.is_open() {
            pair.step();
        }
        pair.assert_encryption(StreamEncryption::Full);
        pair.run();
    }
}

#[test]
fn sides_that_disagree_on_encryption_part() {
    let offer = Encryption::Required.offer();
    for (ours, theirs) in [(offer, Encryption::Off), (None, Encryption::Required)] {
        let mut pair = Pair::new(1, ours, theirs, 2000);
        for _ in 0..100 {
            let sent = pair.leecher.write(&mut pair.world.cx(), 2000);
            pair.seeder.hear(&mut pair.world.cx(), &sent);
        }
        let fault = pair.seeder.fault().unwrap();
        assert!(
            matches!(fault, PeerFault::Encryption | PeerFault::NotBitTorrent),
            "{fault}"
        );
    }
}

quickcheck! {
    fn a_download_is_exact_however_the_stream_is_cut(seed: u64, cut: u16, encrypted: bool) -> bool {
        let (ours, theirs) = if encrypted {
            (Encryption::Required.offer(), Encryption::Preferred)
        } else {
            (None, Encryption::Preferred)
        };
        let cut = usize::from(cut).max(500);
        Pair::new(seed, ours, theirs, cut).run().unwanted == 0
    }
}
