//! Statistics, cache, limits, port, and the application's own searches.

use super::*;

#[test]
fn s19_the_map_has_every_key_of_rtorrent() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Off));
    let keys = |w: &World| -> Vec<&str> {
        let status = w.nodes[n].engine.dht().unwrap().status();
        status.entries().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(&w), ["dht", "active", "throttle"]);
    let status = w.nodes[n].engine.dht().unwrap().status();
    let first = status.entries().next().unwrap();
    assert_eq!(first, ("dht", StatValue::Text("off".into())));
    set(&mut w, n, DhtMode::On);
    w.run(SECOND);
    let expected = "dht active throttle cycle queries_received queries_sent replies_received \
                    errors_received errors_caught bytes_read bytes_written nodes buckets peers \
                    peers_max torrents";
    assert_eq!(keys(&w), expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn s29_the_table_is_saved_every_twenty_minutes_and_at_the_end() {
    let (mut w, n, m) = pair(1);
    w.run(3 * MINUTE);
    let before = w.nodes[m].dht_saves;
    w.run(21 * MINUTE);
    assert!(w.nodes[m].dht_saves > before);
    let before = w.nodes[m].dht_saves;
    let now = w.now;
    w.nodes[m].engine.shutdown(now);
    assert!(w.run_until(MINUTE, |w| w.nodes[m].events.contains(&Event::Stopped)));
    assert_eq!(w.nodes[m].dht_saves, before + 1);
    let saved = w.nodes[m].dht_saved.clone().unwrap();
    let addr = w.nodes[n].addr;
    assert!(saved.nodes.iter().any(|(c, _)| c.addr == addr));

    // The next session needs no router.
    let own = saved.id;
    w.restart(
        m,
        Config {
            dht_saved: Some(saved),
            ..config(DhtMode::On)
        },
    );
    w.run(SECOND);
    assert_eq!(
        Some(w.nodes[m].engine.dht().unwrap().node().unwrap().id(false)),
        own
    );
    assert!(knows(&w, m, n));
}

#[test]
fn s30_the_node_obeys_its_own_limit_which_rests_while_it_runs() {
    let (mut w, n, m) = pair(1);
    let now = w.now;
    let busy = w.nodes[n].engine.set_dht_limit(now, "dht", Some(100));
    assert_eq!(
        busy.unwrap_err().to_string(),
        "Cannot set DHT throttle while active."
    );
    set(&mut w, n, DhtMode::Off);
    let now = w.now;
    let idle = w.nodes[n].engine.set_dht_limit(now, "dht", Some(100));
    assert!(idle.is_ok());
    set(&mut w, n, DhtMode::On);
    let from = w.nodes[n].sent.len();
    // Others ask as much as they like.
    let addr = w.nodes[n].addr;
    for _ in 0..60 {
        for _ in 0..20 {
            let now = w.now;
            let _ = w.nodes[m].engine.dht_ping(now, addr);
        }
        w.run(SECOND);
    }
    let sent: usize = w.nodes[n].sent[from..].iter().map(|s| s.3).sum();
    let most = 100 * 60 + dunlin_core::throttle::burst(100) as usize + 600;
    assert!(sent > 0 && sent <= most, "{sent} bytes of {most}");
}

#[test]
fn s32_everything_has_one_port_unless_another_is_wanted() {
    let (w, n, m) = pair(1);
    for node in [n, m] {
        assert!(!w.nodes[node].sent.is_empty());
        assert!(w.nodes[node].sent.iter().all(|s| s.1 == SocketId::V4));
    }
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let m = w.node(Config {
        dht_routers: vec![host(&w, n)],
        dht_port: Some(7000),
        ..config(DhtMode::On)
    });
    w.run(MINUTE);
    assert_eq!(w.nodes[m].engine.dht().unwrap().status().port, Some(7000));
    assert!(knows(&w, m, n));
    assert!(w.nodes[m].sent.iter().all(|s| s.1 == SocketId::DHT_V4));
    assert!(w.nodes[m].udp.contains_key(&SocketId::DHT_V4));
    set(&mut w, m, DhtMode::Off);
    w.run(SECOND);
    assert!(!w.nodes[m].udp.contains_key(&SocketId::DHT_V4));
    set(&mut w, m, DhtMode::On);
    set(&mut w, m, DhtMode::Off);
    set(&mut w, m, DhtMode::On);
    w.run(SECOND);
    assert!(active(&w, m) && w.nodes[m].udp.contains_key(&SocketId::DHT_V4));
    assert!(w.nodes[m].open_ops.is_empty());
}

// ---- the application's own searches ----

#[test]
fn an_application_hears_of_what_it_asked_for_and_of_nothing_else() {
    let (mut w, n, m) = pair(1);
    let now = w.now;
    let announced = Goal::Peers {
        hash: InfoHash([9; 20]),
        announce: Some(dunlin_core::dht::Announce {
            ports: dunlin_core::net::Ports::both(4242),
            implied: false,
            seed: false,
        }),
        scrape: false,
    };
    let lookup = w.nodes[m].engine.dht_search(now, announced).unwrap();
    let addr = w.nodes[n].addr;
    let ping = w.nodes[m].engine.dht_ping(now, addr).unwrap();
    start(&mut w, m, magnet(1));
    w.run(MINUTE);
    let mut done = 0;
    for event in &w.nodes[m].events {
        match event {
            Event::Dht(DhtEvent::Done { lookup: l, report }) => {
                assert_eq!((*l, report.stored), (lookup, 1));
                done += 1;
            }
            Event::Dht(DhtEvent::Ping {
                ping: p, answer, ..
            }) => {
                assert_eq!(*p, ping);
                assert!(answer.is_some());
                done += 1;
            }
            Event::Dht(other) => panic!("{other:?}"),
            _ => {}
        }
    }
    assert_eq!(done, 2);
    assert_eq!(
        w.nodes[n].engine.dht().unwrap().status().stats.torrents,
        2,
        "both are kept by the other"
    );
    // A search that ends with its node is told as ended, too.
    let now = w.now;
    let goal = Goal::Nodes(dunlin_core::NodeId([5; 20]));
    let lookup = w.nodes[m].engine.dht_search(now, goal.clone()).unwrap();
    set(&mut w, m, DhtMode::Off);
    w.run(SECOND);
    let ended =
        |e: &Event| matches!(e, Event::Dht(DhtEvent::Done { lookup: l, .. }) if *l == lookup);
    assert!(w.nodes[m].events.iter().any(ended));
    let now = w.now;
    assert!(w.nodes[m].engine.dht_search(now, goal).is_err());
}

#[test]
fn the_log_is_typed() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    w.run(SECOND);
    let starting = What::Dht(DhtLog::Starting { port: 6881 });
    let told = |e: &Event| matches!(e, Event::Notice(notice) if notice.what == starting);
    assert!(w.nodes[n].events.iter().any(told));
}

#[test]
fn s30_while_torrents_run_it_takes_no_more_than_a_peer() {
    let (info, data) = torrent(4_000_000, 16 << 10);
    let mut w = World::new(6);
    let mut busy = config(DhtMode::On);
    busy.limit_up = Some(20_000);
    busy.dht_config.new_remote_budget = None;
    let (s, _) = w.seed(busy, &info, &data);
    for _ in 0..4 {
        w.leech(config(DhtMode::Off), &info, &[s]);
    }
    w.run(10 * SECOND);
    let uploaded = |w: &World| {
        let now = w.now;
        w.nodes[s]
            .engine
            .torrents()
            .map(|id| {
                let status = w.nodes[s].engine.torrent(id).unwrap().status(now);
                status.uploaded
            })
            .sum::<u64>()
    };
    let (before, from) = (uploaded(&w), w.nodes[s].sent.len());
    for second in 0..60u8 {
        for n in 0..100u8 {
            let now = w.now;
            let nobody = ([10, 7, second, n], 6881).into();
            let _ = w.nodes[s].engine.dht_ping(now, nobody);
        }
        w.run(SECOND);
    }
    let dht: u64 = w.nodes[s].sent[from..].iter().map(|s| s.3 as u64).sum();
    let peer = (uploaded(&w) - before) / 4;
    assert!(
        dht > 10_000 && dht <= peer + peer / 10,
        "{dht} bytes, a peer got {peer}"
    );
}

#[test]
fn s30_datagrams_to_trackers_go_first() {
    let (mut w, n, m) = pair(1);
    let from = w.nodes[m].sent.len();
    let (now, addr) = (w.now, w.nodes[n].addr);
    w.nodes[m].engine.dht_ping(now, addr).unwrap();
    let tracker = AddTorrent {
        trackers: vec![vec!["udp://10.0.0.99:80".to_owned()]],
        ..magnet(1)
    };
    start(&mut w, m, tracker);
    w.run(Duration::from_millis(1));
    let whither: Vec<_> = w.nodes[m].sent[from..].iter().map(|s| s.2).collect();
    assert_eq!(whither, ["10.0.0.99:80".parse().unwrap(), addr]);
}

#[test]
fn searches_beyond_the_limit_wait_for_their_turn() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let mut one = config(DhtMode::On);
    one.dht_config.max_lookups = 1;
    one.dht_routers = vec![host(&w, n)];
    let m = w.node(one);
    w.run(5 * SECOND);
    let ids: Vec<TorrentId> = (1..=20).map(|i| start(&mut w, m, magnet(i))).collect();
    let working = |w: &World, id| pseudo(w, m, id).unwrap().0 == TrackerState::Working;
    assert!(w.run_until(2 * MINUTE, |w| ids.iter().all(|id| working(w, *id))));
    let stats = w.nodes[n].engine.dht().unwrap().status().stats;
    assert_eq!(stats.torrents, 20);
    w.nodes[m].engine.audit().unwrap();
}

#[test]
fn a_thousand_torrents_may_find_that_nobody_is_there() {
    let mut w = World::new(1);
    let n = w.node(Config {
        max_notices: 10_000,
        ..config(DhtMode::Off)
    });
    for i in 0..1000u16 {
        let mut hash = [0; 20];
        hash[..2].copy_from_slice(&i.to_be_bytes());
        let source = Source::Hash {
            info_hash: InfoHash(hash),
            name: None,
        };
        start(&mut w, n, add(source));
    }
    set(&mut w, n, DhtMode::On);
    w.run(SECOND);
    let words = "tracker dht://: No DHT nodes available for peer search.";
    assert_eq!(said(&w, n, words), 1000);
}
