//! Items (BEP 44), samples (BEP 51) and swarm sizes (BEP 33) between Dunlin and libtorrent.

use dunlin_tests::dht::Item;
use dunlin_tests::lab::Family;
use dunlin_tests::peers::dunlin;
use dunlin_tests::wait::until;

use crate::{Net, PATIENCE};

/// Nodes of the network: so few that everyone is among the eight closest to everything, Dunlin too.
const FEW: usize = 6;

#[test]
fn what_libtorrent_stores_dunlin_fetches() {
    let net = Net::with(Family::V4, FEW);
    let (target, stored) = net.cloud.put(1, "kept by libtorrent");
    assert!(stored > 0, "libtorrent stored nothing");
    let value = dunlin::get_item(&net.lab, net.listen(), net.cloud.nodes(), &target, &[]);
    assert_eq!(value.as_deref(), Some("kept by libtorrent"));

    let (key, stored) = net.cloud.put_mutable(1, "salt", "version one");
    assert!(stored > 0, "libtorrent stored nothing");
    let get = || {
        dunlin::get_item(
            &net.lab,
            net.listen(),
            net.cloud.nodes(),
            &key,
            &["--salt", "salt"],
        )
    };
    assert_eq!(get().as_deref(), Some("version one"));
    net.cloud.put_mutable(1, "salt", "version two");
    assert_eq!(get().as_deref(), Some("version two"));
}

#[test]
fn what_dunlin_stores_libtorrent_fetches() {
    let net = Net::with(Family::V4, FEW);
    let target = dunlin::put_item(
        &net.lab,
        net.listen(),
        net.cloud.nodes(),
        "kept by Dunlin",
        &[],
    );
    let found = net.cloud.get(4, &target);
    assert_eq!(found.value.as_deref(), Some("kept by Dunlin"));

    let key_file = net.lab.folder("key").join("key");
    let key = dunlin::make_key(&net.lab, &key_file);
    let path = key_file.to_string_lossy();
    for (seq, value) in [(1, "version one"), (2, "version two")] {
        let number = seq.to_string();
        let more = ["--key", &path, "--salt", "salt", "--seq", &number];
        dunlin::put_item(&net.lab, net.listen(), net.cloud.nodes(), value, &more);
        let found = net.cloud.get_mutable(4, &key, "salt");
        assert_eq!(
            found,
            Item {
                value: Some(value.to_owned()),
                seq: Some(seq)
            }
        );
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
    until("Dunlin to tell of it", PATIENCE, || {
        let peers = dunlin::get_peers(&net.lab, net.listen(), &[at], hash);
        peers.contains(&net.cloud.nodes()[2]).then_some(())
    });
    // And the other way: Dunlin asks libtorrent for samples.
    until("libtorrent's samples", PATIENCE, || {
        let samples = dunlin::sample(&net.lab, net.listen(), net.cloud.nodes()[0]);
        samples.contains(&hash.to_owned()).then_some(())
    });
}

/// libtorrent tells the size of a swarm in bloom filters, of leeches and of seeds.
#[test]
fn libtorrent_tells_dunlin_how_large_a_swarm_is() {
    let net = Net::with(Family::V4, FEW);
    let hash = "00112233445566778899aabbccddeeff00112233";
    let stored = dunlin::announce_seed(&net.lab, net.listen(), net.cloud.nodes(), hash);
    assert!(stored > 0, "Dunlin stored nothing");
    let scrape = || dunlin::scrape(&net.lab, net.listen(), net.cloud.nodes(), hash);
    assert_eq!(scrape(), Some((1, 0)));
    for leech in 1..=3 {
        net.cloud.announce(leech, hash);
    }
    until("three leeches to be counted", PATIENCE, || {
        (scrape() == Some((1, 3))).then_some(())
    });
}
