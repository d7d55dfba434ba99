//! Padding files (BEP 47): kept nowhere, zeros everywhere.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{World, add};
use dunlin_core::engine::{AddTorrent, Check, Source, State};
use dunlin_core::hash::sha1;
use dunlin_core::metainfo::Info;
use dunlin_core::{Config, TorrentId};

const MINUTE: Duration = Duration::from_secs(60);
const PIECE: usize = 16 << 10;
/// Where the padding begins, in the first piece.
const PADDING: usize = 10_000;

/// The content, with `padding` as every byte between the two files.
fn content(padding: u8) -> Vec<u8> {
    let mut data: Vec<u8> = (0..PIECE + 20_000)
        .map(|i| (i * 7 + i / 251) as u8)
        .collect();
    data[PADDING..PIECE].fill(padding);
    data
}

/// A torrent of that content.
fn torrent(data: &[u8]) -> Arc<Info> {
    let hashes: Vec<u8> = data.chunks(PIECE).flat_map(sha1).collect();
    let padding = PIECE - PADDING;
    let files = format!(
        "d6:lengthi{PADDING}e4:pathl1:aee\
         d4:attr1:p6:lengthi{padding}e4:pathl4:.pad4:{padding}ee\
         d6:lengthi20000e4:pathl1:bee"
    );
    let mut raw = format!(
        "d5:filesl{files}e4:name1:t12:piece lengthi{PIECE}e6:pieces{}:",
        hashes.len()
    )
    .into_bytes();
    raw.extend(hashes);
    raw.push(b'e');
    Arc::new(Info::from_raw(raw).unwrap())
}

/// Adds a node that offers `data` without having checked it.
fn trusting(w: &mut World, info: &Arc<Info>, data: Vec<u8>) -> usize {
    let n = w.node(Config::default());
    w.put(n, info, data);
    let torrent = AddTorrent {
        check: Check::Nothing,
        ..add(Source::Info(info.clone()))
    };
    w.nodes[n].engine.add(w.now, torrent).unwrap();
    n
}

fn pieces_done(w: &World, n: usize, id: TorrentId) -> u32 {
    w.nodes[n]
        .engine
        .torrent(id)
        .unwrap()
        .status(w.now)
        .pieces_done
}

#[test]
fn padding_is_zeros_whatever_a_peer_sends() {
    let info = torrent(&content(0));
    let mut w = World::new(1);
    let s = trusting(&mut w, &info, content(0xAA));
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &content(0))));
}

/// Any disk reads zeros between the two files, so a check never finds such a piece. Nor may a
/// download, or a session would say something else than the next one.
#[test]
fn a_piece_that_wants_other_padding_is_never_verified() {
    let info = torrent(&content(0xAA));
    let mut w = World::new(2);
    let s = trusting(&mut w, &info, content(0xAA));
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    let all = info.piece_count();
    assert!(!w.run_until(5 * MINUTE, |w| pieces_done(w, l, id) == all));
    let state = w.nodes[l].engine.torrent(id).unwrap().status(w.now).state;
    assert_eq!(state, State::Downloading);
}
