//! The simulator's NAT boxes held against the kernel's: one random packet script goes through a
//! router in a network namespace and through a [`dunlin_sim::middlebox::Middlebox`], and every packet must
//! meet the same fate in both. After each packet the two tables must say the same, too: the same
//! flows in the same states, with the same time left, to the second. So timers of hours are
//! compared without waiting, and the kernel keeps its own.
//!
//! ```text
//!             ┌ [kernel]: TUN "lan" ─▶ nftables, conntrack ─▶ TUN "wan" ┐
//!  [Script] ──┤                                                         ├─▶ [compare]
//!             └ [simulated]: the model's BoxConfig, at the same times   ┘
//! ```
//!
//! There are no hosts: whole packets are written into one side of the router and read from the
//! other, so that the verdict on each is exact and TCP segments can be anything. Many scripts
//! share a router, each with addresses of its own, so that they wait for the same timeouts.
//!
//! What is not compared:
//!
//! - the limit of the table, and what Linux removes early near it: `nf_conntrack_max` is the
//!   machine's, and cannot be set in a namespace;
//! - packets that are turned back to their own sender: Linux sends them, and a host drops what
//!   comes from itself, so the simulated router does that for it;
//! - flows of packets that were turned back with their own sender: their answers do not come by
//!   the router, so the simulator does not keep them;
//! - an IPv6 packet whose hops are used up: the simulated router takes the hop before its firewall
//!   accounts for the packet, Linux after it;
//! - for the same reason a packet that both a filter and a lack of hops stop: Linux tells its sender
//!   of the hops (two of 10 000 packets for `eim-adf`, counted as divergences);
//! - verification tags of SCTP, which the simulator does not follow (one of 10 000 packets for
//!   `linux-accept`);
//! - which ports chance picks: in blocks of 8192 ports two flows of a host get the same one now and
//!   then, in one world and not in the other (three of 10 000 packets for `cgn-block`);
//! - the ICMP error about a datagram for the router of which fragments are missing after 30 s.

pub mod body;
pub mod compare;
pub mod generate;
pub mod kernel;
pub mod model;
mod rare;
pub mod run;
pub mod script;
pub mod shrink;
pub mod simulated;
pub mod table;

/// What came of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// There was nobody to send it to: the event whose endpoint it is for showed none.
    Unsent,
    /// Nothing came out, on either side.
    Dropped,
    /// It came out on the WAN side, from this port of the public address.
    Outside {
        /// The external port.
        port: u16,
    },
    /// It came out on the LAN side.
    Inside {
        /// To which host and port.
        to: script::Local,
        /// From whom.
        from: From,
    },
    /// A TCP reset came back to the sender.
    Reset,
    /// An ICMP message came back to the sender.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// It came out in pieces, of these bytes of the datagram.
    Pieces(Box<Self>, Vec<(u16, u16)>),
    /// A packet that none of these describes, which is always wrong.
    Strange(String),
}

/// The sender that a packet from outside, or sent back in, shows inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// As sent.
    Remote(script::Remote),
    /// An inside endpoint: sent back in with the sender's own address.
    Local(script::Local),
    /// The public address: sent back in with the sender's external endpoint.
    Wan(u16),
}

impl Fate {
    /// The external port with which the packet came out.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Outside { port } => Some(*port),
            Self::Pieces(fate, _) => fate.port(),
            _ => None,
        }
    }

    /// Whether the packet came out on the other side.
    pub fn passed(&self) -> bool {
        match self {
            Self::Outside { .. } | Self::Inside { .. } => true,
            Self::Pieces(fate, _) => fate.passed(),
            _ => false,
        }
    }
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Remote(remote) => remote.fmt(f),
            Self::Local(local) => local.fmt(f),
            Self::Wan(port) => write!(f, "wan:{port}"),
        }
    }
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsent => f.write_str("not sent"),
            Self::Dropped => f.write_str("dropped"),
            Self::Outside { port } => write!(f, "out from wan:{port}"),
            Self::Inside { to, from } => write!(f, "in to {to} from {from}"),
            Self::Reset => f.write_str("answered with a reset"),
            Self::Icmp { kind, code } => write!(f, "answered with ICMP {kind}/{code}"),
            Self::Pieces(fate, cuts) => write!(f, "{fate}, in pieces {cuts:?}"),
            Self::Strange(what) => write!(f, "strange: {what}"),
        }
    }
}
