//! The fields of a TCP header that connection tracking reads (RFC 9293 §3.1).

use std::net::SocketAddr;

use super::{Flow, IPV4_HEADER, IPV6_HEADER, Packet, Proto, TCP_HEADER, TcpFlags, ip_header};

/// The largest shift of a window (RFC 7323 §2.3).
const MAX_SCALE: u8 = 14;

/// The header of a segment; all zero for packets that are not segments, but for the chunk of SCTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flags: TcpFlags,
    /// The first sequence number of the segment.
    pub(crate) seq: u32,
    /// The first sequence number after the segment. SYN and FIN count.
    pub(crate) end: u32,
    pub(crate) ack: u32,
    /// The window field, not shifted.
    pub(crate) window: u16,
    /// The highest sequence number that is acknowledged, selectively or not (RFC 2018 §3).
    pub(crate) sack: u32,
    /// The header has options.
    pub(crate) options: bool,
    /// The window scale option.
    pub(crate) scale: Option<u8>,
    /// The SACK-permitted option is present.
    pub(crate) sacks: bool,
    /// The first fragment of a segment: where the segment ends is not known.
    pub(crate) torn: bool,
    /// The type of the first chunk of an SCTP packet.
    pub(crate) chunk: Option<u8>,
}

/// The header of a segment that a host sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) flags: TcpFlags,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    /// A multiple of four bytes, at most 40.
    pub(crate) options: &'a [u8],
    /// The checksum is computed; it is zero otherwise.
    pub(crate) checksum: bool,
}

impl Packet {
    /// Creates a segment in a buffer that was used before. Its data is in two parts.
    pub(crate) fn tcp_in(
        buffer: Vec<u8>,
        src: SocketAddr,
        dst: SocketAddr,
        head: &Outgoing<'_>,
        data: [&[u8]; 2],
    ) -> Self {
        let long = TCP_HEADER + head.options.len();
        let body = long + data[0].len() + data[1].len();
        let mut bytes = ip_header(buffer, 6, src.ip(), dst.ip(), body);
        bytes.extend_from_slice(&src.port().to_be_bytes());
        bytes.extend_from_slice(&dst.port().to_be_bytes());
        bytes.extend_from_slice(&head.seq.to_be_bytes());
        bytes.extend_from_slice(&head.ack.to_be_bytes());
        bytes.extend_from_slice(&[((long / 4) << 4) as u8, head.flags.0]);
        bytes.extend_from_slice(&head.window.to_be_bytes());
        // No checksum yet, and no urgent data.
        bytes.extend_from_slice(&[0; 4]);
        for part in [head.options, data[0], data[1]] {
            bytes.extend_from_slice(part);
        }
        let transport = match src {
            SocketAddr::V4(_) => IPV4_HEADER,
            SocketAddr::V6(_) => IPV6_HEADER,
        } as u16;
        let flow = Flow {
            proto: Proto::Tcp,
            src,
            dst,
            flags: head.flags,
        };
        let mut packet = Self {
            bytes,
            flow,
            transport,
        };
        match head.checksum {
            true => packet.fill_checksums(),
            false => packet.fill_header_checksum(),
        }
        packet
    }

    /// The packet's TCP header.
    pub(crate) fn segment(&self) -> Segment {
        if self.flow.proto != Proto::Tcp || self.is_later_fragment() {
            return Segment {
                chunk: self.sctp_chunk(),
                ..Segment::default()
            };
        }
        let (head, flags) = (self.transport(), self.flow.flags);
        let word = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let (seq, ack) = (word(4), word(8));
        let marks = u32::from(flags.has(TcpFlags::SYN)) + u32::from(flags.has(TcpFlags::FIN));
        let mut segment = Segment {
            flags,
            seq,
            end: seq.wrapping_add(self.payload().len() as u32 + marks),
            ack,
            window: u16::from_be_bytes([head[14], head[15]]),
            sack: ack,
            options: false,
            scale: None,
            sacks: false,
            torn: self.fragment().is_some(),
            chunk: None,
        };
        let long = usize::from(head[12] >> 4) * 4;
        if let Some(mut options) = head.get(TCP_HEADER..long) {
            segment.options = !options.is_empty();
            while let Some(rest) = segment.option(options) {
                options = rest;
            }
        }
        segment
    }
}

impl Segment {
    /// Reads the first option and returns the options after it, if there are any.
    fn option<'a>(&mut self, options: &'a [u8]) -> Option<&'a [u8]> {
        let (kind, rest) = options.split_first()?;
        match kind {
            0 => return None,
            1 => return Some(rest),
            _ => {}
        }
        let long = usize::from(*rest.first()?);
        let body = options.get(2..long)?;
        match (kind, body) {
            (3, [scale]) => self.scale = Some((*scale).min(MAX_SCALE)),
            (4, []) => self.sacks = true,
            (5, blocks) => {
                for block in blocks.chunks_exact(8) {
                    let right = u32::from_be_bytes([block[4], block[5], block[6], block[7]]);
                    if (right.wrapping_sub(self.sack) as i32) > 0 {
                        self.sack = right;
                    }
                }
            }
            _ => {}
        }
        options.get(long..)
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn with_options(flags: TcpFlags, options: &[u8]) -> Segment {
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let mut bytes = Packet::tcp(at(1), at(2), flags, 7, 100, options).into_bytes();
        // The payload is turned into options.
        bytes[32] = ((5 + options.len() / 4) << 4) as u8;
        Packet::parse(bytes).expect("a packet").segment()
    }

    #[test]
    fn length_and_options() {
        let syn = with_options(TcpFlags::SYN, &[3, 3, 7, 1, 4, 2, 1, 0]);
        assert_eq!((syn.seq, syn.end, syn.ack), (7, 8, 100));
        assert_eq!((syn.scale, syn.sacks, syn.options), (Some(7), true, true));
        let mut sack = vec![1, 1, 5, 18];
        for edge in [150_u32, 160, 120, 130] {
            sack.extend_from_slice(&edge.to_be_bytes());
        }
        assert_eq!(with_options(TcpFlags::ACK, &sack).sack, 160);
        assert_eq!(with_options(TcpFlags::ACK, &[]).sack, 100);
        assert!(!with_options(TcpFlags::ACK, &[]).options);
    }

    #[test]
    fn broken_options_are_left_alone() {
        for broken in [[3, 0, 7, 7], [3, 1, 7, 7], [3, 200, 7, 7], [1, 1, 1, 3]] {
            assert_eq!(with_options(TcpFlags::SYN, &broken).scale, None);
        }
    }

    quickcheck! {
        fn any_options_are_read_without_a_panic(bytes: Vec<u8>) -> bool {
            let long = bytes.len().min(40) & !3;
            with_options(TcpFlags::ACK, &bytes[..long]).end == 7
        }
    }
}
