//! Fragments of IPv4 (RFC 791 §3.2). IPv6 packets are not split on their way.

use std::ops::Range;

use super::{Packet, fold, sum};

/// The part of a datagram that a fragment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The identification field of the datagram.
    pub id: u16,
    /// The number of bytes of the datagram's payload that precede this fragment. Only the first
    /// fragment has the ports.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

impl Packet {
    /// The part of its datagram that this packet carries; `None` when it is a whole datagram.
    #[must_use]
    pub fn fragment(&self) -> Option<Fragment> {
        if !self.flow.src.is_ipv4() {
            return None;
        }
        let word = |i: usize| u16::from_be_bytes([self.bytes[i], self.bytes[i + 1]]);
        let at = word(6);
        (at & 0x3fff != 0).then(|| Fragment {
            id: word(4),
            offset: (at & 0x1fff) * 8,
            more: at & 0x2000 != 0,
        })
    }

    /// Returns `true` for a fragment other than the first, which has no transport header.
    pub(super) fn is_later_fragment(&self) -> bool {
        self.flow.src.is_ipv4() && (self.bytes[6] & 0x1f, self.bytes[7]) != (0, 0)
    }

    /// Returns `true` when a router may split the packet: IPv4 without the "don't fragment" flag.
    #[must_use]
    pub fn may_fragment(&self) -> bool {
        self.flow.src.is_ipv4() && self.bytes[6] & 0x40 == 0
    }

    /// Splits a whole datagram into packets of at most `mtu` bytes, as its sender would. Returns
    /// `None` when the packet is IPv6 or a fragment already, or when `mtu` leaves no room for
    /// payload.
    #[must_use]
    pub fn split(&self, mtu: u16, id: u16) -> Option<Vec<Self>> {
        let head = usize::from(self.transport);
        let room = usize::from(mtu).checked_sub(head)? & !7;
        let need = self.flow.proto.header().next_multiple_of(8);
        if !self.flow.src.is_ipv4() || self.fragment().is_some() || room < need {
            return None;
        }
        let len = self.bytes.len() - head;
        let parts = (0..len).step_by(room).map(|from| {
            let range = from..len.min(from + room);
            self.part(id, range, len)
        });
        parts.collect()
    }

    /// The fragment of a whole datagram of `len` bytes that carries these bytes of its payload, of
    /// which the first is a multiple of eight. A flag that forbids to split stays.
    pub(crate) fn part(&self, id: u16, range: Range<usize>, len: usize) -> Option<Self> {
        let head = usize::from(self.transport);
        let more = u16::from(range.end < len) << 13;
        let at = (range.start / 8) as u16 | more;
        let mut bytes = self.bytes[..head].to_vec();
        bytes.extend_from_slice(self.bytes.get(head + range.start..head + range.end)?);
        let total = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
        let kept = u16::from(bytes[6] & 0x40) << 8;
        bytes[6..8].copy_from_slice(&(at | kept).to_be_bytes());
        bytes[10..12].copy_from_slice(&[0, 0]);
        let check = !fold(sum(&bytes[..head], 0));
        bytes[10..12].copy_from_slice(&check.to_be_bytes());
        Self::parse(bytes).ok()
    }

    /// The whole datagram of which this is the first fragment, with this payload. The payload
    /// includes the transport header.
    pub(crate) fn whole(&self, payload: &[u8]) -> Option<Self> {
        let head = usize::from(self.transport);
        let mut bytes = self.bytes[..head].to_vec();
        bytes.extend_from_slice(payload);
        let total = u16::try_from(bytes.len()).ok()?;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes[6] &= 0x40;
        bytes[7] = 0;
        bytes[10..12].copy_from_slice(&[0, 0]);
        let check = !fold(sum(&bytes[..head], 0));
        bytes[10..12].copy_from_slice(&check.to_be_bytes());
        Self::parse(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_in_parts_is_the_whole() {
        let data: Vec<u8> = (0..100).collect();
        let (src, dst) = (([10, 0, 0, 1], 5).into(), ([10, 0, 0, 2], 6).into());
        let whole = Packet::udp(src, dst, &data);
        assert_eq!(whole.fragment(), None);
        let parts = whole.split(60, 9).expect("splits");
        let mut body = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            let fragment = part.fragment().expect("a fragment");
            assert_eq!((fragment.id, usize::from(fragment.offset)), (9, body.len()));
            assert_eq!(fragment.more, n + 1 < parts.len());
            assert_eq!(part.flow().src.port(), if n == 0 { 5 } else { 0 });
            assert!(part.checksums_hold());
            body.extend_from_slice(part.transport());
        }
        assert_eq!(body, whole.transport());
    }

    #[test]
    fn rewriting_a_part_mends_the_header_and_leaves_the_rest() {
        let whole = Packet::udp(
            ([10, 0, 0, 1], 5).into(),
            ([10, 0, 0, 2], 6).into(),
            &[7; 64],
        );
        for part in whole.split(48, 1).expect("splits").iter_mut().skip(1) {
            let body = part.transport().to_vec();
            part.set_src(([203, 0, 113, 9], 0).into());
            assert!(part.checksums_hold());
            assert_eq!((part.transport(), part.tcp_numbers()), (&body[..], None));
        }
    }
}
