//! Passing changes of a peer's pieces to the picker.

use crate::Bitfield;
use crate::peer::Peer;
use crate::torrent::Torrent;
use crate::torrent::member_id::MemberId;
use crate::torrent::picker::{PeerKey, PickState, Picker};

/// A peer and the picker of its torrent. The pieces that the picker was told are stored separately, as the peer's own set
/// may be ahead by events that are not handled yet.
pub(crate) struct Tally<'a> {
    key: PeerKey,
    peer: &'a mut Peer,
    /// The peer's pieces as the picker was told of them.
    counted: &'a mut Bitfield,
    /// What the picker remembers about the peer.
    pick: &'a mut PickState,
    picker: &'a mut Picker,
}

impl Torrent {
    /// Returns a peer with the picker. `None` while there is no picker, because the metadata is not known or the files are
    /// not open.
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
    /// The peer's set of pieces was replaced.
    pub(crate) fn replaced(&mut self) {
        self.picker.peer_replaced(self.counted, self.peer.has());
        self.pick.pieces_changed();
        if self.picker.is_interesting(self.peer.has()) {
            self.peer.set_interested(true);
        }
    }

    /// The peer has all pieces now, or none. The message is a few bytes long, so it must not cost a scan of all pieces.
    pub(crate) fn reset(&mut self, all: bool) {
        self.picker.peer_reset(self.counted, all);
        self.pick.pieces_changed();
        if all && !self.picker.is_done() {
            self.peer.set_interested(true);
        }
    }

    /// The peer has one more piece. Returns whether it has all of them now.
    pub(crate) fn gained(&mut self, piece: u32) -> bool {
        if self.counted.set(piece) {
            self.picker.peer_has(piece, self.counted);
        }
        if !self.peer.am_interested() && self.picker.wants(piece) {
            self.peer.set_interested(true);
        }
        self.peer.is_seed()
    }

    /// The peer lost a piece (BEP 54).
    pub(crate) fn lost(&mut self, piece: u32) {
        if self.counted.clear(piece) {
            self.picker.peer_lost(piece, self.counted);
            self.pick.pieces_changed();
        }
    }

    /// The peer choked us: others may help with the piece that it was downloading alone.
    pub(crate) fn choked(&mut self) {
        self.picker.peer_gone(self.key, self.pick);
    }
}
