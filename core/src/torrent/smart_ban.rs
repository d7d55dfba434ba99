//! The smart ban: who sent the bad blocks of a piece that failed its check.

use alloc::collections::{BTreeMap, VecDeque};
use core::net::SocketAddr;

use super::blame::Blame;
use super::picker::PeerKey;

/// What a torrent knows of the senders of bad blocks.
#[derive(Debug)]
pub(crate) struct SmartBan {
    pub(crate) blame: Blame,
    /// The addresses of peers that sent blocks of pieces that failed their check.
    pub(crate) suspects: BTreeMap<PeerKey, SocketAddr>,
    /// The addresses of the last peers that sent blocks and then disconnected.
    pub(crate) departed: VecDeque<(PeerKey, SocketAddr)>,
}

impl SmartBan {
    pub(crate) const fn new(blame: Blame) -> Self {
        Self {
            blame,
            suspects: BTreeMap::new(),
            departed: VecDeque::new(),
        }
    }
}
