//! When the node runs, and what it reports.

use super::*;

#[test]
fn s02_without_a_session_folder_there_is_no_dht_at_all() {
    let mut w = World::new(1);
    let n = w.node_on(config(DhtMode::On), false);
    let id = start(&mut w, n, magnet(1));
    w.run(5 * MINUTE);
    assert_eq!(w.nodes[n].engine.dht().map(|dht| dht.status()), None);
    assert_eq!(pseudo(&w, n, id), None);
    assert!(!set(&mut w, n, DhtMode::On));
    let now = w.now;
    let refused = w.nodes[n].engine.dht_add_node(now, "10.0.0.9").unwrap_err();
    assert_eq!(refused, CommandError::NoDht);
    let needs = What::DhtNeedsSession.to_string();
    assert_eq!(said(&w, n, &needs), 1, "the reason is told once");
    assert!(w.nodes[n].sent.is_empty());
}

#[test]
fn s02_a_saved_table_stands_for_a_session_folder() {
    let mut w = World::new(1);
    let kept = Config {
        dht_saved: Some(dunlin_core::dht::Saved::default()),
        ..config(DhtMode::On)
    };
    let n = w.node_on(kept, false);
    w.run(SECOND);
    assert!(active(&w, n));
}

#[test]
fn s03_disabled_is_disabled_until_a_restart() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Disable));
    let id = start(&mut w, n, magnet(1));
    for word in [DhtMode::On, DhtMode::Auto, DhtMode::Off, DhtMode::On] {
        assert!(!set(&mut w, n, word));
        w.run(SECOND);
        assert!(!active(&w, n));
    }
    assert_eq!(mode(&w, n), DhtMode::Disable);
    assert_eq!(pseudo(&w, n, id), None);
    assert!(log(&w, n).iter().all(|line| !line.contains("DHT server")));
}

#[test]
fn s03_disabling_a_running_node_ends_it_for_good() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let id = start(&mut w, n, magnet(1));
    w.run(SECOND);
    assert!(active(&w, n) && pseudo(&w, n, id).is_some());
    assert!(!set(&mut w, n, DhtMode::Disable));
    assert!(!set(&mut w, n, DhtMode::On));
    w.run(SECOND);
    assert!(!active(&w, n) && pseudo(&w, n, id).is_none());
    assert_eq!(said(&w, n, "Stopping DHT server."), 1);
}

#[test]
fn s04_on_starts_and_off_stops_at_once() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Off));
    start(&mut w, n, magnet(1));
    w.run(SECOND);
    assert!(!active(&w, n), "off is the default, and stays off");
    set(&mut w, n, DhtMode::On);
    assert!(active(&w, n));
    set(&mut w, n, DhtMode::Off);
    assert!(!active(&w, n));
}

#[test]
fn s04_auto_waits_for_a_torrent_that_is_not_private() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Off));
    start(&mut w, n, magnet(1));
    w.run(SECOND);
    set(&mut w, n, DhtMode::Auto);
    w.run(SECOND);
    assert!(!active(&w, n), "auto changes nothing now");
    start(&mut w, n, add(Source::Info(private_torrent())));
    w.run(SECOND);
    assert!(!active(&w, n), "a private torrent is not a reason");
    start(&mut w, n, magnet(2));
    assert!(active(&w, n));
}

#[test]
fn s04_auto_stops_a_quarter_to_half_an_hour_after_the_last_torrent() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Auto));
    let id = start(&mut w, n, magnet(1));
    start(&mut w, n, add(Source::Info(private_torrent())));
    w.run(40 * MINUTE);
    assert!(active(&w, n), "a torrent needs it");
    let now = w.now;
    w.nodes[n].engine.pause(now, id);
    w.run(15 * MINUTE - SECOND);
    assert!(active(&w, n));
    assert!(w.run_until(16 * MINUTE, |w| !active(w, n)));
    assert_eq!(mode(&w, n), DhtMode::Auto);
    let now = w.now;
    w.nodes[n].engine.resume(now, id);
    assert!(active(&w, n), "and starts again with the next");
}

#[test]
fn s04_a_torrent_that_starts_in_time_keeps_it_going() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::Auto));
    let id = start(&mut w, n, magnet(1));
    w.run(5 * MINUTE);
    let now = w.now;
    w.nodes[n].engine.pause(now, id);
    w.run(14 * MINUTE);
    let now = w.now;
    w.nodes[n].engine.resume(now, id);
    w.run(60 * MINUTE);
    assert!(active(&w, n));
    assert_eq!(said(&w, n, "Stopping DHT server."), 0);
}

#[test]
fn s05_the_start_names_the_port_and_an_error_switches_off() {
    let mut w = World::new(1);
    let n = w.node(Config {
        dht_port: Some(6999),
        ..config(DhtMode::Off)
    });
    w.run(SECOND);
    w.nodes[n].taken = vec![6999];
    set(&mut w, n, DhtMode::On);
    w.run(SECOND);
    let lines = log(&w, n);
    assert_eq!(
        lines,
        [
            "Starting DHT server on port 6999.",
            "DHT error: 10.0.0.1:6999: in use"
        ]
    );
    assert_eq!((active(&w, n), mode(&w, n)), (false, DhtMode::Off));
    // Another port alone changes nothing.
    let now = w.now;
    w.nodes[n].engine.set_dht_port(now, Some(7000));
    w.run(MINUTE);
    start(&mut w, n, magnet(1));
    w.run(MINUTE);
    assert!(!active(&w, n));
    set(&mut w, n, DhtMode::On);
    w.run(SECOND);
    assert!(active(&w, n));
    assert_eq!(said(&w, n, "Starting DHT server on port 7000."), 1);
}

#[test]
fn s05_the_main_port_may_be_in_use_too() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    w.nodes[n].taken = vec![6881];
    w.run(SECOND);
    assert_eq!((active(&w, n), mode(&w, n)), (false, DhtMode::Off));
    assert!(
        log(&w, n)
            .iter()
            .any(|line| line.starts_with("DHT error: "))
    );
}

#[test]
fn s05_port_zero_is_never_started_and_nothing_is_said() {
    let mut w = World::new(1);
    let n = w.node(Config {
        dht_port: Some(0),
        ..config(DhtMode::On)
    });
    start(&mut w, n, magnet(1));
    w.run(5 * MINUTE);
    assert!(!active(&w, n));
    assert!(log(&w, n).iter().all(|line| !line.contains("DHT")));
}

#[test]
fn s05_s16_s19_the_log_of_a_life() {
    let mut w = World::new(1);
    let router = w.node(config(DhtMode::On));
    let nodes: Vec<usize> = (0..150)
        .map(|_| {
            w.node(Config {
                dht_routers: vec![host(&w, router)],
                ..config(DhtMode::On)
            })
        })
        .collect();
    let n = nodes[0];
    let lines = |w: &World, what: &str| {
        let log = log(w, n);
        log.iter().filter(|l| l.starts_with(what)).count()
    };
    w.run(3 * MINUTE);
    assert_eq!(
        lines(&w, "DHT bootstrap complete, have "),
        1,
        "{:?}",
        log(&w, n)
    );
    w.run(15 * MINUTE);
    assert_eq!(lines(&w, "DHT statistics: "), 1);
    w.run(40 * MINUTE);
    assert_eq!(lines(&w, "DHT statistics: "), 1);
    set(&mut w, n, DhtMode::Off);
    w.run(SECOND);
    let log = log(&w, n);
    assert_eq!(log.first().unwrap(), "Starting DHT server on port 6881.");
    assert!(
        log[log.len() - 2].starts_with("DHT statistics: "),
        "{log:?}"
    );
    assert_eq!(log.last().unwrap(), "Stopping DHT server.");
}

#[test]
fn s06_a_start_resets_the_statistics() {
    let mut w = World::new(1);
    let n = w.node(config(DhtMode::On));
    let m = w.node(Config {
        dht_routers: vec![host(&w, n)],
        ..config(DhtMode::On)
    });
    w.run(MINUTE);
    let sent = |w: &World| w.nodes[m].engine.dht().unwrap().status().stats.queries_sent;
    assert!(sent(&w) > 0);
    set(&mut w, m, DhtMode::Off);
    assert_eq!(w.nodes[m].engine.dht().unwrap().status().stats.cycle, 0);
    set(&mut w, m, DhtMode::On);
    assert_eq!(sent(&w), 0);
}
