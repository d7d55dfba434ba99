//! Blocks for peers, where the disk does not yield them.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::time::Duration;

use common::bench::{Bench, LONG, Reads, message};
use common::torrent;
use dunlin_core::engine::{AddTorrent, Check, Source};
use dunlin_core::op::FileStat;
use dunlin_core::{BLOCK_LEN, Config, ConnId, OpErrorKind};

const INTERESTED: u8 = 2;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const REJECT: u8 = 16;
/// Blocks of the torrent, each a piece.
const BLOCKS: u32 = 24;

/// A seed, and a peer that it unchokes.
fn seed_and_leech() -> (Bench, ConnId) {
    let (info, _) = torrent(BLOCKS as usize * BLOCK_LEN, BLOCK_LEN as u32);
    let mut b = Bench::new(Config::default());
    b.found = Some(FileStat {
        len: info.total_len(),
        ..LONG
    });
    let mut add = AddTorrent::new(Source::Info(info.clone()));
    add.check = Check::Nothing;
    b.e.add(b.now, add).unwrap();
    b.pump();
    let leech = b
        .peer(([10, 8, 0, 1], 5).into(), info.info_hash(), 1)
        .unwrap();
    b.say(leech, &message(INTERESTED, &[]));
    b.wait(Duration::from_secs(11));
    b.hear(leech);
    (b, leech)
}

fn request(block: u32) -> Vec<u8> {
    message(
        REQUEST,
        &[block, 0, BLOCK_LEN as u32].map(u32::to_be_bytes).concat(),
    )
}

/// Whether the driver is told that the engine has something to send to `conn`.
fn is_told_to_write(b: &mut Bench, conn: ConnId) -> bool {
    let mut told = false;
    while let Some((of, readiness)) = b.e.poll_interest() {
        if of == conn {
            told = readiness.write;
        }
    }
    told
}

/// How often a message stands in what was heard.
fn count(heard: &[u8], id: u8) -> u32 {
    let (mut rest, mut found) = (heard, 0);
    while let Some((len, more)) = rest.split_first_chunk::<4>() {
        let (body, more) = more.split_at(u32::from_be_bytes(*len) as usize);
        found += u32::from(body.first() == Some(&id));
        rest = more;
    }
    found
}

#[test]
fn a_peer_is_told_at_once_that_its_blocks_cannot_be_read() {
    let (mut b, leech) = seed_and_leech();
    is_told_to_write(&mut b, leech);
    b.reads = Reads::Fail(OpErrorKind::Cancelled);
    let all: Vec<u8> = (0..BLOCKS).flat_map(request).collect();
    b.say(leech, &all);
    // Every one of them, although no more than a few are read at a time and the peer says nothing more.
    assert!(is_told_to_write(&mut b, leech));
    assert_eq!(count(&b.hear(leech), REJECT), BLOCKS);
    assert_eq!(b.e.status(b.now).blocks_lent, 0);
}

#[test]
fn what_is_asked_for_after_a_read_that_failed_is_served() {
    let (mut b, leech) = seed_and_leech();
    b.reads = Reads::Fail(OpErrorKind::Cancelled);
    b.say(leech, &request(0));
    b.reads = Reads::Done;
    b.say(leech, &request(1));
    let heard = b.hear(leech);
    assert_eq!((count(&heard, REJECT), count(&heard, PIECE)), (1, 1));
}

#[test]
fn a_read_that_the_driver_answers_wrongly_leaves_no_request_unanswered() {
    let (mut b, leech) = seed_and_leech();
    b.reads = Reads::AsWritten;
    b.say(leech, &request(0));
    assert_eq!(count(&b.hear(leech), REJECT), 1);
    assert_eq!(b.e.status(b.now).blocks_lent, 0);
    b.reads = Reads::Short;
    b.say(leech, &request(1));
    assert_eq!(count(&b.hear(leech), REJECT), 1);
    b.reads = Reads::Done;
    b.say(leech, &request(2));
    assert_eq!(count(&b.hear(leech), PIECE), 1);
}
