//! ICMP errors of routers (RFC 792, RFC 1812 §4.3, RFC 4443).

use std::net::{IpAddr, SocketAddr};

use dunlin_core::Instant;

use super::{NodeId, World, node};
use crate::{Packet, Proto};

/// What was wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody has its receiver's address.
    NoRoute,
    /// Its hop limit ran out.
    HopLimit,
    /// It is longer than the next link carries.
    TooBig(u32),
}

/// Errors that a router sends in a second (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
pub(super) const ERRORS_PER_SECOND: u32 = 100;

/// Longest error, in bytes: RFC 1812 §4.3.2.3 and RFC 4443 §2.4 (c).
const LONGEST: [usize; 2] = [576, 1_280];

/// The ICMP error about a packet, if there may be one: none about an ICMP error, a packet for
/// many, a later fragment, or a sender that is nobody (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)).
pub(super) fn error(from: IpAddr, trouble: Trouble, about: &Packet) -> Option<Packet> {
    let flow = about.flow();
    let original = about.bytes();
    if !node::is_answerable(flow.src.ip()) || node::is_for_many(flow.dst.ip()) {
        return None;
    }
    let is_v4 = match (from, flow.src) {
        (IpAddr::V4(_), SocketAddr::V4(_)) => true,
        (IpAddr::V6(_), SocketAddr::V6(_)) => false,
        _ => return None,
    };
    // A later fragment may be empty.
    let kind = about.transport().first().copied()?;
    if flow.proto == Proto::Icmp {
        let is_error = if is_v4 {
            !matches!(kind, 0 | 8 | 13..=18)
        } else {
            kind < 128
        };
        if is_error {
            return None;
        }
    }
    if is_v4 && u16::from_be_bytes([original[6], original[7]]) & 0x1fff != 0 {
        return None;
    }
    let (kind, code, mtu) = match (trouble, is_v4) {
        (Trouble::NoRoute, true) => (3, 0, 0),
        (Trouble::HopLimit, true) => (11, 0, 0),
        (Trouble::TooBig(mtu), true) => (3, 4, mtu.min(0xffff)),
        (Trouble::NoRoute, false) => (1, 0, 0),
        (Trouble::HopLimit, false) => (3, 0, 0),
        (Trouble::TooBig(mtu), false) => (2, 0, mtu),
    };
    let head = if is_v4 { 20 } else { 40 };
    let quote = original.len().min(LONGEST[usize::from(!is_v4)] - head - 8);
    let mut bytes = Vec::with_capacity(head + 8 + quote);
    match (from, flow.src.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let len = (head + 8 + quote) as u16;
            // Precedence of internetwork control (RFC 1812 §4.3.2.5); not to be fragmented.
            bytes.extend_from_slice(&[0x45, 0xc0]);
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, 1, 0, 0]);
            bytes.extend_from_slice(&from.octets());
            bytes.extend_from_slice(&to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            bytes.extend_from_slice(&[0x60, 0, 0, 0]);
            bytes.extend_from_slice(&((8 + quote) as u16).to_be_bytes());
            bytes.extend_from_slice(&[58, 64]);
            bytes.extend_from_slice(&from.octets());
            bytes.extend_from_slice(&to.octets());
        }
        _ => return None,
    }
    bytes.extend_from_slice(&[kind, code, 0, 0]);
    bytes.extend_from_slice(&mtu.to_be_bytes());
    bytes.extend_from_slice(&original[..quote]);
    let mut packet = Packet::parse(bytes).ok()?;
    packet.fill_checksums();
    Some(packet)
}

impl World {
    /// The error that a node sends about a packet, if it has an address to send from and has not
    /// sent too many.
    pub(super) fn complain(
        &mut self,
        at: Instant,
        id: NodeId,
        inward: bool,
        trouble: Trouble,
        about: &Packet,
    ) -> Option<Packet> {
        let v4 = about.flow().src.is_ipv4();
        let Some(router) = self.nodes[id.index()].router_mut() else {
            // A host's own stack says so to itself.
            return error(about.flow().src.ip(), trouble, about);
        };
        let lan = router.lan.iter().filter(|_| inward);
        let mut own = lan.chain(&router.wan).chain(&router.lan);
        let from = *own.find(|a| a.is_ipv4() == v4)?;
        let packet = error(from, trouble, about)?;
        let (left, since) = &mut router.errors;
        let passed = at.saturating_since(*since);
        if passed.as_secs() > 0 {
            (*left, *since) = (ERRORS_PER_SECOND, at);
        }
        *left = left.checked_sub(1)?;
        Some(packet)
    }
}
