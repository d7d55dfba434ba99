//! STUN attributes, read and written (RFC 8489 §14, RFC 5780 §7).

use core::net::{IpAddr, SocketAddr};

use super::{MAGIC_COOKIE, TransactionId, kind};

/// The longest SOFTWARE and the longest reason of an error that are written, in bytes (RFC 8489 §14.8, §14.14).
pub const MAX_TEXT: usize = 763;
/// Address families (RFC 8489 §14.1).
const IPV4: u8 = 1;
const IPV6: u8 = 2;
/// Flags of CHANGE-REQUEST (RFC 5780 §7.2).
const CHANGE_IP: u8 = 4;
const CHANGE_PORT: u8 = 2;

/// An attribute. MESSAGE-INTEGRITY and FINGERPRINT are not among them: [`Message`](super::Message)
/// checks them and [`Builder`](super::Builder) writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute<'a> {
    /// MAPPED-ADDRESS: the source address of the request, in the clear.
    MappedAddress(SocketAddr),
    /// XOR-MAPPED-ADDRESS: the same, hidden from NATs that rewrite addresses in payloads.
    XorMappedAddress(SocketAddr),
    /// RESPONSE-ORIGIN: where the response is sent from (RFC 5780).
    ResponseOrigin(SocketAddr),
    /// OTHER-ADDRESS: what CHANGE-REQUEST would change it to (RFC 5780).
    OtherAddress(SocketAddr),
    /// CHANGE-REQUEST: asks for the response to come from another address or port (RFC 5780).
    ChangeRequest(ChangeRequest),
    /// RESPONSE-PORT: asks for the response to go to this port (RFC 5780).
    ResponsePort(u16),
    /// PADDING: makes the message long enough to be fragmented (RFC 5780).
    Padding(&'a [u8]),
    /// USERNAME.
    Username(&'a [u8]),
    /// SOFTWARE, as far as it is UTF-8; at most [`MAX_TEXT`] bytes are written.
    Software(&'a str),
    /// ERROR-CODE.
    ErrorCode {
        /// 300 to 699.
        code: u16,
        /// The reason as text, up to the first byte that is not UTF-8; at most [`MAX_TEXT`] bytes are written.
        reason: &'a str,
    },
    /// UNKNOWN-ATTRIBUTES: the types that made the server answer with error 420.
    UnknownAttributes(UnknownAttributes<'a>),
    /// Any other attribute.
    Other {
        /// Its type.
        kind: u16,
        /// Its bytes.
        value: &'a [u8],
    },
}

/// Where a response should come from (RFC 5780 §7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// From the server's other address.
    pub ip: bool,
    /// From the server's other port.
    pub port: bool,
}

/// A list of attribute types, two bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAttributes<'a>(&'a [[u8; 2]]);

impl<'a> UnknownAttributes<'a> {
    /// A list of these types, in network byte order.
    #[must_use]
    pub const fn new(kinds: &'a [[u8; 2]]) -> Self {
        Self(kinds)
    }

    /// The types.
    pub fn iter(&self) -> impl Iterator<Item = u16> + 'a {
        self.0.iter().map(|&bytes| u16::from_be_bytes(bytes))
    }
}

impl<'a> Attribute<'a> {
    /// Its type on the wire.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::MappedAddress(_) => kind::MAPPED_ADDRESS,
            Self::XorMappedAddress(_) => kind::XOR_MAPPED_ADDRESS,
            Self::ResponseOrigin(_) => kind::RESPONSE_ORIGIN,
            Self::OtherAddress(_) => kind::OTHER_ADDRESS,
            Self::ChangeRequest(_) => kind::CHANGE_REQUEST,
            Self::ResponsePort(_) => kind::RESPONSE_PORT,
            Self::Padding(_) => kind::PADDING,
            Self::Username(_) => kind::USERNAME,
            Self::Software(_) => kind::SOFTWARE,
            Self::ErrorCode { .. } => kind::ERROR_CODE,
            Self::UnknownAttributes(_) => kind::UNKNOWN_ATTRIBUTES,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// Reads a value; `None` if it is malformed.
    pub(super) fn read(kind: u16, value: &'a [u8], transaction: &TransactionId) -> Option<Self> {
        Some(match kind {
            kind::MAPPED_ADDRESS => Self::MappedAddress(address(value, &NO_MASK)?),
            kind::XOR_MAPPED_ADDRESS => Self::XorMappedAddress(address(value, &mask(transaction))?),
            kind::RESPONSE_ORIGIN => Self::ResponseOrigin(address(value, &NO_MASK)?),
            kind::OTHER_ADDRESS => Self::OtherAddress(address(value, &NO_MASK)?),
            kind::CHANGE_REQUEST => {
                let &[_, _, _, flags] = <&[u8; 4]>::try_from(value).ok()?;
                Self::ChangeRequest(ChangeRequest {
                    ip: flags & CHANGE_IP != 0,
                    port: flags & CHANGE_PORT != 0,
                })
            }
            kind::RESPONSE_PORT => match *value {
                // The RFC's two bytes of padding are counted by some senders and not by others.
                [p0, p1] | [p0, p1, _, _] => Self::ResponsePort(u16::from_be_bytes([p0, p1])),
                _ => return None,
            },
            kind::PADDING => Self::Padding(value),
            kind::USERNAME => Self::Username(value),
            kind::SOFTWARE => Self::Software(text(value)),
            kind::ERROR_CODE => {
                let (&[_, _, class, number], reason) = value.split_first_chunk()?;
                let class = class & 7;
                if !(3..=6).contains(&class) || number > 99 {
                    return None;
                }
                Self::ErrorCode {
                    code: u16::from(class) * 100 + u16::from(number),
                    reason: text(reason),
                }
            }
            kind::UNKNOWN_ATTRIBUTES => {
                let (kinds, rest) = value.as_chunks();
                if !rest.is_empty() {
                    return None;
                }
                Self::UnknownAttributes(UnknownAttributes(kinds))
            }
            _ => Self::Other { kind, value },
        })
    }

    /// Writes the value and returns its length. `None` if `out` is too short, a text too long, a
    /// code out of range, or the type of an [`Attribute::Other`] one of those read otherwise.
    pub(super) fn emit(&self, out: &mut [u8], transaction: &TransactionId) -> Option<usize> {
        match *self {
            Self::MappedAddress(to) | Self::ResponseOrigin(to) | Self::OtherAddress(to) => {
                emit_address(out, to, &NO_MASK)
            }
            Self::XorMappedAddress(to) => emit_address(out, to, &mask(transaction)),
            Self::ChangeRequest(ChangeRequest { ip, port }) => {
                let flags = if ip { CHANGE_IP } else { 0 } | if port { CHANGE_PORT } else { 0 };
                copy(out, &[&[0, 0, 0, flags]])
            }
            Self::ResponsePort(port) => copy(out, &[&port.to_be_bytes(), &[0, 0]]),
            Self::Padding(value) | Self::Username(value) => copy(out, &[value]),
            Self::Software(text) if text.len() <= MAX_TEXT => copy(out, &[text.as_bytes()]),
            Self::ErrorCode { code, reason } if reason.len() <= MAX_TEXT => {
                let (class, number) = (code / 100, code % 100);
                if !(3..=6).contains(&class) {
                    return None;
                }
                copy(
                    out,
                    &[&[0, 0, class as u8, number as u8], reason.as_bytes()],
                )
            }
            Self::Software(_) | Self::ErrorCode { .. } => None,
            Self::UnknownAttributes(UnknownAttributes(kinds)) => copy(out, &[kinds.as_flattened()]),
            Self::Other { kind, value } => match Attribute::read(kind, value, transaction) {
                Some(Self::Other { .. }) if !is_seal(kind) => copy(out, &[value]),
                _ => None,
            },
        }
    }
}

/// Types that the message makes itself.
const fn is_seal(kind: u16) -> bool {
    matches!(
        kind,
        kind::MESSAGE_INTEGRITY | kind::MESSAGE_INTEGRITY_SHA256 | kind::FINGERPRINT
    )
}

/// The text up to the first byte that is not UTF-8.
fn text(bytes: &[u8]) -> &str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// What an address is XORed with: the cookie and the transaction (RFC 8489 §14.2); its start is
/// also that of the port.
type Mask = [u8; 16];

const NO_MASK: Mask = [0; 16];

fn mask(transaction: &TransactionId) -> Mask {
    let mut mask = NO_MASK;
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(&transaction.0);
    mask
}

fn address(value: &[u8], mask: &Mask) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], ip) = value.split_first_chunk()?;
    let port = u16::from_be_bytes([p0 ^ mask[0], p1 ^ mask[1]]);
    let ip: IpAddr = match family {
        IPV4 => xored(<[u8; 4]>::try_from(ip).ok()?, mask).into(),
        IPV6 => xored(<[u8; 16]>::try_from(ip).ok()?, mask).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn emit_address(out: &mut [u8], to: SocketAddr, mask: &Mask) -> Option<usize> {
    let [p0, p1] = to.port().to_be_bytes();
    let port = [p0 ^ mask[0], p1 ^ mask[1]];
    match to.ip() {
        IpAddr::V4(ip) => copy(out, &[&[0, IPV4], &port, &xored(ip.octets(), mask)]),
        IpAddr::V6(ip) => copy(out, &[&[0, IPV6], &port, &xored(ip.octets(), mask)]),
    }
}

fn xored<const N: usize>(mut bytes: [u8; N], mask: &Mask) -> [u8; N] {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    bytes
}

fn copy(out: &mut [u8], parts: &[&[u8]]) -> Option<usize> {
    let mut len = 0;
    for part in parts {
        out.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    Some(len)
}
