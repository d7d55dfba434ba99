//! What a peer that has everything says after its handshake.

use std::sync::Arc;
use std::time::Duration;

use dunlin_core::Config;
use dunlin_core::hash::sha1;
use dunlin_core::metainfo::Info;

use super::common::bench::{Bench, message};
use super::{Area, Shape};

/// Eleven pieces, so that five bits of the bitfield are spare.
const PIECES: usize = 11;
/// What tells that the peer has everything.
const FULL: [u8; 2] = [0xff, 0xe0];

/// The torrent of the peer messages: bytes that count up, in pieces of 16 KiB.
pub(super) fn info() -> Arc<Info> {
    let data: Vec<u8> = (0..PIECES as u32 * 16_384 - 5)
        .map(|i| (i >> 4) as u8)
        .collect();
    let mut raw = format!(
        "d6:lengthi{}e4:name3:odd12:piece lengthi16384e6:pieces220:",
        data.len()
    )
    .into_bytes();
    data.chunks(16_384)
        .for_each(|piece| raw.extend(sha1(piece)));
    raw.push(b'e');
    Arc::new(Info::from_raw(raw).unwrap())
}

/// An extended message of this number: Dunlin's, which others do not share.
fn extended(number: u8, payload: &[u8]) -> Vec<u8> {
    message(20, &[&[number], payload].concat())
}

pub(super) fn shapes() -> Vec<Shape> {
    let full = || message(5, &FULL);
    let after = |bytes: Vec<u8>| [bytes, full()].concat();
    let before = |bytes: Vec<u8>| [full(), bytes].concat();
    let long = [b"d1:v40000:", &vec![b'y'; 40_000][..], b"e"].concat();
    let rows: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("a bitfield", full(), "accepts", ""),
        (
            "spare bits set in a bitfield",
            message(5, &[0xff, 0xff]),
            "accepts",
            "",
        ),
        (
            "a bitfield of a byte too many",
            message(5, &[0xff, 0xe0, 0]),
            "refuses",
            "",
        ),
        (
            "a bitfield of a byte too few",
            message(5, &[0xff]),
            "refuses",
            "",
        ),
        ("two bitfields", before(full()), "accepts", ""),
        (
            "a bitfield after a have",
            after(message(4, &[0, 0, 0, 3])),
            "accepts",
            "",
        ),
        (
            "a have beyond the last piece",
            before(message(4, &[0, 0, 0, 11])),
            "refuses",
            "",
        ),
        (
            "an extended handshake that is not bencoded",
            after(extended(0, b"junk")),
            "accepts",
            "",
        ),
        (
            "an empty extended handshake",
            after(extended(0, b"")),
            "accepts",
            "",
        ),
        (
            "an extended handshake of 40 KB",
            after(extended(0, &long)),
            "accepts",
            "",
        ),
        (
            "an extended message without a number",
            after(message(20, b"")),
            "accepts",
            "the exchange of blocks does without it",
        ),
        (
            "an extended message of a number nobody gave",
            after(extended(200, b"junk")),
            "accepts",
            "",
        ),
        (
            "a DHT port of three bytes",
            after(message(9, &[1, 2, 3])),
            "accepts",
            "the exchange of blocks does without it",
        ),
        (
            "an unknown message",
            after(message(99, b"whatever")),
            "accepts",
            "BEP 10 and others add messages: one that we do not know does no harm",
        ),
        (
            "a choke with a byte in it",
            before(message(0, b"x")),
            "refuses",
            "",
        ),
        (
            "a have of three bytes",
            before(message(4, &[0, 0, 3])),
            "refuses",
            "",
        ),
        (
            "a message longer than any",
            before(vec![0x7f, 0xff, 0xff, 0xff, 99]),
            "refuses",
            "",
        ),
        ("keep-alives", after(vec![0; 40]), "accepts", ""),
    ];
    let shape = |(name, bytes, dunlin, why)| Shape {
        area: Area::Peer,
        name,
        bytes,
        dunlin,
        why,
    };
    rows.into_iter().map(shape).collect()
}

/// Whether Dunlin stays, and knows then what the peer has.
pub(super) fn verdict(bytes: &[u8]) -> String {
    let info = info();
    let (mut b, id) = Bench::with(&info, Config::default());
    b.wait(Duration::from_secs(1));
    let from = "10.1.1.1:5".parse().unwrap();
    let conn = b.peer(from, info.info_hash(), 1).unwrap();
    b.say(conn, bytes);
    b.wait(Duration::from_secs(1));
    let has =
        b.e.torrent(id)
            .unwrap()
            .peers(b.now)
            .first()
            .map(|peer| peer.pieces);
    match has {
        Some(has) if has as usize == PIECES => "accepts".into(),
        Some(has) => format!("accepts: {has} pieces"),
        None => "refuses".into(),
    }
}
