//! Items (BEP 44), samples (BEP 51) and swarm sizes (BEP 33) between Dunlin and libtorrent.

use dunlin_tests::dht::Item;
use dunlin_tests::lab::Family;
use dunlin_tests::peers::dunlin;
use dunlin_tests::wait::until;

use crate::{Net, PATIENCE};

/// Nodes of the network: so few that everyone is among the eight closest to everything, Dunlin too.
const FEW: usize = 6;

/// libtorrent's nodes answer each other late when the machine is busy, so each of these is asked until it is so. Dunlin asks
/// from one address: nodes take whoever asks into their tables, and one that is gone costs them time.
#[test]
fn what_libtorrent_stores_dunlin_fetches() {
    let net = Net::with(Family::V4, FEW);
    let at = net.listen();
    let target = until("libtorrent to store an item", PATIENCE, || {
        let (target, stored) = net.cloud.put(1, "kept by libtorrent");
        (stored > 0).then_some(target)
    });
    until("Dunlin to fetch it", PATIENCE, || {
        let value = dunlin::get_item(&net.lab, at, net.cloud.nodes(), &target, &[])?;
        assert_eq!(value, "kept by libtorrent");
        Some(())
    });

    for version in ["version one", "version two"] {
        let key = until("libtorrent to store a version", PATIENCE, || {
            let (key, stored) = net.cloud.put_mutable(1, "salt", version);
            (stored > 0).then_some(key)
        });
        until("Dunlin to fetch that version", PATIENCE, || {
            let more = ["--salt", "salt"];
            let value = dunlin::get_item(&net.lab, at, net.cloud.nodes(), &key, &more);
            (value.as_deref() == Some(version)).then_some(())
        });
    }
}

#[test]
fn what_dunlin_stores_libtorrent_fetches() {
    let net = Net::with(Family::V4, FEW);
    let at = net.listen();
    let target = until("Dunlin to store an item", PATIENCE, || {
        dunlin::put_item(&net.lab, at, net.cloud.nodes(), "kept by Dunlin", &[])
    });
    until("libtorrent to fetch it", PATIENCE, || {
        let value = net.cloud.get(4, &target).value?;
        assert_eq!(value, "kept by Dunlin");
        Some(())
    });

    let key_file = net.lab.folder("key").join("key");
    let key = dunlin::make_key(&net.lab, &key_file);
    let path = key_file.to_string_lossy();
    for (seq, value) in [(1, "version one"), (2, "version two")] {
        let number = seq.to_string();
        let more = ["--key", &path, "--salt", "salt", "--seq", &number];
        until("Dunlin to store a version", PATIENCE, || {
            dunlin::put_item(&net.lab, at, net.cloud.nodes(), value, &more)
        });
        let wanted = Item {
            value: Some(value.to_owned()),
            seq: Some(seq),
        };
        until("libtorrent to fetch that version", PATIENCE, || {
            (net.cloud.get_mutable(4, &key, "salt") == wanted).then_some(())
        });
    }
}

/// Dunlin is one of those that keep what libtorrent announces.
#[test]
fn dunlin_keeps_items_and_peers_for_libtorrent_and_tells_samples() {
    let net = Net::with(Family::V4, FEW);
    let at = net.listen();
    let _node = dunlin::node(&net.lab, at, net.cloud.nodes(), &net.lab.folder("session"));
    let hash = "00112233445566778899aabbccddeeff00112233";
    net.cloud.meet(&[at]);
    until(
        "Dunlin to keep a peer of libtorrent's, and to say so",
        PATIENCE,
        || {
            net.cloud.announce(2, hash);
            let (samples, num) = net.cloud.sample(3, at)?;
            (samples == [hash] && num == 1).then_some(())
        },
    );
    let asker = net.listen();
    until("Dunlin to tell of it", PATIENCE, || {
        let peers = dunlin::get_peers(&net.lab, asker, &[at], hash);
        peers.contains(&net.cloud.nodes()[2]).then_some(())
    });
    // And the other way: Dunlin asks libtorrent for samples.
    until("libtorrent's samples", PATIENCE, || {
        let samples = dunlin::sample(&net.lab, asker, net.cloud.nodes()[0]);
        samples.contains(&hash.to_owned()).then_some(())
    });
}

/// libtorrent tells the size of a swarm in bloom filters, of leeches and of seeds.
#[test]
fn libtorrent_tells_dunlin_how_large_a_swarm_is() {
    let net = Net::with(Family::V4, FEW);
    let hash = "00112233445566778899aabbccddeeff00112233";
    let at = net.listen();
    until("Dunlin to announce a seed", PATIENCE, || {
        let stored = dunlin::announce_seed(&net.lab, at, net.cloud.nodes(), hash);
        (stored > 0).then_some(())
    });
    let scrape = || dunlin::scrape(&net.lab, at, net.cloud.nodes(), hash);
    until("the seed to be counted", PATIENCE, || {
        (scrape() == Some((1, 0))).then_some(())
    });
    for leech in 1..=3 {
        net.cloud.announce(leech, hash);
    }
    until("three leeches to be counted", PATIENCE, || {
        (scrape() == Some((1, 3))).then_some(())
    });
}
