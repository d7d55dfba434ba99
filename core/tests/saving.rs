//! What reaches the resume record, and when it may be believed.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::commands::Commands;
use common::{World, add, torrent};
use dunlin_core::engine::{AddTorrent, Event, FilePriority, Source, State, What};
use dunlin_core::metainfo::Info;
use dunlin_core::wire::bencode::{Dict, Limits};
use dunlin_core::{Bitfield, Config, OpErrorKind, TorrentId};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const PIECE: u32 = 64 << 10;

fn slow() -> Config {
    Config {
        limit_up: Some(200_000),
        ..Config::default()
    }
}

fn booted(boot: u8) -> Config {
    Config {
        boot: Some([boot; 16]),
        ..Config::default()
    }
}

/// A record that a node saved.
struct Saved<'a>(Dict<'a>);

impl Saved<'_> {
    fn number(&self, key: &str) -> i64 {
        self.0.int(key.as_bytes()).unwrap()
    }

    fn bytes(&self, key: &str) -> Vec<u8> {
        self.0.bytes(key.as_bytes()).unwrap().to_vec()
    }

    fn pieces(&self, key: &str, info: &Info) -> u32 {
        let pieces = Bitfield::from_wire(&self.bytes(key), info.piece_count());
        pieces.map_or(0, |p| p.count())
    }

    fn trackers(&self) -> usize {
        self.0.list(b"trackers").unwrap().iter().count()
    }
}

fn saved(w: &World, n: usize, id: TorrentId) -> Saved<'_> {
    let bytes = &w.nodes[n].saved[&id];
    Saved(Dict::parse(bytes, Limits::TORRENT).unwrap().0)
}

fn state(w: &World, n: usize, id: TorrentId) -> State {
    w.nodes[n].engine.torrent(id).unwrap().status(w.now).state
}

fn pieces_done(w: &World, n: usize, id: TorrentId) -> u32 {
    w.nodes[n]
        .engine
        .torrent(id)
        .unwrap()
        .status(w.now)
        .pieces_done
}

fn stop(w: &mut World, n: usize) {
    w.nodes[n].engine.shutdown(w.now);
    assert!(w.run_until(MINUTE, |w| w.nodes[n].events.contains(&Event::Stopped)));
}

/// Adds `info` with the record that the node saved last.
fn again(w: &mut World, n: usize, info: &Arc<Info>, peers: &[usize]) -> TorrentId {
    let torrent = AddTorrent {
        resume: w.nodes[n].saved.values().next_back().cloned(),
        peers: peers.iter().map(|p| w.nodes[*p].addr).collect(),
        ..add(Source::Info(info.clone()))
    };
    w.nodes[n].engine.add(w.now, torrent).unwrap()
}

#[test]
fn what_comes_while_a_flush_is_out_is_flushed_after_it() {
    let (info, data) = torrent(2_000_000, PIECE);
    let mut w = World::new(1);
    let (s, _) = w.seed(slow(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    let most = info.piece_count() - 3;
    assert!(w.run_until(MINUTE, |w| pieces_done(w, l, id) >= most));
    w.nodes[l].flush_delay = Some(3 * SECOND);
    w.nodes[l].engine.save_all(w.now);
    assert!(w.run_until(2 * SECOND, |w| w.has(l, id, &data)));
    w.run(10 * SECOND);
    let record = saved(&w, l, id);
    assert_eq!(record.pieces("durable", &info), info.piece_count());
    assert_eq!(record.number("clean"), 1);
    // A restart compares the files with the record, and has nothing to hash.
    let files = record.0.list(b"files").unwrap();
    let mtime = files.iter().nth(1).unwrap().int().unwrap();
    assert_eq!(mtime, w.nodes[l].stores[&id].mtime);
    assert_eq!(w.nodes[l].flushes, 2);
}

#[test]
fn a_record_written_while_blocks_come_in_is_not_a_clean_one() {
    let (info, data) = torrent(2_000_000, PIECE);
    let mut w = World::new(2);
    let (s, _) = w.seed(slow(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.nodes[l].flush_delay = Some(SECOND);
    w.run(3 * SECOND);
    w.nodes[l].engine.save_all(w.now);
    w.run(SECOND / 2);
    // At rest before the flush is through, but not since it began.
    w.nodes[l].engine.pause(w.now, id);
    assert!(w.run_until(MINUTE, |w| w.nodes[l].saved.contains_key(&id)));
    assert_eq!(saved(&w, l, id).number("clean"), 0);
    w.run(5 * SECOND);
    let record = saved(&w, l, id);
    assert_eq!(record.number("clean"), 1);
    assert_eq!(record.bytes("durable"), record.bytes("have"));
}

#[test]
fn what_was_uploaded_is_saved_while_seeding() {
    let (info, data) = torrent(500_000, PIECE);
    let mut w = World::new(3);
    let (s, id) = w.seed(Config::default(), &info, &data);
    w.run(2 * MINUTE);
    let (l, there) = w.leech(Config::default(), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| w.has(l, there, &data)));
    w.run(2 * MINUTE);
    assert_eq!(saved(&w, s, id).number("uploaded"), 500_000);
    assert_eq!(w.nodes[s].flushes, 1, "no file changed after the check");
}

#[test]
fn trackers_that_were_added_are_saved_also_at_rest() {
    let (info, data) = torrent(500_000, PIECE);
    let mut w = World::new(4);
    let (s, id) = w.seed(Config::default(), &info, &data);
    w.run(2 * MINUTE);
    let add = |w: &mut World, url: &str| {
        let urls = [url.to_owned()];
        assert!(w.nodes[s].engine.add_trackers(w.now, id, &urls));
    };
    let before = saved(&w, s, id).trackers();
    add(&mut w, "http://one.example/announce");
    w.run(2 * MINUTE);
    assert_eq!(saved(&w, s, id).trackers(), before + 1);
    w.nodes[s].engine.pause(w.now, id);
    w.run(SECOND);
    add(&mut w, "http://two.example/announce");
    w.run(SECOND);
    assert_eq!(saved(&w, s, id).trackers(), before + 2);
}

#[test]
fn what_is_deselected_during_a_check_stays_so_after_a_stop_and_after_a_kill() {
    let (info, data) = torrent(2_000_000, 16 << 10);
    for kill in [false, true] {
        let mut w = World::new(5);
        let narrow = Config {
            max_jobs: 2,
            ..Config::default()
        };
        let (s, id) = w.seed(narrow, &info, &data);
        w.nodes[s].disk_delay = Duration::from_millis(20);
        w.run(Duration::from_millis(100));
        assert!(matches!(state(&w, s, id), State::Checking { .. }));
        let skip = [FilePriority::Skip];
        w.nodes[s].engine.set_priorities(w.now, id, &skip);
        if kill {
            w.run(SECOND);
            assert!(matches!(state(&w, s, id), State::Checking { .. }));
        } else {
            stop(&mut w, s);
        }
        let record = saved(&w, s, id);
        assert_eq!(record.bytes("priorities"), [FilePriority::Skip as u8]);
        assert_eq!(record.pieces("have", &info), 0, "nothing was verified yet");
        w.restart(s, Config::default());
        let id = again(&mut w, s, &info, &[]);
        assert!(w.run_until(MINUTE, |w| state(w, s, id) == State::Seeding));
        assert_eq!(
            w.nodes[s].engine.torrent(id).unwrap().files()[0].priority,
            FilePriority::Skip
        );
        assert_eq!(pieces_done(&w, s, id), info.piece_count(), "all was hashed");
    }
}

#[test]
fn a_stop_during_a_check_leaves_what_the_last_record_says_of_the_files() {
    let (info, data) = torrent(2_000_000, 16 << 10);
    let mut w = World::new(6);
    let (s, _) = w.seed(booted(1), &info, &data);
    w.run(2 * MINUTE);
    stop(&mut w, s);
    // Another boot, and the file is not as it was.
    w.restart(s, booted(1));
    let shelf = w.nodes[s].shelf.values_mut().next().unwrap();
    shelf.mtime += 1;
    let id = again(&mut w, s, &info, &[]);
    w.nodes[s].disk_delay = Duration::from_millis(20);
    w.run(Duration::from_millis(50));
    assert!(matches!(state(&w, s, id), State::Checking { .. }));
    let skip = [FilePriority::Skip];
    w.nodes[s].engine.set_priorities(w.now, id, &skip);
    stop(&mut w, s);
    let record = saved(&w, s, id);
    assert_eq!(record.bytes("priorities"), [FilePriority::Skip as u8]);
    assert_eq!(record.pieces("have", &info), info.piece_count());
    assert_eq!(record.number("clean"), 1);
}

#[test]
fn a_good_flush_after_a_failed_one_makes_nothing_durable_that_the_failed_one_lost() {
    let (info, data) = torrent(2_000_000, PIECE);
    let mut w = World::new(7);
    let (s, _) = w.seed(slow(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.run(3 * SECOND);
    w.nodes[l].engine.save_all(w.now);
    w.run(SECOND);
    let flushed = saved(&w, l, id).bytes("durable");
    w.run(2 * SECOND);
    w.nodes[l].flush_error = Some(OpErrorKind::Io);
    w.nodes[l].engine.save_all(w.now);
    assert!(w.run_until(SECOND, |w| matches!(state(w, l, id), State::Failed(_))));
    w.run(SECOND);
    let record = saved(&w, l, id);
    assert_eq!(record.bytes("durable"), flushed);
    assert_eq!(record.bytes("have"), flushed, "a kill believes no more");
    // The system drops the pages that it could not write, and is well again.
    w.nodes[l].flush_error = None;
    let pieces = Bitfield::from_wire(&flushed, info.piece_count()).unwrap();
    let store = w.nodes[l].stores.get_mut(&id).unwrap();
    for piece in (0..info.piece_count()).filter(|p| !pieces.get(*p)) {
        let at = info.piece_offset(piece) as usize;
        store.data[at..at + info.piece_size(piece) as usize].fill(0);
    }
    assert!(w.run_until(5 * MINUTE, |w| w.has(l, id, &data)));
    w.run(SECOND);
    let durable = saved(&w, l, id).pieces("durable", &info);
    assert_eq!(durable, info.piece_count());
}

#[test]
fn a_flush_that_fails_for_ever_is_not_asked_for_without_end() {
    let (info, data) = torrent(2_000_000, PIECE);
    let mut w = World::new(8);
    let (s, _) = w.seed(slow(), &info, &data);
    let (l, _) = w.leech(Config::default(), &info, &[s]);
    w.run(3 * SECOND);
    w.nodes[l].flush_error = Some(OpErrorKind::Io);
    w.nodes[l].engine.save_all(w.now);
    w.run(10 * MINUTE);
    assert!(w.nodes[l].flushes < 40, "{} flushes", w.nodes[l].flushes);
    stop(&mut w, l);
}

#[test]
fn a_record_that_was_not_saved_is_saved_when_it_can_be_but_not_at_once() {
    let (info, data) = torrent(500_000, PIECE);
    for paused in [false, true] {
        let mut w = World::new(9);
        let (s, id) = w.seed(Config::default(), &info, &data);
        w.nodes[s].save_error = Some(OpErrorKind::NoSpace);
        if paused {
            w.nodes[s].engine.pause(w.now, id);
        }
        w.run(5 * MINUTE);
        assert!(!w.nodes[s].saved.contains_key(&id));
        assert!(w.nodes[s].saves < 10, "{} saves", w.nodes[s].saves);
        w.nodes[s].save_error = None;
        w.run(2 * MINUTE);
        let record = saved(&w, s, id);
        assert_eq!(record.pieces("have", &info), info.piece_count());
    }
}

#[test]
fn a_short_session_does_not_forget_what_an_earlier_one_flushed() {
    let (info, data) = torrent(500_000, PIECE);
    let mut w = World::new(10);
    let (s, id) = w.seed(booted(1), &info, &data);
    w.run(2 * MINUTE);
    assert_eq!(
        saved(&w, s, id).pieces("durable", &info),
        info.piece_count()
    );
    for _ in 0..2 {
        stop(&mut w, s);
        w.restart(s, booted(1));
        again(&mut w, s, &info, &[]);
        w.run(SECOND);
    }
    stop(&mut w, s);
    // After a loss of power all of it is believed.
    w.restart(s, booted(2));
    w.nodes[s].disk_delay = SECOND;
    let id = again(&mut w, s, &info, &[]);
    // Opened and claimed, with no time to hash.
    w.run(2 * SECOND + SECOND / 2);
    assert_eq!(state(&w, s, id), State::Seeding);
}

#[test]
fn pieces_that_no_flush_covered_are_hashed_after_another_boot() {
    let (info, data) = torrent(500_000, PIECE);
    let mut w = World::new(11);
    let (s, id) = w.seed(booted(1), &info, &data);
    w.run(SECOND);
    stop(&mut w, s);
    assert_eq!(saved(&w, s, id).pieces("durable", &info), 0);
    w.restart(s, booted(2));
    w.nodes[s].disk_delay = SECOND;
    let id = again(&mut w, s, &info, &[]);
    w.run(SECOND + SECOND / 2);
    assert!(matches!(state(&w, s, id), State::Checking { .. }));
}

/// Stops in the middle of a piece, so that some of its blocks are on the disk.
fn half_a_piece(w: &mut World) -> (Arc<Info>, Vec<u8>, usize, usize) {
    let (info, data) = torrent(4 << 20, 1 << 20);
    let (s, _) = w.seed(slow(), &info, &data);
    let (l, id) = w.leech(booted(1), &info, &[s]);
    w.run(3 * SECOND);
    stop(w, l);
    let partial = saved(w, l, id).0.list(b"partial").unwrap().iter().count();
    assert!(partial > 0);
    (info, data, s, l)
}

fn failed_pieces(w: &World, n: usize) -> usize {
    let failed =
        |e: &&Event| matches!(e, Event::Notice(n) if matches!(n.what, What::PieceFailed(_)));
    w.nodes[n].events.iter().filter(failed).count()
}

#[test]
fn blocks_of_a_partial_piece_are_believed_only_if_its_file_is_as_it_was() {
    for changed in [false, true] {
        let mut w = World::new(12);
        let (info, data, s, l) = half_a_piece(&mut w);
        w.restart(l, booted(1));
        if changed {
            let shelf = w.nodes[l].shelf.values_mut().next().unwrap();
            shelf.mtime += 1;
            shelf.data.fill(7);
        }
        let id = again(&mut w, l, &info, &[s]);
        assert!(w.run_until(5 * MINUTE, |w| w.has(l, id, &data)));
        assert_eq!(failed_pieces(&w, l), 0, "no peer is suspected");
        let fetched = w.nodes[l]
            .engine
            .torrent(id)
            .unwrap()
            .status(w.now)
            .downloaded;
        assert_eq!(fetched == 4 << 20, changed, "{fetched}");
    }
}

#[test]
fn blocks_of_a_partial_piece_that_were_not_flushed_are_not_believed_after_another_boot() {
    let mut w = World::new(13);
    let (info, data, s, l) = half_a_piece(&mut w);
    w.restart(l, booted(2));
    // The length and time of the file reached the medium, its content did not.
    w.nodes[l].shelf.values_mut().next().unwrap().data.fill(0);
    let id = again(&mut w, l, &info, &[s]);
    assert!(w.run_until(5 * MINUTE, |w| w.has(l, id, &data)));
    assert_eq!(failed_pieces(&w, l), 0);
}
