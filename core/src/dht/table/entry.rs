//! One node: its bytes on the wire, and what is known of it in 8 bytes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use crate::dht::{Contact, secure_id};
use crate::wire::krpc::COMPACT_V4;
use crate::{Instant, NodeId};

/// Bytes of an id.
const ID: usize = 20;
/// How long before the driver's origin a node may have been heard of.
const PAST: u64 = 30 * 24 * 3600;
/// Seconds of a [`Tick`].
const TICK: u32 = 4;
/// Unit of the round trip.
const RTT_UNIT: u128 = 8;

/// Failures in a row that make a node bad (S21).
pub(super) const BAD: u8 = 5;
/// Failures in a row after which a living node is preferred. Our choice: one may be the beginning of an
/// outage and one its end.
pub(super) const WORSE: u8 = 3;

/// Seconds since [`PAST`] before the driver's origin.
pub(super) fn seconds(now: Instant) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000 + PAST).unwrap_or(u32::MAX)
}

/// Coarse time that wraps after three days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tick(u16);

impl Tick {
    /// A day ago, which stands for never.
    pub(super) const fn never(seconds: u32) -> Self {
        Self::at(seconds.saturating_sub(24 * 3600))
    }

    pub(super) const fn at(seconds: u32) -> Self {
        Self((seconds / TICK) as u16)
    }

    /// Seconds from then to `seconds`, in steps of 4.
    pub(super) const fn age(self, seconds: u32) -> u32 {
        Self::at(seconds).0.wrapping_sub(self.0) as u32 * TICK
    }
}

/// Failures and flags of a node in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State(u8);

impl State {
    const FAILS: u8 = 0b111;
    /// The node has answered us.
    pub(super) const VERIFIED: Self = Self(1 << 3);
    /// The node did not answer at a time when no other did either.
    pub(super) const SUSPECT: Self = Self(1 << 4);
    /// Its id follows from its address (BEP 42).
    pub(super) const SECURE: Self = Self(1 << 5);
    /// A node in the same bucket changed its id, so this one is to be asked again.
    pub(super) const DOUBTED: Self = Self(1 << 6);

    pub(super) const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) const fn with(self, flag: Self) -> Self {
        Self(self.0 | flag.0)
    }

    pub(super) const fn without(self, flag: Self) -> Self {
        Self(self.0 & !flag.0)
    }

    /// Failures since its last answer, 5 at most.
    pub(super) const fn fails(self) -> u8 {
        self.0 & Self::FAILS
    }

    pub(super) const fn failed(self) -> Self {
        if self.fails() < BAD {
            Self(self.0 + 1)
        } else {
            self
        }
    }

    /// The state after an answer.
    pub(super) const fn answered(self) -> Self {
        Self(self.0 & !Self::FAILS)
            .without(Self::SUSPECT)
            .without(Self::DOUBTED)
            .with(Self::VERIFIED)
    }

    /// Whether the node may be handed out.
    pub(super) const fn is_ready(self) -> bool {
        self.has(Self::VERIFIED) && self.fails() == 0
    }

    pub(super) const fn is_bad(self) -> bool {
        self.fails() >= BAD
    }

    /// Whether a node that is known to live may take its place.
    pub(super) const fn is_worse(self) -> bool {
        self.fails() >= WORSE || (self.fails() > 0 && !self.has(Self::VERIFIED))
    }
}

/// A node on its way into a bucket, or out of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<const S: usize> {
    /// Its bytes on the wire.
    pub(super) node: [u8; S],
    /// When the node was last heard of, in [`seconds`].
    pub(super) heard: u32,
    /// When the table had it asked last, or it failed.
    pub(super) asked: Tick,
    /// Round trip: see [`rtt_byte`].
    pub(super) rtt: u8,
    pub(super) state: State,
}

/// A round trip in steps of 8 ms, 2 s at most.
pub(super) fn rtt_byte(rtt: Duration) -> u8 {
    u8::try_from(rtt.as_millis() / RTT_UNIT).unwrap_or(u8::MAX)
}

/// A node as it goes on the wire; `None` if it is of the other family, or has no port.
pub(super) fn pack<const S: usize>(id: &NodeId, addr: SocketAddr) -> Option<[u8; S]> {
    let mut node = [0; S];
    let (head, rest) = node.split_first_chunk_mut::<ID>()?;
    *head = id.0;
    let (ip, port) = rest.split_last_chunk_mut::<2>()?;
    *port = addr.port().to_be_bytes();
    match addr.ip() {
        IpAddr::V4(from) if ip.len() == 4 => ip.copy_from_slice(&from.octets()),
        IpAddr::V6(from) if ip.len() == 16 => ip.copy_from_slice(&from.octets()),
        _ => return None,
    }
    (addr.port() != 0).then_some(node)
}

/// The reverse of [`pack`].
pub(super) fn unpack<const S: usize>(node: &[u8; S]) -> Contact {
    let port = node.last_chunk::<2>().map_or(0, |p| u16::from_be_bytes(*p));
    let ip = node.get(ID..).and_then(|rest| {
        if S == COMPACT_V4 {
            rest.first_chunk::<4>()
                .map(|ip| IpAddr::V4(Ipv4Addr::from(*ip)))
        } else {
            rest.first_chunk::<16>()
                .map(|ip| IpAddr::V6(Ipv6Addr::from(*ip)))
        }
    });
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Contact {
        id: id(node),
        addr: SocketAddr::new(ip, port),
    }
}

pub(super) fn id<const S: usize>(node: &[u8; S]) -> NodeId {
    NodeId(node.first_chunk().copied().unwrap_or_default())
}

/// Address and port.
pub(super) fn endpoint<const S: usize>(node: &[u8; S]) -> &[u8] {
    &node[ID..]
}

/// The address, as a number: compared more often than anything else.
#[inline]
pub(super) fn ip<const S: usize>(node: &[u8; S]) -> u128 {
    let ip = node.get(ID..).unwrap_or_default();
    if S == COMPACT_V4 {
        ip.first_chunk()
            .map_or(0, |ip| u128::from(u32::from_be_bytes(*ip)))
    } else {
        ip.first_chunk().map_or(0, |ip| u128::from_be_bytes(*ip))
    }
}

/// The /24 or /64 of a node: what one party is taken to own at most.
#[inline]
pub(super) fn subnet<const S: usize>(node: &[u8; S]) -> u64 {
    let ip = node.get(ID..).unwrap_or_default();
    if S == COMPACT_V4 {
        ip.first_chunk()
            .map_or(0, |ip| u64::from(u32::from_be_bytes(*ip) >> 8))
    } else {
        ip.first_chunk().map_or(0, |ip| u64::from_be_bytes(*ip))
    }
}

/// The first 64 bits of an id: all that buckets tell apart.
pub(super) const fn head(id: &NodeId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Whether the id follows from the address (BEP 42).
pub(super) fn is_secure<const S: usize>(node: &[u8; S]) -> bool {
    let Contact { id, addr } = unpack(node);
    secure_id::is_secure(&id, addr.ip())
}
