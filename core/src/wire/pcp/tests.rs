use alloc::{vec, vec::Vec};

use data_encoding::HEXLOWER;
use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

/// MAP of UDP 6881 for two hours, from 192.168.1.10.
const MAP_UDP: &str = "0201000000001c2000000000000000000000ffffc0a8010a\
    0102030405060708090a0b0c110000001ae11ae100000000000000000000ffff00000000";

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn emitted(emit: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
    let mut buf = [0xaa; MAX_LEN];
    let len = emit(&mut buf).unwrap();
    assert!(buf[len..].iter().all(|&b| b == 0xaa));
    buf[..len].to_vec()
}

fn map() -> Map {
    Map {
        nonce: Nonce([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        protocol: 17,
        internal: 6881,
        external: 6881,
        external_ip: [0, 0, 0, 0].into(),
        prefer_failure: false,
    }
}

fn request() -> Request {
    Request {
        lifetime: 7200,
        client: [192, 168, 1, 10].into(),
        ask: Ask::Map(map()),
    }
}

#[test]
fn the_request_is_the_vector() {
    assert_eq!(emitted(|buf| request().emit(buf)), bytes(MAP_UDP));
    assert_eq!(Request::parse(&bytes(MAP_UDP)), Ok(request()));
}

#[test]
fn an_answer_is_its_bytes() {
    let granted = Response {
        result: ResultCode::Success,
        lifetime: 3600,
        epoch: 9,
        body: Body::Map(Map {
            external: 1024,
            external_ip: [203, 0, 113, 7].into(),
            ..map()
        }),
    };
    let data = bytes(
        "0281000000000e1000000009000000000000000000000000\
        0102030405060708090a0b0c110000001ae1040000000000000000000000ffffcb007107",
    );
    assert_eq!(emitted(|buf| granted.emit(buf)), data);
    assert_eq!(Response::parse(&data), Some(granted));
    assert!((0..data.len()).all(|n| Response::parse(&data[..n]).is_none()));

    let restarted = Response {
        result: ResultCode::Success,
        lifetime: 0,
        epoch: 0,
        body: Body::Announce,
    };
    let data = bytes("028000000000000000000000000000000000000000000000");
    assert_eq!(emitted(|buf| restarted.emit(buf)), data);
    assert_eq!(Response::parse(&data), Some(restarted));
}

#[test]
fn an_ipv6_pinhole_keeps_its_addresses() {
    let ip: IpAddr = "2001:db8::5".parse().unwrap();
    let asked = Request {
        lifetime: 1,
        client: ip,
        ask: Ask::Map(Map {
            external_ip: Ipv6Addr::UNSPECIFIED.into(),
            ..map()
        }),
    };
    let data = emitted(|buf| asked.emit(buf));
    assert_eq!(data[8..24], bytes("20010db8000000000000000000000005"));
    assert_eq!(data[44..], [0; 16]);
    assert_eq!(Request::parse(&data), Ok(asked));
}

fn refusal(data: &[u8]) -> ResultCode {
    match Request::parse(data) {
        Err(Unservable::Refuse(code)) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_served_is_refused_in_the_order_of_the_rfc() {
    let good = bytes(MAP_UDP);
    for ignored in [&[][..], &[2], &[2, 0x81, 0, 0]] {
        assert_eq!(Request::parse(ignored), Err(Unservable::Ignore));
    }
    assert_eq!(refusal(&[0, 0]), ResultCode::UnsupportedVersion, "NAT-PMP");
    assert_eq!(refusal(&[3, 1]), ResultCode::UnsupportedVersion);
    let mut peer = good.clone();
    peer[1] = 2;
    peer.resize(80, 0);
    assert_eq!(refusal(&peer), ResultCode::UnsupportedOpcode);
    assert_eq!(refusal(&good[..20]), ResultCode::MalformedRequest);
    assert_eq!(refusal(&good[..56]), ResultCode::MalformedRequest);
    assert_eq!(refusal(&good[..59]), ResultCode::MalformedRequest);
    let mut long = good.clone();
    long.resize(MAX_LEN + 4, 0);
    assert_eq!(refusal(&long), ResultCode::MalformedRequest);
    let mut all = good.clone();
    all[36] = 0;
    assert_eq!(
        refusal(&all),
        ResultCode::MalformedRequest,
        "a port of all protocols"
    );
}

/// The vector with options behind it.
fn with(options: &[u8]) -> Vec<u8> {
    [&bytes(MAP_UDP), options].concat()
}

#[test]
fn options_are_understood_skipped_or_refused() {
    let preferred = Request {
        ask: Ask::Map(Map {
            prefer_failure: true,
            ..map()
        }),
        ..request()
    };
    assert_eq!(Request::parse(&with(&[2, 0, 0, 0])), Ok(preferred));
    assert_eq!(emitted(|buf| preferred.emit(buf)), with(&[2, 0, 0, 0]));
    // 128 and above may be ignored, padding included.
    let skipped = with(&[200, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(Request::parse(&skipped), Ok(preferred));
    // THIRD_PARTY would map for somebody else.
    let third = with(&[&[1, 0, 0, 16][..], &[9; 16]].concat());
    assert_eq!(refusal(&third), ResultCode::UnsupportedOption);
    for malformed in [
        &[2, 0, 0, 4, 0, 0, 0, 0][..],
        &[2, 0, 0, 0, 2, 0, 0, 0],
        &[200, 0, 0, 8, 0, 0, 0, 0],
        &[200, 0, 0xff, 0xff],
    ] {
        assert_eq!(
            refusal(&with(malformed)),
            ResultCode::MalformedOption,
            "{malformed:?}"
        );
    }
    let announce = [&bytes(MAP_UDP)[..24], &[2, 0, 0, 0]].concat();
    let announce = [&[2, 0], &announce[2..]].concat();
    assert_eq!(refusal(&announce), ResultCode::UnsupportedOption);
}

#[test]
fn a_refusal_gives_the_request_back() {
    let asked = bytes(MAP_UDP);
    let data = emitted(|buf| refuse(&asked, ResultCode::NoResources, 30, 7, buf));
    let expected = Response {
        result: ResultCode::NoResources,
        lifetime: 30,
        epoch: 7,
        body: Body::Map(map()),
    };
    assert_eq!(Response::parse(&data), Some(expected));
    assert_eq!(data[24..], asked[24..]);

    let peer = [2, 2, 0, 0, 0];
    let data = emitted(|buf| refuse(&peer, ResultCode::UnsupportedOpcode, 0, 7, buf));
    let bare = Response::parse(&data).unwrap();
    assert_eq!((data.len(), bare.body), (HEADER_LEN, Body::Bare(2)));
    // Another version is told ours; what the client makes of an older gateway's answer.
    let data = emitted(|buf| refuse(&[3, 1], ResultCode::UnsupportedVersion, 0, 7, buf));
    assert_eq!(data[..4], [2, 0x81, 0, 1]);
    let mut older = data;
    older[0] = 1;
    let told = Response::parse(&older).unwrap();
    assert_eq!(told.result, ResultCode::UnsupportedVersion);
    older[3] = 0;
    assert_eq!(Response::parse(&older), None);
    older[..4].copy_from_slice(&[0, 0x81, 0, 1]);
    assert_eq!(Response::parse(&older), None, "NAT-PMP");
    assert_eq!(
        refuse(&[2], ResultCode::NoResources, 0, 0, &mut [0; 100]),
        None
    );
    assert_eq!(
        refuse(&asked, ResultCode::NoResources, 0, 0, &mut [0; 59]),
        None
    );
}

fn ip(g: &mut Gen) -> IpAddr {
    match u8::arbitrary(g) % 3 {
        0 => Ipv6Addr::from(u128::arbitrary(g)).to_canonical(),
        1 => Ipv6Addr::UNSPECIFIED.into(),
        _ => u32::arbitrary(g).to_be_bytes().into(),
    }
}

impl Arbitrary for Map {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut nonce = [3; 12];
        nonce[..8].copy_from_slice(&u64::arbitrary(g).to_be_bytes());
        let protocol = *g.choose(&[6, 17, 0, 132]).unwrap();
        Self {
            nonce: Nonce(nonce),
            protocol,
            internal: if protocol == 0 { 0 } else { u16::arbitrary(g) },
            external: u16::arbitrary(g),
            external_ip: ip(g),
            prefer_failure: bool::arbitrary(g),
        }
    }
}

impl Arbitrary for Request {
    fn arbitrary(g: &mut Gen) -> Self {
        Self {
            lifetime: u32::arbitrary(g),
            client: ip(g),
            ask: Option::arbitrary(g).map_or(Ask::Announce, Ask::Map),
        }
    }
}

quickcheck! {
    fn requests_come_back(request: Request, short: usize) -> bool {
        let data = emitted(|buf| request.emit(buf));
        let mut little = vec![0; short % data.len()];
        Request::parse(&data) == Ok(request) && request.emit(&mut little).is_none()
    }

    fn responses_come_back(code: u8, lifetime: u32, epoch: u32, map: Option<Map>) -> bool {
        let body = map.map_or(Body::Announce, Body::Map);
        let response = Response { result: code.into(), lifetime, epoch, body };
        let data = emitted(|buf| response.emit(buf));
        Response::parse(&data) == Some(response) && u8::from(response.result) == code
    }

    /// Whatever is refused, the client can read the refusal, and it is not a request.
    fn refusals_are_read(request: Vec<u8>, code: u8, epoch: u32) -> bool {
        if request.len() < 2 {
            return true;
        }
        let code = ResultCode::from(code.max(1));
        let data = emitted(|buf| refuse(&request, code, 1, epoch, buf));
        Request::parse(&data) == Err(Unservable::Ignore)
            && Response::parse(&data).is_some_and(|read| (read.result, read.epoch) == (code, epoch))
    }

    /// Law 6: nothing panics, and what was read can be written and read again.
    fn any_bytes_are_survived(noise: Vec<u8>, request: Request, hits: Vec<(usize, u8)>) -> bool {
        let mut damaged = emitted(|buf| request.emit(buf));
        damaged.extend(&noise);
        damaged.resize(damaged.len().next_multiple_of(4), 0);
        for (at, byte) in hits {
            let at = at % damaged.len();
            damaged[at] = byte;
        }
        let mut response = damaged.clone();
        response[..2].copy_from_slice(&[VERSION, RESPONSE | MAP]);
        [noise, damaged, response].iter().all(|data| {
            let _ = refuse(data, ResultCode::MalformedRequest, 0, 0, &mut [0; 40]);
            Request::parse(data).map_or(true, |read| {
                Request::parse(&emitted(|buf| read.emit(buf))) == Ok(read)
            }) && Response::parse(data).is_none_or(|read| {
                Response::parse(&emitted(|buf| read.emit(buf))) == Some(read)
            })
        })
    }
}
