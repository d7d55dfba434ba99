//! Predicts from the properties of their boxes whether two hosts can connect directly, and how,
//! without sending a packet.
//!
//! The NATs of this crate are tables of flows, while the oracle is a predicate over properties.
//! They share the types that describe a box and nothing else, so that an error in one of them shows
//! as a disagreement. The rules are in `rules.rs`, one in each row of its tables, with their
//! sources.
//!
//! # The question
//!
//! There are two [`End`]s, each a host behind a chain of boxes, and a public host, the rendezvous.
//! Both ends have registered with it from the port that they use, so that it knows their observed
//! endpoints. Then one end dials the other ([`Attempt::Dial`]), or both send to each other's
//! endpoint at once ([`Attempt::Together`]) or one after the other ([`Attempt::First`]).
//!
//! # Assumptions
//!
//! - *Together* means that the rendezvous introduces both in one tick, as a BEP 55 relay does, and
//!   that each end is nearer to its own boxes than to where their paths meet: the core, or the box
//!   that both are behind. Then both holes exist before either packet arrives, because the packet
//!   of one end leaves its boxes while that of the other is on its way to that point and back down.
//!   (Otherwise this does not follow: behind one box, one end may be next to it and the other three
//!   boxes further down.)
//! - *First* means that one side's first packet has reached the other's boxes, and an answer to it
//!   has come back, before the other side sends anything; and that no later packets cross, because
//!   both sides try again at the same intervals.
//! - Both sides try at least twice. The timeouts of the boxes are longer than that, their tables
//!   are not full, and nothing else uses the ports of the ends.
//! - An end answers to the endpoint from which a packet came, whatever it was told (peer-reflexive
//!   learning), and over TCP it listens on the port from which it dials.
//! - Each NAT has one external address.
//! - Guessing a port by luck, one try in 64512, does not count as possible. [`Hint`] says where
//!   many tries would help.
//!
//! # Limits
//!
//! The oracle does not decide about:
//!
//! - Two hosts behind one box that hairpins with the external source and maps by address (ADM). The
//!   outcome depends on whose packet reaches that box first.
//! - TCP, First, behind chains of an inner box that refuses and an outer one that admits strangers
//!   but maps by destination, when SYNs are reset. In about one of 5000 random pairs of paths a
//!   third or later attempt connects where the prediction is that none does.
//! - TCP, First, when a NAT that admits strangers but maps by destination drops the late packet
//!   because its host already sends to the peer from another external endpoint, and a reset from
//!   the peer's inner box then ends that other flow. The next packet is admitted, and the ends
//!   connect where the prediction is that they do not.

mod rules;
mod side;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::rules::{ask, way};
use crate::middlebox::BoxConfig;

/// The port of the rendezvous, which even strict firewalls let out.
pub const RENDEZVOUS_PORT: u16 = 443;

/// The transport of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP, as uTP uses it.
    Udp,
    /// TCP.
    Tcp,
}

impl Transport {
    /// Both transports.
    pub const ALL: [Self; 2] = [Self::Udp, Self::Tcp];

    /// `udp` or `tcp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// The version of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, which NATs translate.
    #[default]
    V4,
    /// IPv6, which is not translated, so that only firewalls matter.
    V6,
}

/// A host and the boxes that it is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The boxes from the host to the core. With none, the host has a public address.
    pub path: Vec<BoxConfig>,
    /// The port on which the host listens and from which it sends.
    pub port: u16,
    /// The port is forwarded by every NAT and open in every firewall of the path.
    pub forwarded: bool,
}

/// Where the paths of two hosts meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meet {
    /// In the core: they share no box.
    Core,
    /// Behind one box: the last box of both paths is the same one, and it is a NAT. The hosts use
    /// different ports.
    Box,
}

/// Two hosts that are to connect, and where their paths meet.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The first host.
    pub a: &'a End,
    /// The second host.
    pub b: &'a End,
    /// Where their paths meet.
    pub meet: Meet,
    /// The version of IP.
    pub family: Family,
}

impl Pair<'_> {
    /// The same pair with the two hosts exchanged.
    #[must_use]
    pub const fn turned(self) -> Self {
        Self {
            a: self.b,
            b: self.a,
            ..self
        }
    }
}

/// What the two hosts do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attempt {
    /// The first host sends, and the other only answers.
    Dial,
    /// Both send in one tick.
    Together,
    /// The first host sends, and the other one later.
    First,
}

impl Attempt {
    /// All attempts.
    pub const ALL: [Self; 3] = [Self::Dial, Self::Together, Self::First];

    /// `dial`, `together` or `first`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Together => "together",
            Self::First => "first",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The reasons why two hosts cannot connect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// The reason, described for people.
            #[must_use]
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// A firewall lets this transport out to nobody, not even to the rendezvous.
    Blocked,
    /// A firewall lets this transport out, but not to the other's port.
    PortBlocked,
    /// A NAT has no other external port for a host whose port is taken.
    NoPort,
    /// The one that is dialled admits nobody whom it has not sent to.
    Unsolicited,
    /// The one box that both are behind does not send packets back in.
    NoHairpin,
    /// The one box that both are behind sends packets back in with an internal sender, whom the
    /// other's boxes or TCP do not take for the peer.
    HairpinSource,
    /// A NAT gives this pair another external endpoint than the one that was observed, and the
    /// other side admits only that.
    Remapped,
    /// A packet from the peer came first and was remembered, so that the endpoint it was for is
    /// taken when the answer goes out.
    Collision,
    /// A box answers the first SYN with a reset, and that closes the hole it came by.
    Reset,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain())
    }
}

/// What might help where no attempt is certain. It does not count as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// One side is remapped and the other is not: N open ports of the one and K guesses of the
    /// other meet with P = 1 − (1 − N/64512)^K.
    Birthday,
    /// The next port of a remapped side can be computed.
    Prediction,
}

/// How two hosts can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// By dialling.
    Direct {
        /// The first can dial the second.
        a_dials: bool,
        /// The second can dial the first.
        b_dials: bool,
    },
    /// Only with the help of a rendezvous.
    Punch {
        /// Also when only the first of the pair has sent when its packet arrives, in either order.
        uncrossed: bool,
    },
    /// Not at all.
    No {
        /// The reason that the oracle found first.
        reason: Reason,
        /// What might be tried.
        hint: Option<Hint>,
    },
}

impl Way {
    /// Returns `true` when there is a way.
    #[must_use]
    pub const fn is_possible(self) -> bool {
        !matches!(self, Self::No { .. })
    }
}
