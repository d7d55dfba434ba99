//! What is known of a connection.

use super::crypto::StreamEncryption;
use super::inbound::Stage;
use super::{Peer, Totals};
use crate::wire::{extension::ExtHandshake, peer::Reserved};
use crate::{Bitfield, BlockRef, InfoHash, Instant, PeerId};

impl Peer {
    /// Whether both handshakes are through, and nothing went wrong since.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.phase.is_open()
    }

    /// Bytes were read that have to wait until the pool has a block: then call
    /// [`Peer::handle_read`] with a length of 0.
    #[must_use]
    pub const fn stalled(&self) -> bool {
        self.inb.stalled() && self.phase.is_open()
    }

    /// What the peer has; an empty range before [`Peer::set_pieces`].
    #[must_use]
    pub const fn has(&self) -> &Bitfield {
        &self.has
    }

    /// Whether its handshake named a torrent, and waits for [`Peer::welcome`].
    #[must_use]
    pub const fn awaits_welcome(&self) -> bool {
        matches!(self.phase, super::Phase::Waiting)
    }

    /// Whether it has every piece, as far as it said.
    #[must_use]
    pub fn is_seed(&self) -> bool {
        if self.has.is_empty() {
            self.early.is_all()
        } else {
            self.has.is_full()
        }
    }

    /// The peer's id.
    #[must_use]
    pub fn peer_id(&self) -> Option<PeerId> {
        self.theirs.map(|h| h.peer_id)
    }

    /// The torrent its handshake named.
    #[must_use]
    pub fn info_hash(&self) -> Option<InfoHash> {
        self.theirs.map(|h| h.info_hash)
    }

    /// The extensions its handshake named.
    #[must_use]
    pub fn reserved(&self) -> Reserved {
        self.theirs.map(|h| h.reserved).unwrap_or_default()
    }

    /// What its extension handshakes said; all of it is unknown before
    /// [`super::PeerEvent::Extended`], and `None` if it speaks no extension protocol.
    #[must_use]
    pub const fn extended(&self) -> Option<&ExtHandshake> {
        self.ext.as_ref()
    }

    /// Bytes of the info dictionary, as it claims, and only if it sends metadata at all.
    #[must_use]
    pub fn metadata_size(&self) -> Option<u32> {
        let ext = self.ext.as_ref().filter(|e| e.ids.ut_metadata != 0)?;
        ext.metadata_size.filter(|n| *n <= self.cfg.max_metadata)
    }

    /// Whether the fast extension is agreed on.
    #[must_use]
    pub const fn is_fast(&self) -> bool {
        self.fast
    }

    /// How much of the stream is encrypted, once [`PeerEvent::Handshake`](super::PeerEvent::Handshake) or
    /// [`PeerEvent::Established`](super::PeerEvent::Established) is out.
    #[must_use]
    pub const fn encryption(&self) -> StreamEncryption {
        match self.skey {
            None => StreamEncryption::None,
            Some(_) if self.inb.is_encrypted() => StreamEncryption::Full,
            Some(_) => StreamEncryption::Handshake,
        }
    }

    /// Whether we choke it.
    #[must_use]
    pub const fn am_choking(&self) -> bool {
        self.me.choking
    }

    /// Whether we told it that we are interested.
    #[must_use]
    pub const fn am_interested(&self) -> bool {
        self.me.interested
    }

    /// Whether it chokes us.
    #[must_use]
    pub const fn peer_choking(&self) -> bool {
        self.it.choking
    }

    /// Whether it is interested.
    #[must_use]
    pub const fn peer_interested(&self) -> bool {
        self.it.interested
    }

    /// Pieces we may request while choked (BEP 6).
    #[must_use]
    pub fn allowed_fast(&self) -> &[u32] {
        &self.allowed_fast
    }

    /// Whether blocks were taken back from it, and it has taken nothing since.
    #[must_use]
    pub const fn takes_nothing(&self) -> bool {
        self.takes_nothing
    }

    /// Whether it may have pieces while we choke it.
    #[must_use]
    pub const fn has_granted_fast(&self) -> bool {
        !self.granted_fast.is_empty()
    }

    /// What we asked for and did not get completely yet, the block being received first, then
    /// oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = BlockRef> + '_ {
        let current = match &self.inb.stage {
            Stage::Payload(p) if p.given_up.is_none() => Some(p.at),
            _ => None,
        };
        current.into_iter().chain(self.reqs.iter())
    }

    /// How many requests [`Peer::in_flight`] are not being answered yet.
    #[must_use]
    pub fn in_flight_len(&self) -> usize {
        self.reqs.len()
    }

    /// What it asked for and was not sent yet.
    #[must_use]
    pub fn asked_len(&self) -> usize {
        self.asked.len()
    }

    /// How many more requests the pipeline wants now; 0 until it is worth a batch. Says nothing
    /// of choking: while [`Peer::peer_choking`], only [`Peer::allowed_fast`] may be asked for.
    #[must_use]
    pub fn request_room(&self, now: Instant) -> u32 {
        if !self.phase.is_open() || self.reqs.held().is_some_and(|until| until > now) {
            return 0;
        }
        let reqq = self.ext.as_ref().and_then(|e| e.reqq);
        self.reqs
            .room(self.down.get(now), reqq, self.cfg.max_pipeline)
    }

    /// Whether it owes payload and sends none.
    #[must_use]
    pub const fn is_snubbed(&self) -> bool {
        self.reqs.snubbed()
    }

    /// Payload received, in bytes per second.
    #[must_use]
    pub fn rate_down(&self, now: Instant) -> u64 {
        self.down.get(now)
    }

    /// Payload sent, in bytes per second.
    #[must_use]
    pub fn rate_up(&self, now: Instant) -> u64 {
        self.up.get(now)
    }

    /// Bytes moved so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }
}
