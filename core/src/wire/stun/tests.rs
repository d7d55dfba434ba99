use alloc::{string::String, vec, vec::Vec};
use core::net::{Ipv6Addr, SocketAddr};

use data_encoding::HEXLOWER;
use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

/// RFC 5769 §2: all with this password.
const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74\
    002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56\
    781ef2b5b2d3f249c1b571a280280004e57a3bcf";
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220\
    002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220\
    002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed41\
    80280004c8fb0b4c";
const TRANSACTION: TransactionId = TransactionId([
    0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
]);

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn attributes<'a>(message: &Message<'a>) -> Vec<Attribute<'a>> {
    message.attributes().collect()
}

#[test]
fn the_request_of_rfc_5769_is_read_and_verified() {
    let data = bytes(REQUEST);
    let message = Message::parse(&data).unwrap();
    assert_eq!(
        (message.class, message.transaction),
        (Class::Request, TRANSACTION)
    );
    assert!(message.has_fingerprint());
    assert_eq!(message.verify_integrity(PASSWORD), Some(true));
    assert_eq!(message.verify_integrity(b"another"), Some(false));
    assert_eq!(
        attributes(&message),
        [
            Attribute::Software("STUN test client"),
            Attribute::Other {
                kind: 0x24,
                value: &[0x6e, 0, 1, 0xff]
            },
            Attribute::Other {
                kind: 0x8029,
                value: &bytes("932ff9b151263b36")
            },
            Attribute::Username(b"evtj:h6vY"),
        ]
    );
    // PRIORITY has to be understood, ICE-CONTROLLED has not.
    assert_eq!(message.unknown_required().collect::<Vec<_>>(), [0x24]);
}

#[test]
fn the_responses_of_rfc_5769_are_read_and_verified() {
    let v4: SocketAddr = "192.0.2.1:32853".parse().unwrap();
    let v6: SocketAddr = "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
        .parse()
        .unwrap();
    for (hex, address) in [(RESPONSE_V4, v4), (RESPONSE_V6, v6)] {
        let data = bytes(hex);
        let message = Message::parse(&data).unwrap();
        assert_eq!(
            (message.class, message.transaction),
            (Class::Success, TRANSACTION)
        );
        assert!(message.has_fingerprint());
        assert_eq!(message.verify_integrity(PASSWORD), Some(true));
        assert_eq!(message.mapped_address(), Some(address));
        let software = Attribute::Software("test vector");
        assert_eq!(
            attributes(&message),
            [software, Attribute::XorMappedAddress(address)]
        );
    }
}

#[test]
fn the_responses_of_rfc_5769_are_written_but_for_their_padding() {
    for hex in [RESPONSE_V4, RESPONSE_V6] {
        let theirs = bytes(hex);
        let address = Message::parse(&theirs).unwrap().mapped_address().unwrap();
        let mut buf = [0xff; 100];
        let len = Builder::new(&mut buf, Class::Success, TRANSACTION)
            .and_then(|b| b.attribute(&Attribute::Software("test vector")))
            .and_then(|b| b.attribute(&Attribute::XorMappedAddress(address)))
            .and_then(|b| b.integrity(PASSWORD))
            .and_then(Builder::finish_with_fingerprint)
            .unwrap();
        // Theirs is a space where ours has to be zero (RFC 8489 §14); both checks follow from it.
        let at = theirs.len() - INTEGRITY_LEN - FINGERPRINT_LEN;
        let mut expected = theirs[..at].to_vec();
        expected[HEADER_LEN + 4 + 11] = 0;
        assert_eq!((len, &buf[..at]), (theirs.len(), &expected[..]));
        let ours = Message::parse(&buf[..len]).unwrap();
        assert_eq!(ours.verify_integrity(PASSWORD), Some(true));
        assert!(ours.has_fingerprint());
    }
}

#[test]
fn a_request_is_known_by_its_cookie_and_length() {
    let data = bytes(REQUEST);
    assert!(is_stun(&data) && !is_stun(&data[..HEADER_LEN - 1]) && !is_stun(&data[..22]));
    // uTP ST_STATE, whose first byte is 0x21; ST_DATA begins as a success does.
    let utp = bytes("01001234000f42400000000000100000000100000000");
    assert!(!is_stun(&utp) && !is_stun(b"d1:ad2:id20:abcdefghij"));
    // RTP and TURN channel data begin with other bits.
    let mut other = data.clone();
    other[0] = 0x80;
    assert!(!is_stun(&other));
    other[0] = 0x40;
    assert!(!is_stun(&other));
}

#[test]
fn the_smallest_request_is_its_header() {
    let mut buf = [0; HEADER_LEN];
    let len = Builder::new(&mut buf, Class::Request, TRANSACTION)
        .unwrap()
        .finish();
    assert_eq!(len, HEADER_LEN);
    assert_eq!(
        buf.to_vec(),
        bytes("000100002112a442b7e7a701bc34d686fa87dfae")
    );
    assert!(Builder::new(&mut buf[..19], Class::Request, TRANSACTION).is_none());
    let message = Message::parse(&buf).unwrap();
    assert_eq!(message.verify_integrity(PASSWORD), None);
    assert!(!message.has_fingerprint() && attributes(&message).is_empty());
}

/// A message of these raw attributes.
fn raw(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut data = bytes("010100002112a442b7e7a701bc34d686fa87dfae");
    for (kind, value) in attributes {
        data.extend(kind.to_be_bytes());
        data.extend((value.len() as u16).to_be_bytes());
        data.extend(*value);
        data.resize(data.len().next_multiple_of(4), 0);
    }
    let len = (data.len() - HEADER_LEN) as u16;
    data[2..4].copy_from_slice(&len.to_be_bytes());
    data
}

#[test]
fn rfc_5780_and_errors_on_the_wire() {
    for (attribute, kind, value) in [
        (
            Attribute::ChangeRequest(ChangeRequest {
                ip: true,
                port: false,
            }),
            0x0003,
            "00000004",
        ),
        (
            Attribute::ChangeRequest(ChangeRequest {
                ip: false,
                port: true,
            }),
            0x0003,
            "00000002",
        ),
        (Attribute::ResponsePort(6881), 0x0027, "1ae10000"),
        (Attribute::Padding(&[0; 8]), 0x0026, "0000000000000000"),
        (
            Attribute::ResponseOrigin("1.2.3.4:3478".parse().unwrap()),
            0x802b,
            "00010d9601020304",
        ),
        (
            Attribute::OtherAddress("1.2.3.5:3479".parse().unwrap()),
            0x802c,
            "00010d9701020305",
        ),
        (
            Attribute::MappedAddress("5.6.7.8:1".parse().unwrap()),
            0x0001,
            "0001000105060708",
        ),
        (
            Attribute::ErrorCode {
                code: 420,
                reason: "What",
            },
            0x0009,
            "0000041457686174",
        ),
        (
            Attribute::UnknownAttributes(UnknownAttributes::new(&[[0, 2], [0x7f, 3]])),
            0x000a,
            "00027f03",
        ),
    ] {
        let mut buf = [0; 100];
        let len = Builder::new(&mut buf, Class::Success, TRANSACTION)
            .and_then(|b| b.attribute(&attribute))
            .unwrap()
            .finish();
        let expected = raw(&[(kind, &bytes(value))]);
        assert_eq!(buf[..len], expected, "{attribute:?}");
        assert_eq!(attributes(&Message::parse(&expected).unwrap()), [attribute]);
    }
    let short = raw(&[(0x0027, &[0x1a, 0xe1])]);
    let message = Message::parse(&short).unwrap();
    assert_eq!(attributes(&message), [Attribute::ResponsePort(6881)]);
    let list = UnknownAttributes::new(&[[0, 2], [0x7f, 3]]);
    assert_eq!(list.iter().collect::<Vec<_>>(), [2, 0x7f03]);
}

#[test]
fn malformed_messages_are_none() {
    for (kind, value) in [
        (0x0001, &[0, 1, 0, 1, 1, 2, 3][..]),
        (0x0001, &[0, 3, 0, 1, 1, 2, 3, 4]),
        (0x0020, &[0, 2, 0, 1, 1, 2, 3, 4]),
        (0x0003, &[0, 0, 0]),
        (0x0027, &[0]),
        (0x0009, &[0, 0, 7, 0]),
        (0x0009, &[0, 0, 4, 100]),
        (0x0009, &[0, 0, 4]),
        (0x000a, &[1]),
        (0x0008, &[0; 19]),
        (0x8028, &[0; 4]),
        (0x8028, &[0; 3]),
    ] {
        assert_eq!(Message::parse(&raw(&[(kind, value)])), None, "{kind:#x}");
    }
    let good = bytes(RESPONSE_V4);
    assert!((0..good.len()).all(|n| Message::parse(&good[..n]).is_none()));
    let mut allocate = raw(&[]);
    allocate[1] = 3;
    assert_eq!(Message::parse(&allocate), None, "not Binding");
    let mut beyond = raw(&[(0x8022, b"abcd")]);
    beyond[23] = 5;
    assert_eq!(
        Message::parse(&beyond),
        None,
        "an attribute longer than the message"
    );
    // An attribute behind the fingerprint, which is right for the longer message.
    let mut behind = raw(&[(0x8028, &[0; 4]), (0x8022, b"")]);
    let sum = fingerprint(&behind[..HEADER_LEN]);
    behind[24..28].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(Message::parse(&behind), None);
    behind.truncate(28);
    behind[3] -= 4;
    let sum = fingerprint(&behind[..HEADER_LEN]);
    behind[24..28].copy_from_slice(&sum.to_be_bytes());
    assert!(Message::parse(&behind).is_some_and(|message| message.has_fingerprint()));
}

#[test]
fn a_second_integrity_vouches_for_nothing() {
    let mut buf = [0; 200];
    let forged = Attribute::XorMappedAddress("6.6.6.6:6".parse().unwrap());
    let len = Builder::new(&mut buf, Class::Success, TRANSACTION)
        .and_then(|b| b.integrity(PASSWORD))
        .and_then(|b| b.attribute(&forged))
        .and_then(|b| b.integrity(b"another"))
        .unwrap()
        .finish();
    let message = Message::parse(&buf[..len]).unwrap();
    assert_eq!(message.mapped_address(), None);
    assert_eq!(message.verify_integrity(b"another"), Some(false));
    assert_eq!(message.verify_integrity(PASSWORD), Some(true));
}

#[test]
fn what_the_integrity_does_not_cover_is_not_seen() {
    let mut buf = [0; 200];
    let forged = Attribute::XorMappedAddress("6.6.6.6:6".parse().unwrap());
    let len = Builder::new(&mut buf, Class::Success, TRANSACTION)
        .and_then(|b| b.integrity(PASSWORD))
        .and_then(|b| b.attribute(&forged))
        .and_then(Builder::finish_with_fingerprint)
        .unwrap();
    let message = Message::parse(&buf[..len]).unwrap();
    assert_eq!(message.verify_integrity(PASSWORD), Some(true));
    assert_eq!(message.mapped_address(), None);
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    let long = "x".repeat(MAX_TEXT + 1);
    for attribute in [
        Attribute::Software(&long),
        Attribute::ErrorCode {
            code: 400,
            reason: &long,
        },
        Attribute::ErrorCode {
            code: 200,
            reason: "",
        },
        Attribute::ErrorCode {
            code: 700,
            reason: "",
        },
        Attribute::Other {
            kind: 0x8028,
            value: &[0; 4],
        },
        Attribute::Other {
            kind: 0x0008,
            value: &[0; 20],
        },
        Attribute::Other {
            kind: 0x0001,
            value: &[],
        },
        Attribute::Padding(&vec![0; 65536]),
    ] {
        let mut buf = vec![0; 70000];
        let begun = Builder::new(&mut buf, Class::Error, TRANSACTION).unwrap();
        assert!(
            begun.attribute(&attribute).is_none(),
            "{:#x}",
            attribute.kind()
        );
    }
}

/// An attribute that owns what it says.
#[derive(Clone, Debug)]
enum Owned {
    Address(u8, SocketAddr),
    Change(bool, bool),
    Port(u16),
    Bytes(u8, Vec<u8>),
    Text(Option<u16>, String),
    Kinds(Vec<[u8; 2]>),
}

impl Owned {
    fn borrow(&self) -> Attribute<'_> {
        match self {
            Self::Address(0, to) => Attribute::MappedAddress(*to),
            Self::Address(1, to) => Attribute::ResponseOrigin(*to),
            Self::Address(2, to) => Attribute::OtherAddress(*to),
            Self::Address(_, to) => Attribute::XorMappedAddress(*to),
            Self::Change(ip, port) => Attribute::ChangeRequest(ChangeRequest {
                ip: *ip,
                port: *port,
            }),
            Self::Port(port) => Attribute::ResponsePort(*port),
            Self::Bytes(0, value) => Attribute::Padding(value),
            Self::Bytes(1, value) => Attribute::Username(value),
            Self::Bytes(n, value) => Attribute::Other {
                kind: 0x7f00 | u16::from(*n) << 15 | 1,
                value,
            },
            Self::Text(None, text) => Attribute::Software(text),
            Self::Text(Some(code), reason) => Attribute::ErrorCode {
                code: *code,
                reason,
            },
            Self::Kinds(kinds) => Attribute::UnknownAttributes(UnknownAttributes::new(kinds)),
        }
    }
}

impl Arbitrary for Owned {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 6 {
            0 => {
                let ip = match bool::arbitrary(g) {
                    true => u32::arbitrary(g).to_be_bytes().into(),
                    false => Ipv6Addr::from(u128::arbitrary(g)).into(),
                };
                Self::Address(u8::arbitrary(g) % 4, SocketAddr::new(ip, u16::arbitrary(g)))
            }
            1 => Self::Change(bool::arbitrary(g), bool::arbitrary(g)),
            2 => Self::Port(u16::arbitrary(g)),
            3 => Self::Bytes(u8::arbitrary(g) % 4, Vec::arbitrary(g)),
            4 => {
                let code = bool::arbitrary(g).then(|| 300 + u16::arbitrary(g) % 400);
                let text = String::arbitrary(g);
                Self::Text(code, text.chars().take(MAX_TEXT / 4).collect())
            }
            _ => Self::Kinds(
                Vec::<u16>::arbitrary(g)
                    .into_iter()
                    .map(u16::to_be_bytes)
                    .collect(),
            ),
        }
    }
}

/// The message of these attributes.
fn written(attributes: &[Owned], id: u64, key: Option<&[u8]>, fingerprint: bool) -> Vec<u8> {
    let mut buf = vec![0xaa; 65536];
    let mut transaction = [7; 12];
    transaction[..8].copy_from_slice(&id.to_be_bytes());
    let mut message = Builder::new(&mut buf, Class::Success, TransactionId(transaction)).unwrap();
    for attribute in attributes {
        message = message.attribute(&attribute.borrow()).unwrap();
    }
    if let Some(key) = key {
        message = message.integrity(key).unwrap();
    }
    let len = match fingerprint {
        true => message.finish_with_fingerprint().unwrap(),
        false => message.finish(),
    };
    buf.truncate(len);
    buf
}

quickcheck! {
    fn what_is_written_is_read(list: Vec<Owned>, id: u64, key: Option<Vec<u8>>, fingerprint: bool) -> bool {
        let list = &list[..list.len().min(20)];
        let data = written(list, id, key.as_deref(), fingerprint);
        let Some(message) = Message::parse(&data) else {
            return false;
        };
        message.attributes().eq(list.iter().map(Owned::borrow))
            && message.transaction.0[..8] == id.to_be_bytes()
            && message.has_fingerprint() == fingerprint
            && message.verify_integrity(key.as_deref().unwrap_or_default()) == key.map(|_| true)
    }

    /// A buffer one byte too short is told, never overrun; written twice is the same.
    fn a_short_buffer_is_told(attribute: Owned, short: usize) -> bool {
        let whole = written(core::slice::from_ref(&attribute), 1, None, false);
        let mut buf = vec![0; short % whole.len()];
        let built = Builder::new(&mut buf, Class::Success, TRANSACTION)
            .and_then(|b| b.attribute(&attribute.borrow()));
        built.is_none()
    }

    /// The checksum finds every flipped bit, unless the flip makes it no fingerprint.
    fn a_flipped_bit_is_found(list: Vec<Owned>, at: usize, bit: u8) -> bool {
        let mut data = written(&list[..list.len().min(5)], 9, None, true);
        let at = at % data.len();
        data[at] ^= 1 << (bit % 8);
        Message::parse(&data).is_none_or(|message| !message.has_fingerprint())
    }

    /// Law 6.
    fn any_bytes_are_survived(noise: Vec<u8>, list: Vec<Owned>, hits: Vec<(usize, u8)>) -> bool {
        let mut data = bytes("000100002112a442b7e7a701bc34d686fa87dfae");
        data.extend(&noise);
        data.resize(data.len().next_multiple_of(4), 0);
        let len = (data.len() - HEADER_LEN) as u16;
        data[2..4].copy_from_slice(&len.to_be_bytes());
        let mut damaged = written(&list[..list.len().min(10)], 3, Some(b"key"), false);
        for (at, byte) in hits {
            let at = at % damaged.len();
            damaged[at] = byte;
        }
        for data in [&noise, &data, &damaged] {
            if let Some(message) = Message::parse(data) {
                let _ = (message.mapped_address(), message.verify_integrity(&noise));
                let _ = message.unknown_required().count();
            }
        }
        true
    }
}
