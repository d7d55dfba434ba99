//! Who finds whom.

use std::net::SocketAddr;
use std::time::Instant;

use dunlin_tests::lab::Family;
use dunlin_tests::payload::Torrent;
use dunlin_tests::peers::transmission::Transmission;
use dunlin_tests::peers::{Client, Role, Source, dunlin};
use dunlin_tests::wait::until;

use crate::{Net, PATIENCE};

/// Bytes of each torrent: little, and at Transmission's pace still long enough to be seen on the way.
const LEN: u64 = 2_000_000;

/// One that announced a torrent of its own.
struct Announced {
    client: Client,
    at: SocketAddr,
    torrent: Torrent,
}

/// rTorrent 0.9.8 announces, but misreads the peers it is told of (its module says how): it is found, and does not find.
#[test]
fn every_kind_finds_a_peer_announced_by_every_other_kind() {
    let began = Instant::now();
    let net = Net::new(Family::V4);
    let mut announced = Vec::new();
    // Kept until the end: they are what is found.
    let mut running = Vec::new();
    for (n, client) in (0..).zip([Client::Rtorrent, Client::Libtorrent, Client::Dunlin]) {
        let (payload, torrent) = net.torrent(&format!("of {client:?}"), LEN + n);
        let (at, peer) = net.share(client, &payload, &torrent);
        announced.push(Announced {
            client,
            at,
            torrent,
        });
        running.push((payload, peer));
    }
    let (payload, torrent) = net.torrent("of Transmission", LEN + 3);
    let job = net.job(Role::Seed, Source::File(torrent.clone()), &payload.root);
    let transmission = Transmission::start(&net.lab, &job);
    net.cloud.meet(&[job.listen]);
    announced.push(Announced {
        client: Client::Transmission,
        at: job.listen,
        torrent,
    });

    for one in &announced {
        net.wait_announced(&format!("{:?}", one.client), &one.torrent, one.at);
        println!(
            "{:?} is announced after {:.1?}",
            one.client,
            began.elapsed()
        );
    }

    // Asked before Transmission announces itself for the same torrents: the first answer names the one peer there is.
    let found = |one: &Announced| {
        let libtorrent = net.cloud.peers(3, &one.torrent.hex()).contains(&one.at);
        let dunlin = dunlin::get_peers(
            &net.lab,
            net.listen(),
            net.cloud.nodes(),
            &one.torrent.hex(),
        );
        let dunlin = dunlin.contains(&one.at);
        (libtorrent, dunlin)
    };
    let found: Vec<(bool, bool)> = announced.iter().map(found).collect();

    // The order proves who found whom: everybody announced before Transmission had the torrent, and
    // announces again after 15 minutes at the earliest.
    let folder = net.lab.folder("download");
    let others = || {
        announced
            .iter()
            .filter(|one| one.client != Client::Transmission)
    };
    for one in others() {
        transmission.add(&net.lab, &Source::Magnet(one.torrent.clone()), &folder);
    }
    println!("| announced by | at | found by libtorrent | Dunlin | Transmission | rTorrent |");
    println!("|---|---|---|---|---|---|");
    let mut missing = Vec::new();
    for (one, (libtorrent, dunlin)) in announced.iter().zip(found) {
        let transmission = (one.client != Client::Transmission).then(|| {
            let mut dialled = false;
            until("Transmission to find the peer", PATIENCE, || {
                let peers = transmission.connected(&net.lab, &one.torrent);
                dialled |= peers
                    .iter()
                    .any(|peer| peer.address == one.at && !peer.incoming);
                transmission.has(&net.lab, &one.torrent).then_some(())
            });
            dialled
        });
        let cell = |found| if found { "yes" } else { "no" };
        println!(
            "| {:?} | {} | {} | {} | {} | cannot |",
            one.client,
            one.at,
            cell(libtorrent),
            cell(dunlin),
            transmission.map_or("itself", |dialled| if dialled { "yes" } else { "fetched" }),
        );
        for (by, found) in [("libtorrent", libtorrent), ("Dunlin", dunlin)] {
            if !found {
                missing.push(format!("{by} did not find {:?}", one.client));
            }
        }
    }
    println!("all in {:.1?}", began.elapsed());
    assert!(missing.is_empty(), "{missing:?}");
    drop(running);
}
