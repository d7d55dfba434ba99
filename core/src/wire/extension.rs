//! Messages of the extension protocol: its handshake (BEP 10, 21), metadata (BEP 9), peer
//! exchange (BEP 11) and lt_donthave (BEP 54).
//!
//! Each side numbers the messages it wants to receive. Messages that we receive have the numbers of
//! [`ours`]; messages that we send have those of the peer's [`TheirIds`].

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bendy::encoding::{AsString, Encoder, Error as EncodeError, SortedDictEncoder};

use super::bencode::{Dict, Error, Limits};

/// The numbers of the messages that we receive (BEP 10 `m`).
pub mod ours {
    /// The extension handshake; its number is the same for everyone.
    pub const HANDSHAKE: u8 = 0;
    /// The id of peer exchange (BEP 11).
    pub const UT_PEX: u8 = 1;
    /// The id of metadata exchange (BEP 9).
    pub const UT_METADATA: u8 = 2;
    /// The id of `lt_donthave` (BEP 54).
    pub const LT_DONTHAVE: u8 = 3;
}

/// Bytes of a piece of metadata; the last one may be shorter (BEP 9).
pub const METADATA_PIECE_LEN: usize = 16 * 1024;
/// Most added, and most dropped, peers of one message (BEP 11 "no more than 50").
pub const MAX_PEX: usize = 50;
/// The most peers taken from each list: BEP 11's 50 IPv4 and 50 IPv6. More are ignored.
const MAX_PEX_READ: usize = 50;
/// Longest client name kept, in characters.
const MAX_CLIENT_LEN: usize = 64;

/// The numbers of the messages that a peer receives; 0 if it does not want the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TheirIds {
    /// BEP 11.
    pub ut_pex: u8,
    /// BEP 9.
    pub ut_metadata: u8,
    /// BEP 54.
    pub lt_donthave: u8,
}

/// The content of our extension handshake.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Whether we want peer exchange (not for private torrents, BEP 27).
    pub pex: bool,
    /// Length of the info dictionary in bytes, if we have it (BEP 9).
    pub metadata_size: Option<u32>,
    /// TCP port we listen on.
    pub port: Option<u16>,
    /// The number of requests that we queue for the peer.
    pub reqq: u32,
    /// Whether we download nothing more (BEP 21).
    pub upload_only: bool,
    /// Client name and version.
    pub version: &'a str,
    /// The peer's address as we see it.
    pub yourip: IpAddr,
}

/// Encodes a dictionary whose keys are written in order.
fn dict(content: impl FnOnce(&mut SortedDictEncoder<'_>) -> Result<(), EncodeError>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let done = encoder.emit_dict(|mut d| content(&mut d));
    // It fails only if keys are out of order, which the golden tests would show.
    debug_assert!(done.is_ok());
    encoder.get_output().unwrap_or_default()
}

impl Offer<'_> {
    /// The payload of the extension handshake.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        dict(|d| {
            d.emit_pair_with(b"m", |m| {
                m.emit_dict(|mut m| {
                    m.emit_pair(b"lt_donthave", ours::LT_DONTHAVE)?;
                    m.emit_pair(b"ut_metadata", ours::UT_METADATA)?;
                    if self.pex {
                        m.emit_pair(b"ut_pex", ours::UT_PEX)?;
                    }
                    Ok(())
                })
            })?;
            if let Some(size) = self.metadata_size {
                d.emit_pair(b"metadata_size", size)?;
            }
            if let Some(port) = self.port {
                d.emit_pair(b"p", port)?;
            }
            d.emit_pair(b"reqq", self.reqq)?;
            if self.upload_only {
                d.emit_pair(b"upload_only", 1)?;
            }
            d.emit_pair(b"v", self.version)?;
            match self.yourip.to_canonical() {
                IpAddr::V4(ip) => d.emit_pair(b"yourip", AsString(&ip.octets()[..])),
                IpAddr::V6(ip) => d.emit_pair(b"yourip", AsString(&ip.octets()[..])),
            }
        })
    }
}

/// The content of a peer's extension handshakes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtHandshake {
    /// The numbers of the messages it receives.
    pub ids: TheirIds,
    /// Name and version (`v`), without control characters.
    pub client: String,
    /// TCP port it listens on (`p`).
    pub port: Option<u16>,
    /// The number of requests it queues before it refuses or drops more.
    pub reqq: Option<u32>,
    /// Length of the info dictionary in bytes, as it claims.
    pub metadata_size: Option<u32>,
    /// It downloads nothing more (BEP 21).
    pub upload_only: bool,
    /// Our address as it sees it.
    pub your_ip: Option<IpAddr>,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl ExtHandshake {
    /// Adds a handshake; a later one changes only the values it contains (BEP 10). Values of a wrong
    /// type or range are ignored.
    ///
    /// # Errors
    /// The payload is not a dictionary.
    pub fn update(&mut self, payload: &[u8]) -> Result<(), Error> {
        let (d, _) = Dict::parse(payload, Limits::MESSAGE)?;
        if let Some(m) = d.dict(b"m") {
            for (slot, name) in [
                (&mut self.ids.ut_pex, &b"ut_pex"[..]),
                (&mut self.ids.ut_metadata, b"ut_metadata"),
                (&mut self.ids.lt_donthave, b"lt_donthave"),
            ] {
                if let Some(id) = m.uint(name).and_then(|id| id.try_into().ok()) {
                    *slot = id;
                }
            }
        }
        if let Some(name) = d.bytes(b"v") {
            self.client = String::from_utf8_lossy(name.get(..256).unwrap_or(name))
                .chars()
                .filter(|c| !c.is_control())
                .take(MAX_CLIENT_LEN)
                .collect();
        }
        let small = |key: &[u8]| d.uint(key).and_then(|n| u32::try_from(n).ok());
        if let Some(port) = small(b"p").and_then(|p| p.try_into().ok()) {
            self.port = (port != 0).then_some(port);
        }
        self.reqq = small(b"reqq").or(self.reqq);
        if let Some(size) = small(b"metadata_size") {
            self.metadata_size = (size > 0).then_some(size);
        }
        if let Some(flag) = d.uint(b"upload_only") {
            self.upload_only = flag != 0;
        }
        self.your_ip = d.bytes(b"yourip").and_then(ip).or(self.your_ip);
        if let Some(IpAddr::V4(ip)) = d.bytes(b"ipv4").and_then(ip) {
            self.ipv4 = Some(ip);
        }
        if let Some(IpAddr::V6(ip)) = d.bytes(b"ipv6").and_then(ip) {
            self.ipv6 = Some(ip);
        }
        Ok(())
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// A message of the metadata exchange (BEP 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata<'a> {
    /// Asks for a piece.
    Request(u32),
    /// A piece.
    Data {
        /// Which.
        piece: u32,
        /// Bytes of the whole info dictionary.
        total: Option<u32>,
        /// At most [`METADATA_PIECE_LEN`] bytes.
        data: &'a [u8],
    },
    /// The piece will not be sent.
    Reject(u32),
}

impl<'a> Metadata<'a> {
    /// Parses a payload; `None` for an unknown type, and for a piece that is too long.
    ///
    /// # Errors
    /// It does not begin with a dictionary.
    pub fn parse(payload: &'a [u8]) -> Result<Option<Self>, Error> {
        let (d, data) = Dict::parse(payload, Limits::MESSAGE)?;
        let small = |key: &[u8]| d.uint(key).and_then(|n| u32::try_from(n).ok());
        let Some(piece) = small(b"piece") else {
            return Ok(None);
        };
        Ok(match d.uint(b"msg_type") {
            Some(0) => Some(Self::Request(piece)),
            Some(1) if data.len() <= METADATA_PIECE_LEN => Some(Self::Data {
                piece,
                total: small(b"total_size"),
                data,
            }),
            Some(2) => Some(Self::Reject(piece)),
            _ => None,
        })
    }

    /// Its payload.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let (kind, piece, total, data) = match *self {
            Self::Request(piece) => (0, piece, None, &[][..]),
            Self::Data { piece, total, data } => (1, piece, total, data),
            Self::Reject(piece) => (2, piece, None, &[][..]),
        };
        let mut out = dict(|d| {
            d.emit_pair(b"msg_type", kind)?;
            d.emit_pair(b"piece", piece)?;
            match total {
                Some(total) => d.emit_pair(b"total_size", total),
                None => Ok(()),
            }
        });
        out.extend_from_slice(data);
        out
    }
}

/// Properties of an added peer (BEP 11 `added.f`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PexFlags(pub u8);

impl PexFlags {
    /// Prefers encryption.
    pub const ENCRYPTION: Self = Self(0x01);
    /// Seed, or uploads only.
    pub const SEED: Self = Self(0x02);
    /// Supports uTP.
    pub const UTP: Self = Self(0x04);
    /// Supports hole punching (BEP 55).
    pub const HOLEPUNCH: Self = Self(0x08);
    /// Accepts incoming connections: the sender has reached it.
    pub const REACHABLE: Self = Self(0x10);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A message of the peer exchange (BEP 11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pex {
    /// Peers that the sender has connected to since its last message.
    pub added: Vec<(SocketAddr, PexFlags)>,
    /// Peers that it has lost since then.
    pub dropped: Vec<SocketAddr>,
}

impl Pex {
    /// Parses a payload: at most 50 addresses of each family and list, and none with port 0.
    ///
    /// # Errors
    /// It is not a dictionary.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (d, _) = Dict::parse(payload, Limits::MESSAGE)?;
        let mut this = Self::default();
        for (list, flags) in [(&b"added"[..], &b"added.f"[..]), (b"added6", b"added6.f")] {
            let flags = d.bytes(flags).unwrap_or_default();
            let peers = compact(d.bytes(list).unwrap_or_default(), list == b"added6");
            let flag = |i: usize| PexFlags(flags.get(i).copied().unwrap_or_default());
            this.added.extend(
                peers
                    .enumerate()
                    .map(|(i, peer)| (peer, flag(i)))
                    .filter(|(peer, _)| peer.port() != 0),
            );
        }
        for list in [&b"dropped"[..], b"dropped6"] {
            let peers = compact(d.bytes(list).unwrap_or_default(), list == b"dropped6");
            this.dropped.extend(peers.filter(|peer| peer.port() != 0));
        }
        Ok(this)
    }

    /// The payload with the first [`MAX_PEX`] peers of each list.
    #[must_use]
    pub fn emit(added: &[(SocketAddr, PexFlags)], dropped: &[SocketAddr]) -> Vec<u8> {
        let [mut added4, mut flags4, mut added6, mut flags6] = [const { Vec::new() }; 4];
        for (peer, flags) in added.iter().take(MAX_PEX) {
            if push_compact(*peer, &mut added4, &mut added6) {
                flags4.push(flags.0);
            } else {
                flags6.push(flags.0);
            }
        }
        let [mut dropped4, mut dropped6] = [const { Vec::new() }; 2];
        for peer in dropped.iter().take(MAX_PEX) {
            push_compact(*peer, &mut dropped4, &mut dropped6);
        }
        dict(|d| {
            d.emit_pair(b"added", AsString(&added4))?;
            d.emit_pair(b"added.f", AsString(&flags4))?;
            d.emit_pair(b"added6", AsString(&added6))?;
            d.emit_pair(b"added6.f", AsString(&flags6))?;
            d.emit_pair(b"dropped", AsString(&dropped4))?;
            d.emit_pair(b"dropped6", AsString(&dropped6))
        })
    }
}

fn compact(bytes: &[u8], v6: bool) -> impl Iterator<Item = SocketAddr> + '_ {
    let (width, addr) = if v6 { (18, 16) } else { (6, 4) };
    bytes
        .chunks_exact(width)
        .take(MAX_PEX_READ)
        .filter_map(move |chunk| {
            let (host, port) = chunk.split_at(addr);
            Some(SocketAddr::new(
                ip(host)?.to_canonical(),
                u16::from_be_bytes(port.try_into().ok()?),
            ))
        })
}

/// Appends to the list of the address' family; returns whether that is IPv4.
fn push_compact(peer: SocketAddr, v4: &mut Vec<u8>, v6: &mut Vec<u8>) -> bool {
    let (out, is_v4) = match peer.ip().to_canonical() {
        IpAddr::V4(ip) => {
            v4.extend_from_slice(&ip.octets());
            (v4, true)
        }
        IpAddr::V6(ip) => {
            v6.extend_from_slice(&ip.octets());
            (v6, false)
        }
    };
    out.extend_from_slice(&peer.port().to_be_bytes());
    is_v4
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use quickcheck::quickcheck;

    const OFFER: Offer<'_> = Offer {
        pex: true,
        metadata_size: Some(31235),
        port: Some(6881),
        reqq: 500,
        upload_only: true,
        version: "Dunlin 0.1",
        yourip: IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4)),
    };

    #[test]
    fn handshake_matches_the_bep_and_reads_back() {
        let bytes = OFFER.emit();
        assert_eq!(
            bytes,
            b"d1:md11:lt_donthavei3e11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei31235e\
              1:pi6881e4:reqqi500e11:upload_onlyi1e1:v10:Dunlin 0.16:yourip4:\x01\x02\x03\x04e"
        );
        let mut read = ExtHandshake::default();
        read.update(&bytes).unwrap();
        assert_eq!(
            read,
            ExtHandshake {
                ids: TheirIds {
                    ut_pex: 1,
                    ut_metadata: 2,
                    lt_donthave: 3,
                },
                client: "Dunlin 0.1".to_string(),
                port: Some(6881),
                reqq: Some(500),
                metadata_size: Some(31235),
                upload_only: true,
                your_ip: Some(OFFER.yourip),
                ipv4: None,
                ipv6: None,
            }
        );
    }

    #[test]
    fn a_private_torrent_without_metadata_offers_less() {
        let bytes = Offer {
            pex: false,
            metadata_size: None,
            port: None,
            upload_only: false,
            ..OFFER
        }
        .emit();
        assert_eq!(
            bytes,
            b"d1:md11:lt_donthavei3e11:ut_metadatai2ee4:reqqi500e1:v10:Dunlin 0.1\
              6:yourip4:\x01\x02\x03\x04e"
        );
    }

    #[test]
    fn a_second_handshake_changes_only_what_it_names() {
        let mut read = ExtHandshake::default();
        read.update(&OFFER.emit()).unwrap();
        // Zero switches an extension off (BEP 10); invalid values are ignored.
        read.update(b"d1:md6:ut_pexi0e11:ut_metadatai999ee1:pi70000e4:reqqi9e1:v3:a\x07be")
            .unwrap();
        assert_eq!((read.ids.ut_pex, read.ids.ut_metadata), (0, 2));
        assert_eq!((read.port, read.reqq), (Some(6881), Some(9)));
        assert_eq!(read.client, "ab");
        assert!(read.upload_only);
        assert!(read.update(b"le").is_err());
    }

    #[test]
    fn metadata_messages_match_the_bep_and_read_back() {
        let golden: &[(Metadata<'_>, &[u8])] = &[
            (Metadata::Request(0), b"d8:msg_typei0e5:piecei0ee"),
            (
                Metadata::Data {
                    piece: 0,
                    total: Some(34256),
                    data: b"xxxx",
                },
                b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxx",
            ),
            (Metadata::Reject(3), b"d8:msg_typei2e5:piecei3ee"),
        ];
        for (message, bytes) in golden {
            assert_eq!(message.emit(), *bytes);
            assert_eq!(Metadata::parse(bytes), Ok(Some(*message)));
        }
        assert_eq!(Metadata::parse(b"d8:msg_typei9e5:piecei3ee"), Ok(None));
        assert_eq!(Metadata::parse(b"d8:msg_typei0e5:piecei-1ee"), Ok(None));
    }

    #[test]
    fn pex_reads_back_in_both_families_and_within_the_limit() {
        let peer = |i: u16| {
            let ip = if i.is_multiple_of(2) {
                IpAddr::from([10, 0, 0, i as u8])
            } else {
                IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, i])
            };
            SocketAddr::new(ip, 1000 + i)
        };
        let added: Vec<_> = (0..80).map(|i| (peer(i), PexFlags(i as u8))).collect();
        let dropped: Vec<_> = (100..103).map(peer).collect();
        let mut read = Pex::parse(&Pex::emit(&added, &dropped)).unwrap();
        read.added.sort_by_key(|(peer, _)| peer.port());
        assert_eq!(read.added, added[..MAX_PEX]);
        read.dropped.sort_by_key(SocketAddr::port);
        assert_eq!(read.dropped, dropped);
    }

    #[test]
    fn pex_beyond_the_limit_or_without_a_port_is_ignored() {
        let mut bytes = b"d5:added600:".to_vec();
        bytes.extend([[1, 2, 3, 4, 0, 5].as_slice(); 99].concat());
        bytes.extend([1, 2, 3, 4, 0, 0]);
        bytes.extend(b"7:dropped6:\x01\x02\x03\x04\0\0e");
        let read = Pex::parse(&bytes).unwrap();
        assert_eq!((read.added.len(), read.dropped.len()), (50, 0));
        assert_eq!(read.added[0].1, PexFlags::default());
    }

    quickcheck! {
        fn any_payload_is_survived(bytes: Vec<u8>) -> bool {
            let _ = ExtHandshake::default().update(&bytes);
            let _ = Metadata::parse(&bytes);
            Pex::parse(&bytes).map_or(true, |pex| pex.added.len() <= 100)
        }
    }
}
