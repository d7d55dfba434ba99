//! Where the first nodes come from.

use super::*;

#[test]
fn s13_nodes_of_a_torrent_are_tried() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let m = w.node(config(DhtMode::On));
    let with = AddTorrent {
        nodes: vec![host(&w, n)],
        ..magnet(1)
    };
    start(&mut w, m, with);
    assert!(w.run_until(MINUTE, |w| knows(w, m, n)));
}

#[test]
fn s13_nodes_by_name_are_looked_up_again_in_the_next_round() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let m = w.node(config(DhtMode::On));
    let with = AddTorrent {
        nodes: vec!["node.example:6881".parse().unwrap()],
        ..magnet(1)
    };
    start(&mut w, m, with);
    w.run(30 * SECOND);
    assert!(!knows(&w, m, n));
    let ip = w.nodes[n].addr.ip();
    w.nodes[m].names.insert("node.example".into(), ip);
    assert!(w.run_until(2 * MINUTE, |w| knows(w, m, n)));
}

#[test]
fn s13_a_node_may_be_named_by_hand() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let m = w.node(config(DhtMode::On));
    w.run(SECOND);
    let (now, addr) = (w.now, w.nodes[n].addr);
    let engine = &mut w.nodes[m].engine;
    for (text, words) in [
        ("10.0.0.1:0", "Invalid port number."),
        ("10.0.0.1:65536", "Invalid port number."),
        ("10.0.0.1:-1", "Invalid port number."),
        ("10.0.0.1:x", "Could not parse host."),
        (":6881", "Could not parse host."),
        ("", "Could not parse host."),
    ] {
        let refused = engine.dht_add_node(now, text).unwrap_err();
        assert_eq!(refused.to_string(), words, "{text}");
    }
    // The port is 6881 unless it is told.
    engine.dht_add_node(now, &addr.ip().to_string()).unwrap();
    assert!(w.run_until(MINUTE, |w| knows(w, m, n)));
}

#[test]
fn s13_s14_a_peer_that_tells_its_port_is_asked_for_a_sign_of_life() {
    let (info, data) = torrent(100_000, 16 << 10);
    let mut w = World::new(4);
    let (s, _) = w.seed(config(DhtMode::On), &info, &data);
    let (l, id) = w.leech(config(DhtMode::On), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
    assert!(w.run_until(MINUTE, |w| knows(w, l, s)));
}

#[test]
fn s14_who_is_not_active_neither_tells_nor_asks() {
    let (info, data) = torrent(100_000, 16 << 10);
    let mut w = World::new(4);
    let (s, _) = w.seed(config(DhtMode::Off), &info, &data);
    let (l, id) = w.leech(config(DhtMode::On), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
    w.run(MINUTE);
    assert!(!knows(&w, l, s) && !knows(&w, s, l));
    assert!(w.nodes[s].sent.is_empty());
}

/// The bit is set, but the port not told.
#[test]
fn s14_who_answers_nobody_does_not_tell_its_port() {
    let (info, data) = torrent(100_000, 16 << 10);
    let mut w = World::new(4);
    let mut quiet = config(DhtMode::On);
    quiet.dht_config.read_only = ReadOnly::Always;
    let (s, _) = w.seed(quiet, &info, &data);
    let (l, id) = w.leech(config(DhtMode::On), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
    // It asks the other node, which is reachable.
    assert!(w.run_until(MINUTE, |w| knows(w, s, l)));
    w.run(MINUTE);
    assert!(!knows(&w, l, s) && w.nodes[l].engine.dht().and_then(|dht| dht.node()).is_some());
}

#[test]
fn s08_peers_of_a_private_torrent_are_not_told_of_the_node() {
    let data: Vec<u8> = vec![7; 1000];
    let mut builder = Builder::file("private.bin", 1000);
    builder.private = true;
    let hash = dunlin_core::hash::sha1(&data);
    let info = builder.draft().unwrap().finish(&[hash]).unwrap().info;
    let mut w = World::new(4);
    let (s, _) = w.seed(config(DhtMode::On), &info, &data);
    let (l, id) = w.leech(config(DhtMode::On), &info, &[s]);
    assert!(w.run_until(MINUTE, |w| w.has(l, id, &data)));
    w.run(MINUTE);
    assert!(w.nodes[s].sent.is_empty() && w.nodes[l].sent.is_empty());
}

#[test]
fn a_magnet_without_trackers_completes_through_the_dht() {
    let (info, data) = torrent(300_000, 16 << 10);
    let mut w = World::new(5);
    let router = w.node(config(DhtMode::On));
    let knowing = Config {
        dht_routers: vec![host(&w, router)],
        ..config(DhtMode::Auto)
    };
    let (s, _) = w.seed(knowing.clone(), &info, &data);
    w.run(30 * SECOND);
    let l = w.node(knowing);
    let hash = Source::Hash {
        info_hash: info.info_hash(),
        name: None,
    };
    let id = start(&mut w, l, add(hash));
    assert!(
        w.run_until(2 * MINUTE, |w| w.has(l, id, &data)),
        "{:?}",
        log(&w, l)
    );
    assert!(active(&w, s));
    let found = w.nodes[l].engine.torrent(id).unwrap().trackers()[0].peers;
    assert!(found >= 1, "{found}");
}

/// A table that is full of nodes that are gone, as a cache leaves it.
fn gone() -> Saved {
    let contact = |n: u8| Contact {
        id: NodeId([n.wrapping_mul(53); 20]),
        addr: ([10, 200, n, 1], 6881).into(),
    };
    Saved {
        nodes: (1..=40).map(|n| (contact(n), 86_400)).collect(),
        ..Saved::default()
    }
}

#[test]
fn s24_nodes_to_begin_with_are_asked_though_the_cache_is_full() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let saved = Config {
        dht_saved: Some(gone()),
        ..config(DhtMode::On)
    };
    let by_router = w.node(Config {
        dht_routers: vec![host(&w, n)],
        ..saved.clone()
    });
    let by_name = w.node(Config {
        dht_routers: vec!["node.example:6881".parse().unwrap()],
        ..saved.clone()
    });
    let ip = w.nodes[n].addr.ip();
    w.nodes[by_name].names.insert("node.example".into(), ip);
    // Named by a person before the node is started, and while it runs.
    let by_hand = w.node(Config {
        dht: DhtMode::Off,
        ..saved.clone()
    });
    let (now, addr) = (w.now, w.nodes[n].addr.to_string());
    w.nodes[by_hand].engine.dht_add_node(now, &addr).unwrap();
    set(&mut w, by_hand, DhtMode::On);
    let by_torrent = w.node(saved);
    let with = AddTorrent {
        nodes: vec![host(&w, n)],
        ..magnet(1)
    };
    start(&mut w, by_torrent, with);
    for (who, m) in [
        ("router", by_router),
        ("name", by_name),
        ("hand", by_hand),
        ("torrent", by_torrent),
    ] {
        let heard = |w: &mut World| {
            let node = w.nodes[m].engine.dht().and_then(|dht| dht.node());
            node.is_some_and(dunlin_core::dht::Dht::is_heard)
        };
        assert!(w.run_until(5 * SECOND, heard), "by {who}");
    }
}

/// The search that a torrent begins with ends before somebody is found.
#[test]
fn s24_a_search_that_nobody_answered_is_repeated_when_somebody_is_found() {
    let (info, data) = torrent(100_000, 16 << 10);
    let mut w = World::new(1);
    let router = w.node(config(DhtMode::On));
    let knowing = Config {
        dht_routers: vec![host(&w, router)],
        ..config(DhtMode::On)
    };
    w.seed(knowing, &info, &data);
    w.run(30 * SECOND);
    let l = w.node(Config {
        dht_saved: Some(gone()),
        ..config(DhtMode::On)
    });
    let hash = Source::Hash {
        info_hash: info.info_hash(),
        name: None,
    };
    let id = start(&mut w, l, add(hash));
    w.run(20 * SECOND);
    assert_eq!(pseudo(&w, l, id).unwrap().2, "DHT search unsuccessful.");
    let (now, addr) = (w.now, w.nodes[router].addr.to_string());
    w.nodes[l].engine.dht_add_node(now, &addr).unwrap();
    assert!(w.run_until(20 * SECOND, |w| w.has(l, id, &data)));
}
