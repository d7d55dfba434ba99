//! What a peer says of its pieces, counted by the picker of its torrent.

use crate::Bitfield;
use crate::peer::Peer;
use crate::torrent::Torrent;
use crate::torrent::member_id::MemberId;
use crate::torrent::picker::{PeerKey, PickState, Picker};

/// A peer beside the picker of its torrent. What the picker was told is kept beside the peer's
/// own set of pieces: that one runs ahead, by the events that still wait.
pub(crate) struct Tally<'a> {
    key: PeerKey,
    peer: &'a mut Peer,
    /// The peer's pieces as the picker was told of them.
    counted: &'a mut Bitfield,
    /// What the picker remembers of the peer.
    pick: &'a mut PickState,
    picker: &'a mut Picker,
}

impl Torrent {
    /// A peer beside the picker; `None` while its pieces are not counted, because the metadata is
    /// not known or the files are not open yet.
    pub(crate) fn tally(&mut self, id: MemberId) -> Option<Tally<'_>> {
        let member = self.members.get_mut(id)?;
        let picker = self.content.picker_mut()?;
        let peer = &mut member.stream.peer;
        if member.counted.is_empty() {
            member.counted = Bitfield::new(peer.has().len());
        }
        Some(Tally {
            key: id.key(),
            peer,
            counted: &mut member.counted,
            pick: &mut member.pick,
            picker,
        })
    }
}

impl Tally<'_> {
    /// The peer's pieces are others now.
    pub(crate) fn replaced(&mut self) {
        self.picker.peer_replaced(self.counted, self.peer.has());
        self.pick.pieces_changed();
        if self.picker.is_interesting(self.peer.has()) {
            self.peer.set_interested(true);
        }
    }

    /// The peer has all pieces now, or none. A few bytes say so, so it may not cost a look at
    /// every piece.
    pub(crate) fn reset(&mut self, all: bool) {
        self.picker.peer_reset(self.counted, all);
        self.pick.pieces_changed();
        if all && !self.picker.is_done() {
            self.peer.set_interested(true);
        }
    }

    /// The peer has one piece more. Returns whether it has them all now.
    pub(crate) fn gained(&mut self, piece: u32) -> bool {
        if self.counted.set(piece) {
            self.picker.peer_has(piece, self.counted);
        }
        if !self.peer.am_interested() && self.picker.wants(piece) {
            self.peer.set_interested(true);
        }
        self.peer.is_seed()
    }

    /// The peer has one piece less (BEP 54).
    pub(crate) fn lost(&mut self, piece: u32) {
        if self.counted.clear(piece) {
            self.picker.peer_lost(piece, self.counted);
            self.pick.pieces_changed();
        }
    }

    /// The peer sends nothing for now: others may help with the piece that it had for itself.
    pub(crate) fn choked(&mut self) {
        self.picker.peer_gone(self.key, self.pick);
    }
}
