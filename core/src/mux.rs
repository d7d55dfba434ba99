//! One socket for all that speaks in datagrams: whose a datagram is, and who sends the next one.
//!
//! UDP trackers and the DHT share the main sockets; uTP and STUN are to share them too. [`classify`] says which protocol a
//! datagram belongs to, so that it is offered to one machine and to no other. To add a machine: a variant of [`Proto`], what
//! it waits for in [`Pending`] if its answers cannot be told by their first bytes (those of a gateway cannot), and a
//! variant of `Sender`.

use crate::machine::RecvMeta;
use crate::tracker::UdpTrackers;
use crate::wire::stun;

/// First byte of every message of the DHT (BEP 5): it is a dictionary.
const DICTIONARY: u8 = b'd';
/// Bytes of a uTP header (BEP 29).
const UTP_HEADER: usize = 20;
/// Version of uTP, in the low nibble of the first byte.
const UTP_VERSION: u8 = 1;
/// Highest type of a uTP packet (`ST_SYN`), in the high nibble.
const UTP_LAST_TYPE: u8 = 4;

/// The protocol of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// The answer of a UDP tracker (BEP 15).
    Tracker,
    /// A message of the DHT (BEP 5).
    Dht,
    /// A message of STUN (RFC 8489).
    Stun,
    /// A packet of uTP (BEP 29).
    Utp,
}

/// Transactions under way. What answers one of them belongs to it, whatever its first bytes look like.
#[derive(Clone, Copy, Debug)]
pub struct Pending<'a> {
    /// Those with UDP trackers.
    pub trackers: &'a UdpTrackers,
}

/// The protocol that a datagram belongs to; `None` if it is nobody's.
///
/// Transactions come first, then the cookie of STUN, whose messages may begin as packets of uTP do, then first bytes.
#[must_use]
pub fn classify(pending: &Pending<'_>, meta: &RecvMeta, data: &[u8]) -> Option<Proto> {
    if pending.trackers.awaits(meta, data) {
        return Some(Proto::Tracker);
    }
    if stun::is_stun(data) {
        return Some(Proto::Stun);
    }
    match data.first()? {
        &DICTIONARY => Some(Proto::Dht),
        first => {
            let (kind, version) = (first >> 4, first & 0x0f);
            let is_utp = version == UTP_VERSION && kind <= UTP_LAST_TYPE;
            (is_utp && data.len() >= UTP_HEADER).then_some(Proto::Utp)
        }
    }
}

/// A machine that sends datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Trackers,
    Dht,
}

/// The order in which machines are asked for a datagram. Who sends one goes behind the others, so nobody who has something
/// to send waits for more than one turn of each other machine, however much those have.
///
/// Whether a machine has something to send is asked of the machine; there is no list beside it to fall out of step.
#[derive(Debug)]
pub(crate) struct Turns([Sender; Self::MACHINES]);

impl Turns {
    /// How many machines there are.
    pub(crate) const MACHINES: usize = 2;

    pub(crate) const fn new() -> Self {
        Self([Sender::Trackers, Sender::Dht])
    }

    /// Who is asked after `earlier` others.
    pub(crate) const fn after(&self, earlier: usize) -> Sender {
        self.0[earlier % Self::MACHINES]
    }

    /// Who was asked after `earlier` others has sent something.
    pub(crate) fn sent(&mut self, earlier: usize) {
        if let Some(behind) = self.0.get_mut(earlier..) {
            behind.rotate_left(1);
        }
    }
}

#[cfg(test)]
mod tests;
