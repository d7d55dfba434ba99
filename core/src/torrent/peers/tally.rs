//! Passing changes of a peer's pieces to the picker.

use crate::Bitfield;
use crate::peer::{Peer, PeerEvent};
use crate::torrent::conn::member::Member;
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

impl<'a> Tally<'a> {
    pub(crate) fn new(member: &'a mut Member, picker: &'a mut Picker) -> Self {
        let peer = &mut member.stream.peer;
        if member.counted.is_empty() {
            member.counted = Bitfield::new(peer.has().len());
        }
        Self {
            key: member.id.key(),
            peer,
            counted: &mut member.counted,
            pick: &mut member.pick,
            picker,
        }
    }

    /// Handles an event that concerns the peer's pieces. Returns whether the peer may have all of them now.
    pub(crate) fn handle(&mut self, event: &PeerEvent) -> bool {
        match *event {
            PeerEvent::HasChanged => self.replaced(),
            PeerEvent::HasAll => self.reset(true),
            PeerEvent::HasNone => self.reset(false),
            PeerEvent::Have(piece) => return self.gained(piece),
            PeerEvent::DontHave(piece) => {
                self.lost(piece);
                return false;
            }
            // Others may help with the piece that it was downloading alone.
            PeerEvent::Choked => {
                self.picker.peer_gone(self.key, self.pick);
                return false;
            }
            _ => return false,
        }
        true
    }

    /// The peer's set of pieces was replaced.
    fn replaced(&mut self) {
        self.picker.peer_replaced(self.counted, self.peer.has());
        self.pick.pieces_changed();
        if self.picker.is_interesting(self.peer.has()) {
            self.peer.set_interested(true);
        }
    }

    /// The peer has all pieces now, or none. The message is a few bytes long, so it must not cost a scan of all pieces.
    fn reset(&mut self, all: bool) {
        self.picker.peer_reset(self.counted, all);
        self.pick.pieces_changed();
        if all && !self.picker.is_done() {
            self.peer.set_interested(true);
        }
    }

    /// The peer has one more piece. Returns whether it has all of them now.
    fn gained(&mut self, piece: u32) -> bool {
        if self.counted.set(piece) {
            self.picker.peer_has(piece, self.counted);
        }
        if !self.peer.am_interested() && self.picker.wants(piece) {
            self.peer.set_interested(true);
        }
        self.peer.is_seed()
    }

    /// The peer lost a piece (BEP 54).
    fn lost(&mut self, piece: u32) {
        if self.counted.clear(piece) {
            self.picker.peer_lost(piece, self.counted);
            self.pick.pieces_changed();
        }
    }
}
