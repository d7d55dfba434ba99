use alloc::{format, string::String, vec, vec::Vec};

use bendy::decoding::{Decoder, Object};
use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

fn dict(data: &[u8]) -> Dict<'_> {
    Dict::parse(data, Limits::MESSAGE).unwrap().0
}

fn fault(data: &[u8]) -> (usize, Fault) {
    let e = Value::parse(data, Limits::MESSAGE).unwrap_err();
    (e.at, e.fault)
}

#[test]
fn typed_lookups_borrow_from_the_message() {
    let data = b"d1:ai-7e1:bli1ei2ee1:cd1:xi0ee1:d3:xyze";
    let d = dict(data);
    assert_eq!(d.int(b"a"), Some(-7));
    assert_eq!(d.uint(b"a"), None);
    let list = d.list(b"b").unwrap();
    assert!(list.iter().filter_map(|v| v.uint()).eq([1, 2]));
    assert_eq!(d.dict(b"c").unwrap().uint(b"x"), Some(0));
    assert_eq!(d.str(b"d"), Some("xyz"));
    assert_eq!(d.get(b"z"), None);
    assert_eq!(d.bytes(b"a"), None, "another type is as good as absent");
    assert_eq!(d.get(b"c").unwrap().raw(), b"d1:xi0ee");
    assert_eq!(d.get(b"c").unwrap().at(), 22);
    assert_eq!(
        format!("{d:?}"),
        "{a: -7, b: [1, 2], c: {x: 0}, d: \"xyz\"}"
    );
}

#[test]
fn what_follows_a_metadata_message_is_handed_back() {
    // BEP 9 §data.
    let data = b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx";
    let (d, payload) = Dict::parse(data, Limits::MESSAGE).unwrap();
    assert_eq!(d.uint(b"total_size"), Some(34256));
    assert_eq!(payload, b"xxxxxxxx");
    assert_eq!(d.raw().len() + payload.len(), data.len());
}

#[test]
fn unsorted_and_duplicate_keys_are_read_and_the_first_counts() {
    let d = dict(b"d1:zi1e1:ai2e1:zi3ee");
    assert_eq!(d.int(b"z"), Some(1));
    assert_eq!(d.int(b"a"), Some(2));
    assert_eq!(d.iter().count(), 3);
}

#[test]
fn a_value_that_looks_like_the_key_is_not_the_key() {
    let d = dict(b"d1:x1:y1:y1:ze");
    assert_eq!(d.bytes(b"y"), Some(&b"z"[..]));
}

#[test]
fn integers_are_checked_at_both_ends() {
    let d = dict(b"d1:ai-9223372036854775808e1:bi18446744073709551615e1:ci-007ee");
    assert_eq!(d.int(b"a"), Some(i64::MIN));
    assert_eq!(d.uint(b"b"), Some(u64::MAX));
    assert_eq!(d.int(b"b"), None);
    assert_eq!(d.int(b"c"), Some(-7), "leading zeros are tolerated");
}

#[test]
fn integers_that_are_none_have_no_value_and_do_no_harm() {
    for text in [
        "18446744073709551616",
        "-9223372036854775809",
        "99999999999999999999999999999999999999999999999999",
        "",
        "-",
        "+",
        "--1",
        "1-2",
        "1.5",
    ] {
        let data = format!("d1:ai{text}e1:bi7ee");
        let d = dict(data.as_bytes());
        assert_eq!((d.int(b"a"), d.uint(b"a")), (None, None), "{text}");
        assert_eq!(d.get(b"a").unwrap().kind(), Kind::Int);
        assert_eq!(d.int(b"b"), Some(7));
        assert_eq!(format!("{d:?}"), format!("{{a: i{text}e, b: 7}}"));
    }
    assert_eq!(dict(b"d1:ai+7ee").int(b"a"), Some(7));
}

#[test]
fn faults_name_the_byte() {
    assert_eq!(fault(b""), (0, Fault::Truncated));
    assert_eq!(fault(b"d1:a"), (4, Fault::Truncated));
    assert_eq!(fault(b"d1:ae"), (4, Fault::KeyWithoutValue));
    assert_eq!(fault(b"di1ei2ee"), (1, Fault::KeyNotString));
    assert_eq!(fault(b"dlee"), (1, Fault::KeyNotString));
    assert_eq!(fault(b"li1e?e"), (4, Fault::UnexpectedByte(b'?')));
    assert_eq!(fault(b"e"), (0, Fault::UnexpectedByte(b'e')));
    assert_eq!(fault(b"i 1e"), (1, Fault::BadNumber));
    assert_eq!(fault(b"i1i2e"), (2, Fault::BadNumber));
    assert_eq!(fault(b"i12"), (3, Fault::Truncated));
    assert_eq!(fault(b"l5:abce"), (1, Fault::Truncated));
    assert_eq!(
        fault(b"99999999999999999999:a"),
        (19, Fault::NumberTooLarge)
    );
    assert_eq!(fault(b"18446744073709551615:a"), (0, Fault::Truncated));
    let e = Dict::parse(b"le", Limits::MESSAGE).unwrap_err();
    assert_eq!(format!("{e}"), "this is not a dictionary (byte 0)");
}

#[test]
fn depth_and_items_are_limited() {
    let nested = |n| [vec![b'l'; n], vec![b'e'; n]].concat();
    assert!(Value::parse(&nested(16), Limits::MESSAGE).is_ok());
    assert_eq!(fault(&nested(17)), (16, Fault::TooDeep));
    let deepest = Limits {
        depth: u32::MAX,
        items: u32::MAX,
    };
    assert!(Value::parse(&nested(64), deepest).is_ok());
    assert!(Value::parse(&nested(65), deepest).is_err());
    let few = Limits { depth: 2, items: 3 };
    assert!(Value::parse(b"li1ei2ee", few).is_ok());
    let e = Value::parse(b"li1ei2ei3ee", few).unwrap_err();
    assert_eq!((e.at, e.fault), (7, Fault::TooManyItems));
}

/// Walks everything a value offers, so that no accessor escapes the hostile-bytes property.
fn walk(v: Value<'_>) -> usize {
    let number = v.int().is_some() || v.uint().is_some();
    assert!(!number || v.kind() == Kind::Int);
    let own = usize::from(v.kind() == Kind::Int || v.bytes().is_some());
    let lists = v
        .list()
        .map_or(0, |l| l.iter().map(walk).sum::<usize>() + 1);
    let dicts = v.dict().map_or(0, |d| {
        d.iter()
            .map(|(key, v)| usize::from(d.get(key).is_some()) + walk(v))
            .sum::<usize>()
            + 1
    });
    own + lists + dicts
}

/// A tree of canonical bencode.
#[derive(Clone, Debug)]
struct Canonical(Vec<u8>);

impl Arbitrary for Canonical {
    fn arbitrary(g: &mut Gen) -> Self {
        fn value(g: &mut Gen, depth: u32, out: &mut Vec<u8>) {
            let bytes = |s: &[u8], out: &mut Vec<u8>| {
                out.extend_from_slice(format!("{}:", s.len()).as_bytes());
                out.extend_from_slice(s);
            };
            match u8::arbitrary(g) % if depth == 0 { 2 } else { 4 } {
                0 => out.extend_from_slice(format!("i{}e", i64::arbitrary(g)).as_bytes()),
                1 => bytes(&Vec::arbitrary(g), out),
                2 => {
                    out.push(b'l');
                    (0..u8::arbitrary(g) % 5).for_each(|_| value(g, depth - 1, out));
                    out.push(b'e');
                }
                _ => {
                    out.push(b'd');
                    let mut keys: Vec<String> = (0..u8::arbitrary(g) % 5)
                        .map(|_| String::arbitrary(g))
                        .collect();
                    keys.sort();
                    keys.dedup();
                    for key in keys {
                        bytes(key.as_bytes(), out);
                        value(g, depth - 1, out);
                    }
                    out.push(b'e');
                }
            }
        }
        let mut out = Vec::new();
        value(g, 4, &mut out);
        Self(out)
    }
}

/// Whether bendy reads the same tree.
fn agrees(ours: Value<'_>, theirs: Object<'_, '_>) -> bool {
    match theirs {
        Object::Integer(s) => ours.int() == s.parse().ok(),
        Object::Bytes(s) => ours.bytes() == Some(s),
        Object::List(mut l) => {
            let Some(list) = ours.list() else {
                return false;
            };
            list.iter()
                .all(|v| agrees(v, l.next_object().unwrap().unwrap()))
                && l.next_object().unwrap().is_none()
        }
        Object::Dict(mut d) => {
            let Some(dict) = ours.dict() else {
                return false;
            };
            dict.iter().all(|(key, v)| {
                let (k, o) = d.next_pair().unwrap().unwrap();
                k == key && dict.get(key) == Some(v) && agrees(v, o)
            }) && d.next_pair().unwrap().is_none()
        }
    }
}

quickcheck! {
    fn reads_canonical_bencode_as_bendy_does(tree: Canonical, tail: Vec<u8>) -> bool {
        let data = [&tree.0[..], &tail].concat();
        let (v, rest) = Value::parse(&data, Limits::MESSAGE).unwrap();
        let mut decoder = Decoder::new(&tree.0);
        rest == tail && agrees(v, decoder.next_object().unwrap().unwrap())
    }

    /// Law 6: hostile bytes never panic, neither when parsed nor when looked at.
    fn any_bytes_are_survived(data: Vec<u8>) -> bool {
        Value::parse(&data, Limits::MESSAGE).map_or(true, |(v, _)| walk(v) > 0)
    }

    fn damaged_bencode_is_survived(tree: Canonical, at: usize, byte: u8) -> bool {
        let mut data = tree.0;
        let at = at % data.len();
        data[at] = b"0123456789:ilde-"[usize::from(byte % 16)];
        match Value::parse(&data, Limits::MESSAGE) {
            // What was accepted is accounted for to the last byte.
            Ok((v, rest)) => walk(v) > 0 && v.raw().len() + rest.len() == data.len(),
            Err(e) => e.at <= data.len(),
        }
    }
}
