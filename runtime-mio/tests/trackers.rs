//! Peers that find each other by trackers, and trackers that say nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::{TcpListener, UdpSocket};

use common::{Content, Node, PATIENCE, tracker};

/// Both nodes know nothing but the tracker.
fn meet(tracker: &tracker::Tracker) {
    let content = Content::small();
    let seeder = Node::new();
    let shares = seeder
        .handle
        .add(content.share().trackers([&tracker.url]))
        .unwrap();
    seeder.wait_complete(shares);
    tracker.asked.recv_timeout(PATIENCE).unwrap();
    let fetcher = Node::new();
    let add = content.magnet().trackers([&tracker.url]);
    let torrent = fetcher.handle.add(add).unwrap();
    fetcher.wait_complete(torrent);
    let (dir, _) = fetcher.stop();
    content.assert_copied(dir.path());
    seeder.stop();
}

#[test]
fn peers_meet_by_an_http_tracker_which_hears_of_their_end() {
    let tracker = tracker::http();
    meet(&tracker);
    let asked: Vec<String> = tracker.asked.try_iter().collect();
    let stopped = asked.iter().filter(|q| q.contains("event=stopped"));
    assert_eq!(stopped.count(), 2, "{asked:?}");
    assert!(
        asked.iter().any(|q| q.contains("event=completed")),
        "{asked:?}"
    );
}

#[test]
fn peers_meet_by_a_udp_tracker_which_hears_of_their_end() {
    let tracker = tracker::udp();
    meet(&tracker);
    let asked: Vec<String> = tracker.asked.try_iter().collect();
    // BEP 15: 1 completed, 3 stopped.
    for event in ["event 1", "event 3"] {
        assert!(asked.iter().any(|q| q == event), "{event}: {asked:?}");
    }
}

/// Nothing answers the tracker, so there is nothing to wait for, whatever the limit is.
#[test]
fn a_silent_tracker_does_not_hold_up_the_end() {
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let urls = [
        format!("http://{}/announce", http.local_addr().unwrap()),
        format!("udp://{}/announce", udp.local_addr().unwrap()),
    ];
    let node = Node::with(|c| {
        c.session.engine.stop_timeout = 100 * PATIENCE;
        c.session.engine.announce_to_all = true;
    });
    let content = Content::new(&[1000]);
    node.handle.add(content.add().trackers(urls)).unwrap();
    // Both have been asked, and both have this to answer.
    let _asked = http.accept().unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.recv(&mut [0; 100]).unwrap();
    node.stop();
}

#[test]
fn a_driver_that_does_not_listen_asks_udp_trackers_all_the_same() {
    let tracker = tracker::udp();
    let node = Node::with(|c| c.session.listen.clear());
    let content = Content::new(&[1000]);
    node.handle
        .add(content.add().trackers([&tracker.url]))
        .unwrap();
    assert_eq!(tracker.asked.recv_timeout(PATIENCE).unwrap(), "event 2");
    assert!(node.handle.engine_status().unwrap().listening.is_empty());
    node.stop();
}
