//! Bodies of HTTP trackers' answers.

use dunlin_core::wire::tracker::http::parse_announce;

use super::bencode::{B, l, s};
use super::{Area, Shape};

/// A peer in six bytes.
const PEER: &[u8] = b"\x0a\x09\x09\x09\x1a\xe1";

fn answer(more: Vec<(&'static str, B)>) -> Vec<u8> {
    let mut pairs = vec![("interval", B::Num(1800)), ("peers", s(PEER))];
    for (key, value) in more {
        pairs.retain(|(k, _)| *k != key);
        pairs.push((key, value));
    }
    pairs.sort_by_key(|(key, _)| *key);
    B::Dict(pairs).bytes()
}

fn peer(ip: B, port: B) -> B {
    B::List(vec![B::Dict(vec![("ip", ip), ("port", port)])])
}

pub(super) fn shapes() -> Vec<Shape> {
    let rows: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("a compact answer", answer(vec![]), "accepts: 1 peer", ""),
        (
            "peers as dictionaries",
            answer(vec![("peers", peer(s("10.9.9.9"), B::Num(6881)))]),
            "accepts: 1 peer",
            "",
        ),
        (
            "a peer dictionary with a port in a string",
            answer(vec![("peers", peer(s("10.9.9.9"), s("6881")))]),
            "accepts: no peers",
            "",
        ),
        (
            "a peer dictionary with a name for an address",
            answer(vec![("peers", peer(s("peer.invalid"), B::Num(6881)))]),
            "accepts: no peers",
            "",
        ),
        (
            "compact peers cut in the middle",
            answer(vec![("peers", s([PEER, &PEER[..3]].concat()))]),
            "accepts: 1 peer",
            "",
        ),
        (
            "a peer of port 0",
            answer(vec![("peers", s(b"\x0a\x09\x09\x09\0\0"))]),
            "accepts: no peers",
            "",
        ),
        (
            "no peers key",
            B::Dict(vec![("interval", B::Num(1800))]).bytes(),
            "accepts: no peers",
            "",
        ),
        (
            "an empty list of peers",
            answer(vec![("peers", B::List(vec![]))]),
            "accepts: no peers",
            "",
        ),
        (
            "peers in a dictionary",
            answer(vec![("peers", B::Dict(vec![]))]),
            "accepts: no peers",
            "",
        ),
        (
            "peers that are a number",
            answer(vec![("peers", B::Num(1))]),
            "accepts: no peers",
            "",
        ),
        (
            "an interval in a string",
            answer(vec![("interval", s("1800"))]),
            "accepts: 1 peer",
            "",
        ),
        (
            "a negative interval",
            answer(vec![("interval", B::Int("-1"))]),
            "accepts: 1 peer",
            "",
        ),
        (
            "an interval beyond 64 bits",
            answer(vec![("interval", B::Int("99999999999999999999"))]),
            "accepts: 1 peer",
            "",
        ),
        (
            "no interval",
            B::Dict(vec![("peers", s(PEER))]).bytes(),
            "accepts: 1 peer",
            "",
        ),
        (
            "keys in no order",
            B::Dict(vec![("peers", s(PEER)), ("interval", B::Num(1800))]).bytes(),
            "accepts: 1 peer",
            "",
        ),
        (
            "bytes after the end",
            [answer(vec![]), b"\r\n".to_vec()].concat(),
            "accepts: 1 peer",
            "",
        ),
        (
            "a warning beside the peers",
            answer(vec![("warning message", s("hello"))]),
            "accepts: 1 peer",
            "",
        ),
        (
            "a refusal",
            B::Dict(vec![("failure reason", s("no"))]).bytes(),
            "refuses",
            "",
        ),
        (
            "an empty refusal beside peers",
            answer(vec![("failure reason", s(""))]),
            "refuses",
            "",
        ),
        (
            "a list in place of a dictionary",
            l(&[b"a"]).bytes(),
            "refuses",
            "the answer is broken: another tracker is asked",
        ),
        (
            "a web page",
            b"<html><body>It works!</body></html>".to_vec(),
            "refuses",
            "",
        ),
        ("nothing", vec![], "refuses", ""),
        (
            "cut in the middle",
            answer(vec![])[..20].to_vec(),
            "refuses",
            "",
        ),
    ];
    let shape = |(name, bytes, dunlin, why)| Shape {
        area: Area::Tracker,
        name,
        bytes,
        dunlin,
        why,
    };
    rows.into_iter().map(shape).collect()
}

pub(super) fn verdict(bytes: &[u8]) -> String {
    match parse_announce(200, bytes).map(|answer| answer.peers.len()) {
        Ok(0) => "accepts: no peers".into(),
        Ok(1) => "accepts: 1 peer".into(),
        Ok(n) => format!("accepts: {n} peers"),
        Err(_) => "refuses".into(),
    }
}
