//! Swarms in memory: real engines exchange real torrents under virtual time.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::{sync::Arc, time::Duration};

use common::commands::Commands;
use common::{World, add, torrent};
use dunlin_core::engine::{AddTorrent, FilePriority, Scope, Source, State};
use dunlin_core::metainfo::Info;
use dunlin_core::{Config, EncryptionPolicy, OpErrorKind, TorrentId};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn one_leech_fetches_from_one_seed() {
    let (info, data) = torrent(3_000_000, 256 << 10);
    let mut w = World::new(1);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    assert!(
        w.run_until(MINUTE, |w| w.has(l, id, &data)),
        "{:?}",
        w.nodes[l].engine.torrent(id).map(|t| t.status(w.now))
    );
    assert_eq!(
        w.nodes[l].bytes_written,
        data.len() as u64,
        "every byte is written once"
    );
    w.run(MINUTE);
    assert_eq!(
        w.nodes[l].engine.status(w.now).blocks_lent,
        0,
        "law 1: all blocks are home"
    );
    assert_eq!(w.nodes[s].engine.status(w.now).blocks_lent, 0);
}

#[test]
fn every_encryption_policy_finds_a_common_one_or_none() {
    use EncryptionPolicy::{Allowed, Off, Preferred, Required};
    let (info, data) = torrent(200_000, 64 << 10);
    for ours in [Off, Allowed, Preferred, Required] {
        for theirs in [Off, Allowed, Preferred, Required] {
            let config = |encryption| Config {
                encryption,
                ..Config::default()
            };
            let mut w = World::new(2);
            let (s, _) = w.seed(config(theirs), &info, &data);
            let (l, id) = w.leech(config(ours), &info, &[s]);
            let got = w.run_until(MINUTE, |w| w.has(l, id, &data));
            let can = !matches!((ours, theirs), (Off, Required) | (Required, Off));
            assert_eq!(got, can, "{ours:?} with {theirs:?}");
        }
    }
}

#[test]
fn a_magnet_becomes_a_download() {
    let (info, data) = torrent(1_000_000, 16 << 10);
    let mut w = World::new(3);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    let magnet = AddTorrent {
        peers: vec![w.nodes[s].addr],
        ..add(Source::Hash {
            info_hash: info.info_hash(),
            name: None,
        })
    };
    let id = w.nodes[l].engine.add(w.now, magnet).unwrap();
    assert!(
        w.run_until(MINUTE, |w| w.has(l, id, &data)),
        "{:?}",
        w.nodes[l].engine.torrent(id).map(|t| t.status(w.now))
    );
}

#[test]
fn ten_leeches_share_what_one_seed_sends() {
    let (info, data) = torrent(4_000_000, 64 << 10);
    let mut w = World::new(4);
    // A thin uplink makes sharing worth while.
    let thin = Config {
        limit_up: Some(500_000),
        ..Config::default()
    };
    let (s, sid) = w.seed(thin, &info, &data);
    let mut leeches = Vec::new();
    for _ in 0..10 {
        let mut others: Vec<usize> = leeches.iter().map(|(n, _)| *n).collect();
        others.push(s);
        leeches.push(w.leech(Config::default(), &info, &others));
    }
    let all = |w: &mut World| leeches.iter().all(|(n, id)| w.has(*n, *id, &data));
    assert!(w.run_until(10 * MINUTE, all));
    let sent = w.nodes[s]
        .engine
        .torrent(sid)
        .unwrap()
        .status(w.now)
        .uploaded;
    assert!(
        sent < 4 * data.len() as u64,
        "the seed sent {sent} bytes: the leeches did not share"
    );
}

/// A seed that uploads at twice `rate` bytes per second, and leeches at `rate`, all connected.
fn thin_swarm(
    w: &mut World,
    leeches: u64,
    rate: u64,
    info: &Arc<Info>,
    data: &[u8],
) -> ((usize, TorrentId), Vec<(usize, TorrentId)>) {
    let thin = |rate| Config {
        limit_up: Some(rate),
        ..Config::default()
    };
    let seed = w.seed(thin(2 * rate), info, data);
    let mut all: Vec<(usize, TorrentId)> = Vec::new();
    for _ in 0..leeches {
        let mut others: Vec<usize> = all.iter().map(|(n, _)| *n).collect();
        others.push(seed.0);
        all.push(w.leech(thin(rate), info, &others));
    }
    (seed, all)
}

/// What the leeches have already they get from each other; the seed, whose uplink is as thin, sends
/// what only it has. With pieces that are begun first, whatever they are, this took 1.7 times as
/// long as all uplinks need for all bytes.
#[test]
fn thin_uplinks_are_full_until_all_is_sent() {
    const LEECHES: u64 = 12;
    const RATE: u64 = 200_000;
    let (info, data) = torrent(4 << 20, 64 << 10);
    let mut w = World::new(12);
    let ((s, sid), leeches) = thin_swarm(&mut w, LEECHES, RATE, &info, &data);
    let start = w.now;
    let all = |w: &mut World| leeches.iter().all(|(n, id)| w.has(*n, *id, &data));
    assert!(w.run_until(2 * MINUTE, all));
    let took = w.now.saturating_since(start);
    let bytes = data.len() as u64 * LEECHES;
    let bound = Duration::from_micros(bytes * 1_000_000 / (RATE * (LEECHES + 2)));
    let sent = w.nodes[s]
        .engine
        .torrent(sid)
        .unwrap()
        .status(w.now)
        .uploaded;
    assert!(
        took < bound * 145 / 100,
        "{took:?} where {bound:?} is the bound; the seed sent {sent} bytes of {}",
        data.len()
    );
}

/// A piece that takes a slow uplink seconds is sent as a whole before the next one, so the first leeches
/// can pass it on while the others still wait. When the leeches with a slot shared the uplink block by
/// block, all first pieces were complete at the same time, in the eleventh second.
#[test]
fn pieces_leave_a_thin_uplink_one_after_the_other() {
    const LEECHES: u64 = 8;
    const RATE: u64 = 100_000;
    let (info, data) = torrent(4 << 20, 256 << 10);
    let mut w = World::new(13);
    let (_, leeches) = thin_swarm(&mut w, LEECHES, RATE, &info, &data);
    let start = w.now;
    let begun = |w: &mut World| {
        let one = |(n, id): &&(usize, _)| {
            let status = w.nodes[*n].engine.torrent(*id).map(|t| t.status(w.now));
            status.is_some_and(|t| t.pieces_done > 0)
        };
        leeches.iter().filter(one).count() >= 4
    };
    assert!(w.run_until(MINUTE, begun));
    let took = w.now.saturating_since(start);
    assert!(took < Duration::from_secs(8), "{took:?}");
    let all = |w: &mut World| leeches.iter().all(|(n, id)| w.has(*n, *id, &data));
    assert!(w.run_until(2 * MINUTE, all));
    let took = w.now.saturating_since(start);
    let bytes = data.len() as u64 * LEECHES;
    let bound = Duration::from_micros(bytes * 1_000_000 / (RATE * (LEECHES + 2)));
    assert!(
        took < bound * 135 / 100,
        "{took:?} where {bound:?} is the bound"
    );
}

#[test]
fn a_cut_connection_is_made_again_and_nothing_is_lost() {
    let (info, data) = torrent(8_000_000, 256 << 10);
    let mut w = World::new(5);
    let slow = Config {
        limit_up: Some(1_000_000),
        ..Config::default()
    };
    let (s, _) = w.seed(slow, &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    for _ in 0..3 {
        w.run(Duration::from_secs(1));
        w.cut(l);
    }
    assert!(
        w.run_until(5 * MINUTE, |w| w.has(l, id, &data)),
        "{:?}",
        w.nodes[l].engine.torrent(id).map(|t| t.status(w.now))
    );
}

#[test]
fn a_peer_that_lies_is_found_and_banned() {
    let (info, data) = torrent(2_000_000, 128 << 10);
    let mut bad = data.clone();
    for byte in bad.iter_mut().step_by(20_000) {
        *byte ^= 1;
    }
    let mut w = World::new(6);
    let (good, _) = w.seed(Config::default(), &info, &data);
    let liar = w.node(Config::default());
    w.put(liar, &info, bad);
    let trusting = AddTorrent {
        check: dunlin_core::engine::Check::Nothing,
        ..add(Source::Info(info.clone()))
    };
    w.nodes[liar].engine.add(w.now, trusting).unwrap();
    let (l, id) = w.leech(Config::default(), &info, &[good, liar]);
    assert!(
        w.run_until(5 * MINUTE, |w| w.has(l, id, &data)),
        "{:?}",
        w.nodes[l].engine.torrent(id).map(|t| t.status(w.now))
    );
    let banned = |addr| {
        w.nodes[l].events.iter().any(|e| {
            matches!(e, dunlin_core::engine::Event::Notice(n)
                if n.peer == Some(addr) && n.what == dunlin_core::engine::What::Banned)
        })
    };
    assert!(banned(w.nodes[liar].addr), "the liar got away");
    assert!(!banned(w.nodes[good].addr), "the honest seed was blamed");
}

#[test]
fn a_full_disk_is_reported_and_survived() {
    let (info, data) = torrent(2_000_000, 128 << 10);
    let mut w = World::new(7);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.nodes[l].disk_error = Some(OpErrorKind::NoSpace);
    let failed = |w: &mut World| matches!(w.nodes[l].engine.torrent(id).unwrap().status(w.now).state, State::Failed(ref e) if e.kind == OpErrorKind::NoSpace);
    assert!(w.run_until(MINUTE, failed));
    w.nodes[l].disk_error = None;
    assert!(
        w.run_until(5 * MINUTE, |w| w.has(l, id, &data)),
        "it goes on by itself once there is room"
    );
}

#[test]
fn a_restart_trusts_its_record_and_fetches_only_the_rest() {
    let (info, data) = torrent(4_000_000, 128 << 10);
    let mut w = World::new(8);
    let slow = Config {
        limit_up: Some(500_000),
        ..Config::default()
    };
    let (s, _) = w.seed(slow, &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.run(Duration::from_secs(4));
    let before = w.nodes[l].engine.torrent(id).unwrap().status(w.now);
    assert!(
        before.pieces_done > 3 && before.pieces_done < before.pieces,
        "{before:?}"
    );
    w.nodes[l].engine.shutdown(w.now);
    assert!(w.run_until(MINUTE, |w| {
        w.nodes[l]
            .events
            .contains(&dunlin_core::engine::Event::Stopped)
    }));
    assert!(
        w.nodes[l].open_ops.is_empty(),
        "law 1: {:?}",
        w.nodes[l].open_ops
    );

    let n = w.node(Config::default());
    w.nodes[n].shelf = w.nodes[l].shelf.clone();
    let again = AddTorrent {
        resume: w.nodes[l].saved.get(&id).cloned(),
        peers: vec![w.nodes[s].addr],
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[n].engine.add(w.now, again).unwrap();
    let fetched = before.downloaded;
    assert!(w.run_until(MINUTE, |w| w.has(n, id, &data)));
    let after = w.nodes[n].engine.torrent(id).unwrap().status(w.now);
    let twice = fetched + after.downloaded - data.len() as u64;
    assert!(twice < 300_000, "{twice} bytes were fetched twice");
    assert_eq!(after.downloaded_ever, fetched + after.downloaded);
}

#[test]
fn a_skipped_file_is_not_fetched_until_wanted() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut w = World::new(9);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    let skipping = AddTorrent {
        peers: vec![w.nodes[s].addr],
        priorities: vec![FilePriority::Skip],
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[l].engine.add(w.now, skipping).unwrap();
    w.run(MINUTE);
    assert_eq!(
        w.nodes[l]
            .engine
            .torrent(id)
            .unwrap()
            .status(w.now)
            .downloaded,
        0
    );
    assert!(
        w.nodes[l]
            .engine
            .set_priorities(w.now, id, &[FilePriority::Normal])
    );
    let seed = w.nodes[s].addr;
    w.nodes[l].engine.add_peers(w.now, id, &[seed]);
    w.nodes[l].engine.resume(w.now, id);
    assert!(
        w.run_until(40 * MINUTE, |w| w.has(l, id, &data)),
        "{:?}",
        w.nodes[l].engine.torrent(id).map(|t| t.status(w.now))
    );
}

#[test]
fn limits_hold_and_zero_stops() {
    let (info, data) = torrent(3_000_000, 64 << 10);
    let mut w = World::new(10);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.nodes[l]
        .engine
        .set_limits(w.now, Scope::Torrent(id), Some(100_000), None);
    w.run(Duration::from_secs(10));
    let got = w.nodes[l]
        .engine
        .torrent(id)
        .unwrap()
        .status(w.now)
        .downloaded;
    assert!(
        (700_000..1_200_000).contains(&got),
        "{got} bytes in 10 s at 100 kB/s"
    );
    w.nodes[l]
        .engine
        .set_limits(w.now, Scope::Global, Some(0), None);
    w.run(Duration::from_secs(2));
    let stopped = w.nodes[l]
        .engine
        .torrent(id)
        .unwrap()
        .status(w.now)
        .downloaded;
    w.run(Duration::from_secs(30));
    assert_eq!(
        w.nodes[l]
            .engine
            .torrent(id)
            .unwrap()
            .status(w.now)
            .downloaded,
        stopped
    );
    w.nodes[l]
        .engine
        .set_limits(w.now, Scope::Global, None, None);
    w.nodes[l]
        .engine
        .set_limits(w.now, Scope::Torrent(id), None, None);
    assert!(w.run_until(5 * MINUTE, |w| w.has(l, id, &data)));
}

#[test]
fn a_pool_of_three_blocks_is_enough() {
    let (info, data) = torrent(500_000, 64 << 10);
    let mut w = World::new(11);
    let (s, _) = w.seed(Config::tiny(), &info, &data);
    let (l, id) = w.leech(Config::tiny(), &info, &[s]);
    assert!(
        w.run_until(5 * MINUTE, |w| w.has(l, id, &data)),
        "{:?}",
        w.nodes[l].engine.torrent(id).map(|t| t.status(w.now))
    );
}
