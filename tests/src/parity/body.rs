//! What the packets of a script are: their form as text, and as bytes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use dunlin_sim::{Packet, Proto, TcpFlags};

/// Length of an IPv4 header without options.
const HEADER: usize = 20;
/// Length of a datagram that is sent in pieces, in units of eight bytes, with its header.
pub const PIECES: u8 = 9;

/// What one event sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A datagram.
    Udp,
    /// A segment.
    Tcp {
        /// Flags.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Bytes of data.
        len: u8,
    },
    /// An ICMP query or the answer to one. Its identifier is the port of the inside endpoint.
    Query {
        /// Its type.
        kind: u8,
    },
    /// An ICMP error about the packet of an earlier event, as its receiver saw it.
    Error {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Which event.
        about: usize,
    },
    /// A part of a datagram of [`PIECES`] units of eight bytes.
    Piece {
        /// The identification of the datagram.
        of: u16,
        /// The first unit.
        from: u8,
        /// The unit behind the last.
        to: u8,
    },
    /// SCTP with a chunk of this type.
    Sctp {
        /// Which chunk.
        chunk: u8,
    },
    /// UDP-Lite, GRE or ESP.
    Other(Proto),
}

impl Body {
    /// The transport protocol.
    pub fn proto(self) -> Proto {
        match self {
            Self::Udp | Self::Piece { .. } => Proto::Udp,
            Self::Tcp { .. } => Proto::Tcp,
            Self::Query { .. } | Self::Error { .. } => Proto::Icmp,
            Self::Sctp { .. } => Proto::Sctp,
            Self::Other(proto) => proto,
        }
    }

    /// The packet from `src` to `dst`; `number` names the event. An error is about `quote`, if there
    /// is that.
    pub fn packet(
        self,
        src: SocketAddr,
        dst: SocketAddr,
        number: usize,
        quote: Option<&Packet>,
    ) -> Option<Packet> {
        let data = (number as u32).to_be_bytes();
        Some(match self {
            Self::Udp => Packet::udp(src, dst, &data),
            Self::Tcp {
                flags,
                seq,
                ack,
                len,
            } => {
                let data = vec![number as u8; len.into()];
                Packet::tcp(src, dst, TcpFlags(flags), seq, ack, &data)
            }
            Self::Query { kind } => {
                // The inside endpoint's port, which is the only one.
                let id = src.port().max(dst.port());
                let reply = matches!(kind, 0 | 14 | 129);
                let sequence = number as u16;
                match (kind, src.ip(), dst.ip()) {
                    (13 | 14, IpAddr::V4(from), IpAddr::V4(to)) => {
                        Packet::timestamp(from, to, reply, id, sequence)
                    }
                    (_, from, to) => Packet::echo(from, to, reply, id, sequence, &data),
                }
            }
            Self::Error { kind, code, .. } => Packet::icmp_about(src.ip(), kind, code, quote?),
            Self::Piece { of, from, to } => {
                let whole = datagram(src, dst, of);
                let [from_byte, to_byte] = [from, to].map(|unit| HEADER + usize::from(unit) * 8);
                let mut bytes = whole.bytes()[..HEADER].to_vec();
                bytes.extend_from_slice(&whole.bytes()[from_byte..to_byte]);
                let len = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                bytes[4..6].copy_from_slice(&of.to_be_bytes());
                let more = u16::from(to < PIECES) << 13;
                bytes[6..8].copy_from_slice(&(u16::from(from) | more).to_be_bytes());
                let mut packet = Packet::parse(bytes).ok()?;
                packet.fill_checksums();
                packet
            }
            Self::Sctp { chunk } => {
                // A verification tag, which an INIT has not; an INIT and its answer say the tag.
                let tag: [u8; 4] = if chunk == 1 { [0; 4] } else { [0, 0, 0, 7] };
                let mut body = tag.to_vec();
                body.extend_from_slice(&[chunk, 0, 0, 20, 0, 0, 0, 7]);
                body.extend_from_slice(&[0, 0, 16, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
                Packet::other(Proto::Sctp, src, dst, &body)
            }
            // GRE without a version and options, and with IPv4 inside; ESP with an index.
            Self::Other(Proto::Gre) => {
                Packet::other(Proto::Gre, src, dst, &[&[0, 0, 8, 0][..], &data].concat())
            }
            Self::Other(Proto::Esp) => {
                Packet::other(Proto::Esp, src, dst, &[&[0, 0, 1, 1][..], &data].concat())
            }
            Self::Other(proto) => Packet::other(proto, src, dst, &data),
        })
    }

    /// What follows the receiver in a line of text.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let body = match words.next()? {
            "udp" => Self::Udp,
            "tcp" => Self::Tcp {
                flags: u8::from_str_radix(words.next()?, 16).ok()?,
                seq: words.next()?.parse().ok()?,
                ack: words.next()?.parse().ok()?,
                len: words.next()?.parse().ok()?,
            },
            "query" => Self::Query {
                kind: words.next()?.parse().ok()?,
            },
            "error" => Self::Error {
                kind: words.next()?.parse().ok()?,
                code: words.next()?.parse().ok()?,
                about: words.next()?.parse().ok()?,
            },
            "piece" => Self::Piece {
                of: words.next()?.parse().ok()?,
                from: words.next()?.parse().ok()?,
                to: words.next()?.parse().ok()?,
            },
            "sctp" => Self::Sctp {
                chunk: words.next()?.parse().ok()?,
            },
            "udplite" => Self::Other(Proto::UdpLite),
            "gre" => Self::Other(Proto::Gre),
            "esp" => Self::Other(Proto::Esp),
            _ => return None,
        };
        words.next().is_none().then_some(body)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp => f.write_str("udp"),
            Self::Tcp {
                flags,
                seq,
                ack,
                len,
            } => write!(f, "tcp {flags:02x} {seq} {ack} {len}"),
            Self::Query { kind } => write!(f, "query {kind}"),
            Self::Error { kind, code, about } => write!(f, "error {kind} {code} {about}"),
            Self::Piece { of, from, to } => write!(f, "piece {of} {from} {to}"),
            Self::Sctp { chunk } => write!(f, "sctp {chunk}"),
            Self::Other(Proto::UdpLite) => f.write_str("udplite"),
            Self::Other(Proto::Gre) => f.write_str("gre"),
            Self::Other(_) => f.write_str("esp"),
        }
    }
}

/// The datagram of which the pieces are parts.
pub fn datagram(src: SocketAddr, dst: SocketAddr, of: u16) -> Packet {
    let mut data = [of as u8; PIECES as usize * 8 - 8];
    data.iter_mut().zip(0..).for_each(|(byte, n)| *byte ^= n);
    Packet::udp(src, dst, &data)
}

/// Puts pieces together that came out, in any order; with them, where they were cut. `None` if they
/// are not one datagram, each part once.
pub fn whole(pieces: &[Packet]) -> Option<(Packet, Vec<(u16, u16)>)> {
    let mut pieces: Vec<_> = pieces.iter().collect();
    pieces.sort_by_key(|piece| piece.fragment().map(|f| f.offset));
    let (mut bytes, mut cuts) = (pieces.first()?.bytes()[..HEADER].to_vec(), Vec::new());
    for (n, piece) in pieces.iter().enumerate() {
        let (fragment, body) = (piece.fragment()?, piece.transport());
        let next = usize::from(fragment.offset) == bytes.len() - HEADER;
        if !next || fragment.more != (n + 1 < pieces.len()) || !piece.checksums_hold() {
            return None;
        }
        cuts.push((fragment.offset, fragment.offset + body.len() as u16));
        bytes.extend_from_slice(body);
    }
    let len = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes[6..8].copy_from_slice(&[0, 0]);
    bytes[10..12].copy_from_slice(&[0, 0]);
    let mut packet = Packet::parse(bytes).ok()?;
    let held = packet.transport().to_vec();
    packet.fill_checksums();
    (packet.transport() == held).then_some((packet, cuts))
}
