//! PORT messages (BEP 5): peers of a torrent tell each other of their nodes, and that is enough to begin with.

use std::time::Duration;

use dunlin_tests::krpc;
use dunlin_tests::lab::Family;
use dunlin_tests::peers::rtorrent::Rtorrent;
use dunlin_tests::peers::{Client, Job, Role, Source, dunlin};
use dunlin_tests::wait::until;

use crate::{ENOUGH, Net, PATIENCE};

const LEN: u64 = 300_000;

#[test]
fn dunlin_begins_with_the_node_of_a_peer() {
    let net = Net::new(Family::V4);
    let (payload, torrent) = net.torrent("shared", LEN);
    let (at, _seed) = net.share(Client::Libtorrent, &payload, &torrent);
    let job = Job {
        // It knows nobody.
        dht: Some(Vec::new()),
        ..net.job(
            Role::Download,
            Source::File(torrent),
            &net.lab.folder("download"),
        )
    };
    let session = net.lab.folder("session");
    let options = ["--peer", &at.to_string(), "--seed-ratio", "100"];
    let _dunlin = dunlin::spawn(&net.lab, &job, &session, &options);
    let probe = net.listen();
    until("Dunlin to know nodes", PATIENCE, || {
        (krpc::closest(&net.lab, probe, job.listen)? >= ENOUGH).then_some(())
    });
}

#[test]
fn rtorrent_begins_with_the_node_of_dunlin() {
    let net = Net::new(Family::V4);
    let (payload, torrent) = net.torrent("shared", LEN);
    let job = Job {
        dht: Some(Vec::new()),
        ..net.job(
            Role::Download,
            Source::File(torrent.clone()),
            &net.lab.folder("download"),
        )
    };
    let rtorrent = Rtorrent::start(&net.lab, &job);
    assert_eq!(rtorrent.dht("nodes"), Some(0));
    let seed = net.job(Role::Seed, Source::File(torrent), &payload.root);
    let options = ["--peer", &job.listen.to_string()];
    let _dunlin = dunlin::spawn(&net.lab, &seed, &net.lab.folder("session"), &options);
    net.cloud.meet(&[seed.listen]);
    until("rTorrent to know nodes", Duration::from_secs(45), || {
        (rtorrent.dht("nodes")? >= ENOUGH as i64).then_some(())
    });
}
