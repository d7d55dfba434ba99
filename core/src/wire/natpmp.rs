//! NAT-PMP (RFC 6886): requests to a gateway and its responses.
//!
//! ```text
//! request   0 op                                                       op 0: address
//!           0 op 0(2) internal(2) external(2) lifetime(4)              op 1, 2: map UDP, TCP
//! response  0 128+op result(2) epoch(4) [ address(4) | internal(2) external(2) lifetime(4) ]
//! ```
//!
//! Both sides are here, as the client and the simulator's gateways share this codec.
//! Longer datagrams than these are accepted, as some gateways pad.

use core::net::Ipv4Addr;

/// Port of a gateway (RFC 6886 §3.1); shared with PCP, which the first byte tells apart.
pub const PORT: u16 = 5351;
/// Port on which clients hear a gateway's announcements (RFC 6886 §3.2.1).
pub const CLIENT_PORT: u16 = 5350;
/// Where a gateway announces a new address or its restart (RFC 6886 §3.2.1).
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Longest message, in bytes.
pub const MAX_LEN: usize = 16;

/// First byte of every message.
pub const VERSION: u8 = 0;
/// The bit of the opcode that marks a response.
const RESPONSE: u8 = 0x80;
const ADDRESS: u8 = 0;

/// The transport whose port is mapped; the value is the opcode (RFC 6886 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// UDP: uTP and the DHT.
    Udp = 1,
    /// TCP.
    Tcp = 2,
}

impl Protocol {
    const fn from_opcode(opcode: u8) -> Option<Self> {
        match opcode {
            1 => Some(Self::Udp),
            2 => Some(Self::Tcp),
            _ => None,
        }
    }
}

/// The result of a request (RFC 6886 §3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultCode {
    /// 0: done.
    Success,
    /// 1: the gateway speaks another version.
    UnsupportedVersion,
    /// 2: the gateway supports mappings, but they are not allowed.
    NotAuthorized,
    /// 3: the gateway itself has no address.
    NetworkFailure,
    /// 4: the gateway has no mapping left.
    OutOfResources,
    /// 5: the gateway does not know the opcode.
    UnsupportedOpcode,
    /// Any other code; never one of the above.
    Other(u16),
}

impl From<u16> for ResultCode {
    fn from(code: u16) -> Self {
        match code {
            0 => Self::Success,
            1 => Self::UnsupportedVersion,
            2 => Self::NotAuthorized,
            3 => Self::NetworkFailure,
            4 => Self::OutOfResources,
            5 => Self::UnsupportedOpcode,
            code => Self::Other(code),
        }
    }
}

impl From<ResultCode> for u16 {
    fn from(code: ResultCode) -> Self {
        match code {
            ResultCode::Success => 0,
            ResultCode::UnsupportedVersion => 1,
            ResultCode::NotAuthorized => 2,
            ResultCode::NetworkFailure => 3,
            ResultCode::OutOfResources => 4,
            ResultCode::UnsupportedOpcode => 5,
            ResultCode::Other(code) => code,
        }
    }
}

/// A mapping, as requested or as granted (RFC 6886 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// The transport.
    pub protocol: Protocol,
    /// The client's port; 0 with lifetime 0 deletes all of its mappings (RFC 6886 §3.4).
    pub internal: u16,
    /// The gateway's port: in a request 0 means any, in a response 0 means none.
    pub external: u16,
    /// The lifetime in seconds; 0 deletes the mapping.
    pub lifetime: u32,
}

impl Map {
    fn read(protocol: Protocol, bytes: &[u8]) -> Option<Self> {
        let &[i0, i1, e0, e1, l0, l1, l2, l3] = bytes.first_chunk()?;
        Some(Self {
            protocol,
            internal: u16::from_be_bytes([i0, i1]),
            external: u16::from_be_bytes([e0, e1]),
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    fn bytes(&self) -> [u8; 8] {
        let ([i0, i1], [e0, e1]) = (self.internal.to_be_bytes(), self.external.to_be_bytes());
        let [l0, l1, l2, l3] = self.lifetime.to_be_bytes();
        [i0, i1, e0, e1, l0, l1, l2, l3]
    }
}

/// A request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Asks for the external address (RFC 6886 §3.2).
    Address,
    /// Makes, renews or deletes a mapping.
    Map(Map),
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
    /// Parses a datagram that a gateway received on [`PORT`]. A PCP request gives
    /// [`ResultCode::UnsupportedVersion`], so a gateway that speaks PCP tries [`super::pcp`] first.
    ///
    /// # Errors
    /// Why it is rejected, which says whether to answer.
    pub fn parse(data: &[u8]) -> Result<Self, Unservable> {
        let &[version, opcode] = data.first_chunk().ok_or(Unservable::Ignore)?;
        if opcode & RESPONSE != 0 {
            return Err(Unservable::Ignore);
        }
        if version != VERSION {
            return Err(Unservable::Refuse(ResultCode::UnsupportedVersion));
        }
        if opcode == ADDRESS {
            return Ok(Self::Address);
        }
        let Some(protocol) = Protocol::from_opcode(opcode) else {
            return Err(Unservable::Refuse(ResultCode::UnsupportedOpcode));
        };
        let map = data.get(4..).and_then(|bytes| Map::read(protocol, bytes));
        map.map(Self::Map).ok_or(Unservable::Ignore)
    }

    /// Writes it and returns its length; `None` if `buf` is too short.
    #[must_use]
    pub fn emit(&self, buf: &mut [u8]) -> Option<usize> {
        match self {
            Self::Address => put(buf, &[&[VERSION, ADDRESS]]),
            Self::Map(map) => put(buf, &[&[VERSION, map.protocol as u8, 0, 0], &map.bytes()]),
        }
    }
}

/// The body of a response. Its values are valid only if the result is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// The external address; also announced unasked.
    Address(Ipv4Addr),
    /// The mapping. A refusal names the internal port it is about.
    Map(Map),
    /// A refusal without a body: the opcode that was refused, without the bit of a response.
    Bare(u8),
}

/// A response of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The result.
    pub result: ResultCode,
    /// Seconds since the gateway's mappings were last lost (RFC 6886 §3.6).
    pub epoch: u32,
    /// The body.
    pub body: Body,
}

impl Response {
    /// Parses a datagram that a gateway sent. `None` if it is not a response, of another version, or too short
    /// for its kind; a refusal may be as short as 8 bytes.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (&[version, opcode, r0, r1, e0, e1, e2, e3], rest) = data.split_first_chunk()?;
        if version != VERSION || opcode & RESPONSE == 0 {
            return None;
        }
        let result = ResultCode::from(u16::from_be_bytes([r0, r1]));
        let opcode = opcode & !RESPONSE;
        let body = match Protocol::from_opcode(opcode) {
            Some(protocol) => Map::read(protocol, rest).map(Body::Map),
            None if opcode == ADDRESS => {
                let address = rest.first_chunk::<4>();
                address.map(|&octets| Body::Address(octets.into()))
            }
            None => None,
        };
        if body.is_none() && result == ResultCode::Success {
            return None;
        }
        Some(Self {
            result,
            epoch: u32::from_be_bytes([e0, e1, e2, e3]),
            body: body.unwrap_or(Body::Bare(opcode)),
        })
    }

    /// Writes it and returns its length; `None` if `buf` is too short. A success always has a body
    /// other than [`Body::Bare`]: no client would read it.
    #[must_use]
    pub fn emit(&self, buf: &mut [u8]) -> Option<usize> {
        let [r0, r1] = u16::from(self.result).to_be_bytes();
        let epoch = self.epoch.to_be_bytes();
        let head = |opcode: u8| [VERSION, opcode | RESPONSE, r0, r1];
        match self.body {
            Body::Address(ip) => put(buf, &[&head(ADDRESS), &epoch, &ip.octets()]),
            Body::Map(map) => put(buf, &[&head(map.protocol as u8), &epoch, &map.bytes()]),
            Body::Bare(opcode) => put(buf, &[&head(opcode), &epoch]),
        }
    }
}

/// Writes the refusal of `request`, as received, and returns its length; `None` if `buf` is
/// shorter than [`MAX_LEN`] and too short for it, or if `request` is not even an opcode.
///
/// It has no address, and of a mapping only the internal port (RFC 6886 §3.2, §3.3).
#[must_use]
pub fn refuse(request: &[u8], result: ResultCode, epoch: u32, buf: &mut [u8]) -> Option<usize> {
    let opcode = request.get(1)? & !RESPONSE;
    let body = match Request::parse(request) {
        Ok(Request::Address) => Body::Address(Ipv4Addr::UNSPECIFIED),
        Ok(Request::Map(map)) => Body::Map(Map {
            external: 0,
            lifetime: 0,
            ..map
        }),
        Err(_) => Body::Bare(opcode),
    };
    let response = Response {
        result,
        epoch,
        body,
    };
    response.emit(buf)
}

fn put(buf: &mut [u8], parts: &[&[u8]]) -> Option<usize> {
    let mut len = 0;
    for part in parts {
        buf.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::*;

    const MAP_UDP: [u8; 12] = [0, 1, 0, 0, 0x1a, 0xe1, 0x1a, 0xe1, 0, 0, 0x1c, 0x20];
    const MAPPED_UDP: [u8; 16] = [
        0, 0x81, 0, 0, 0, 0, 0, 9, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 0x1c, 0x20,
    ];

    fn emitted(emit: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
        let mut buf = [0xff; 32];
        let len = emit(&mut buf).unwrap();
        assert!(len <= MAX_LEN && buf[len..].iter().all(|&b| b == 0xff));
        buf[..len].to_vec()
    }

    #[test]
    fn the_bytes_are_those_of_the_rfc() {
        let map = Map {
            protocol: Protocol::Udp,
            internal: 6881,
            external: 6881,
            lifetime: 7200,
        };
        assert_eq!(emitted(|buf| Request::Map(map).emit(buf)), MAP_UDP);
        assert_eq!(Request::parse(&MAP_UDP), Ok(Request::Map(map)));
        assert_eq!(emitted(|buf| Request::Address.emit(buf)), [0, 0]);
        assert_eq!(Request::parse(&[0, 0]), Ok(Request::Address));

        let mapped = Response {
            result: ResultCode::Success,
            epoch: 9,
            body: Body::Map(Map {
                external: 6882,
                ..map
            }),
        };
        assert_eq!(emitted(|buf| mapped.emit(buf)), MAPPED_UDP);
        assert_eq!(Response::parse(&MAPPED_UDP), Some(mapped));
        let address = [0, 0x80, 0, 0, 0, 0, 1, 0, 203, 0, 113, 7];
        let told = Response {
            result: ResultCode::Success,
            epoch: 256,
            body: Body::Address([203, 0, 113, 7].into()),
        };
        assert_eq!(emitted(|buf| told.emit(buf)), address);
        assert_eq!(Response::parse(&address), Some(told));
    }

    #[test]
    fn what_cannot_be_served_is_refused_or_ignored() {
        for ignored in [&[][..], &[0], &[0, 0x80], &[2, 0x81], &MAP_UDP[..11]] {
            assert_eq!(Request::parse(ignored), Err(Unservable::Ignore));
        }
        let refused = |data: &[u8]| match Request::parse(data) {
            Err(Unservable::Refuse(code)) => (code, emitted(|buf| refuse(data, code, 1, buf))),
            other => panic!("{other:?}"),
        };
        let version = ResultCode::UnsupportedVersion;
        assert_eq!(
            refused(&[2, 1, 0, 0]),
            (version, [0, 0x81, 0, 1, 0, 0, 0, 1].to_vec())
        );
        let opcode = ResultCode::UnsupportedOpcode;
        assert_eq!(
            refused(&[0, 3]),
            (opcode, [0, 0x83, 0, 5, 0, 0, 0, 1].to_vec())
        );
        assert_eq!(refuse(&[0], opcode, 1, &mut [0; 16]), None);
    }

    #[test]
    fn a_refused_mapping_is_known_by_its_port() {
        let data = emitted(|buf| refuse(&MAP_UDP, ResultCode::OutOfResources, 5, buf));
        let bytes = [0, 0x81, 0, 4, 0, 0, 0, 5, 0x1a, 0xe1, 0, 0, 0, 0, 0, 0];
        assert_eq!(data, bytes);
        // Some gateways leave out all but the head.
        let bare = Response::parse(&data[..8]).unwrap();
        assert_eq!(
            (bare.result, bare.body),
            (ResultCode::OutOfResources, Body::Bare(1))
        );
        let address = emitted(|buf| refuse(&[0, 0], ResultCode::NetworkFailure, 5, buf));
        assert_eq!(address, [0, 0x80, 0, 3, 0, 0, 0, 5, 0, 0, 0, 0]);
    }

    #[test]
    fn a_success_says_all_of_it() {
        assert!((0..16).all(|n| Response::parse(&MAPPED_UDP[..n]).is_none()));
        assert_eq!(
            Response::parse(&[0, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            None
        );
        assert_eq!(Response::parse(&MAP_UDP), None, "a request");
        let mut pcp = MAPPED_UDP;
        pcp[0] = 2;
        assert_eq!(Response::parse(&pcp), None);
    }

    impl Arbitrary for Map {
        fn arbitrary(g: &mut Gen) -> Self {
            Self {
                protocol: *g.choose(&[Protocol::Udp, Protocol::Tcp]).unwrap(),
                internal: u16::arbitrary(g),
                external: u16::arbitrary(g),
                lifetime: u32::arbitrary(g),
            }
        }
    }

    quickcheck! {
        fn requests_come_back(map: Option<Map>, padding: Vec<u8>) -> bool {
            let request = map.map_or(Request::Address, Request::Map);
            let mut data = emitted(|buf| request.emit(buf));
            data.extend(padding);
            Request::parse(&data) == Ok(request)
        }

        fn responses_come_back(code: u16, epoch: u32, map: Option<Map>, ip: u32, padding: Vec<u8>) -> bool {
            let body = map.map_or(Body::Address(ip.into()), Body::Map);
            let response = Response { result: code.into(), epoch, body };
            let mut data = emitted(|buf| response.emit(buf));
            data.extend(padding);
            Response::parse(&data) == Some(response) && u16::from(response.result) == code
        }

        /// Law 6: nothing panics, and what was parsed encodes to the same bytes.
        fn any_bytes_are_survived(data: Vec<u8>, version: u8, short: u8) -> bool {
            let mut data = data;
            if let Some(first) = data.first_mut() {
                *first = version % 3;
            }
            let mut buf = [0; MAX_LEN];
            let buf = &mut buf[..usize::from(short) % (MAX_LEN + 1)];
            let _ = refuse(&data, ResultCode::NotAuthorized, 0, buf);
            let read = Response::parse(&data).is_none_or(|response| {
                let again = emitted(|buf| response.emit(buf));
                data.starts_with(&again)
            });
            let asked = Request::parse(&data).map_or(true, |request| {
                let again = emitted(|buf| request.emit(buf));
                Request::parse(&again) == Ok(request)
            });
            read && asked
        }
    }
}
