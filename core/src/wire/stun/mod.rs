//! STUN Binding messages (RFC 8489), with the attributes that discover a NAT's behaviour (RFC 5780).
//!
//! ```text
//! header     type(2) length(2) 2112a442 transaction(12)     length: of all attributes
//! attribute  type(2) length(2) value, padded to four bytes
//! ```
//!
//! Messages are parsed without copying and written into the caller's buffer. This module is the
//! codec only; it keeps no state of a client or server.

mod attribute;
#[cfg(test)]
mod tests;

use core::net::SocketAddr;

use crc::{CRC_32_ISO_HDLC, Crc};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

pub use attribute::{Attribute, ChangeRequest, MAX_TEXT, UnknownAttributes};

/// Usual port of a server (RFC 8489 §4.1).
pub const PORT: u16 = 3478;
/// Bytes of the header (RFC 8489 §5).
pub const HEADER_LEN: usize = 20;
/// The magic cookie, at offset 4 of every message (RFC 8489 §5).
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Attribute types this codec knows (RFC 8489 §18.3, RFC 5780 §9.1).
mod kind {
    pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(super) const CHANGE_REQUEST: u16 = 0x0003;
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PADDING: u16 = 0x0026;
    pub(super) const RESPONSE_PORT: u16 = 0x0027;
    pub(super) const SOFTWARE: u16 = 0x8022;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const RESPONSE_ORIGIN: u16 = 0x802b;
    pub(super) const OTHER_ADDRESS: u16 = 0x802c;
}

/// Attributes from this number on may be ignored by agents that do not know them (RFC 8489 §14).
const OPTIONAL: u16 = 0x8000;
/// Whole MESSAGE-INTEGRITY and FINGERPRINT attributes, in bytes (RFC 8489 §14.5, §14.7).
const INTEGRITY_LEN: usize = 24;
const FINGERPRINT_LEN: usize = 8;
/// XORed into the checksum, so that it differs from the CRC-32 of another protocol (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Whether a datagram on a shared socket is STUN: it has the magic cookie, and its length is a
/// multiple of four. To be called before uTP is tried, whose first byte may be the same.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN
        && datagram.len().is_multiple_of(4)
        && datagram[0] & 0xc0 == 0
        && datagram[4..8] == MAGIC_COOKIE
}

/// Matches a response with its request: 96 random bits (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// The four kinds of Binding message; the value is the message type (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A request, which wants a response.
    Request = 0x0001,
    /// An indication, which wants none: it keeps a mapping alive.
    Indication = 0x0011,
    /// A success response, which carries the address.
    Success = 0x0101,
    /// An error response, which carries an error code.
    Error = 0x0111,
}

/// A well-formed message, borrowed from its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The kind of message.
    pub class: Class,
    /// The transaction it belongs to.
    pub transaction: TransactionId,
    data: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins.
    integrity: Option<usize>,
    fingerprint: bool,
}

impl<'a> Message<'a> {
    /// Reads a datagram. `None` if it is not a Binding message, if an attribute this codec knows is
    /// malformed, or if there is a FINGERPRINT that is wrong or not the last attribute.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        if !is_stun(data) {
            return None;
        }
        let (header, body) = data.split_first_chunk::<HEADER_LEN>()?;
        let class = match u16::from_be_bytes([header[0], header[1]]) {
            0x0001 => Class::Request,
            0x0011 => Class::Indication,
            0x0101 => Class::Success,
            0x0111 => Class::Error,
            _ => return None,
        };
        if usize::from(u16::from_be_bytes([header[2], header[3]])) != body.len() {
            return None;
        }
        let transaction = TransactionId(*header.last_chunk()?);
        let mut message = Self {
            class,
            transaction,
            data,
            integrity: None,
            fingerprint: false,
        };
        let mut tlvs = Tlvs {
            data,
            at: HEADER_LEN,
        };
        while tlvs.at < data.len() {
            let (at, kind, value) = tlvs.next()?;
            if message.fingerprint {
                return None;
            }
            match kind {
                kind::FINGERPRINT => {
                    let sent = u32::from_be_bytes(value.try_into().ok()?);
                    if sent != fingerprint(&data[..at]) {
                        return None;
                    }
                    message.fingerprint = true;
                }
                // Attributes after MESSAGE-INTEGRITY are not protected by it, so they are ignored.
                _ if message.integrity.is_some() => {}
                kind::MESSAGE_INTEGRITY => {
                    let _: &[u8; INTEGRITY_LEN - 4] = value.try_into().ok()?;
                    message.integrity = Some(at);
                }
                kind::MESSAGE_INTEGRITY_SHA256 => {}
                _ => {
                    Attribute::read(kind, value, &transaction)?;
                }
            }
        }
        Some(message)
    }

    /// Its attributes in order, without MESSAGE-INTEGRITY and what follows it, and without FINGERPRINT.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> {
        let transaction = self.transaction;
        let end = self.integrity.unwrap_or(self.data.len());
        let mut tlvs = Tlvs {
            data: &self.data[..end],
            at: HEADER_LEN,
        };
        core::iter::from_fn(move || tlvs.next())
            .filter(|&(_, kind, _)| {
                !matches!(kind, kind::FINGERPRINT | kind::MESSAGE_INTEGRITY_SHA256)
            })
            .filter_map(move |(_, kind, value)| Attribute::read(kind, value, &transaction))
    }

    /// Our address as the server sees it: XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS, which some NATs
    /// rewrite and old servers send alone.
    #[must_use]
    pub fn mapped_address(&self) -> Option<SocketAddr> {
        let xored = self.attributes().find_map(|attribute| match attribute {
            Attribute::XorMappedAddress(address) => Some(address),
            _ => None,
        });
        xored.or_else(|| {
            self.attributes().find_map(|attribute| match attribute {
                Attribute::MappedAddress(address) => Some(address),
                _ => None,
            })
        })
    }

    /// The types of attributes that must be understood but are not known here: a server refuses a
    /// request with them by error 420 (RFC 8489 §6.3.1).
    pub fn unknown_required(&self) -> impl Iterator<Item = u16> {
        self.attributes().filter_map(|attribute| match attribute {
            Attribute::Other { kind, .. } if kind < OPTIONAL => Some(kind),
            _ => None,
        })
    }

    /// Whether there is a FINGERPRINT; a message with a wrong one is not parsed at all.
    #[must_use]
    pub const fn has_fingerprint(&self) -> bool {
        self.fingerprint
    }

    /// Whether MESSAGE-INTEGRITY is that of `key`, in constant time; `None` if there is none. The
    /// key of a short-term credential is the password (RFC 8489 §9.1.1).
    #[must_use]
    pub fn verify_integrity(&self, key: &[u8]) -> Option<bool> {
        let at = self.integrity?;
        let sent = self.data.get(at + 4..at + INTEGRITY_LEN)?;
        Some(integrity(key, &self.data[..at])?.verify_slice(sent).is_ok())
    }
}

/// Writes a message, attribute by attribute. Each step returns `None` if the buffer is too short.
#[derive(Debug)]
pub struct Builder<'b> {
    buf: &'b mut [u8],
    len: usize,
    transaction: TransactionId,
}

impl<'b> Builder<'b> {
    /// Begins a message at the start of `buf`.
    #[must_use]
    pub fn new(buf: &'b mut [u8], class: Class, transaction: TransactionId) -> Option<Self> {
        let header = buf.first_chunk_mut::<HEADER_LEN>()?;
        header[..2].copy_from_slice(&(class as u16).to_be_bytes());
        header[2..4].fill(0);
        header[4..8].copy_from_slice(&MAGIC_COOKIE);
        header[8..].copy_from_slice(&transaction.0);
        Some(Self {
            buf,
            len: HEADER_LEN,
            transaction,
        })
    }

    /// Adds an attribute; also `None` if it cannot be written ([`Attribute`] names the limits).
    #[must_use]
    pub fn attribute(self, attribute: &Attribute<'_>) -> Option<Self> {
        let transaction = self.transaction;
        let room = self.buf.get_mut(self.len..)?;
        let (header, value) = room.split_first_chunk_mut::<4>()?;
        let len = attribute.emit(value, &transaction)?;
        header[..2].copy_from_slice(&attribute.kind().to_be_bytes());
        header[2..].copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
        let padded = len.next_multiple_of(4);
        value.get_mut(len..padded)?.fill(0);
        self.grow(4 + padded)
    }

    /// Adds a MESSAGE-INTEGRITY over everything before it; only a FINGERPRINT should follow.
    #[must_use]
    pub fn integrity(self, key: &[u8]) -> Option<Self> {
        let mac = integrity(key, &self.buf[..self.len])?;
        let room = self.buf.get_mut(self.len..)?;
        let out = room.first_chunk_mut::<INTEGRITY_LEN>()?;
        out[..2].copy_from_slice(&kind::MESSAGE_INTEGRITY.to_be_bytes());
        out[2..4].copy_from_slice(&(INTEGRITY_LEN as u16 - 4).to_be_bytes());
        out[4..].copy_from_slice(&mac.finalize().into_bytes());
        self.grow(INTEGRITY_LEN)
    }

    /// Adds a FINGERPRINT and ends the message. Returns its length in bytes.
    #[must_use]
    pub fn finish_with_fingerprint(self) -> Option<usize> {
        let at = self.len;
        let this = self.grow(FINGERPRINT_LEN)?;
        let (before, out) = this.buf.split_at_mut(at);
        let out = out.first_chunk_mut::<FINGERPRINT_LEN>()?;
        out[..2].copy_from_slice(&kind::FINGERPRINT.to_be_bytes());
        out[2..4].copy_from_slice(&(FINGERPRINT_LEN as u16 - 4).to_be_bytes());
        out[4..].copy_from_slice(&fingerprint(before).to_be_bytes());
        Some(this.len)
    }

    /// Ends the message. Returns its length in bytes.
    #[must_use]
    pub const fn finish(self) -> usize {
        self.len
    }

    fn grow(mut self, by: usize) -> Option<Self> {
        let len = self.len + by;
        let attributes = u16::try_from(len - HEADER_LEN).ok()?;
        if len > self.buf.len() {
            return None;
        }
        self.buf[2..4].copy_from_slice(&attributes.to_be_bytes());
        self.len = len;
        Some(self)
    }
}

/// The attributes of a message, unparsed: offset, type, value without padding.
struct Tlvs<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Tlvs<'a> {
    fn next(&mut self) -> Option<(usize, u16, &'a [u8])> {
        let at = self.at;
        let (&[k0, k1, l0, l1], rest) = self.data.get(at..)?.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let padded = rest.get(..len.next_multiple_of(4))?;
        self.at = at + 4 + padded.len();
        Some((at, u16::from_be_bytes([k0, k1]), &padded[..len]))
    }
}

/// The checksum of the message up to the FINGERPRINT; the length field includes the FINGERPRINT.
fn fingerprint(before: &[u8]) -> u32 {
    CRC.checksum(before) ^ FINGERPRINT_XOR
}

/// HMAC-SHA1 of the message up to the MESSAGE-INTEGRITY, with a length field as if the message
/// ended behind it (RFC 8489 §14.5). `None` if that is beyond 16 bits.
fn integrity(key: &[u8], before: &[u8]) -> Option<Hmac<Sha1>> {
    let len = u16::try_from((before.len() + INTEGRITY_LEN).checked_sub(HEADER_LEN)?).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(key).ok()?;
    mac.update(&before[..2]);
    mac.update(&len.to_be_bytes());
    mac.update(&before[4..]);
    Some(mac)
}
