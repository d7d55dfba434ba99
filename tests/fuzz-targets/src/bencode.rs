//! The tolerant bencode reader.

use dunlin_core::wire::bencode::{Dict, Kind, Limits, Value};

const LIMITS: [Limits; 2] = [
    Limits::TORRENT,
    Limits {
        depth: 3,
        items: 20,
    },
];

/// Parses `data` as a value and as a dictionary, and walks what came of it.
pub fn run(data: &[u8]) {
    for limits in LIMITS {
        if let Ok((value, rest)) = Value::parse(data, limits) {
            assert_eq!(value.raw().len() + rest.len(), data.len());
            let (again, rest) = Value::parse(value.raw(), limits).expect("it was sound before");
            assert!(rest.is_empty() && again.raw() == value.raw());
            walk(value, 0);
        }
        if let Ok((dict, _)) = Dict::parse(data, limits) {
            assert!(matches!(dict.raw(), [b'd', .., b'e']));
        }
    }
}

fn walk(value: Value<'_>, depth: u32) {
    assert!(depth <= 64, "deeper than the limit");
    match value.kind() {
        Kind::Int => assert!(value.bytes().is_none()),
        Kind::Bytes => {
            let len = value.bytes().expect("it is a string").len();
            assert!(len < value.raw().len());
            let _ = value.str();
        }
        Kind::List => {
            let list = value.list().expect("it is a list");
            assert_eq!(list.is_empty(), list.iter().next().is_none());
            list.iter().for_each(|item| walk(item, depth + 1));
        }
        Kind::Dict => {
            let dict = value.dict().expect("it is a dictionary");
            for (n, (key, item)) in dict.iter().enumerate() {
                if n < 32 {
                    // The first of duplicate keys counts.
                    let first = dict.iter().find(|(k, _)| *k == key).map(|(_, v)| v.raw());
                    assert_eq!(dict.get(key).map(|v| v.raw()), first);
                }
                walk(item, depth + 1);
            }
        }
    }
}
