//! Peer wire: the handshake and the messages of BEP 3, 5, 6 and 10.
//!
//! ```text
//! handshake  19 "BitTorrent protocol" reserved(8) info_hash(20) peer_id(20)
//! message    length(4) [ id(1) body ]      length 0 is a keep-alive
//! ```

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::{BlockRef, InfoHash, PeerId, hash::sha1};

/// Bytes of a handshake (BEP 3).
pub const HANDSHAKE_LEN: usize = 68;
/// How every handshake starts (BEP 3).
pub const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// Bytes of a `piece` message before its payload: length, id, index, begin (BEP 3).
pub const PIECE_HEADER_LEN: usize = 13;
/// Most pieces a torrent may have. Our choice, the same as libtorrent's: 2^21 pieces are a bitfield of 256 KiB.
pub const MAX_PIECES: u32 = 1 << 21;
/// The longest message, without its length prefix, that is accepted: the largest bitfield. Only
/// bitfields and extended messages are buffered whole; other long messages are skipped.
pub const MAX_MESSAGE_LEN: u32 = MAX_PIECES / 8 + 1;
/// The longest extended message that is buffered: a metadata piece is 16 KiB and a little (BEP 9), PEX
/// with 100 addresses below 2 KiB (BEP 11); the handshake has room for long names.
pub const MAX_EXTENDED_LEN: u32 = 32 * 1024;

/// Message ids (BEP 3, 5, 6, 10).
pub mod id {
    #![allow(missing_docs)]
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const PORT: u8 = 9;
    pub const SUGGEST: u8 = 13;
    pub const HAVE_ALL: u8 = 14;
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const ALLOWED_FAST: u8 = 17;
    pub const EXTENDED: u8 = 20;
}

/// The eight reserved bytes of a handshake: the extensions that its sender supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// The extensions of Dunlin: extension protocol and fast extension, and the DHT if `dht`.
    #[must_use]
    pub const fn ours(dht: bool) -> Self {
        Self([0, 0, 0, 0, 0, 0x10, 0, 0x04 | dht as u8])
    }

    /// Extension protocol (BEP 10).
    #[must_use]
    pub const fn extended(self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// Fast extension (BEP 6).
    #[must_use]
    pub const fn fast(self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// DHT: the peer wants a `port` message (BEP 5).
    #[must_use]
    pub const fn dht(self) -> bool {
        self.0[7] & 0x01 != 0
    }
}

/// The first 68 bytes of either side (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The extensions that the sender supports.
    pub reserved: Reserved,
    /// The info-hash of the torrent.
    pub info_hash: InfoHash,
    /// The sender's peer id.
    pub peer_id: PeerId,
}

impl Handshake {
    /// Parses a handshake; `None` if it is not one of this protocol.
    #[must_use]
    pub fn parse(bytes: &[u8; HANDSHAKE_LEN]) -> Option<Self> {
        let rest = bytes.strip_prefix(PROTOCOL)?;
        let (reserved, rest) = rest.split_first_chunk()?;
        let (info_hash, rest) = rest.split_first_chunk()?;
        Some(Self {
            reserved: Reserved(*reserved),
            info_hash: InfoHash(*info_hash),
            peer_id: PeerId(*rest.first_chunk()?),
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; HANDSHAKE_LEN] {
        let mut out = [0; HANDSHAKE_LEN];
        out[..20].copy_from_slice(PROTOCOL);
        out[20..28].copy_from_slice(&self.reserved.0);
        out[28..48].copy_from_slice(&self.info_hash.0);
        out[48..].copy_from_slice(&self.peer_id.0);
        out
    }
}

/// One message, borrowed from the buffer it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Keep-alive: an empty message (BEP 3).
    KeepAlive,
    /// Requests will not be answered (BEP 3).
    Choke,
    /// Requests will be answered (BEP 3).
    Unchoke,
    /// The sender would request if it were unchoked (BEP 3).
    Interested,
    /// The sender would not request (BEP 3).
    NotInterested,
    /// The sender now has this piece (BEP 3).
    Have(u32),
    /// The pieces the sender has (BEP 3).
    Bitfield(&'a [u8]),
    /// Asks for a block (BEP 3).
    Request(BlockRef),
    /// A block (BEP 3).
    Piece {
        /// Piece index.
        piece: u32,
        /// Offset in the piece.
        begin: u32,
        /// Payload.
        data: &'a [u8],
    },
    /// Withdraws a request (BEP 3).
    Cancel(BlockRef),
    /// UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// A piece that would be cheap for the sender (BEP 6).
    Suggest(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// This request will not be answered (BEP 6).
    Reject(BlockRef),
    /// This piece may be requested while choked (BEP 6).
    AllowedFast(u32),
    /// A message of the extension protocol (BEP 10).
    Extended {
        /// 0 for the handshake, else the number that the receiver gave in its own handshake.
        id: u8,
        /// The bytes after the number.
        payload: &'a [u8],
    },
    /// A message of an unknown kind; to be ignored.
    Unknown {
        /// Its id.
        id: u8,
    },
}

/// A message of a known kind had the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLength {
    /// The kind.
    pub id: u8,
    /// Its length, without the prefix.
    pub len: u32,
}

impl core::fmt::Display for BadLength {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "message {} has a wrong length of {}", self.id, self.len)
    }
}

impl core::error::Error for BadLength {}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn only_u32(body: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(body.try_into().ok()?))
}

fn block_ref(body: &[u8]) -> Option<BlockRef> {
    (body.len() == 12).then_some(())?;
    Some(BlockRef {
        piece: u32_at(body, 0)?,
        begin: u32_at(body, 4)?,
        len: u32_at(body, 8)?,
    })
}

impl<'a> Message<'a> {
    /// Reads one message without its length prefix.
    ///
    /// # Errors
    /// The length is wrong for the kind.
    pub fn parse(message: &'a [u8]) -> Result<Self, BadLength> {
        let Some((&id, body)) = message.split_first() else {
            return Ok(Self::KeepAlive);
        };
        let bare = |m: Self| body.is_empty().then_some(m);
        let parsed = match id {
            id::CHOKE => bare(Self::Choke),
            id::UNCHOKE => bare(Self::Unchoke),
            id::INTERESTED => bare(Self::Interested),
            id::NOT_INTERESTED => bare(Self::NotInterested),
            id::HAVE => only_u32(body).map(Self::Have),
            id::BITFIELD => Some(Self::Bitfield(body)),
            id::REQUEST => block_ref(body).map(Self::Request),
            id::PIECE => Self::piece(body),
            id::CANCEL => block_ref(body).map(Self::Cancel),
            id::PORT => body
                .try_into()
                .ok()
                .map(|port| Self::Port(u16::from_be_bytes(port))),
            id::SUGGEST => only_u32(body).map(Self::Suggest),
            id::HAVE_ALL => bare(Self::HaveAll),
            id::HAVE_NONE => bare(Self::HaveNone),
            id::REJECT => block_ref(body).map(Self::Reject),
            id::ALLOWED_FAST => only_u32(body).map(Self::AllowedFast),
            id::EXTENDED => body
                .split_first()
                .map(|(&id, payload)| Self::Extended { id, payload }),
            id => Some(Self::Unknown { id }),
        };
        parsed.ok_or(BadLength {
            id,
            len: message.len() as u32,
        })
    }

    fn piece(body: &'a [u8]) -> Option<Self> {
        Some(Self::Piece {
            piece: u32_at(body, 0)?,
            begin: u32_at(body, 4)?,
            data: body.get(8..)?,
        })
    }

    /// Appends the message with its length prefix.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => out.extend_from_slice(&[0; 4]),
            Self::Choke => emit(out, id::CHOKE, &[]),
            Self::Unchoke => emit(out, id::UNCHOKE, &[]),
            Self::Interested => emit(out, id::INTERESTED, &[]),
            Self::NotInterested => emit(out, id::NOT_INTERESTED, &[]),
            Self::Have(piece) => emit(out, id::HAVE, &piece.to_be_bytes()),
            Self::Bitfield(bits) => emit(out, id::BITFIELD, bits),
            Self::Request(at) => emit(out, id::REQUEST, &triple(at)),
            Self::Piece { piece, begin, data } => {
                let at = BlockRef {
                    piece,
                    begin,
                    len: data.len() as u32,
                };
                out.extend_from_slice(&piece_header(at));
                out.extend_from_slice(data);
            }
            Self::Cancel(at) => emit(out, id::CANCEL, &triple(at)),
            Self::Port(port) => emit(out, id::PORT, &port.to_be_bytes()),
            Self::Suggest(piece) => emit(out, id::SUGGEST, &piece.to_be_bytes()),
            Self::HaveAll => emit(out, id::HAVE_ALL, &[]),
            Self::HaveNone => emit(out, id::HAVE_NONE, &[]),
            Self::Reject(at) => emit(out, id::REJECT, &triple(at)),
            Self::AllowedFast(piece) => emit(out, id::ALLOWED_FAST, &piece.to_be_bytes()),
            Self::Extended { id, payload } => {
                out.extend_from_slice(&(payload.len() as u32 + 2).to_be_bytes());
                out.extend_from_slice(&[id::EXTENDED, id]);
                out.extend_from_slice(payload);
            }
            Self::Unknown { id } => emit(out, id, &[]),
        }
    }
}

fn emit(out: &mut Vec<u8>, id: u8, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32 + 1).to_be_bytes());
    out.push(id);
    out.extend_from_slice(body);
}

fn triple(at: BlockRef) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&at.piece.to_be_bytes());
    out[4..8].copy_from_slice(&at.begin.to_be_bytes());
    out[8..].copy_from_slice(&at.len.to_be_bytes());
    out
}

/// The 13 bytes before a block's payload.
#[must_use]
pub fn piece_header(at: BlockRef) -> [u8; PIECE_HEADER_LEN] {
    let mut out = [0; PIECE_HEADER_LEN];
    // A block is at most 16 KiB; only a mistake of the caller could saturate here.
    out[..4].copy_from_slice(&at.len.saturating_add(9).to_be_bytes());
    out[4] = id::PIECE;
    out[5..9].copy_from_slice(&at.piece.to_be_bytes());
    out[9..].copy_from_slice(&at.begin.to_be_bytes());
    out
}

/// Parses the 13 bytes before a block's payload; `None` if they begin another message.
#[must_use]
pub fn parse_piece_header(header: &[u8; PIECE_HEADER_LEN]) -> Option<BlockRef> {
    let &[l0, l1, l2, l3, id::PIECE, p0, p1, p2, p3, b0, b1, b2, b3] = header else {
        return None;
    };
    Some(BlockRef {
        piece: u32::from_be_bytes([p0, p1, p2, p3]),
        begin: u32::from_be_bytes([b0, b1, b2, b3]),
        len: u32::from_be_bytes([l0, l1, l2, l3]).checked_sub(9)?,
    })
}

/// Most pieces [`allowed_fast_set`] yields. BEP 6 suggests ten.
pub const MAX_ALLOWED_FAST: usize = 10;
/// The most SHA-1 rounds: with few pieces the set may never be full.
const MAX_ROUNDS: u32 = 64;

/// The pieces that a peer at `ip` may request while choked, in order (BEP 6 "Allowed Fast Set
/// Generation"): `k` of them, or fewer if the torrent has fewer.
#[must_use]
pub fn allowed_fast_set(
    ip: Ipv4Addr,
    info_hash: InfoHash,
    pieces: u32,
    k: usize,
) -> heapless::Vec<u32, MAX_ALLOWED_FAST> {
    let mut set = heapless::Vec::new();
    let k = k.min(MAX_ALLOWED_FAST).min(pieces as usize);
    let mut seed = [0; 24];
    seed[..3].copy_from_slice(&ip.octets()[..3]);
    seed[4..].copy_from_slice(&info_hash.0);
    let mut x = sha1(&seed);
    for _ in 0..MAX_ROUNDS {
        for word in x.as_chunks::<4>().0 {
            if set.len() >= k {
                return set;
            }
            let index = u32::from_be_bytes(*word) % pieces;
            if !set.contains(&index) {
                let _ = set.push(index);
            }
        }
        x = sha1(&x);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use quickcheck::quickcheck;

    const AT: BlockRef = BlockRef {
        piece: 1,
        begin: 0x4000,
        len: 0x4000,
    };

    #[test]
    fn every_message_has_the_bytes_of_its_bep() {
        let golden: &[(Message<'_>, &[u8])] = &[
            (Message::KeepAlive, &[0, 0, 0, 0]),
            (Message::Choke, &[0, 0, 0, 1, 0]),
            (Message::Unchoke, &[0, 0, 0, 1, 1]),
            (Message::Interested, &[0, 0, 0, 1, 2]),
            (Message::NotInterested, &[0, 0, 0, 1, 3]),
            (Message::Have(0x0102), &[0, 0, 0, 5, 4, 0, 0, 1, 2]),
            (Message::Bitfield(&[0xf0]), &[0, 0, 0, 2, 5, 0xf0]),
            (
                Message::Request(AT),
                b"\0\0\0\x0d\x06\0\0\0\x01\0\0\x40\0\0\0\x40\0",
            ),
            (
                Message::Piece {
                    piece: 1,
                    begin: 2,
                    data: b"xy",
                },
                b"\0\0\0\x0b\x07\0\0\0\x01\0\0\0\x02xy",
            ),
            (
                Message::Cancel(AT),
                b"\0\0\0\x0d\x08\0\0\0\x01\0\0\x40\0\0\0\x40\0",
            ),
            (Message::Port(6881), &[0, 0, 0, 3, 9, 0x1a, 0xe1]),
            (Message::Suggest(7), &[0, 0, 0, 5, 13, 0, 0, 0, 7]),
            (Message::HaveAll, &[0, 0, 0, 1, 14]),
            (Message::HaveNone, &[0, 0, 0, 1, 15]),
            (
                Message::Reject(AT),
                b"\0\0\0\x0d\x10\0\0\0\x01\0\0\x40\0\0\0\x40\0",
            ),
            (Message::AllowedFast(7), &[0, 0, 0, 5, 17, 0, 0, 0, 7]),
            (
                Message::Extended {
                    id: 3,
                    payload: b"de",
                },
                &[0, 0, 0, 4, 20, 3, b'd', b'e'],
            ),
            (Message::Unknown { id: 99 }, &[0, 0, 0, 1, 99]),
        ];
        for (message, bytes) in golden {
            let mut out = vec![];
            message.emit(&mut out);
            assert_eq!(&out, bytes);
            assert_eq!(Message::parse(&bytes[4..]), Ok(*message));
        }
    }

    #[test]
    fn a_known_message_of_the_wrong_length_is_refused() {
        for bytes in [
            &[id::CHOKE, 0][..],
            &[id::HAVE, 0, 0, 0],
            &[id::REQUEST, 0],
            &[id::PIECE, 0, 0, 0, 0, 0, 0, 0],
            &[id::PORT, 1],
            &[id::HAVE_ALL, 1],
            &[id::EXTENDED],
        ] {
            let len = bytes.len() as u32;
            assert_eq!(Message::parse(bytes), Err(BadLength { id: bytes[0], len }));
        }
    }

    #[test]
    fn handshake_matches_the_bep_and_reads_back() {
        let hello = Handshake {
            reserved: Reserved::ours(true),
            info_hash: InfoHash([0xaa; 20]),
            peer_id: PeerId(*b"-DN0100-abcdefghijkl"),
        };
        let bytes = hello.emit();
        assert_eq!(bytes[..28], *b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05");
        assert_eq!(Handshake::parse(&bytes), Some(hello));
        let mut other = bytes;
        other[1] = b'b';
        assert_eq!(Handshake::parse(&other), None);
    }

    /// The vectors of BEP 6.
    #[test]
    fn allowed_fast_set_matches_the_bep() {
        let (ip, hash) = (Ipv4Addr::new(80, 4, 4, 200), InfoHash([0xaa; 20]));
        let nine = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];
        assert_eq!(allowed_fast_set(ip, hash, 1313, 7), nine[..7]);
        assert_eq!(allowed_fast_set(ip, hash, 1313, 9), nine[..]);
        assert_eq!(allowed_fast_set(ip, hash, 1, 9), [0][..]);
        assert!(allowed_fast_set(ip, hash, 0, 9).is_empty());
    }

    quickcheck! {
        fn what_parses_is_emitted_as_it_was(bytes: Vec<u8>) -> bool {
            match Message::parse(&bytes) {
                Ok(Message::Unknown { .. }) | Err(_) => true,
                Ok(message) => {
                    let mut out = vec![];
                    message.emit(&mut out);
                    out[..4] == (bytes.len() as u32).to_be_bytes() && out[4..] == bytes
                }
            }
        }

        fn piece_headers_read_back(piece: u32, begin: u32, len: u16) -> bool {
            let at = BlockRef { piece, begin, len: len.into() };
            parse_piece_header(&piece_header(at)) == Some(at)
        }
    }
}
