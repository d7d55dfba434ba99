//! The simulator's NAT boxes held against the kernel's: one random packet script goes through a
//! router in a network namespace and through a [`dunlin_sim::middlebox::nat::Nat`], and every packet must
//! meet the same fate in both.
//!
//! ```text
//!             ┌ [kernel]: TUN "lan" ─▶ nftables, conntrack ─▶ TUN "wan" ┐
//!  [Script] ──┤                                                         ├─▶ [compare]
//!             └ [simulated]: the model's NatConfig, at the same times   ┘
//! ```
//!
//! There are no hosts: whole packets are written into one side of the router and read from the
//! other, so that the verdict on each is exact and TCP segments can be anything. Many scripts
//! share a router, each with addresses of its own, so that they wait for the same timeouts.

pub mod compare;
pub mod generate;
pub mod kernel;
pub mod model;
pub mod run;
pub mod script;
pub mod shrink;
pub mod simulated;

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
    /// An ICMP error came back to the sender.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
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
            Self::Strange(what) => write!(f, "strange: {what}"),
        }
    }
}
