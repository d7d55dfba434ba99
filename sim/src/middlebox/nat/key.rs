//! Endpoints and keys in few bits, and how they are hashed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::packet::Proto;

/// An IPv4 endpoint in 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End(u64);

impl End {
    /// No endpoint.
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn new(ip: Ipv4Addr, port: u16) -> Self {
        Self((ip.to_bits() as u64) << 16 | port as u64)
    }

    /// Returns `None` for IPv6.
    pub(super) const fn of(addr: SocketAddr) -> Option<Self> {
        match addr.ip() {
            IpAddr::V4(ip) => Some(Self::new(ip, addr.port())),
            IpAddr::V6(_) => None,
        }
    }

    pub(super) const fn ip(self) -> Ipv4Addr {
        Ipv4Addr::from_bits((self.0 >> 16) as u32)
    }

    pub(super) const fn port(self) -> u16 {
        self.0 as u16
    }

    /// The address with port 0.
    pub(super) const fn bare(self) -> Self {
        Self(self.0 & !0xffff)
    }

    /// The endpoint for a packet that has `old`: a port that the box does not look at stays.
    pub(super) fn of_packet(self, old: SocketAddr) -> SocketAddr {
        let port = if self.port() == 0 {
            old.port()
        } else {
            self.port()
        };
        SocketAddr::new(self.ip().into(), port)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn addr(self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.ip(), self.port()))
    }
}

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dir {
    Out,
    In,
}

/// What a key identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A flow, by its internal and remote endpoints.
    Out,
    /// A flow, by its external and remote endpoints.
    In,
    /// The flows of one mapping.
    Source,
    /// The flows of one external endpoint.
    External,
    /// The flows of one external endpoint and one remote address.
    Permit,
    /// The flows of one internal address.
    Host,
}

/// Two endpoints, a protocol and a [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64, u64);

impl Key {
    pub(super) const fn new(kind: Kind, proto: Proto, near: End, far: End) -> Self {
        let tag = (kind as u64) << 4 | proto as u64;
        Self(near.0 | tag << 48, far.0)
    }

    /// The list of a flow that this key belongs to.
    pub(super) const fn list(self) -> usize {
        ((self.0 >> 52) as usize).saturating_sub(Kind::Source as usize)
    }

    /// A hash for tables: fast, and the same on every machine.
    pub(super) const fn hash(self, seed: u64) -> u64 {
        let a = (self.0 ^ seed ^ 0x2d35_8dcc_aa6c_78a5) as u128;
        let b = (self.1 ^ seed.rotate_left(32) ^ 0x8bb8_4b93_962e_acc9) as u128;
        let wide = a * b;
        wide as u64 ^ (wide >> 64) as u64
    }

    /// A hash for decisions, in which every bit depends on every bit of the key (the finaliser of
    /// SplitMix64).
    pub(super) const fn scatter(self, seed: u64) -> u64 {
        let mut z = self.hash(seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
