//! The lab itself, proved without Dunlin: real clients move real files through real trackers, and a
//! wrong file is noticed. What fails here is the lab's fault or the peers', not Dunlin's.

use dunlin_tests::lab::{Family, Lab};
use dunlin_tests::peers::{Client, Crypto};
use dunlin_tests::scene::{Announce, Scene};

fn transfer(from: Client, to: Client, scene: Scene) {
    scene.run(&Lab::new(), from, to);
}

#[test]
fn rtorrent_from_libtorrent() {
    transfer(Client::Libtorrent, Client::Rtorrent, Scene::tree());
}

#[test]
fn rtorrent_from_transmission_by_magnet_over_udp() {
    transfer(
        Client::Transmission,
        Client::Rtorrent,
        Scene::tree().magnet().announce(Announce::Udp),
    );
}

/// Without rTorrent: one in 256 of its encrypted handshakes fails (its module says why), and others do not try again soon.
#[test]
fn transmission_from_libtorrent_encrypted() {
    transfer(
        Client::Libtorrent,
        Client::Transmission,
        Scene::tree().crypto(Crypto::Required),
    );
}

#[test]
fn transmission_from_libtorrent_ipv6() {
    transfer(
        Client::Libtorrent,
        Client::Transmission,
        Scene::tree().family(Family::V6),
    );
}

#[test]
fn libtorrent_from_transmission_by_magnet_encrypted() {
    transfer(
        Client::Transmission,
        Client::Libtorrent,
        Scene::tree().magnet().crypto(Crypto::Required),
    );
}

#[test]
fn libtorrent_from_transmission_over_udp() {
    transfer(
        Client::Transmission,
        Client::Libtorrent,
        Scene::tree().announce(Announce::Udp),
    );
}

#[test]
fn libtorrent_from_libtorrent_ipv6_over_udp() {
    transfer(
        Client::Libtorrent,
        Client::Libtorrent,
        Scene::tree().family(Family::V6).announce(Announce::Udp),
    );
}

#[test]
fn libtorrent_from_rtorrent_ipv6() {
    transfer(
        Client::Rtorrent,
        Client::Libtorrent,
        Scene::tree().family(Family::V6),
    );
}

#[test]
fn aria2_from_libtorrent() {
    transfer(Client::Libtorrent, Client::Aria2, Scene::tree());
}
