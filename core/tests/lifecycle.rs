//! Torrents that are paused, fail, are checked again or change their selection in the middle of a transfer.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::time::Duration;

use common::commands::Commands;
use common::{World, add, torrent};
use dunlin_core::engine::{AddTorrent, DISK_RETRY, Event, FilePriority, Source, State, What};
use dunlin_core::{Config, OpErrorKind};

const MINUTE: Duration = Duration::from_secs(60);

fn slow() -> Config {
    Config {
        limit_up: Some(200_000),
        ..Config::default()
    }
}

#[test]
fn a_recheck_in_the_middle_lets_peers_go_and_gets_them_back_soon() {
    let (info, data) = torrent(2_000_000, 64 << 10);
    let mut w = World::new(1);
    let (s, _) = w.seed(slow(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.run(Duration::from_secs(3));
    w.nodes[l].engine.recheck(w.now, id);
    w.nodes[l].engine.audit().unwrap();
    let status = w.nodes[l].engine.status(w.now);
    assert_eq!((status.connections, status.half_open), (0, 0));
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
}

#[test]
fn a_torrent_that_is_removed_connects_to_nobody_on_its_way_out() {
    let (info, data) = torrent(2_000_000, 64 << 10);
    let mut w = World::new(2);
    let (s, _) = w.seed(slow(), &info, &data);
    let tight = Config {
        max_connections_per_torrent: 1,
        ..Config::default()
    };
    let (l, id) = w.leech(tight, &info, &[s]);
    w.run(Duration::from_secs(2));
    let more = ["10.3.3.3:3".parse().unwrap(), "10.3.3.4:3".parse().unwrap()];
    w.nodes[l].engine.add_peers(w.now, id, &more);
    w.run(Duration::from_secs(1));
    w.nodes[l].engine.remove(w.now, id, false);
    assert_eq!(w.nodes[l].engine.status(w.now).connections, 0);
    w.nodes[l].engine.audit().unwrap();
    assert!(w.run_until(MINUTE, |w| w.nodes[l].events.contains(&Event::Removed(id))));
}

#[test]
fn a_check_goes_on_when_its_torrent_is_paused() {
    let (info, data) = torrent(2_000_000, 16 << 10);
    let mut w = World::new(3);
    let narrow = Config {
        max_jobs: 2,
        ..Config::default()
    };
    let (s, id) = w.seed(narrow, &info, &data);
    w.nodes[s].disk_delay = Duration::from_millis(10);
    w.run(Duration::from_millis(100));
    let state = |w: &World| w.nodes[s].engine.torrent(id).unwrap().status(w.now).state;
    assert!(matches!(state(&w), State::Checking { .. }));
    w.nodes[s].engine.pause(w.now, id);
    assert!(w.run_until(MINUTE, |w| state(w) == State::Paused));
    w.nodes[s].engine.resume(w.now, id);
    assert_eq!(state(&w), State::Seeding);
}

#[test]
fn a_pause_while_checking_leaves_the_last_record_alone() {
    let (info, data) = torrent(1_000_000, 16 << 10);
    let mut w = World::new(4);
    let (s, id) = w.seed(Config::default(), &info, &data);
    w.nodes[s].disk_delay = Duration::from_millis(10);
    w.run(Duration::from_millis(15));
    w.nodes[s].engine.pause(w.now, id);
    assert!(!w.run_until(Duration::from_millis(5), |w| !w.nodes[s].saved.is_empty()));
}

#[test]
fn a_disk_that_cannot_flush_is_not_asked_without_end() {
    let (info, data) = torrent(2_000_000, 64 << 10);
    let mut w = World::new(5);
    let (s, _) = w.seed(slow(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.run(Duration::from_secs(2));
    w.nodes[l].disk_error = Some(OpErrorKind::Io);
    w.run(Duration::from_secs(25));
    assert!(w.nodes[l].flushes < 10, "{} flushes", w.nodes[l].flushes);
    w.nodes[l].disk_error = None;
    assert!(
        w.run_until(2 * MINUTE, |w| w.has(l, id, &data)),
        "peers come back soon after a disk error"
    );
}

#[test]
fn an_error_that_comes_back_after_the_disk_has_worked_is_said_again() {
    let (info, data) = torrent(20_000_000, 64 << 10);
    let mut w = World::new(5);
    let (s, _) = w.seed(slow(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    let said = |w: &World| {
        let of_disk = |event: &&Event| matches!(event, Event::Notice(notice) if matches!(notice.what, What::Disk { .. }));
        w.nodes[l].events.iter().filter(of_disk).count()
    };
    w.run(Duration::from_secs(2));
    w.nodes[l].write_error = Some(OpErrorKind::NoSpace);
    w.run(Duration::from_secs(2 * DISK_RETRY.as_secs() + 5));
    assert_eq!(said(&w), 1, "it is the same error all the time");
    w.nodes[l].write_error = None;
    w.run(DISK_RETRY + Duration::from_secs(10));
    assert!(!w.has(l, id, &data));
    w.nodes[l].write_error = Some(OpErrorKind::NoSpace);
    w.run(Duration::from_secs(10));
    assert_eq!(said(&w), 2);
}

#[test]
fn what_was_skipped_is_fetched_from_the_seed_that_was_let_go() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(6);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.nodes[l]
        .engine
        .set_priorities(w.now, id, &[FilePriority::Skip]);
    w.run(MINUTE);
    assert!(!w.has(l, id, &data));
    w.nodes[l]
        .engine
        .set_priorities(w.now, id, &[FilePriority::Normal]);
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
}

#[test]
fn a_magnet_counts_peers_that_connect_while_its_files_are_opened() {
    for seed in 0..10 {
        let (info, data) = torrent(300_000, 16 << 10);
        let mut w = World::new(seed);
        let seeds: Vec<usize> = (0..3)
            .map(|_| w.seed(Config::default(), &info, &data).0)
            .collect();
        let l = w.node(Config::default());
        w.nodes[l].disk_delay = Duration::from_millis(40);
        let magnet = AddTorrent {
            peers: vec![w.nodes[seeds[0]].addr],
            ..add(Source::Hash {
                info_hash: info.info_hash(),
                name: None,
            })
        };
        let id = w.nodes[l].engine.add(w.now, magnet).unwrap();
        w.run(Duration::from_millis(20 + 6 * seed));
        let others = [w.nodes[seeds[1]].addr, w.nodes[seeds[2]].addr];
        w.nodes[l].engine.add_peers(w.now, id, &others);
        for _ in 0..200 {
            w.run(Duration::from_millis(5));
            w.nodes[l].engine.audit().unwrap();
        }
        assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
    }
}

#[test]
fn a_shutdown_in_any_phase_ends() {
    for ms in (0..120).step_by(3) {
        let (info, data) = torrent(500_000, 16 << 10);
        let mut w = World::new(ms);
        let (s, _) = w.seed(Config::default(), &info, &data);
        let (l, _) = w.leech(Config::default(), &info, &[s]);
        for n in [s, l] {
            w.nodes[n].disk_delay = Duration::from_millis(ms % 25);
        }
        w.run(Duration::from_millis(ms));
        for n in [s, l] {
            w.nodes[n].engine.shutdown(w.now);
        }
        w.run(MINUTE);
        for n in [s, l] {
            assert!(w.nodes[n].events.contains(&Event::Stopped), "{ms} ms");
            assert!(w.nodes[n].open_ops.is_empty(), "{:?}", w.nodes[n].open_ops);
            assert_eq!(w.nodes[n].engine.status(w.now).blocks_lent, 0);
        }
    }
}

/// Somebody has to move it away first: a retry would only repeat itself.
#[test]
fn what_is_in_the_way_of_a_file_is_not_tried_again_before_somebody_says_so() {
    for kind in [
        OpErrorKind::Exists,
        OpErrorKind::InUse,
        OpErrorKind::NotAFile,
    ] {
        let (info, data) = torrent(2_000_000, 64 << 10);
        let mut w = World::new(7);
        let (s, _) = w.seed(slow(), &info, &data);
        let (l, id) = w.leech(Config::default(), &info, &[s]);
        w.run(Duration::from_secs(2));
        w.nodes[l].disk_error = Some(kind);
        w.run(10 * MINUTE);
        w.nodes[l].disk_error = None;
        w.run(10 * MINUTE);
        let state = w.nodes[l].engine.torrent(id).unwrap().status(w.now).state;
        assert!(
            matches!(&state, State::Failed(e) if e.kind == kind),
            "{state:?}"
        );
        w.nodes[l].engine.resume(w.now, id);
        assert!(w.run_until(2 * MINUTE, |w| w.has(l, id, &data)), "{kind:?}");
    }
}
