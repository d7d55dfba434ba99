//! What a connection reports to its owner.

use alloc::vec::Vec;
use core::net::SocketAddr;

#[cfg(doc)]
use super::Peer;
use super::PeerFault;
use crate::wire::extension::PexFlags;
use crate::{Block, BlockRef, InfoHash, PeerId};

/// What the machine reports to its owner.
#[derive(Debug)]
#[non_exhaustive]
pub enum PeerEvent {
    /// An incoming handshake; answer it with [`Peer::welcome`], or close.
    Handshake {
        /// The torrent that it names.
        info_hash: InfoHash,
        /// The peer id of the caller.
        peer_id: PeerId,
    },
    /// Both handshakes are complete: [`Peer::bitfield`] is due now.
    Established,
    /// The peer does not answer requests from now on.
    Choked,
    /// The peer sends blocks to us.
    Unchoked,
    /// The peer is interested in our pieces.
    Interested,
    /// The peer is not interested any more.
    NotInterested,
    /// The peer has this piece.
    Have(u32),
    /// [`Peer::has`] was replaced.
    HasChanged,
    /// The peer has every piece.
    HasAll,
    /// The peer has no piece.
    HasNone,
    /// The peer lost this piece (BEP 54).
    DontHave(u32),
    /// The peer suggests this piece (BEP 6).
    Suggested(u32),
    /// This piece may be requested while choked (BEP 6).
    AllowedFast(u32),
    /// The peer requests a block: [`Peer::send_block`] or [`Peer::reject`].
    Requested(BlockRef),
    /// The peer cancelled a request.
    Cancelled(BlockRef),
    /// For ten seconds the peer has read nothing of the blocks that wait for it: [`Peer::take_back`].
    TakesNothing,
    /// A block arrived. It was requested, but may have been cancelled or given up since.
    Block {
        /// The block.
        at: BlockRef,
        /// Its first `at.len` bytes.
        block: Block,
    },
    /// A request will not be answered: it was rejected, implicitly by a choke, or given up.
    Rejected(BlockRef),
    /// An extension handshake arrived: see [`Peer::extended`].
    Extended,
    /// The peer requests a piece of the metadata.
    MetadataRequested(u32),
    /// A piece of the metadata that was requested.
    MetadataPiece {
        /// The index of the piece.
        index: u32,
        /// The size of all metadata in bytes, as the peer claims.
        total: Option<u32>,
        /// At most 16 KiB.
        data: Vec<u8>,
    },
    /// A piece of the metadata will not be sent.
    MetadataRejected(u32),
    /// Peers that this peer knows (BEP 11): at most 50 of each family and list.
    Pex {
        /// Peers that joined the swarm.
        added: Vec<(SocketAddr, PexFlags)>,
        /// Peers that left the swarm.
        dropped: Vec<SocketAddr>,
    },
    /// The port of its DHT node.
    DhtPort(u16),
    /// Payload that was not requested is being dropped.
    Unwanted {
        /// The length in bytes.
        len: u32,
    },
    /// The peer made a harmless mistake, which was tolerated.
    Forgiven,
    /// The machine is dead.
    Closed(PeerFault),
}
