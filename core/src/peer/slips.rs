//! Mistakes that are tolerated: in messages that the exchange of blocks does not need.
//!
//! Implementations make mistakes in extensions: invalid extension handshakes, peer exchange that is not
//! bencoded, spare bits set in a bitfield. Ending such a connection helps nobody, so the message is dropped
//! and counted. A peer that sends nothing but such messages is disconnected.

use super::{Peer, PeerEvent, PeerFault};

/// The most invalid messages in a row that are tolerated. Clients with such faults send one, or one a
/// minute (BEP 11), between valid messages.
const MAX_ON_END: u32 = 64;

/// What was passed over on one connection.
#[derive(Debug, Default)]
pub(super) struct Slips {
    /// Junk since the last message that made sense.
    on_end: u32,
}

impl Slips {
    /// The peer sent a valid message.
    pub(super) const fn end(&mut self) {
        self.on_end = 0;
    }
}

impl Peer {
    /// Passes over a junk message of the kind `id`; ends the connection if nothing else comes.
    pub(super) fn pass_over(&mut self, id: u8) {
        self.slips.on_end += 1;
        if self.slips.on_end > MAX_ON_END {
            return self.fail(PeerFault::OnlyJunk(id));
        }
        self.forgive();
    }

    /// Counts a mistake in a message that is understood nevertheless.
    pub(super) fn forgive(&mut self) {
        self.events.push_back(PeerEvent::Forgiven);
    }
}
