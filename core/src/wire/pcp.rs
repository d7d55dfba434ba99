//! PCP, the Port Control Protocol (RFC 6887): MAP and ANNOUNCE, both sides.
//!
//! ```text
//! request   2 op     0(2)        lifetime(4) client address(16)
//! response  2 128+op 0 result    lifetime(4) epoch(4) 0(12)
//! MAP       nonce(12) protocol 0(3) internal(2) external(2) external address(16)
//! option    code 0 length(2) data, padded to four bytes
//! ```
//!
//! IPv4 addresses travel IPv4-mapped (`::ffff:a.b.c.d`, RFC 6887 §5). NAT-PMP shares the port:
//! its messages begin with 0, PCP's with 2. PEER is refused as an unknown opcode.

use core::net::{IpAddr, Ipv6Addr};

pub use super::natpmp::{ALL_HOSTS, CLIENT_PORT, PORT};

/// First byte of every message.
pub const VERSION: u8 = 2;
/// Longest message, in bytes (RFC 6887 §7).
pub const MAX_LEN: usize = 1100;
/// Bytes of a header, and of a whole ANNOUNCE (RFC 6887 §7.1).
pub const HEADER_LEN: usize = 24;
/// Where a gateway announces its restart over IPv6 (RFC 6887 §14.1.3).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The bit of the opcode that marks a response.
const RESPONSE: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
/// Bytes that MAP adds to the header (RFC 6887 §11.1).
const MAP_LEN: usize = 36;
/// Its option PREFER_FAILURE (RFC 6887 §13.2).
const PREFER_FAILURE: u8 = 2;
/// From here on an option may be ignored (RFC 6887 §7.3).
const OPTIONAL: u8 = 128;

/// The result of a request (RFC 6887 §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultCode {
    /// 0: done.
    Success,
    /// 1: the gateway speaks another version, that of its response.
    UnsupportedVersion,
    /// 2: not allowed.
    NotAuthorized,
    /// 3: the request is malformed.
    MalformedRequest,
    /// 4: the gateway does not know the opcode.
    UnsupportedOpcode,
    /// 5: the gateway does not know a mandatory option.
    UnsupportedOption,
    /// 6: an option is malformed.
    MalformedOption,
    /// 7: the gateway itself is not connected.
    NetworkFailure,
    /// 8: the gateway has no mapping left, or is too busy.
    NoResources,
    /// 9: the gateway does not support the transport.
    UnsupportedProtocol,
    /// 10: this client has as many mappings as it may have.
    UserExceededQuota,
    /// 11: the external port or address is not available.
    CannotProvideExternal,
    /// 12: the client's address is not the packet's: there is a NAT before the gateway.
    AddressMismatch,
    /// 13: too many filters.
    ExcessiveRemotePeers,
    /// Any other code; never one of the above.
    Other(u8),
}

impl From<u8> for ResultCode {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Success,
            1 => Self::UnsupportedVersion,
            2 => Self::NotAuthorized,
            3 => Self::MalformedRequest,
            4 => Self::UnsupportedOpcode,
            5 => Self::UnsupportedOption,
            6 => Self::MalformedOption,
            7 => Self::NetworkFailure,
            8 => Self::NoResources,
            9 => Self::UnsupportedProtocol,
            10 => Self::UserExceededQuota,
            11 => Self::CannotProvideExternal,
            12 => Self::AddressMismatch,
            13 => Self::ExcessiveRemotePeers,
            code => Self::Other(code),
        }
    }
}

impl From<ResultCode> for u8 {
    fn from(code: ResultCode) -> Self {
        match code {
            ResultCode::Success => 0,
            ResultCode::UnsupportedVersion => 1,
            ResultCode::NotAuthorized => 2,
            ResultCode::MalformedRequest => 3,
            ResultCode::UnsupportedOpcode => 4,
            ResultCode::UnsupportedOption => 5,
            ResultCode::MalformedOption => 6,
            ResultCode::NetworkFailure => 7,
            ResultCode::NoResources => 8,
            ResultCode::UnsupportedProtocol => 9,
            ResultCode::UserExceededQuota => 10,
            ResultCode::CannotProvideExternal => 11,
            ResultCode::AddressMismatch => 12,
            ResultCode::ExcessiveRemotePeers => 13,
            ResultCode::Other(code) => code,
        }
    }
}

/// Drawn by the client for a mapping and kept for its renewals, so that nobody else can answer for
/// the gateway or change the mapping (RFC 6887 §11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; 12]);

/// A mapping, as requested or as granted (RFC 6887 §11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// The nonce of the client that owns it.
    pub nonce: Nonce,
    /// IANA's number of the transport, 6 or 17; 0 means all, and then the internal port is 0 too.
    pub protocol: u8,
    /// The client's port; 0 means all.
    pub internal: u16,
    /// The gateway's port; in a request 0 means any.
    pub external: u16,
    /// The gateway's address; in a request the unspecified address means any of that family.
    pub external_ip: IpAddr,
    /// Whether to fail rather than give another port or address (PREFER_FAILURE, RFC 6887 §13.2).
    pub prefer_failure: bool,
}

impl Map {
    /// The mapping of a MAP body, and the bytes after it; options are ignored.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (nonce, bytes) = bytes.split_first_chunk()?;
        let (&[protocol, _, _, _, i0, i1, e0, e1], bytes) = bytes.split_first_chunk()?;
        let (ip, rest) = bytes.split_first_chunk::<16>()?;
        let map = Self {
            nonce: Nonce(*nonce),
            protocol,
            internal: u16::from_be_bytes([i0, i1]),
            external: u16::from_be_bytes([e0, e1]),
            external_ip: unmapped(*ip),
            prefer_failure: false,
        };
        Some((map, rest))
    }

    /// Writes it after the header and returns the length of the whole message.
    fn put(&self, buf: &mut [u8]) -> Option<usize> {
        let out = buf.get_mut(HEADER_LEN..)?;
        let (fields, option) = out.split_first_chunk_mut::<MAP_LEN>()?;
        fields[..12].copy_from_slice(&self.nonce.0);
        fields[12..16].copy_from_slice(&[self.protocol, 0, 0, 0]);
        fields[16..18].copy_from_slice(&self.internal.to_be_bytes());
        fields[18..20].copy_from_slice(&self.external.to_be_bytes());
        fields[20..].copy_from_slice(&mapped(self.external_ip));
        if !self.prefer_failure {
            return Some(HEADER_LEN + MAP_LEN);
        }
        *option.first_chunk_mut()? = [PREFER_FAILURE, 0, 0, 0];
        Some(HEADER_LEN + MAP_LEN + 4)
    }
}

/// What a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Whether the gateway is there, and since when (RFC 6887 §14.1).
    Announce,
    /// Makes, renews or, with lifetime 0, deletes a mapping.
    Map(Map),
}

/// A request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The lifetime in seconds; 0 for an ANNOUNCE.
    pub lifetime: u32,
    /// The client's own address as it knows it; the gateway compares it with the packet's source.
    pub client: IpAddr,
    /// The operation.
    pub ask: Ask,
}

/// The reasons a gateway rejects a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unservable {
    /// Too short, or itself a response: it gets no answer.
    Ignore,
    /// To be answered with [`refuse`].
    Refuse(ResultCode),
}

impl Request {
    /// Parses a datagram that a gateway received on [`PORT`]. A NAT-PMP request gives
    /// [`ResultCode::UnsupportedVersion`], so a gateway that speaks NAT-PMP checks the first byte.
    ///
    /// # Errors
    /// Why it is rejected; the checks are in the order of RFC 6887 §8.2.
    pub fn parse(data: &[u8]) -> Result<Self, Unservable> {
        let refused = |code| Err(Unservable::Refuse(code));
        let &[version, opcode] = data.first_chunk().ok_or(Unservable::Ignore)?;
        if opcode & RESPONSE != 0 {
            return Err(Unservable::Ignore);
        }
        if version != VERSION {
            return refused(ResultCode::UnsupportedVersion);
        }
        if !matches!(opcode, ANNOUNCE | MAP) {
            return refused(ResultCode::UnsupportedOpcode);
        }
        let Some((header, rest)) = data.split_first_chunk::<HEADER_LEN>() else {
            return refused(ResultCode::MalformedRequest);
        };
        if data.len() > MAX_LEN || !data.len().is_multiple_of(4) {
            return refused(ResultCode::MalformedRequest);
        }
        let (_, &[l0, l1, l2, l3, ref client @ ..]) = header.split_at(4) else {
            return refused(ResultCode::MalformedRequest);
        };
        let ask = match opcode {
            ANNOUNCE => {
                let prefer_failure = options(rest).map_err(Unservable::Refuse)?;
                if prefer_failure {
                    return refused(ResultCode::UnsupportedOption);
                }
                Ask::Announce
            }
            _ => {
                let Some((mut map, rest)) = Map::read(rest) else {
                    return refused(ResultCode::MalformedRequest);
                };
                // RFC 6887 §11.1: no port without a transport.
                if map.protocol == 0 && map.internal != 0 {
                    return refused(ResultCode::MalformedRequest);
                }
                map.prefer_failure = options(rest).map_err(Unservable::Refuse)?;
                Ask::Map(map)
            }
        };
        let client = client.first_chunk().ok_or(Unservable::Ignore)?;
        Ok(Self {
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
            client: unmapped(*client),
            ask,
        })
    }

    /// Writes it and returns its length; `None` if `buf` is too short.
    #[must_use]
    pub fn emit(&self, buf: &mut [u8]) -> Option<usize> {
        let opcode = match self.ask {
            Ask::Announce => ANNOUNCE,
            Ask::Map(_) => MAP,
        };
        let header = buf.first_chunk_mut::<HEADER_LEN>()?;
        header[..4].copy_from_slice(&[VERSION, opcode, 0, 0]);
        header[4..8].copy_from_slice(&self.lifetime.to_be_bytes());
        header[8..].copy_from_slice(&mapped(self.client));
        match self.ask {
            Ask::Announce => Some(HEADER_LEN),
            Ask::Map(map) => map.put(buf),
        }
    }
}

/// The body of a response; of a refusal, that of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Only the epoch, which is in the header; also sent unasked after a restart.
    Announce,
    /// The mapping.
    Map(Map),
    /// A refusal without the fields of its opcode, or of an opcode that has none here (without the
    /// bit of a response).
    Bare(u8),
}

/// A response of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The result.
    pub result: ResultCode,
    /// In seconds: the lifetime of the mapping, or how long the refusal remains valid.
    pub lifetime: u32,
    /// Seconds since the gateway's mappings were last lost (RFC 6887 §8.5).
    pub epoch: u32,
    /// The body.
    pub body: Body,
}

impl Response {
    /// Parses a datagram that a gateway sent. `None` if it is not a response, is of another version
    /// (unless it refuses version 2), too short for its kind, longer than [`MAX_LEN`], or its length is
    /// not a multiple of four (RFC 6887 §8.3). A response that begins with 0 is for
    /// [`super::natpmp`]: the gateway speaks nothing newer.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        if data.len() > MAX_LEN || !data.len().is_multiple_of(4) {
            return None;
        }
        let (header, rest) = data.split_first_chunk::<HEADER_LEN>()?;
        let &[version, opcode, _, code, l0, l1, l2, l3, e0, e1, e2, e3] = header.first_chunk()?;
        // A gateway that does not speak this version says so in its own.
        let told = version > 0 && code == u8::from(ResultCode::UnsupportedVersion);
        if (version != VERSION && !told) || opcode & RESPONSE == 0 {
            return None;
        }
        let (result, opcode) = (ResultCode::from(code), opcode & !RESPONSE);
        let body = match opcode {
            ANNOUNCE => Body::Announce,
            MAP if let Some((mut map, rest)) = Map::read(rest) => {
                // Malformed options do not invalidate a response.
                map.prefer_failure = options(rest).unwrap_or(false);
                Body::Map(map)
            }
            _ if result == ResultCode::Success => return None,
            opcode => Body::Bare(opcode),
        };
        Some(Self {
            result,
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
            epoch: u32::from_be_bytes([e0, e1, e2, e3]),
            body,
        })
    }

    /// Writes it and returns its length; `None` if `buf` is too short. A success always has a body
    /// other than [`Body::Bare`]: no client would read it.
    #[must_use]
    pub fn emit(&self, buf: &mut [u8]) -> Option<usize> {
        let opcode = match self.body {
            Body::Announce => ANNOUNCE,
            Body::Map(_) => MAP,
            Body::Bare(opcode) => opcode,
        };
        let header = buf.first_chunk_mut::<HEADER_LEN>()?;
        self.put_header(opcode, header);
        match self.body {
            Body::Announce | Body::Bare(_) => Some(HEADER_LEN),
            Body::Map(map) => map.put(buf),
        }
    }

    fn put_header(&self, opcode: u8, header: &mut [u8; HEADER_LEN]) {
        *header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&[VERSION, opcode | RESPONSE, 0, self.result.into()]);
        header[4..8].copy_from_slice(&self.lifetime.to_be_bytes());
        header[8..12].copy_from_slice(&self.epoch.to_be_bytes());
    }
}

/// Writes the refusal of `request`, as received, and returns its length; `None` if `buf` is too
/// short ([`MAX_LEN`] never is), or if `request` is not even an opcode.
///
/// The bytes after the header are sent back unchanged, so that the client recognises its request,
/// cut at [`MAX_LEN`] and padded to four bytes (RFC 6887 §8.2). `lifetime` says for how many
/// seconds the client should not ask again.
#[must_use]
pub fn refuse(
    request: &[u8],
    result: ResultCode,
    lifetime: u32,
    epoch: u32,
    buf: &mut [u8],
) -> Option<usize> {
    let opcode = request.get(1)? & !RESPONSE;
    let request = &request[..request.len().min(MAX_LEN)];
    let len = request.len().next_multiple_of(4).max(HEADER_LEN);
    let (header, rest) = buf.get_mut(..len)?.split_first_chunk_mut()?;
    rest.fill(0);
    if let Some(asked) = request.get(HEADER_LEN..) {
        rest[..asked.len()].copy_from_slice(asked);
    }
    let response = Response {
        result,
        lifetime,
        epoch,
        body: Body::Bare(opcode),
    };
    response.put_header(opcode, header);
    Some(len)
}

/// Whether PREFER_FAILURE is among the options of a message (RFC 6887 §7.3).
fn options(mut rest: &[u8]) -> Result<bool, ResultCode> {
    let mut prefer_failure = false;
    while !rest.is_empty() {
        let malformed = ResultCode::MalformedOption;
        let (&[code, _, l0, l1], value) = rest.split_first_chunk().ok_or(malformed)?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        rest = value.get(len.next_multiple_of(4)..).ok_or(malformed)?;
        match code {
            // It occurs at most once and has no data (RFC 6887 §13.2).
            PREFER_FAILURE if len != 0 || prefer_failure => return Err(malformed),
            PREFER_FAILURE => prefer_failure = true,
            OPTIONAL.. => {}
            _ => return Err(ResultCode::UnsupportedOption),
        }
    }
    Ok(prefer_failure)
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn unmapped(octets: [u8; 16]) -> IpAddr {
    IpAddr::from(octets).to_canonical()
}

#[cfg(test)]
mod tests;
