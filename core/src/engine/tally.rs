//! What a peer says of its pieces, counted by the picker of its torrent.

use super::Engine;
use super::conns::key;
use crate::peer::Peer;
use crate::torrent::picker::{PeerKey, PickState, Picker};
use crate::{Bitfield, ConnId};

/// A peer beside the picker of its torrent. What the picker was told is kept beside the peer's
/// own set of pieces: that one runs ahead, by the events that still wait.
pub(super) struct Tally<'a> {
    key: PeerKey,
    peer: &'a mut Peer,
    /// The peer's pieces as the picker was told of them.
    counted: &'a mut Bitfield,
    /// What the picker remembers of the peer.
    pick: &'a mut PickState,
    picker: &'a mut Picker,
}

impl Engine {
    /// The peer of a connection beside the picker of its torrent; `None` while its pieces are not
    /// counted, because the metadata is not known or the files are not open yet.
    pub(super) fn tally(&mut self, id: ConnId) -> Option<Tally<'_>> {
        let conn = self.conns.get_mut(id)?;
        let peer = conn.peer.as_mut()?;
        let torrent = self.torrents.get_mut(&conn.torrent?)?;
        let picker = torrent.picker.as_mut()?;
        if conn.counted.is_empty() {
            conn.counted = Bitfield::new(peer.has().len());
        }
        Some(Tally {
            key: key(id),
            peer,
            counted: &mut conn.counted,
            pick: &mut conn.pick,
            picker,
        })
    }
}

impl Tally<'_> {
    /// The peer's pieces are others now.
    pub(super) fn replaced(&mut self) {
        self.picker.peer_replaced(self.counted, self.peer.has());
        self.pick.pieces_changed();
        if self.picker.is_interesting(self.peer.has()) {
            self.peer.set_interested(true);
        }
    }

    /// The peer has all pieces now, or none. A few bytes say so, so it may not cost a look at
    /// every piece.
    pub(super) fn reset(&mut self, all: bool) {
        self.picker.peer_reset(self.counted, all);
        self.pick.pieces_changed();
        if all && !self.picker.is_done() {
            self.peer.set_interested(true);
        }
    }

    /// The peer has one piece more. Returns whether it has them all now.
    pub(super) fn gained(&mut self, piece: u32) -> bool {
        if self.counted.set(piece) {
            self.picker.peer_has(piece, self.counted);
        }
        if !self.peer.am_interested() && self.picker.wants(piece) {
            self.peer.set_interested(true);
        }
        self.peer.is_seed()
    }

    /// The peer has one piece less (BEP 54).
    pub(super) fn lost(&mut self, piece: u32) {
        if self.counted.clear(piece) {
            self.picker.peer_lost(piece, self.counted);
            self.pick.pieces_changed();
        }
    }

    /// The peer sends nothing for now: others may help with the piece that it had for itself.
    pub(super) fn choked(&mut self) {
        self.picker.peer_gone(self.key, self.pick);
    }
}
