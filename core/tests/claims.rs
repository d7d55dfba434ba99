//! Whose files they are: what exists is claimed before it is written to, confirmed before it is
//! called complete, and looked at again when it is gone.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::time::Duration;

use common::commands::Commands;
use common::{Store, World, add, torrent};
use dunlin_core::engine::{AddTorrent, Event, Existing, Level, Notice, Source, State, What};
use dunlin_core::op::Claim;
use dunlin_core::{Config, OpErrorKind, TorrentId};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn state(w: &World, n: usize, id: TorrentId) -> State {
    w.nodes[n].engine.torrent(id).unwrap().status(w.now).state
}

/// What was said of the disk.
fn told(w: &World, n: usize, at_least: Level) -> Vec<String> {
    let told = w.nodes[n].events.iter().filter_map(|event| match event {
        Event::Notice(Notice {
            level,
            what: What::Disk { message },
            ..
        }) if *level >= at_least => Some(message.clone()),
        _ => None,
    });
    told.collect()
}

/// The torrent rests, because a file is in its way.
fn assert_refused(w: &World, n: usize, id: TorrentId) {
    let state = state(w, n, id);
    let refused = matches!(&state, State::Failed(e) if e.kind == OpErrorKind::Exists);
    assert!(refused, "{state:?}");
}

/// A file that is not the torrent's, at the path of the torrent's file.
fn foreign(w: &mut World, n: usize, info: &dunlin_core::metainfo::Info, len: usize) {
    let store = Store {
        data: vec![0x55; len],
        exists: true,
        mtime: 9,
        foreign: true,
        ..Store::default()
    };
    w.nodes[n].shelf.insert(info.info_hash().0, store);
}

#[test]
fn what_is_not_ours_is_refused_once_before_the_first_byte() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(1);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    foreign(&mut w, l, &info, data.len());
    let peers = vec![w.nodes[s].addr];
    let torrent = AddTorrent {
        peers,
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
    w.run(10 * MINUTE);
    assert_refused(&w, l, id);
    assert_eq!(w.nodes[l].bytes_written, 0);
    assert_eq!(w.nodes[l].claims, [Claim::Write], "it is not tried again");
    assert_eq!(told(&w, l, Level::Error).len(), 1);
    // Nor when it is asked to, while the file is there.
    w.nodes[l].engine.resume(w.now, id);
    w.run(MINUTE);
    assert_refused(&w, l, id);
    assert_eq!(told(&w, l, Level::Error).len(), 2);
    // Somebody moved it away.
    w.nodes[l].stores.get_mut(&id).unwrap().gone = true;
    w.nodes[l].shelf.clear();
    w.nodes[l].engine.resume(w.now, id);
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
}

#[test]
fn who_insists_overwrites() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(2);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    foreign(&mut w, l, &info, data.len());
    let torrent = AddTorrent {
        peers: vec![w.nodes[s].addr],
        existing: Existing::Overwrite,
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
    assert_eq!(w.nodes[l].claims, [Claim::Overwrite]);
}

#[test]
fn a_piece_that_passes_does_not_make_the_rest_of_the_file_ours() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(3);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    foreign(&mut w, l, &info, data.len());
    let store = w.nodes[l].shelf.get_mut(&info.info_hash().0).unwrap();
    store.data[64 << 10..128 << 10].copy_from_slice(&data[64 << 10..128 << 10]);
    let before = store.data.clone();
    let torrent = AddTorrent {
        peers: vec![w.nodes[s].addr],
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
    w.run(MINUTE);
    assert_refused(&w, l, id);
    assert_eq!(w.nodes[l].bytes_written, 0);
    assert!(w.nodes[l].stores[&id].data == before);
}

#[test]
fn a_download_of_another_program_is_gone_on_with() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(3);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    foreign(&mut w, l, &info, data.len());
    let store = w.nodes[l].shelf.get_mut(&info.info_hash().0).unwrap();
    store.data.fill(0);
    store.data[64 << 10..128 << 10].copy_from_slice(&data[64 << 10..128 << 10]);
    let torrent = AddTorrent {
        peers: vec![w.nodes[s].addr],
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
    assert_eq!(w.nodes[l].bytes_written, data.len() as u64 - (64 << 10));
}

#[test]
fn what_the_user_changed_in_a_complete_file_is_not_put_back() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(4);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| {
        w.has(l, id, &data) && w.nodes[l].saved.contains_key(&id)
    }));
    w.run(MINUTE);
    w.restart(l, Config::default());
    let store = w.nodes[l].shelf.get_mut(&info.info_hash().0).unwrap();
    store.data[..10].fill(0x55);
    store.mtime += 1;
    store.foreign = true;
    let before = store.data.clone();
    let torrent = AddTorrent {
        resume: w.nodes[l].saved.get(&id).cloned(),
        peers: vec![w.nodes[s].addr],
        ..add(Source::Info(info))
    };
    let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
    w.run(MINUTE);
    assert_refused(&w, l, id);
    assert!(w.nodes[l].stores[&id].data == before);
}

/// A download is killed some time after it was flushed, where files have no numbers. What was flushed tells whether the
/// file is the one that it was writing.
#[test]
fn without_file_numbers_what_was_flushed_tells_whose_an_unfinished_file_is() {
    for replaced in [false, true] {
        let (info, data) = torrent(2_000_000, 64 << 10);
        let mut w = World::new(7);
        let slow = Config {
            limit_up: Some(200_000),
            ..Config::default()
        };
        let (s, _) = w.seed(slow, &info, &data);
        let l = w.node(Config::default());
        let empty = Store {
            no_ids: true,
            ..Store::default()
        };
        w.nodes[l].shelf.insert(info.info_hash().0, empty);
        let torrent = AddTorrent {
            peers: vec![w.nodes[s].addr],
            ..add(Source::Info(info.clone()))
        };
        let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
        w.run(3 * SECOND);
        w.nodes[l].engine.save_all(w.now);
        w.run(3 * SECOND);
        w.restart(l, Config::default());
        let store = w.nodes[l].shelf.get_mut(&info.info_hash().0).unwrap();
        assert!(store.exists);
        store.mtime += 1;
        store.foreign = true;
        // A block of a piece that was not complete.
        store.data[1_900_000..1_910_000].copy_from_slice(&data[1_900_000..1_910_000]);
        if replaced {
            store.data[..1_000_000].fill(0x55);
        }
        let before = store.data.clone();
        let torrent = AddTorrent {
            resume: w.nodes[l].saved.get(&id).cloned(),
            peers: vec![w.nodes[s].addr],
            ..add(Source::Info(info.clone()))
        };
        let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
        w.run(MINUTE);
        if replaced {
            assert_refused(&w, l, id);
            assert!(w.nodes[l].stores[&id].data == before);
        } else {
            assert!(w.has(l, id, &data), "{:?}", state(&w, l, id));
        }
    }
}

#[test]
fn a_complete_torrent_claims_its_files_to_read_them() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(4);
    let (s, id) = w.seed(Config::default(), &info, &data);
    assert!(w.run_until(MINUTE, |w| state(w, s, id) == State::Seeding));
    assert_eq!(w.nodes[s].claims, [Claim::Read]);
}

#[test]
fn where_nothing_may_be_written_what_is_there_is_shared_and_the_rest_waited_for() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(5);
    let (full, _) = w.seed(Config::default(), &info, &data);
    let half = w.node(Config::default());
    let mut part = data.clone();
    part[500_000..].fill(0);
    w.put(half, &info, part);
    let torrent = AddTorrent {
        peers: vec![w.nodes[full].addr],
        existing: Existing::ReadOnly,
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[half].engine.add(w.now, torrent).unwrap();
    let (l, lid) = w.leech(Config::default(), &info, &[half]);
    assert!(w.run_until(MINUTE, |w| {
        w.nodes[l]
            .engine
            .torrent(lid)
            .map(|t| t.status(w.now))
            .is_some_and(|t| t.pieces_done == 7)
    }));
    w.run(MINUTE);
    assert_eq!(w.nodes[half].bytes_written, 0);
    assert_eq!(w.nodes[half].claims, [Claim::Read]);
    let status = w.nodes[half].engine.torrent(id).unwrap().status(w.now);
    assert_eq!(status.pieces_done, 7);
    assert!(status.wanted > status.wanted_done);
    // Somebody puts the rest there.
    let store = w.nodes[half].stores.get_mut(&id).unwrap();
    store.data.copy_from_slice(&data);
    store.mtime += 1;
    assert!(w.run_until(5 * MINUTE, |w| w.has(l, lid, &data)));
    assert_eq!(w.nodes[half].bytes_written, 0);
}

#[test]
fn a_file_that_vanishes_under_a_seed_is_said_once_and_fetched_again() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(6);
    let (other, _) = w.seed(Config::default(), &info, &data);
    let (s, id) = w.seed(Config::default(), &info, &data);
    assert!(w.run_until(MINUTE, |w| state(w, s, id) == State::Seeding));
    let served = w.nodes[s]
        .engine
        .torrent(id)
        .unwrap()
        .status(w.now)
        .uploaded;
    w.nodes[s].stores.get_mut(&id).unwrap().gone = true;
    w.nodes[s].shelf.clear();
    let (l, lid) = w.leech(Config::default(), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| {
        let t = w.nodes[s].engine.torrent(id).unwrap().status(w.now);
        t.state == State::Downloading && t.pieces_done == 0
    }));
    assert_eq!(
        w.nodes[s]
            .engine
            .torrent(id)
            .unwrap()
            .status(w.now)
            .uploaded,
        served
    );
    for _ in 0..100 {
        w.run(Duration::from_secs(3));
        assert_eq!(state(&w, s, id), State::Downloading);
    }
    let said = told(&w, s, Level::Warning);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("payload.bin"), "{said:?}");
    let there = w.nodes[other].addr;
    w.nodes[s].engine.add_peers(w.now, id, &[there]);
    assert!(w.run_until(10 * MINUTE, |w| w.has(s, id, &data) && w.has(l, lid, &data)));
}

#[test]
fn a_file_that_is_gone_before_the_last_piece_is_not_called_complete() {
    for seed in 0..20 {
        let (info, data) = torrent(1_000_000, 64 << 10);
        let mut w = World::new(seed);
        let slow = Config {
            limit_up: Some(300_000),
            ..Config::default()
        };
        let (s, _) = w.seed(slow, &info, &data);
        let often = Config {
            save_interval: Duration::from_millis(700 + 100 * seed),
            ..Config::default()
        };
        let (l, id) = w.leech(often, &info, &[s]);
        w.run(Duration::from_millis(500 + 130 * seed));
        w.nodes[l].stores.get_mut(&id).unwrap().gone = true;
        w.nodes[l].shelf.clear();
        let mut finished = false;
        assert!(w.run_until(5 * MINUTE, |w| {
            let done = w.nodes[l].events.iter().any(
                |event| matches!(event, Event::Notice(notice) if notice.what == What::Finished),
            );
            finished |= done;
            assert!(
                !done || !w.nodes[l].stores[&id].gone,
                "complete without a file"
            );
            done && w.has(l, id, &data)
        }));
        assert!(finished);
        let said = told(&w, l, Level::Warning);
        assert_eq!(said.len(), 1, "{said:?}");
    }
}

#[test]
fn what_becomes_wanted_is_claimed_for_writing() {
    use dunlin_core::engine::FilePriority;
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(8);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    let torrent = AddTorrent {
        peers: vec![w.nodes[s].addr],
        priorities: vec![FilePriority::Skip],
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[l].engine.add(w.now, torrent).unwrap();
    w.run(Duration::from_secs(5));
    assert_eq!(w.nodes[l].claims, [Claim::Read]);
    let all = [FilePriority::Normal];
    w.nodes[l].engine.set_priorities(w.now, id, &all);
    assert!(w.run_until(5 * MINUTE, |w| w.has(l, id, &data)));
    assert_eq!(w.nodes[l].claims, [Claim::Read, Claim::Write]);
}
