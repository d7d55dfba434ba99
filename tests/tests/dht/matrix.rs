//! Which clients find which.

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

#[test]
fn every_kind_finds_a_peer_announced_by_every_other_kind() {
    who_finds_whom(&[Client::Libtorrent, Client::Dunlin]);
}

/// rTorrent 0.9.8 announces, but misreads the peers it is told of (its module says how): it is found, and does not find.
///
/// It has a network of its own, because it swaps the bytes of the ports that it stores. Transmission keeps one port for
/// each address, the first that it hears of: it would never reach a peer that rTorrent was the first to tell of.
#[test]
fn every_kind_finds_a_peer_that_rtorrent_announced() {
    who_finds_whom(&[Client::Rtorrent]);
}

/// Clients that announce a torrent each, as Transmission does too, and which of them find the others.
fn who_finds_whom(clients: &[Client]) {
    let began = Instant::now();
    let net = Net::new(Family::V4);
    let mut announced = Vec::new();
    // Kept until the end: they are what is found.
    let mut running = Vec::new();
    for (n, &client) in (0..).zip(clients) {
        let (payload, torrent) = net.torrent(&format!("of {client:?}"), LEN + n);
        let (at, peer) = net.share(client, &payload, &torrent);
        announced.push(Announced {
            client,
            at,
            torrent,
        });
        running.push((payload, peer));
    }
    let (payload, torrent) = net.torrent("of Transmission", LEN + clients.len() as u64);
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

    // Libtorrent is asked before Transmission announces itself for the same torrents, because it answers with the first
    // peers that it hears of. Its nodes are busy with these announces, so it is asked again until it knows.
    for one in &announced {
        let what = format!("libtorrent to find {:?}", one.client);
        until(&what, PATIENCE, || {
            let peers = net.cloud.peers(3, &one.torrent.hex());
            peers.contains(&one.at).then_some(())
        });
    }

    // The order proves which client found which: all announced before Transmission had the torrent, and
    // announce again after 15 minutes at the earliest.
    let folder = net.lab.folder("download");
    let others = || {
        announced
            .iter()
            .filter(|one| one.client != Client::Transmission)
    };
    for one in others() {
        transmission.add(&net.lab, &Source::Magnet(one.torrent.clone()), &folder);
    }
    let mut dialled = Vec::new();
    for one in others() {
        let what = format!("Transmission to find {:?}", one.client);
        let (mut found, mut before) = (false, Vec::new());
        until(&what, PATIENCE, || {
            let peers = transmission.connected(&net.lab, &one.torrent);
            found |= peers
                .iter()
                .any(|peer| peer.address == one.at && !peer.incoming);
            // When it fails, this tells a search that found nobody from a peer that did not serve.
            let now: Vec<_> = peers.iter().map(|peer| peer.address).collect();
            if now != before {
                println!("{:.1?}: {what}: connected to {now:?}", began.elapsed());
                before = now;
            }
            transmission.has(&net.lab, &one.torrent).then_some(())
        });
        dialled.push(found);
    }

    // Dunlin is asked last: each question is a node of its own that is gone when it has its answer. Transmission
    // takes every node that asks into its table, and its searches wait 15 s and more for each that is gone.
    let listen = net.listen();
    for one in &announced {
        let what = format!("Dunlin to find {:?}", one.client);
        until(&what, PATIENCE, || {
            let nodes = net.cloud.nodes();
            let peers = dunlin::get_peers(&net.lab, listen, nodes, &one.torrent.hex());
            peers.contains(&one.at).then_some(())
        });
    }

    println!("| announced by | at | found by libtorrent | Dunlin | Transmission | rTorrent |");
    println!("|---|---|---|---|---|---|");
    let mut dialled = dialled.into_iter();
    for one in &announced {
        let transmission = match one.client {
            Client::Transmission => "itself",
            // It was complete before it was seen to be connected.
            _ if dialled.next() == Some(false) => "fetched",
            _ => "yes",
        };
        println!(
            "| {:?} | {} | yes | yes | {transmission} | cannot |",
            one.client, one.at
        );
    }
    println!("all in {:.1?}", began.elapsed());
    drop(running);
}
