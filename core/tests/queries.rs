//! Trackers and name servers that never answer, beside torrents that have work to do.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::time::Duration;

use common::{World, add, torrent};
use dunlin_core::engine::{AddTorrent, Source};
use dunlin_core::http::{HttpRequest, Origin};
use dunlin_core::{Config, InfoHash};

/// Magnets whose trackers do not answer.
const SILENT: u8 = 200;

/// Adds `SILENT` magnets with a tracker each, then lets the engine ask them.
fn ask_in_vain(w: &mut World, n: usize, round: u8, tracker: impl Fn(u8) -> String) {
    w.nodes[n].silent = Some("silent");
    for i in 0..SILENT {
        let source = Source::Hash {
            info_hash: InfoHash(std::array::from_fn(
                |at| if at == 19 { i ^ round } else { i },
            )),
            name: None,
        };
        let magnet = AddTorrent {
            trackers: vec![vec![tracker(i)]],
            ..add(source)
        };
        w.nodes[n].engine.add(w.now, magnet).unwrap();
    }
    w.run(Duration::from_secs(1));
}

/// Adds a torrent that a seed has, with a tracker that answers, and says how long it takes.
fn fetch_beside(w: &mut World, n: usize, tracker: &str) -> Duration {
    let (info, data) = torrent(2_000_000, 64 << 10);
    let (s, _) = w.seed(Config::default(), &info, &data);
    w.nodes[n].http = Some(b"d8:intervali1800e5:peers0:e".to_vec());
    let wanted = AddTorrent {
        peers: vec![w.nodes[s].addr],
        trackers: vec![vec![tracker.into()]],
        ..add(Source::Info(info))
    };
    let id = w.nodes[n].engine.add(w.now, wanted).unwrap();
    let mut time = Duration::ZERO;
    let step = Duration::from_millis(100);
    while !w.has(n, id, &data) {
        assert!(time < Duration::from_secs(300), "never complete");
        w.run(step);
        time += step;
    }
    time
}

#[test]
fn silent_http_trackers_hold_up_neither_the_disk_nor_other_trackers() {
    let mut w = World::new(1);
    let n = w.node(Config {
        max_half_open: 500,
        ..Config::default()
    });
    ask_in_vain(&mut w, n, 0, |i| {
        format!("http://silent{}.example/announce", i % 2)
    });
    let added = w.now;
    let took = fetch_beside(&mut w, n, "http://good.example/announce");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let requested = &w.nodes[n].requested;
    let good = requested.iter().find(|(_, url)| url.contains("good"));
    assert!(
        good.unwrap().0 <= added + Duration::from_secs(1),
        "{good:?}"
    );
    // All of the silent ones get their turn.
    w.run(Duration::from_secs(300));
    let requested = &w.nodes[n].requested;
    for i in 0..SILENT {
        let hash = format!("info_hash={}", format!("%{i:02x}").repeat(20));
        let plain = format!("info_hash={}", char::from(i).to_string().repeat(20));
        let is = |url: &str| {
            url.contains(&hash) || url.contains(&plain) || { url.to_lowercase().contains(&hash) }
        };
        assert!(requested.iter().any(|(_, url)| is(url)), "torrent {i}");
    }
}

/// A UDP tracker that does not answer holds a query for minutes.
#[test]
fn a_silent_udp_tracker_leaves_room_for_the_others() {
    let mut w = World::new(3);
    let n = w.node(Config::default());
    for round in 0..2 {
        ask_in_vain(&mut w, n, round, |_| "udp://10.9.9.9:6969".into());
    }
    let good = "10.8.8.8:6969".parse().unwrap();
    fetch_beside(&mut w, n, &format!("udp://{good}"));
    assert!(w.nodes[n].sent.iter().any(|(_, _, to, _)| *to == good));
}

#[test]
fn silent_name_servers_hold_up_neither_the_disk_nor_http() {
    let mut w = World::new(2);
    let n = w.node(Config::default());
    ask_in_vain(&mut w, n, 0, |i| format!("udp://silent{i}.example:6969"));
    let added = w.now;
    let took = fetch_beside(&mut w, n, "http://good.example/announce");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let good = &w.nodes[n].requested[0];
    assert!(good.0 <= added + Duration::from_secs(1), "{good:?}");
}

#[test]
fn a_range_that_is_fetched_brings_its_blocks_home() {
    let mut w = World::new(6);
    let n = w.node(Config {
        max_requests: 2,
        ..Config::default()
    });
    let request = || HttpRequest {
        url: "http://w.example/content".into(),
        user_agent: String::new(),
        family: None,
        max_body: 0,
        timeout: Duration::from_secs(30),
        origin: Origin::User,
    };
    // Sockets are bound first.
    w.run(Duration::from_secs(1));
    w.nodes[n].most_jobs = 0;
    // More than may be asked at once: the others wait.
    for _ in 0..5 {
        assert!(w.nodes[n].engine.fetch(w.now, request(), 7, 40_000));
    }
    assert_eq!(w.nodes[n].engine.status(w.now).blocks_lent, 15);
    w.run(Duration::from_secs(10));
    assert_eq!(w.nodes[n].most_jobs, 2);
    let status = w.nodes[n].engine.status(w.now);
    assert_eq!((status.jobs, status.blocks_lent), (0, 0));
    let fetched = w.nodes[n].engine.poll_fetched();
    assert_eq!(fetched, Some(Ok(3 * dunlin_core::BLOCK_LEN)));
}
