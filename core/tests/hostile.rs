//! Peers that lie, flood or sit still, played byte by byte against one engine.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::bench::{Bench, message, number_of};
use common::commands::Commands;
use common::torrent;
use dunlin_core::engine::{Event, Source, What};
use dunlin_core::metainfo::{Builder, Info};
use dunlin_core::{Config, ConnId};

/// An engine with one torrent.
fn bench(source: Source, config: Config) -> Bench {
    let mut b = Bench::new(config);
    b.add(source, &[]);
    b
}

/// A peer that connects from 10.8.0.`host` and sends a handshake.
fn peer(b: &mut Bench, host: u8, info: &Info) -> ConnId {
    let from = SocketAddr::from(([10, 8, 0, host], 40_000));
    let conn = b.accept(from).unwrap();
    b.hello(conn, info.info_hash(), host);
    conn
}

fn has_metadata(b: &mut Bench) -> bool {
    let mut events = core::iter::from_fn(|| b.e.poll_event());
    events.any(|e| matches!(e, Event::Notice(n) if n.what == What::Metadata))
}

fn extended(payload: &[u8]) -> Vec<u8> {
    message(20, payload)
}

fn metadata_hello(size: usize) -> Vec<u8> {
    extended(format!("\0d1:md11:ut_metadatai1ee13:metadata_sizei{size}ee").as_bytes())
}

/// Our answer goes under the number that the engine's own handshake gave.
fn metadata_data(heard: &[u8], raw: &[u8]) -> Vec<u8> {
    metadata_piece(heard, 0, raw)
}

/// One piece of `raw`.
fn metadata_piece(heard: &[u8], piece: usize, raw: &[u8]) -> Vec<u8> {
    let mut payload = vec![number_of(heard, "ut_metadata").unwrap()];
    let total = raw.len();
    let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{total}ee");
    payload.extend_from_slice(head.as_bytes());
    let from = piece << 14;
    payload.extend_from_slice(&raw[from..total.min(from + (16 << 10))]);
    extended(&payload)
}

fn metadata_reject(heard: &[u8]) -> Vec<u8> {
    let number = [number_of(heard, "ut_metadata").unwrap()];
    extended(&[&number[..], b"d8:msg_typei2e5:piecei0ee"].concat())
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|w| w == part)
}

const REQUEST: &[u8] = b"8:msg_typei0e5:piecei0e";

#[test]
fn pieces_are_counted_once_however_they_are_told() {
    let (info, _) = torrent(12 * (16 << 10), 16 << 10);
    let mut b = bench(Source::Info(info.clone()), Config::default());
    let have = |n: u32| message(4, &n.to_be_bytes());
    let conn = peer(&mut b, 1, &info);
    // A bitfield and haves in one read; another bitfield; all; none; the rest one by one.
    b.say(
        conn,
        &[message(5, &[0xf0, 0]), have(4), have(5), have(4)].concat(),
    );
    b.say(
        conn,
        &[
            message(5, &[0x80, 0]),
            message(14, &[]),
            message(5, &[0x40, 0]),
        ]
        .concat(),
    );
    b.say(conn, &[message(14, &[]), message(15, &[])].concat());
    let all: Vec<u8> = (0..12).flat_map(have).collect();
    b.say(conn, &all);
    assert_eq!(
        b.e.torrent(b.e.torrents().next().unwrap())
            .unwrap()
            .peers(b.now)[0]
            .pieces,
        12
    );
    let other = peer(&mut b, 2, &info);
    b.say(other, &[message(14, &[]), have(3)].concat());
    b.e.handle_closed(b.now, conn, dunlin_core::CloseReason::Reset);
    b.pump();
    b.e.handle_closed(b.now, other, dunlin_core::CloseReason::Reset);
    b.pump();
}

/// A torrent of so many pieces of 16 KiB whose content nobody has.
fn huge(pieces: u32) -> Arc<Info> {
    let mut builder = Builder::file("huge.bin", u64::from(pieces) << 14);
    builder.piece_len = Some(16 << 10);
    let hashes = vec![[7; 20]; pieces as usize];
    builder.draft().unwrap().finish(&hashes).unwrap().info
}

#[test]
fn no_message_of_a_few_bytes_costs_a_look_at_every_piece_or_peer() {
    const PIECES: u32 = 1_000_000;
    let info = huge(PIECES);
    let config = Config {
        max_connections_per_torrent: 1000,
        ..Config::default()
    };
    let mut b = bench(Source::Info(info.clone()), config);
    b.audited = false;
    // Somebody holds each upload slot, and more wait for one.
    let crowd: Vec<ConnId> = (10..60).map(|host| peer(&mut b, host, &info)).collect();
    for conn in crowd {
        b.say(conn, &[message(15, &[]), message(2, &[])].concat());
    }
    b.wait(Duration::from_secs(1));
    let donthave = b"\0d1:md11:lt_donthavei7eee";
    let conn = peer(&mut b, 1, &info);
    let heard = b.hear(conn);
    b.say(conn, &extended(donthave));
    let lost = |piece: u32| {
        extended(
            &[
                &[number_of(&heard, "lt_donthave").unwrap()],
                &piece.to_be_bytes()[..],
            ]
            .concat(),
        )
    };
    let have = |piece: u32| message(4, &piece.to_be_bytes());
    let (all, none) = (message(14, &[]), message(15, &[]));
    let bitfield = |all: u8, other: u8| {
        let mut bits = vec![all; PIECES as usize / 8];
        bits[3] = other;
        message(5, &bits)
    };
    let (few, most) = (bitfield(0, 0xff), bitfield(0xff, 0));
    // The first search for a block sorts all pieces, and the first piece that a seed lacks has
    // them sorted anew. With a piece that may be asked for, every message is followed by a search.
    let allowed = message(17, &[0; 4]);
    b.say(conn, &allowed);
    b.say(conn, &[all.clone(), lost(5)].concat());
    b.say(conn, &none);
    let kinds: [(&str, Vec<u8>, u64); 8] = [
        (
            "have all, have none",
            [all.clone(), none.clone()].concat(),
            2,
        ),
        ("have, dont have", [have(7), lost(7)].concat(), 2),
        (
            "dont have, have of a seed",
            [all.clone(), lost(5), have(5)].concat(),
            3,
        ),
        (
            "have all after most",
            [all.clone(), lost(5), lost(900_000), all.clone()].concat(),
            4,
        ),
        ("bitfield, have none", [few, none.clone()].concat(), 9),
        (
            "have all, bitfield of most",
            [all.clone(), most, bitfield(0xff, 1)].concat(),
            17,
        ),
        (
            "interested, not interested",
            [message(2, &[]), message(3, &[])].concat(),
            2,
        ),
        (
            "suggest, allowed fast",
            [message(13, &[0; 4]), allowed.clone()].concat(),
            2,
        ),
    ];
    for (kind, bytes, changed) in kinds {
        let before = b.e.work();
        for _ in 0..20 {
            let now = b.now;
            b.say_quietly(conn, &bytes);
            b.e.handle_timeout(now);
        }
        let work = b.e.work() - before;
        assert!(work <= 20 * 4 * changed, "{kind}: {work} entries");
    }
}

#[test]
fn silent_callers_do_not_keep_us_from_calling() {
    let (info, _) = torrent(100_000, 32 << 10);
    let config = Config {
        max_half_open: 3,
        ..Config::default()
    };
    let mut b = bench(Source::Info(info), config);
    for n in 1..10 {
        let from = SocketAddr::from(([10, 8, 0, n], 40_000));
        assert!(b.e.accept(b.now, from).is_some());
    }
    let peer = "10.9.9.9:99".parse().unwrap();
    let id = b.e.torrents().next().unwrap();
    b.e.add_peers(b.now, id, &[peer]);
    b.pump();
    assert_eq!(b.dials(), [peer]);
}

#[test]
fn who_talks_but_never_listens_is_let_go() {
    let (info, _) = torrent(100_000, 32 << 10);
    let mut b = bench(Source::Info(info.clone()), Config::default());
    let (deaf, good) = (peer(&mut b, 1, &info), peer(&mut b, 2, &info));
    for _ in 0..6 {
        b.wait(Duration::from_secs(60));
        b.say(deaf, &[0; 4]);
        b.say(good, &[0; 4]);
        b.hear(good);
    }
    assert_eq!(b.e.status(b.now).connections, 1);
}

/// What the messages in `heard` ask for: piece, begin and length.
fn requests(heard: &[u8]) -> Vec<[u32; 3]> {
    let mut rest = heard;
    if rest.starts_with(b"\x13BitTorrent protocol") {
        rest = &rest[68..];
    }
    let mut asked = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (message, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
        if let Some((6, numbers)) = message.split_first() {
            let number = |n: usize| u32::from_be_bytes(*numbers[n * 4..].first_chunk().unwrap());
            asked.push([number(0), number(1), number(2)]);
        }
        rest = tail;
    }
    asked
}

#[test]
fn a_holder_that_was_fast_and_drips_is_taken_over_by_a_slow_peer() {
    // 64 blocks, a single piece.
    let (info, data) = torrent(1 << 20, 1 << 20);
    let mut b = bench(Source::Info(info.clone()), Config::default());
    let has_all = [message(14, &[]), message(1, &[])].concat();
    let fast = peer(&mut b, 1, &info);
    b.say(fast, &has_all);
    let mut asked = requests(&b.hear(fast));
    let block = |[piece, begin, len]: [u32; 3]| {
        let (from, to) = (begin as usize, (begin + len) as usize);
        message(
            7,
            &[&piece.to_be_bytes(), &begin.to_be_bytes(), &data[from..to]].concat(),
        )
    };
    for n in 0..63 {
        b.wait(Duration::from_millis(20));
        b.say(fast, &block(asked[n]));
        asked.extend(requests(&b.hear(fast)));
    }
    assert_eq!(asked.len(), 64);
    let last = block(asked[63]);
    b.say(fast, &last[..14]);
    let slow = peer(&mut b, 2, &info);
    b.say(slow, &has_all);
    assert!(
        requests(&b.hear(slow)).is_empty(),
        "it is left to the fast one"
    );
    let mut taken_over = Vec::new();
    for second in 1..45 {
        b.wait(Duration::from_secs(1));
        b.say(fast, &last[13 + second..][..1]);
        b.say(slow, &[0; 4]);
        taken_over.extend(requests(&b.hear(slow)));
    }
    assert_eq!(taken_over, [asked[63]]);
    b.say(slow, &last);
    let id = b.e.torrents().next().unwrap();
    assert_eq!(b.e.torrent(id).unwrap().status(b.now).pieces_done, 1);
}

fn magnet(info: &Info) -> Source {
    Source::Hash {
        info_hash: info.info_hash(),
        name: None,
    }
}

#[test]
fn who_names_a_wrong_size_first_does_not_hold_a_magnet_up() {
    let (info, _) = torrent(100_000, 32 << 10);
    let mut b = bench(magnet(&info), Config::default());
    let liar = peer(&mut b, 1, &info);
    b.say(liar, &metadata_hello(50_000));
    let honest = peer(&mut b, 2, &info);
    b.say(honest, &metadata_hello(info.raw().len()));
    let heard = b.hear(honest);
    assert!(contains(&heard, REQUEST), "both sizes are tried");
    b.say(honest, &metadata_data(&heard, info.raw()));
    assert!(has_metadata(&mut b));
}

#[test]
fn an_honest_answer_is_used_although_a_liar_was_found_out_meanwhile() {
    let info = huge(1000);
    let raw = info.raw();
    assert!(raw.len() > 16 << 10, "two pieces");
    let mut b = bench(magnet(&info), Config::default());
    let (liar, honest) = (peer(&mut b, 1, &info), peer(&mut b, 2, &info));
    b.say(liar, &metadata_hello(raw.len()));
    b.say(honest, &metadata_hello(raw.len()));
    let (lies, heard) = (b.hear(liar), b.hear(honest));
    assert!(contains(&lies, b"5:piecei0e") && contains(&heard, b"5:piecei1e"));
    // The liar sends its own piece and, as it is idle, the honest one's as well.
    let wrong = vec![b'x'; raw.len()];
    for piece in 0..2 {
        b.say(liar, &metadata_piece(&lies, piece, &wrong));
    }
    assert_eq!(b.e.status(b.now).connections, 1, "the liar is banned");
    // Only now the honest one answers what it was asked before.
    b.wait(Duration::from_millis(500));
    b.say(honest, &metadata_piece(&heard, 1, raw));
    assert!(contains(&b.hear(honest), b"5:piecei0e"));
    b.say(honest, &metadata_piece(&heard, 0, raw));
    assert!(has_metadata(&mut b));
}

#[test]
fn who_makes_wrong_metadata_together_with_others_is_told_apart_at_once() {
    let info = huge(1000);
    let raw = info.raw();
    let mut b = bench(magnet(&info), Config::default());
    let (liar, honest) = (peer(&mut b, 1, &info), peer(&mut b, 2, &info));
    b.say(liar, &metadata_hello(raw.len()));
    b.say(honest, &metadata_hello(raw.len()));
    let (lies, heard) = (b.hear(liar), b.hear(honest));
    let wrong = vec![b'x'; raw.len()];
    b.say(liar, &metadata_piece(&lies, 0, &wrong));
    b.say(honest, &metadata_piece(&heard, 1, raw));
    // Nothing is heard of the liar from here on.
    for _ in 0..2 {
        let asked = b.hear(honest);
        let piece = usize::from(!contains(&asked, b"5:piecei0e"));
        b.say(honest, &metadata_piece(&heard, piece, raw));
    }
    assert!(has_metadata(&mut b));
}

#[test]
fn who_refuses_metadata_once_is_asked_again_after_a_minute() {
    let (info, _) = torrent(100_000, 32 << 10);
    let mut b = bench(magnet(&info), Config::default());
    let busy = peer(&mut b, 1, &info);
    b.say(busy, &metadata_hello(info.raw().len()));
    let heard = b.hear(busy);
    b.say(busy, &metadata_reject(&heard));
    b.wait(Duration::from_secs(50));
    assert!(!contains(&b.hear(busy), REQUEST));
    b.wait(Duration::from_secs(25));
    assert!(contains(&b.hear(busy), REQUEST));
    b.say(busy, &metadata_data(&heard, info.raw()));
    assert!(has_metadata(&mut b));
}

#[test]
fn who_sends_wrong_metadata_is_banned_and_the_next_is_asked() {
    let (info, _) = torrent(100_000, 32 << 10);
    let mut b = bench(magnet(&info), Config::default());
    let liar = peer(&mut b, 1, &info);
    b.say(liar, &metadata_hello(info.raw().len()));
    let heard = b.hear(liar);
    assert!(contains(&heard, REQUEST));
    let mut wrong = info.raw().to_vec();
    wrong[20] ^= 1;
    b.say(liar, &metadata_data(&heard, &wrong));
    let honest = peer(&mut b, 2, &info);
    b.say(honest, &metadata_hello(info.raw().len()));
    let heard = b.hear(honest);
    b.wait(Duration::from_secs(60));
    let asked = [heard.clone(), b.hear(honest)].concat();
    assert!(contains(&asked, REQUEST));
    b.say(honest, &metadata_data(&heard, info.raw()));
    assert!(has_metadata(&mut b));
}
