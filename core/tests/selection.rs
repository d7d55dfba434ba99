//! Files that are wanted or not, and disks that do not follow at once.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::commands::Commands;
use common::{World, add, torrent};
use dunlin_core::engine::{AddTorrent, Event, FilePriority, Source, State, What};
use dunlin_core::metainfo::Info;
use dunlin_core::op::FileStat;
use dunlin_core::{Config, OpErrorKind, TorrentId};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const SKIP: [FilePriority; 1] = [FilePriority::Skip];
const NORMAL: [FilePriority; 1] = [FilePriority::Normal];

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

/// How often it was told that all that is wanted is here.
fn told_done(w: &World, n: usize) -> usize {
    let done = |e: &&Event| matches!(e, Event::Notice(n) if matches!(n.what, What::Finished));
    w.nodes[n].events.iter().filter(done).count()
}

/// Adds a torrent whose only file is not wanted, though its bytes are all there.
fn skipped(w: &mut World, n: usize, info: &Arc<Info>) -> TorrentId {
    let torrent = AddTorrent {
        priorities: SKIP.to_vec(),
        resume: w.nodes[n].saved.values().next_back().cloned(),
        ..add(Source::Info(info.clone()))
    };
    w.nodes[n].engine.add(w.now, torrent).unwrap()
}

#[test]
fn a_selection_that_failed_is_repeated_until_it_is_followed() {
    let (info, data) = torrent(500_000, 64 << 10);
    let mut w = World::new(1);
    let n = w.node(Config::default());
    w.put(n, &info, data);
    let id = skipped(&mut w, n, &info);
    assert!(w.run_until(MINUTE, |w| state(w, n, id) == State::Seeding));
    w.nodes[n].select_error = Some(OpErrorKind::NoSpace);
    w.nodes[n].engine.set_priorities(w.now, id, &NORMAL);
    assert!(w.run_until(SECOND, |w| matches!(state(w, n, id), State::Failed(_))));
    assert!(!w.run_until(5 * MINUTE, |w| state(w, n, id) == State::Seeding));
    let tries = w.nodes[n].selects;
    assert!((5..20).contains(&tries), "{tries}");
    w.nodes[n].select_error = None;
    assert!(w.run_until(MINUTE, |w| state(w, n, id) == State::Seeding));
    assert_eq!(w.nodes[n].selects, tries + 1);
    assert_eq!(pieces_done(&w, n, id), info.piece_count());
}

#[test]
fn nothing_is_done_before_its_files_are_at_their_places() {
    let mut w = World::new(2);
    let (info, data) = torrent(500_000, 64 << 10);
    let slow = Config {
        limit_up: Some(100_000),
        ..Config::default()
    };
    let (s, _) = w.seed(slow, &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| pieces_done(w, l, id) >= 4));
    w.nodes[l].engine.set_priorities(w.now, id, &SKIP);
    w.run(MINUTE);
    assert_eq!(state(&w, l, id), State::Seeding, "all that is wanted");
    let before = told_done(&w, l);
    w.nodes[l].select_delay = Some(MINUTE);
    w.nodes[l].engine.set_priorities(w.now, id, &NORMAL);
    assert!(w.run_until(MINUTE / 2, |w| w.has(l, id, &data)));
    assert_eq!(state(&w, l, id), State::Downloading);
    assert_eq!(told_done(&w, l), before);
    w.run(MINUTE);
    assert_eq!(state(&w, l, id), State::Seeding);
    assert_eq!(told_done(&w, l), before + 1);
}

#[test]
fn a_piece_that_cannot_be_read_for_now_is_not_taken_for_a_missing_one() {
    let (info, data) = torrent(2_000_000, 16 << 10);
    let mut w = World::new(3);
    let (s, id) = w.seed(Config::default(), &info, &data);
    w.nodes[s].disk_delay = Duration::from_millis(20);
    w.run(Duration::from_millis(70));
    let State::Checking { done, total } = state(&w, s, id) else {
        panic!("{:?}", state(&w, s, id));
    };
    assert!(done > 0 && done < total);
    w.nodes[s].hash_error = Some(OpErrorKind::Io);
    assert!(w.run_until(SECOND, |w| matches!(state(w, s, id), State::Failed(_))));
    w.run(5 * MINUTE);
    assert!(matches!(state(&w, s, id), State::Failed(_)));
    w.nodes[s].hash_error = None;
    let hashes = w.nodes[s].hashes;
    assert!(w.run_until(MINUTE, |w| state(w, s, id) == State::Seeding));
    assert_eq!(pieces_done(&w, s, id), info.piece_count());
    let left = total - done;
    assert!(
        w.nodes[s].hashes - hashes <= left,
        "what was hashed stays so"
    );
}

#[test]
fn a_piece_whose_file_ends_early_is_missing_and_no_error() {
    let (info, data) = torrent(500_000, 64 << 10);
    let mut w = World::new(4);
    let (s, id) = w.seed(Config::default(), &info, &data);
    w.nodes[s].hash_error = Some(OpErrorKind::Truncated);
    assert!(w.run_until(MINUTE, |w| state(w, s, id) == State::Downloading));
    assert_eq!(pieces_done(&w, s, id), 0);
}

#[test]
fn bytes_kept_apart_of_a_skipped_file_are_believed_only_while_they_are_there() {
    let (info, data) = torrent(500_000, 64 << 10);
    let apart = |mtime_ns| {
        Some(FileStat {
            len: 500_000,
            mtime_ns,
            id: None,
        })
    };
    let mut w = World::new(5);
    let n = w.node(Config::default());
    w.put(n, &info, data);
    w.nodes[n].apart = Some(apart(1));
    let all = info.piece_count();
    for (now, there, hashed) in [
        // Nothing is known: all of it is hashed.
        (apart(1), all, all),
        // As the record says.
        (apart(1), all, 0),
        // Somebody wrote to it.
        (apart(2), all, all),
        // It is gone.
        (None, 0, 0),
    ] {
        w.nodes[n].apart = Some(now);
        let before = w.nodes[n].hashes;
        let id = skipped(&mut w, n, &info);
        assert!(w.run_until(MINUTE, |w| state(w, n, id) == State::Seeding));
        assert_eq!(pieces_done(&w, n, id), there);
        assert_eq!(w.nodes[n].hashes - before, hashed);
        w.nodes[n].engine.shutdown(w.now);
        assert!(w.run_until(MINUTE, |w| w.nodes[n].events.contains(&Event::Stopped)));
        w.restart(n, Config::default());
    }
}

/// A torrent of a file of one piece and an empty one.
fn with_an_empty_file() -> (Arc<Info>, Vec<u8>) {
    let data = vec![7; 10_000];
    let mut raw = b"d5:filesld6:lengthi10000e4:pathl1:aeed6:lengthi0e4:pathl1:eeee".to_vec();
    raw.extend(b"4:name1:t12:piece lengthi16384e6:pieces20:");
    raw.extend(dunlin_core::hash::sha1(&data));
    raw.push(b'e');
    (Arc::new(Info::from_raw(raw).unwrap()), data)
}

#[test]
fn an_empty_file_that_is_wanted_later_is_asked_for_though_all_is_done() {
    use FilePriority::{Normal, Skip};
    let (info, data) = with_an_empty_file();
    let mut w = World::new(6);
    let n = w.node(Config::default());
    w.put(n, &info, data);
    let torrent = AddTorrent {
        priorities: vec![Normal, Skip],
        ..add(Source::Info(info))
    };
    let id = w.nodes[n].engine.add(w.now, torrent).unwrap();
    w.run(SECOND);
    assert_eq!(state(&w, n, id), State::Seeding);
    let before = w.nodes[n].confirms;
    w.nodes[n]
        .engine
        .set_priorities(w.now, id, &[Normal, Normal]);
    w.run(SECOND);
    assert_eq!(state(&w, n, id), State::Seeding);
    assert!(w.nodes[n].confirms > before, "the disk makes it then");
    assert!(w.nodes[n].confirms < before + 5, "but not again and again");
}

#[test]
fn a_torrent_that_is_done_by_its_priorities_while_it_rests_says_so_when_it_wakes() {
    use FilePriority::{Normal, Skip};
    let (info, data) = torrent(500_000, 64 << 10);
    let slow = Config {
        limit_up: Some(100_000),
        ..Config::default()
    };
    // Paused before or after the change, which may also be taken back meanwhile.
    for (seed, changes) in [&[Skip][..], &[Skip, Normal, Skip], &[Skip, Normal]]
        .iter()
        .enumerate()
    {
        let mut w = World::new(seed as u64);
        let (s, _) = w.seed(slow.clone(), &info, &data);
        let (l, id) = w.leech(Config::default(), &info, &[s]);
        assert!(w.run_until(MINUTE, |w| pieces_done(w, l, id) >= 2));
        w.nodes[l].engine.pause(w.now, id);
        w.run(MINUTE);
        for change in *changes {
            w.nodes[l].engine.set_priorities(w.now, id, &[*change]);
            w.run(SECOND);
        }
        assert_eq!((state(&w, l, id), told_done(&w, l)), (State::Paused, 0));
        w.nodes[l].engine.resume(w.now, id);
        w.run(SECOND);
        let done = changes.last() == Some(&Skip);
        assert_eq!(told_done(&w, l), usize::from(done));
        assert_eq!(state(&w, l, id) == State::Seeding, done);
        // Only once.
        w.nodes[l].engine.pause(w.now, id);
        w.run(SECOND);
        w.nodes[l].engine.resume(w.now, id);
        w.run(SECOND);
        assert_eq!(told_done(&w, l), usize::from(done));
    }
}

#[test]
fn a_piece_with_a_deadline_from_before_the_check_comes_first() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let last = info.piece_count() - 1;
    let slow = Config {
        limit_up: Some(100_000),
        ..Config::default()
    };
    // Set before the files are checked, with the metadata known or not; and before they are
    // checked anew.
    for (seed, magnet, anew) in [(1, false, false), (2, true, false), (3, false, true)] {
        let mut w = World::new(seed);
        let (s, _) = w.seed(slow.clone(), &info, &data);
        let l = w.node(Config::default());
        let source = match magnet {
            true => Source::Hash {
                info_hash: info.info_hash(),
                name: None,
            },
            false => Source::Info(info.clone()),
        };
        let torrent = AddTorrent {
            sequential: true,
            ..add(source)
        };
        let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
        if anew {
            w.run(SECOND);
            assert_eq!(state(&w, l, id), State::Downloading);
        }
        let by = w.now + MINUTE;
        for piece in [last, last - 1] {
            w.nodes[l].engine.set_deadline(w.now, id, piece, Some(by));
        }
        w.nodes[l].engine.set_deadline(w.now, id, last - 1, None);
        if anew {
            w.nodes[l].engine.recheck(w.now, id);
        }
        let peers = [w.nodes[s].addr];
        w.nodes[l].engine.add_peers(w.now, id, &peers);
        assert!(w.run_until(MINUTE, |w| pieces_done(w, l, id) > 0));
        let have: Vec<u32> = w.nodes[l]
            .engine
            .torrent(id)
            .unwrap()
            .have()
            .unwrap()
            .iter()
            .collect();
        assert_eq!(have, [last]);
    }
}
