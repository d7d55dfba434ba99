//! The smart ban: who sent the bad blocks of a piece that failed its check.
//!
//! [`Blame`] finds the senders, and this type knows their addresses. `transfers` decides on a ban, `Torrent::ban` closes the
//! connections, and `peer_list::bans` says how far and how long a ban reaches.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::blame::{Blame, Verdict};
use super::conn::member::Member;
use super::conn::members::Members;
use super::picker::PeerKey;
use crate::Block;
use crate::metainfo::Info;

/// The maximum number of suspects whose addresses are kept.
const MAX_SUSPECT_ADDRESSES: usize = 1024;
/// The maximum number of senders of blocks that are remembered after they disconnected.
const MAX_DEPARTED: usize = 64;

/// What a torrent knows of the senders of bad blocks, and the addresses to ban.
#[derive(Debug)]
pub(crate) struct SmartBan {
    blame: Blame,
    /// The addresses of peers that sent blocks of pieces that failed their check.
    addrs: BTreeMap<PeerKey, SocketAddr>,
    /// The addresses of the last peers that sent blocks and then disconnected.
    departed: VecDeque<(PeerKey, SocketAddr)>,
}

impl SmartBan {
    pub(crate) const fn new(blame: Blame) -> Self {
        Self {
            blame,
            addrs: BTreeMap::new(),
            departed: VecDeque::new(),
        }
    }

    /// A peer that had sent blocks disconnected.
    pub(crate) fn departed(&mut self, peer: PeerKey, addr: SocketAddr) {
        if self.departed.len() >= MAX_DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back((peer, addr));
    }

    /// A piece failed its check. `senders` are the senders of its blocks, `None` for blocks of an earlier session.
    pub(crate) fn failed(
        &mut self,
        piece: u32,
        senders: impl Iterator<Item = Option<PeerKey>>,
        members: &Members,
    ) -> Verdict {
        let senders: Vec<Option<PeerKey>> = senders.collect();
        // A slot may be reused before the piece is downloaded again, so the address is kept.
        for &sender in senders.iter().flatten() {
            let here = members.by_key(sender).map(Member::addr);
            let addr = here.or_else(|| {
                let mut gone = self.departed.iter().rev();
                gone.find(|(k, _)| *k == sender).map(|(_, addr)| *addr)
            });
            if let Some(addr) = addr {
                if self.addrs.len() >= MAX_SUSPECT_ADDRESSES {
                    self.addrs.pop_first();
                }
                self.addrs.insert(sender, addr);
            }
        }
        self.blame.failed(piece, senders)
    }

    /// Whether blocks of a piece are remembered, and have to be compared once it passes.
    pub(crate) fn is_suspect(&self, piece: u32) -> bool {
        self.blame.is_suspect(piece)
    }

    /// Forgets the blocks of a piece: they cannot be compared.
    pub(crate) fn forget(&mut self, piece: u32) {
        self.blame.forget(piece);
    }

    /// Remembers the blocks of a piece that failed, as they were read back.
    pub(crate) fn note(
        &mut self,
        info: &Info,
        piece: u32,
        senders: impl Iterator<Item = Option<PeerKey>>,
        blocks: &[Block],
    ) {
        for (n, sender) in (0..).zip(senders) {
            if let (Some(bytes), Some(sender)) = (bytes_of(info, piece, n, blocks), sender) {
                self.blame.note(piece, n, sender, bytes);
            }
        }
    }

    /// Compares the blocks of a piece that passed with those that were remembered. Returns the senders of those that differ.
    pub(crate) fn compare(&mut self, info: &Info, piece: u32, blocks: &[Block]) -> Vec<PeerKey> {
        let mut guilty = Vec::new();
        for n in 0..info.blocks_in(piece) {
            if let Some(good) = bytes_of(info, piece, n, blocks) {
                guilty.extend(self.blame.compare(piece, n, good));
            }
        }
        self.blame.forget(piece);
        guilty.sort_unstable();
        guilty.dedup();
        guilty
    }

    /// The address of a suspect that is to be banned. It is no longer a suspect.
    pub(crate) fn convict(&mut self, sender: PeerKey) -> Option<SocketAddr> {
        self.addrs.remove(&sender)
    }
}

/// The bytes of the `n`th block of a piece that was read.
fn bytes_of<'a>(info: &Info, piece: u32, n: u32, blocks: &'a [Block]) -> Option<&'a [u8]> {
    let len = info.block(piece, n)?.len as usize;
    blocks.get(n as usize)?.get(..len)
}
