//! The DHT as a torrent's tracker of last resort.

use super::*;

#[test]
fn s07_it_is_a_group_of_its_own_behind_all_others() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Off));
    let tiers = vec![
        vec![
            "http://a.example/".to_owned(),
            "http://b.example/".to_owned(),
        ],
        vec!["http://c.example/".to_owned()],
    ];
    let with = AddTorrent {
        trackers: tiers,
        ..magnet(1)
    };
    let id = start(&mut w, n, with);
    let now = w.now;
    w.nodes[n]
        .engine
        .add_trackers(now, id, &["http://d.example/".to_owned()]);
    let trackers = w.nodes[n].engine.torrent(id).unwrap().trackers();
    let last = trackers.last().unwrap();
    assert_eq!((last.url, last.tier, trackers.len()), (DHT_URL, 3, 5));
    assert!(trackers[..4].iter().all(|t| t.tier < 3));
}

#[test]
fn s07_who_has_neither_trackers_nor_the_dht_is_told() {
    let mut w = World::new(1);
    let with = w.node(config(DhtMode::Off));
    let without = w.node(config(DhtMode::Disable));
    let private = w.node(config(DhtMode::Off));
    start(&mut w, with, magnet(1));
    start(&mut w, without, magnet(1));
    start(&mut w, private, add(Source::Info(private_torrent())));
    w.run(SECOND);
    let words = "Could not find any trackers";
    let told = [with, without, private].map(|n| said(&w, n, words));
    assert_eq!(told, [0, 1, 1]);
}

#[test]
fn s08_a_private_torrent_never_touches_the_dht() {
    let mut w = World::new(1);
    let other = w.node(config(DhtMode::On));
    let n = w.node(config(DhtMode::On));
    let private = AddTorrent {
        nodes: vec![host(&w, other)],
        ..add(Source::Info(private_torrent()))
    };
    let id = start(&mut w, n, private);
    w.run(5 * MINUTE);
    assert!(active(&w, n));
    assert_eq!(pseudo(&w, n, id), None);
    assert!(w.nodes[n].sent.is_empty(), "not even its nodes are asked");
}

#[test]
fn s08_a_magnet_that_turns_out_private_leaves_the_dht() {
    let mut w = World::new(3);
    let info = private_torrent();
    let router = w.node(config(DhtMode::On));
    let dht = Config {
        dht_routers: vec![host(&w, router)],
        ..config(DhtMode::On)
    };
    let (s, _) = w.seed(dht.clone(), &info, &[0; 1000]);
    let n = w.node(dht);
    let hash = Source::Hash {
        info_hash: info.info_hash(),
        name: None,
    };
    let found = AddTorrent {
        peers: vec![w.nodes[s].addr],
        ..add(hash)
    };
    let id = start(&mut w, n, found);
    assert!(pseudo(&w, n, id).is_some(), "nobody can know yet");
    assert!(w.run_until(MINUTE, |w| {
        w.nodes[n]
            .engine
            .torrent(id)
            .and_then(|t| t.info().cloned())
            .is_some()
    }));
    assert_eq!(pseudo(&w, n, id), None);
    w.nodes[n].engine.audit().unwrap();
}

#[test]
fn s09_it_is_asked_when_all_others_failed() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let tracker = AddTorrent {
        trackers: vec![vec!["http://a.example/".to_owned()]],
        ..magnet(1)
    };
    let id = start(&mut w, n, tracker);
    w.run(SECOND);
    let (state, _, error) = pseudo(&w, n, id).unwrap();
    assert_eq!(state, TrackerState::Failed);
    assert_eq!(error, "No DHT nodes available for peer search.");
}

#[test]
fn s09_it_is_asked_three_seconds_after_the_start_of_a_slow_tracker() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    w.nodes[n].http = Some(b"d8:intervali1800e5:peers0:e".to_vec());
    w.nodes[n].http_delay = Duration::from_secs(10);
    let tracker = AddTorrent {
        trackers: vec![vec!["http://a.example/".to_owned()]],
        ..magnet(1)
    };
    let id = start(&mut w, n, tracker);
    let asked = |w: &World| pseudo(w, n, id).unwrap().0 != TrackerState::Idle;
    w.run(3 * SECOND - Duration::from_millis(100));
    assert!(!asked(&w));
    w.run(Duration::from_millis(200));
    assert!(asked(&w));
}

#[test]
fn s09_it_is_asked_ten_seconds_after_an_answer_without_enough_peers() {
    let mut w = World::new(1);
    let n = w.node(Config {
        min_peers: 2,
        ..config(DhtMode::On)
    });
    w.nodes[n].http = Some(b"d8:intervali1800e5:peers0:e".to_vec());
    let tracker = |hash| AddTorrent {
        trackers: vec![vec!["http://a.example/".to_owned()]],
        ..magnet(hash)
    };
    let poor = start(&mut w, n, tracker(1));
    let rich = AddTorrent {
        // Nobody is there, but that is not known so soon: four are as good as two peers.
        peers: (1..=8).map(|i| ([10, 9, 9, i], 9).into()).collect(),
        ..tracker(2)
    };
    let rich = start(&mut w, n, rich);
    let asked = |w: &World, id| pseudo(w, n, id).unwrap().0 != TrackerState::Idle;
    w.run(10 * SECOND - Duration::from_millis(100));
    assert!(!asked(&w, poor));
    w.run(Duration::from_millis(200));
    assert_eq!((asked(&w, poor), asked(&w, rich)), (true, false));
}

#[test]
fn s09_it_is_asked_at_once_when_the_others_are_switched_off() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    w.nodes[n].http = Some(b"d8:intervali1800e5:peers0:e".to_vec());
    let tracker = AddTorrent {
        trackers: vec![vec!["http://a.example/".to_owned()]],
        ..magnet(1)
    };
    let id = start(&mut w, n, tracker);
    w.run(SECOND);
    assert_eq!(pseudo(&w, n, id).unwrap().0, TrackerState::Idle);
    let other = w.nodes[n].engine.torrent(id).unwrap().trackers()[0].id;
    let now = w.now;
    w.nodes[n].engine.set_tracker_enabled(now, id, other, false);
    w.run(SECOND);
    assert_eq!(pseudo(&w, n, id).unwrap().0, TrackerState::Failed);
}

#[test]
fn s10_it_shows_yes_off_and_no() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Off));
    let id = start(&mut w, n, magnet(1));
    let shown = |w: &World| pseudo(w, n, id).unwrap().1;
    assert_eq!(shown(&w), "off", "on, but the server is not");
    assert_eq!(pseudo(&w, n, id).unwrap().2, "DHT server not active.");
    set(&mut w, n, DhtMode::On);
    w.run(SECOND);
    assert_eq!(shown(&w), "yes");
    let tracker = w.nodes[n].engine.torrent(id).unwrap().trackers()[0].id;
    let now = w.now;
    w.nodes[n]
        .engine
        .set_tracker_enabled(now, id, tracker, false);
    assert_eq!(shown(&w), " no");
    set(&mut w, n, DhtMode::Off);
    assert_eq!(shown(&w), " no");
    let now = w.now;
    w.nodes[n]
        .engine
        .set_tracker_enabled(now, id, tracker, true);
    assert_eq!(shown(&w), "off");
}

#[test]
fn s10_the_switch_is_remembered() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Off));
    let id = start(&mut w, n, magnet(1));
    let tracker = w.nodes[n].engine.torrent(id).unwrap().trackers()[0].id;
    let now = w.now;
    w.nodes[n]
        .engine
        .set_tracker_enabled(now, id, tracker, false);
    w.nodes[n].engine.save_all(now);
    w.run(SECOND);
    let record = w.nodes[n].saved[&id].clone();
    w.restart(n, config(DhtMode::Off));
    let resumed = AddTorrent {
        resume: Some(record),
        ..magnet(1)
    };
    let id = start(&mut w, n, resumed);
    assert_eq!(pseudo(&w, n, id).unwrap().1, " no");
    assert_eq!(w.nodes[n].engine.torrent(id).unwrap().trackers().len(), 1);
}

#[test]
fn s10_who_asks_while_the_server_is_down_hears_why_not() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Off));
    let id = start(&mut w, n, magnet(1));
    w.run(SECOND);
    assert_eq!(said(&w, n, "tracker dht://: DHT server not active."), 0);
    let now = w.now;
    w.nodes[n].engine.reannounce(now, id);
    w.run(SECOND);
    assert_eq!(said(&w, n, "tracker dht://: DHT server not active."), 1);
}

#[test]
fn s10_it_is_asked_every_twenty_minutes_and_stopped_says_nothing() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let m = w.node(Config {
        dht_routers: vec![host(&w, n)],
        // A torrent with few peers does not wait so long.
        min_peers: 0,
        ..config(DhtMode::On)
    });
    w.run(5 * SECOND);
    let id = start(&mut w, m, magnet(1));
    let asking = |w: &World| pseudo(w, m, id).unwrap().0 == TrackerState::Asking;
    let mut begun = Vec::new();
    for _ in 0..3 {
        assert!(w.run_until(25 * MINUTE, |w| asking(w)));
        begun.push(w.now);
        assert!(w.run_until(MINUTE, |w| !asking(w)));
    }
    for pair in begun.windows(2) {
        let apart = pair[1].saturating_since(pair[0]);
        assert!(apart >= 20 * MINUTE && apart < 21 * MINUTE, "{apart:?}");
    }
    w.run(SECOND);
    let sent = w.nodes[m].sent.len();
    let now = w.now;
    w.nodes[m].engine.remove(now, id, false);
    w.run(SECOND);
    assert_eq!(w.nodes[m].sent.len(), sent);
    assert!(active(&w, n));
}

#[test]
fn s11_the_status_tells_how_the_search_goes() {
    let (mut w, _, m) = pair(1);
    let id = start(&mut w, m, magnet(1));
    let shown = |w: &World| {
        w.nodes[m].engine.torrent(id).unwrap().trackers()[0]
            .dht
            .unwrap()
            .to_string()
    };
    let mut seen = vec![shown(&w)];
    w.run_until(MINUTE, |w| {
        if seen.last() != Some(&shown(w)) {
            seen.push(shown(w));
        }
        seen.len() > 2 && seen.last().is_some_and(|s| s.starts_with("[Idle: "))
    });
    let starts = |what: &str| seen.iter().any(|s| s.starts_with(what));
    assert!(
        starts("[Searching: ") && starts("[Announcing: "),
        "{seen:?}"
    );
    let last = seen.last().unwrap();
    assert!(last.starts_with("[Idle: 1/1 nodes replied]"), "{seen:?}");
}

#[test]
fn s12_nobody_to_ask_and_nobody_who_answers_have_names() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    start(&mut w, n, magnet(1));
    w.run(SECOND);
    let words = "tracker dht://: No DHT nodes available for peer search.";
    assert_eq!(said(&w, n, words), 1);
    let typed = w.nodes[n].events.iter().any(|e| {
        matches!(e, Event::Notice(Notice { what: What::DhtFailed { failure, cause }, .. })
            if *failure == Failure::NoNodes && *cause == Cause::NoContacts)
    });
    assert!(typed, "a program can tell, too");

    // A table of nodes that are gone.
    let (mut w, n, m) = pair(2);
    w.run(MINUTE);
    set(&mut w, n, DhtMode::Off);
    start(&mut w, m, magnet(1));
    let words = "tracker dht://: DHT search unsuccessful.";
    assert!(
        w.run_until(2 * MINUTE, |w| said(w, m, words) > 0),
        "{:?}",
        log(&w, m)
    );
}

#[test]
fn s12_names_that_cannot_be_looked_up_are_the_cause() {
    let mut w = World::new(1);
    let n = w.node(Config {
        dht_routers: vec!["router.example:6881".parse().unwrap()],
        ..config(DhtMode::On)
    });
    w.run(SECOND);
    assert_eq!(w.nodes[n].asked, ["router.example"]);
    start(&mut w, n, magnet(1));
    w.run(SECOND);
    let typed = w.nodes[n].events.iter().any(|e| {
        matches!(e, Event::Notice(Notice { what: What::DhtFailed { cause, .. }, .. })
            if *cause == Cause::Dns)
    });
    assert!(typed);
}

/// A node that gives tokens, knows no peers, and confirms nothing.
#[test]
fn s12_who_is_not_confirmed_by_anybody_has_failed_to_announce() {
    let (mut w, n, m) = pair(4);
    w.run(MINUTE);
    let id = start(&mut w, m, magnet(1));
    let announcing = |w: &mut World| {
        let dht = w.nodes[m].engine.torrent(id).unwrap().trackers()[0].dht;
        dht.is_some_and(|dht| dht.to_string().starts_with("[Announcing: "))
    };
    assert!(w.run_until(MINUTE, announcing));
    set(&mut w, n, DhtMode::Off);
    let words = "tracker dht://: Announce failed.";
    assert!(
        w.run_until(MINUTE, |w| said(w, m, words) > 0),
        "{:?}",
        log(&w, m)
    );
    w.run(MINUTE);
    assert_eq!(said(&w, m, words), 1, "once");
}

#[test]
fn a_search_that_is_given_up_makes_room_for_the_next() {
    let mut w = World::new(1);
    let mut one = config(DhtMode::On);
    one.dht_config.max_lookups = 1;
    // No node answers, so the search runs until it times out.
    one.dht_routers = vec!["10.9.9.9:6881".parse().unwrap()];
    let n = w.node(one);
    w.run(SECOND);
    let first = start(&mut w, n, magnet(1));
    let second = start(&mut w, n, magnet(2));
    let searching = |w: &World, id| {
        let trackers = w.nodes[n].engine.torrent(id).unwrap().trackers();
        let dht = trackers.iter().find_map(|t| t.dht.as_ref());
        dht.is_some_and(|progress| progress.state == DhtState::Searching)
    };
    w.run(SECOND / 10);
    assert_eq!([first, second].map(|id| searching(&w, id)), [true, false]);
    let now = w.now;
    w.nodes[n].engine.remove(now, first, false);
    w.run(SECOND / 10);
    assert!(searching(&w, second));
    w.nodes[n].engine.audit().unwrap();
}
