//! Can two hosts come to a direct connection, and how? Answered from what their boxes are like,
//! without a packet being sent.
//!
//! The NAT boxes of this crate are tables of flows; this is a predicate over properties. The two
//! share the words in which a box is described and nothing else, so where they agree neither is
//! likely to be wrong. The rules stand in [`rules`](self) row by row, each with its source.
//!
//! # What is asked
//!
//! Two [`End`]s, each a host behind a chain of boxes, and a public host, the rendezvous, at which
//! both have registered from the port they use, so that it knows their observed endpoints. Then
//! one of them dials the other ([`Attempt::Dial`]), or both send to each other's endpoint at once
//! ([`Attempt::Together`]) or one after the other ([`Attempt::First`]).
//!
//! # What is assumed
//!
//! - *Together* means that the rendezvous tells both in one tick, as a BEP 55 relay does, and that
//!   each is nearer to its own boxes than to where their paths meet: the core, or the box that
//!   both are behind. Then both holes exist before either packet lands: one end is told and its
//!   packet leaves its boxes while that of the other is on its way to that place and back down.
//!   (Without it that does not follow. Behind one box, one end may be at its very door, and the
//!   other three boxes further down.)
//! - *First* means that one side's first packet has been met by the other's boxes, and an answer
//!   to it has come back, before the other side sends anything; and that no later packets cross:
//!   both sides try again at the same intervals.
//! - Nobody gives up before both have tried twice. Timeouts of the boxes are longer than that,
//!   their tables are not full, nothing else uses the ends' ports.
//! - An end answers to the endpoint that a packet came from, whatever it was told
//!   (peer-reflexive learning), and over TCP it listens on the port that it dials from.
//! - Each NAT has one external address.
//! - Guessing right by luck, one try in 64512, does not count as possible. That it would pay to
//!   try often is said in [`Hint`].
//!
//! # What it does not decide
//!
//! - Two hosts behind one box that hairpins with the external source and maps by address (ADM):
//!   there it counts whose packet is first at that box.
//! - TCP, First, behind chains of an inner box that refuses and an outer one that admits strangers
//!   but maps by destination, if SYNs are reset: in about one of 5000 random pairs of paths a
//!   third or later attempt connects where this says that none does.
//! - TCP, First, where a NAT that admits strangers but maps by destination drops the late packet
//!   because its host speaks to the peer by another external endpoint already, and a reset from
//!   the peer's inner box then ends that other flow: the next packet is admitted, and they connect
//!   where this says that they do not.

mod rules;
mod side;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::rules::{ask, way};
use crate::middlebox::BoxConfig;

/// The port at which hosts find the rendezvous: one that even strict firewalls let out.
pub const RENDEZVOUS_PORT: u16 = 443;

/// The transport that is to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP, as uTP uses it.
    Udp,
    /// TCP.
    Tcp,
}

impl Transport {
    /// Both.
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
    /// Translated by NATs.
    #[default]
    V4,
    /// Never translated here: only firewalls count.
    V6,
}

/// A host and what stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its boxes, from the host to the core. None: it has a public address.
    pub path: Vec<BoxConfig>,
    /// The port that it listens on and sends from.
    pub port: u16,
    /// That port is forwarded to it by every NAT, and open in every firewall, of its path.
    pub forwarded: bool,
}

/// Where the paths of two hosts meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meet {
    /// In the core: they have no box in common.
    Core,
    /// Behind one box: the last of either path is the same one, and it is a NAT. They use
    /// different ports.
    Box,
}

/// Two hosts.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// One.
    pub a: &'a End,
    /// The other.
    pub b: &'a End,
    /// See [`Meet`].
    pub meet: Meet,
    /// See [`Family`].
    pub family: Family,
}

impl Pair<'_> {
    /// The same pair, named the other way round.
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
    /// The first sends; the other only answers.
    Dial,
    /// Both send in one tick.
    Together,
    /// The first sends, and a while later the other does.
    First,
}

impl Attempt {
    /// All.
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
        /// Why no connection can come about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// What a person should read.
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
    /// A NAT gives no second external port to a host that has one.
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

/// What might help where nothing is certain. Not counted as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// One side is remapped, the other is not: many ports on the one and many guesses from the
    /// other meet with P = 1 − (1 − N/64512)^K.
    Birthday,
    /// The next port of a side that is remapped can be computed.
    Prediction,
}

/// How two hosts may come to a connection.
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
        /// Also if only the first of a pair has sent when its packet arrives, either way round.
        uncrossed: bool,
    },
    /// Not at all.
    No {
        /// Why.
        reason: Reason,
        /// What might be tried.
        hint: Option<Hint>,
    },
}

impl Way {
    /// Whether there is one.
    #[must_use]
    pub const fn is_possible(self) -> bool {
        !matches!(self, Self::No { .. })
    }
}
