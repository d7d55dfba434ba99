//! Magnet links without trackers: metadata and payload from peers that only the DHT knows.

use std::time::Instant;

use dunlin_tests::lab::Family;
use dunlin_tests::peers::{Client, Role, Source};
use dunlin_tests::wait::until;

use crate::{Net, PATIENCE};

const LEN: u64 = 3_000_000;

fn fetch(family: Family, from: Client, to: Client) {
    let began = Instant::now();
    let net = Net::new(family);
    let (payload, torrent) = net.torrent("shared", LEN);
    let (at, _seed) = net.share(from, &payload, &torrent);
    net.wait_announced(&format!("{from:?}"), &torrent, at);
    let announced = began.elapsed();

    let dir = net.lab.folder("download");
    let job = net.job(Role::Download, Source::Magnet(torrent), &dir);
    let mut leech = to.start(&net.lab, &job);
    until("the download", PATIENCE, || {
        leech.complete(&net.lab).then_some(())
    });
    payload.assert_same(&dir, false);
    println!(
        "{to:?} from {from:?} by DHT alone: announced after {announced:.1?}, all in {:.1?}",
        began.elapsed()
    );
}

/// No Dunlin in it: what fails here is the lab's fault or the peers'.
#[test]
fn libtorrent_from_rtorrent() {
    fetch(Family::V4, Client::Rtorrent, Client::Libtorrent);
}

/// As above.
#[test]
fn libtorrent_from_libtorrent_ipv6() {
    fetch(Family::V6, Client::Libtorrent, Client::Libtorrent);
}

#[test]
fn dunlin_from_dunlin() {
    fetch(Family::V4, Client::Dunlin, Client::Dunlin);
}

#[test]
fn dunlin_from_libtorrent() {
    fetch(Family::V4, Client::Libtorrent, Client::Dunlin);
}

#[test]
fn dunlin_from_transmission() {
    fetch(Family::V4, Client::Transmission, Client::Dunlin);
}

#[test]
fn dunlin_from_rtorrent() {
    fetch(Family::V4, Client::Rtorrent, Client::Dunlin);
}

#[test]
fn libtorrent_from_dunlin() {
    fetch(Family::V4, Client::Dunlin, Client::Libtorrent);
}

#[test]
fn dunlin_from_libtorrent_ipv6() {
    fetch(Family::V6, Client::Libtorrent, Client::Dunlin);
}

#[test]
fn libtorrent_from_dunlin_ipv6() {
    fetch(Family::V6, Client::Dunlin, Client::Libtorrent);
}
