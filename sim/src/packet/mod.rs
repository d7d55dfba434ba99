//! IP packets as bytes: what links carry, NAT boxes rewrite and captures record.
//!
//! A [`Packet`] is always well-formed: it comes from a constructor, or from a host's stack through
//! [`Packet::parse`]. Extension headers and options are carried but not interpreted. The transport
//! protocols are those of [`Proto`].
//!
//! [`verdict`] names what can happen to a packet, and [`pcapng`] writes packets to a capture file.

mod fragment;
mod icmp;
mod other;
pub mod pcapng;
mod proto;
mod segment;
pub mod verdict;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use fragment::Fragment;
pub use icmp::IcmpError;
pub use proto::Proto;
pub(crate) use segment::{Outgoing, Segment};

/// The length of the longest packet in bytes: the most that an IPv4 header can express.
pub const MAX_PACKET: usize = 65_535;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const HOP_LIMIT: u8 = 64;

/// The flags of a TCP segment (RFC 9293 §3.1), as bits of the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender has no more data.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers: opens a connection.
    pub const SYN: Self = Self(0x02);
    /// Resets the connection.
    pub const RST: Self = Self(0x04);
    /// Push: data should be handed to the application at once.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number is valid.
    pub const ACK: Self = Self(0x10);

    /// The union of both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns `true` when all flags of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The fields that a NAT or a firewall looks at. Both ports of an ICMP query are its identifier, and
/// 0 in an ICMP error. GRE and ESP have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport protocol.
    pub proto: Proto,
    /// The sender.
    pub src: SocketAddr,
    /// The receiver.
    pub dst: SocketAddr,
    /// The flags of a TCP segment; empty for other protocols.
    pub flags: TcpFlags,
}

/// The reasons why bytes are not a packet that the simulator carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPacket {
    /// The bytes are fewer than the headers require.
    Short,
    /// Neither IPv4 nor IPv6, or a transport that is not simulated.
    Protocol,
}

/// One IP packet. `flow` is kept beside the bytes so that a hop does not have to parse them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    flow: Flow,
    /// The offset of the transport header.
    transport: u16,
}

impl Packet {
    /// Takes the bytes that a host sends. Checksums are not verified.
    ///
    /// # Errors
    /// When the bytes are not a packet that the simulator carries, see [`BadPacket`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BadPacket> {
        let (transport, number, src, dst) = match bytes.first().map(|b| b >> 4) {
            Some(4) => {
                let head = usize::from(bytes[0] & 15) * 4;
                if head < IPV4_HEADER || bytes.len() < head {
                    return Err(BadPacket::Short);
                }
                let at =
                    |i: usize| Ipv4Addr::new(bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]);
                (head, bytes[9], IpAddr::V4(at(12)), IpAddr::V4(at(16)))
            }
            Some(6) => {
                if bytes.len() < IPV6_HEADER {
                    return Err(BadPacket::Short);
                }
                let at = |i: usize| {
                    let mut a = [0; 16];
                    a.copy_from_slice(&bytes[i..i + 16]);
                    IpAddr::V6(Ipv6Addr::from(a))
                };
                (IPV6_HEADER, bytes[6], at(8), at(24))
            }
            Some(_) => return Err(BadPacket::Protocol),
            None => return Err(BadPacket::Short),
        };
        let proto = Proto::from_number(number).ok_or(BadPacket::Protocol)?;
        let body = &bytes[transport..];
        let later = src.is_ipv4() && (bytes[6] & 0x1f, bytes[7]) != (0, 0);
        // A fragment other than the first may begin with any bytes.
        let need = if later { 0 } else { proto.header() };
        if body.len() < need {
            return Err(BadPacket::Short);
        }
        let word = |i: usize| u16::from_be_bytes([body[i], body[i + 1]]);
        let (from, to) = match proto {
            _ if later => (0, 0),
            Proto::Icmp if is_query(src, body[0]) => (word(4), word(4)),
            Proto::Icmp | Proto::Gre | Proto::Esp => (0, 0),
            Proto::Udp | Proto::Tcp | Proto::Sctp | Proto::UdpLite => (word(0), word(2)),
        };
        let flags = match proto {
            Proto::Tcp if !later => TcpFlags(body[13]),
            _ => TcpFlags::default(),
        };
        let flow = Flow {
            proto,
            src: SocketAddr::new(src, from),
            dst: SocketAddr::new(dst, to),
            flags,
        };
        Ok(Self {
            transport: transport as u16,
            bytes,
            flow,
        })
    }

    /// Creates a datagram.
    ///
    /// # Panics
    /// When the addresses are of different families, or `payload` does not fit an IP packet.
    #[must_use]
    pub fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Self {
        Self::udp_in(Vec::new(), src, dst, payload)
    }

    /// Creates a datagram in a buffer that was used before, like [`Packet::udp`].
    ///
    /// # Panics
    /// Like [`Packet::udp`].
    #[must_use]
    pub fn udp_in(buffer: Vec<u8>, src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Self {
        let mut bytes = ip_header(buffer, 17, src.ip(), dst.ip(), UDP_HEADER + payload.len());
        bytes.extend_from_slice(&src.port().to_be_bytes());
        bytes.extend_from_slice(&dst.port().to_be_bytes());
        bytes.extend_from_slice(&((UDP_HEADER + payload.len()) as u16).to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(payload);
        Self::finish(bytes, Proto::Udp, src, dst, TcpFlags::default())
    }

    /// Creates a TCP segment without options, for scripted hosts and for boxes that send resets.
    ///
    /// # Panics
    /// Like [`Packet::udp`].
    #[must_use]
    pub fn tcp(
        src: SocketAddr,
        dst: SocketAddr,
        flags: TcpFlags,
        seq: u32,
        ack: u32,
        payload: &[u8],
    ) -> Self {
        let mut bytes = ip_header(
            Vec::new(),
            6,
            src.ip(),
            dst.ip(),
            TCP_HEADER + payload.len(),
        );
        bytes.extend_from_slice(&src.port().to_be_bytes());
        bytes.extend_from_slice(&dst.port().to_be_bytes());
        bytes.extend_from_slice(&seq.to_be_bytes());
        bytes.extend_from_slice(&ack.to_be_bytes());
        // A header of five words, a window of 65 535, no checksum yet, no urgent data.
        bytes.extend_from_slice(&[0x50, flags.0, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend_from_slice(payload);
        Self::finish(bytes, Proto::Tcp, src, dst, flags)
    }

    fn finish(
        bytes: Vec<u8>,
        proto: Proto,
        src: SocketAddr,
        dst: SocketAddr,
        flags: TcpFlags,
    ) -> Self {
        let transport = if src.is_ipv4() {
            IPV4_HEADER
        } else {
            IPV6_HEADER
        } as u16;
        let flow = Flow {
            proto,
            src,
            dst,
            flags,
        };
        let mut packet = Self {
            bytes,
            flow,
            transport,
        };
        packet.fill_checksums();
        packet
    }

    /// The sender, the receiver and the protocol.
    #[must_use]
    pub const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// The packet as it goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the buffer of the packet, for reuse.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes after the transport header: the data of a datagram or segment, or what follows the
    /// first eight bytes of an ICMP message.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let body = &self.bytes[usize::from(self.transport)..];
        let head = match self.flow.proto {
            _ if self.is_later_fragment() => 0,
            Proto::Tcp => usize::from(body[12] >> 4) * 4,
            other => other.header(),
        };
        body.get(head..).unwrap_or_default()
    }

    /// The transport header and the bytes after it.
    #[must_use]
    pub fn transport(&self) -> &[u8] {
        &self.bytes[usize::from(self.transport)..]
    }

    /// The sequence and acknowledgement numbers of a segment.
    #[must_use]
    pub fn tcp_numbers(&self) -> Option<(u32, u32)> {
        let body = self.transport();
        let word = |i: usize| u32::from_be_bytes([body[i], body[i + 1], body[i + 2], body[i + 3]]);
        let there = self.flow.proto == Proto::Tcp && !self.is_later_fragment();
        there.then(|| (word(4), word(8)))
    }

    /// The remaining hops (IPv4's time to live, IPv6's hop limit).
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.bytes[if self.flow.src.is_ipv4() { 8 } else { 7 }]
    }

    /// Takes one hop away. Returns `false`, and leaves the packet as it was, when none was left.
    pub fn hop(&mut self) -> bool {
        let ttl = self.ttl();
        if ttl <= 1 {
            return false;
        }
        if self.flow.src.is_ipv4() {
            let old = [ttl, self.bytes[9]];
            self.bytes[8] = ttl - 1;
            let new = [ttl - 1, self.bytes[9]];
            patch(&mut self.bytes, 10, &old, &new);
        } else {
            self.bytes[7] = ttl - 1;
        }
        true
    }

    /// Rewrites the sender, and updates the checksums (RFC 1624).
    ///
    /// # Panics
    /// When `to` is of another family.
    pub fn set_src(&mut self, to: SocketAddr) {
        let from = std::mem::replace(&mut self.flow.src, to);
        let at = if from.is_ipv4() { 12 } else { 8 };
        self.rewrite(from, to, at, 0);
    }

    /// Rewrites the receiver, and updates the checksums (RFC 1624).
    ///
    /// # Panics
    /// When `to` is of another family.
    pub fn set_dst(&mut self, to: SocketAddr) {
        let from = std::mem::replace(&mut self.flow.dst, to);
        let at = if from.is_ipv4() { 16 } else { 24 };
        self.rewrite(from, to, at, 2);
    }

    fn rewrite(&mut self, from: SocketAddr, to: SocketAddr, address_at: usize, port_at: usize) {
        let (old, len) = octets(from.ip());
        let (new, new_len) = octets(to.ip());
        assert_eq!(
            len, new_len,
            "an address was replaced by one of another family"
        );
        self.bytes[address_at..address_at + len].copy_from_slice(&new[..len]);
        let transport = usize::from(self.transport);
        if from.is_ipv4() {
            patch(&mut self.bytes, 10, &old[..len], &new[..len]);
        }
        if self.is_later_fragment() {
            return;
        }
        let Some(check) = self.flow.proto.checksum_at() else {
            return self.rewrite_port(to, transport + port_at);
        };
        let check = transport + check;
        // The checksum of ICMP over IPv4 does not cover the addresses.
        // A UDP checksum of zero means that there is none (RFC 768).
        let none = self.flow.proto == Proto::Udp && self.bytes[check..check + 2] == [0, 0];
        if !none && (self.flow.proto != Proto::Icmp || !from.is_ipv4()) {
            patch(&mut self.bytes, check, &old[..len], &new[..len]);
        }
        if from.port() == to.port() {
            if !none {
                self.keep_checksum(check);
            }
            return;
        }
        let at = match self.flow.proto {
            Proto::Icmp => {
                // Both ports of a query are its one identifier.
                self.flow.src.set_port(to.port());
                self.flow.dst.set_port(to.port());
                transport + 4
            }
            _ => transport + port_at,
        };
        self.bytes[at..at + 2].copy_from_slice(&to.port().to_be_bytes());
        if !none {
            patch(
                &mut self.bytes,
                check,
                &from.port().to_be_bytes(),
                &to.port().to_be_bytes(),
            );
            self.keep_checksum(check);
        }
    }

    /// Keeps the checksum of a datagram, at `check`, from becoming zero, which would mean that
    /// there is none.
    fn keep_checksum(&mut self, check: usize) {
        if matches!(self.flow.proto, Proto::Udp | Proto::UdpLite) {
            never_none(&mut self.bytes, check);
        }
    }

    /// Changes one bit behind the ports, as a noisy link would; `dice` selects which. The flow
    /// stays readable and the checksum no longer holds. Returns `false` when there is nothing to
    /// change.
    pub fn flip(&mut self, dice: u32) -> bool {
        // The offset and the flags of a segment are spared too, because `flow` has a copy of the
        // flags.
        let spared = match self.flow.proto {
            Proto::Udp | Proto::Sctp | Proto::UdpLite => 4,
            Proto::Tcp => 14,
            Proto::Icmp => 2,
            Proto::Gre | Proto::Esp => 0,
        };
        // The identifier of a query is spared, because `flow` has a copy of it.
        let keep = match self.flow.proto {
            Proto::Icmp => 4..6,
            _ => 0..0,
        };
        let from = usize::from(self.transport) + spared;
        let bits = (self.bytes.len().saturating_sub(from) as u64) * 8;
        if bits == 0 {
            return false;
        }
        let bit = ((u64::from(dice) * bits) >> 32) as usize;
        let mut at = spared + bit / 8;
        if keep.contains(&at) {
            at = spared;
        }
        self.bytes[usize::from(self.transport) + at] ^= 1 << (bit % 8);
        true
    }

    /// Computes the checksum of the IPv4 header again.
    fn fill_header_checksum(&mut self) {
        if self.flow.src.is_ipv4() {
            self.bytes[10..12].copy_from_slice(&[0, 0]);
            let sum = !fold(sum(&self.bytes[..usize::from(self.transport)], 0));
            self.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// Computes every checksum again. A fragment has only the one of its IP header.
    pub fn fill_checksums(&mut self) {
        let transport = usize::from(self.transport);
        self.fill_header_checksum();
        if self.fragment().is_some() {
            return;
        }
        let Some(at) = self.flow.proto.checksum_at() else {
            return self.fill_crc();
        };
        let at = transport + at;
        self.bytes[at..at + 2].copy_from_slice(&[0, 0]);
        let mut check = !fold(self.transport_sum());
        if check == 0 && matches!(self.flow.proto, Proto::Udp | Proto::UdpLite) {
            check = 0xffff;
        }
        self.bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }

    /// Returns `true` when every checksum holds. A fragment has only the one of its IP header.
    #[must_use]
    pub fn checksums_hold(&self) -> bool {
        let transport = usize::from(self.transport);
        let none = self.fragment().is_some()
            || self.flow.proto == Proto::Udp && self.transport()[6..8] == [0, 0];
        let header = !self.flow.src.is_ipv4() || fold(sum(&self.bytes[..transport], 0)) == 0xffff;
        header
            && (none
                || match self.flow.proto.checksum_at() {
                    Some(_) => fold(self.transport_sum()) == 0xffff,
                    None => self.crc_holds(),
                })
    }

    /// The sum over the transport header and payload, and over the pseudo-header where there is
    /// one.
    fn transport_sum(&self) -> u32 {
        let body = self.transport();
        let (v4, proto) = (self.flow.src.is_ipv4(), self.flow.proto);
        let mut total = 0;
        if !v4 || proto != Proto::Icmp {
            let number = u32::from(proto.number(v4));
            let (src, len) = octets(self.flow.src.ip());
            let (dst, _) = octets(self.flow.dst.ip());
            total = sum(&src[..len], number + body.len() as u32);
            total = sum(&dst[..len], total);
        }
        sum(self.covered(body), total)
    }
}

/// Returns `true` when an ICMP type is a query, or the answer to one, that has an identifier: echo,
/// and the timestamp of IPv4.
const fn is_query(family: IpAddr, kind: u8) -> bool {
    match family {
        IpAddr::V4(_) => matches!(kind, 0 | 8 | 13 | 14),
        IpAddr::V6(_) => matches!(kind, 128 | 129),
    }
}

fn octets(ip: IpAddr) -> ([u8; 16], usize) {
    match ip {
        IpAddr::V4(ip) => {
            let mut a = [0; 16];
            a[..4].copy_from_slice(&ip.octets());
            (a, 4)
        }
        IpAddr::V6(ip) => (ip.octets(), 16),
    }
}

fn ip_header(mut bytes: Vec<u8>, number: u8, src: IpAddr, dst: IpAddr, body: usize) -> Vec<u8> {
    bytes.clear();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let len = IPV4_HEADER + body;
            assert!(len <= MAX_PACKET, "{len} bytes do not fit an IPv4 packet");
            bytes.reserve(len);
            bytes.extend_from_slice(&[0x45, 0]);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
            // Neither a fragment nor allowed to become one.
            bytes.extend_from_slice(&[0, 0, 0x40, 0, HOP_LIMIT, number, 0, 0]);
            bytes.extend_from_slice(&src.octets());
            bytes.extend_from_slice(&dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            assert!(body <= MAX_PACKET, "{body} bytes do not fit an IPv6 packet");
            bytes.reserve(IPV6_HEADER + body);
            bytes.extend_from_slice(&[0x60, 0, 0, 0]);
            bytes.extend_from_slice(&(body as u16).to_be_bytes());
            bytes.extend_from_slice(&[number, HOP_LIMIT]);
            bytes.extend_from_slice(&src.octets());
            bytes.extend_from_slice(&dst.octets());
        }
        _ => panic!("{src} and {dst} are of different families"),
    }
    bytes
}

/// The ones' complement sum of big-endian words, not folded yet (RFC 1071).
fn sum(bytes: &[u8], start: u32) -> u32 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |b| u32::from(*b) << 8);
    words.fold(start + last, |total, w| {
        total + u32::from(u16::from_be_bytes([w[0], w[1]]))
    })
}

const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// Sends a UDP checksum that was computed as zero in its other form, because zero means that there
/// is none (RFC 768).
fn never_none(bytes: &mut [u8], at: usize) {
    if bytes[at..at + 2] == [0, 0] {
        bytes[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    }
}

/// Updates the checksum at `at` after `old` has become `new` (RFC 1624, equation 3).
fn patch(bytes: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    let check = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let mut total = u32::from(!check);
    for (o, n) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
        total += u32::from(!u16::from_be_bytes([o[0], o[1]]));
        total += u32::from(u16::from_be_bytes([n[0], n[1]]));
    }
    bytes[at..at + 2].copy_from_slice(&(!fold(total)).to_be_bytes());
}

#[cfg(test)]
mod tests;
