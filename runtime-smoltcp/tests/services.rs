//! What a machine needs beside streams: names, HTTP, datagrams, an address.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::dhcp::Dhcp;
use common::server::{HTTP, Script, Server, TRACKER};
use common::{World, addr, torrent};
use dunlin_core::engine::{AddTorrent, Event, Source, What};
use dunlin_core::http::respond;
use dunlin_core::metainfo::Info;
use dunlin_core::{Config, TorrentId};
use dunlin_smoltcp::NetConfig;

const LIMIT: Duration = Duration::from_secs(120);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);

/// A tracker's answer that tells of `peer` (BEP 3, BEP 23).
fn page(peer: SocketAddr) -> Vec<u8> {
    let mut body = b"d8:intervali1800e5:peers6:".to_vec();
    if let IpAddr::V4(ip) = peer.ip() {
        body.extend(ip.octets());
    }
    body.extend(peer.port().to_be_bytes());
    body.push(b'e');
    respond(200, "text/plain", &body)
}

/// A node on bare IP that asks the server for names.
fn node(world: &mut World, change: impl FnOnce(&mut NetConfig)) -> usize {
    let config = Config {
        announce_to_all: true,
        ..Config::default()
    };
    let mut net = World::net(world.nodes.len(), false, &config);
    net.dns.push(SERVER.into());
    change(&mut net);
    world.node(net, config)
}

fn serve(world: &mut World, script: Script) -> Rc<RefCell<Script>> {
    let server = Server::new(SERVER, world.now, script);
    let script = server.script.clone();
    world.stations.push(Box::new(server));
    script
}

fn leech(world: &mut World, n: usize, info: &Arc<Info>, trackers: &[&str]) -> TorrentId {
    let add = AddTorrent {
        trackers: trackers.iter().map(|t| vec![t.to_string()]).collect(),
        ..AddTorrent::new(Source::Info(info.clone()))
    };
    let engine = world.nodes[n].driver.engine_mut();
    engine.add(world.now, add).unwrap()
}

/// What trackers had to say to a node.
fn tracker_notices(world: &mut World, n: usize) -> Vec<String> {
    let driver = &mut world.nodes[n].driver;
    let events = std::iter::from_fn(|| driver.poll_event());
    let message = |event| match event {
        Event::Notice(notice) => match notice.what {
            What::Tracker { message, .. } => Some(message),
            _ => None,
        },
        _ => None,
    };
    events.filter_map(message).collect()
}

#[test]
fn a_tracker_found_by_name_over_http_leads_to_the_seed() {
    let (info, data) = torrent(300_000, 64 << 10);
    let mut world = World::new(1);
    let a = node(&mut world, |_| {});
    let b = node(&mut world, |_| {});
    world.seed(a, &info, &data);
    let dead = IpAddr::from([10, 0, 0, 99]);
    let dead6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 99]);
    let script = serve(
        &mut world,
        Script {
            // Nobody is at the first address, and at that of the other family.
            names: vec![("tracker.test".into(), vec![dead, SERVER.into(), dead6])],
            pages: vec![("/announce?".into(), page(addr(a, false)))],
            ..Script::default()
        },
    );
    let url = format!("http://tracker.test:{HTTP}/announce");
    let id = leech(&mut world, b, &info, &[&url]);
    assert!(world.run_until(LIMIT, |w| w.has(b, id, &info, &data)));
    // Whoever shuts down does not wait for the dead.
    world.run(Duration::from_secs(60));
    script.borrow_mut().names[0].1 = vec![SERVER.into()];
    world.audit();
    let script = script.borrow();
    for v6 in [false, true] {
        assert!(script.asked.contains(&("tracker.test".into(), v6)));
    }
    let told: Vec<&str> = script.requests.iter().map(|(_, l)| l.as_str()).collect();
    for event in ["event=started", "event=completed", "event=stopped"] {
        assert!(told.iter().any(|l| l.contains(event)), "{told:?}");
    }
}

#[test]
fn a_udp_tracker_found_by_name_leads_to_the_seed() {
    let (info, data) = torrent(300_000, 64 << 10);
    let mut world = World::new(2);
    let a = node(&mut world, |_| {});
    let b = node(&mut world, |_| {});
    world.seed(a, &info, &data);
    let script = serve(
        &mut world,
        Script {
            names: vec![("tracker.test".into(), vec![SERVER.into()])],
            peers: vec![addr(a, false)],
            ..Script::default()
        },
    );
    let url = format!("udp://tracker.test:{TRACKER}");
    let id = leech(&mut world, b, &info, &[&url]);
    assert!(world.run_until(LIMIT, |w| w.has(b, id, &info, &data)));
    world.audit();
    let stats = world.nodes[b].driver.stats();
    assert!(
        stats.datagrams_in >= 4 && stats.datagrams_dropped == 0,
        "{stats:?}"
    );
    // From the port it listens on.
    let from = SocketAddr::new(World::ip(b, false), common::PORT);
    assert!(script.borrow().announced.contains(&from));
}

#[test]
fn redirects_are_followed_and_what_cannot_be_done_is_said() {
    let (info, data) = torrent(100_000, 64 << 10);
    let mut world = World::new(3);
    let a = node(&mut world, |_| {});
    let b = node(&mut world, |_| {});
    world.seed(a, &info, &data);
    // Bytes and FIN arrive together; none of either is lost.
    let page = page(addr(a, false));
    let body = page.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let until_closed = [b"HTTP/1.0 200 OK", &page[body..]].concat();
    let to = format!("HTTP/1.1 302 F\r\nLocation: http://{SERVER}:{HTTP}/new\r\n\r\n");
    serve(
        &mut world,
        Script {
            pages: vec![
                ("/old".into(), to.into_bytes()),
                ("/new".into(), until_closed),
            ],
            ..Script::default()
        },
    );
    let old = format!("http://{SERVER}:{HTTP}/old");
    let closed = format!("http://{SERVER}:81/announce");
    let trackers = [
        "http://nowhere.test/announce",
        "https://10.0.0.200/announce",
        closed.as_str(),
        old.as_str(),
        "udp://nowhere.test:1",
    ];
    let id = leech(&mut world, b, &info, &trackers);
    assert!(world.run_until(LIMIT, |w| w.has(b, id, &info, &data)));
    world.run(Duration::from_secs(30));
    let notices = tracker_notices(&mut world, b);
    for what in ["no address", "Https", "connection refused"] {
        assert!(
            notices.iter().any(|n| n.contains(what)),
            "{what}: {notices:?}"
        );
    }
    world.audit();
}

#[test]
fn many_requests_share_few_sockets_although_each_leaves_one_in_time_wait() {
    let (info, _) = torrent(100_000, 64 << 10);
    let mut world = World::new(4);
    let b = node(&mut world, |net| net.connections = 2);
    let script = serve(
        &mut world,
        Script {
            pages: vec![("/".into(), page(addr(7, false)))],
            ..Script::default()
        },
    );
    let urls: Vec<String> = (0..12)
        .map(|i| format!("http://{SERVER}:{HTTP}/{i}"))
        .collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    leech(&mut world, b, &info, &urls);
    let all = world.run_until(Duration::from_secs(60), |_| {
        let script = script.borrow();
        (0..12).all(|i| {
            let line = format!("GET /{i}?");
            script.requests.iter().any(|(_, l)| l.starts_with(&line))
        })
    });
    let stats = world.nodes[b].driver.stats();
    assert!(all, "{:?} {stats:?}", script.borrow().requests.len());
    world.audit();
}

#[test]
fn a_server_that_never_answers_costs_no_more_than_its_time() {
    let (info, _) = torrent(100_000, 64 << 10);
    let mut world = World::new(5);
    let b = node(&mut world, |net| {
        net.lookups = 1;
        net.http_requests = 1;
    });
    let script = serve(
        &mut world,
        Script {
            silent: true,
            ..Script::default()
        },
    );
    let trackers = [
        "http://one.test/a",
        "http://two.test/a",
        "udp://three.test:1",
        "udp://four.test:1",
    ];
    leech(&mut world, b, &info, &trackers);
    world.run(Duration::from_secs(20));
    // Shutting down while names are looked up: each op is answered all the same.
    world.audit();
    assert!(!script.borrow().asked.is_empty());
}

#[test]
fn dhcp_gives_an_address_and_takes_another_in_its_place() {
    let (info, data) = torrent(2_000_000, 64 << 10);
    let mut world = World::new(6);
    let a = world.plain(true);
    let config = Config::default();
    let mut net = World::net(1, true, &config);
    net.addresses.clear();
    net.dhcp = true;
    let b = world.node(net, config);
    world.seed(a, &info, &data);
    let offer = Rc::new(Cell::new(Ipv4Addr::new(10, 0, 0, 77)));
    let acks = Rc::new(Cell::new(0));
    world.stations.push(Box::new(Dhcp {
        offer: offer.clone(),
        lease: 20,
        acks: acks.clone(),
    }));
    let has = |w: &World, ip: Ipv4Addr| w.nodes[b].driver.addresses().any(|a| a == ip);
    let first = offer.get();
    assert!(world.run_until(LIMIT, |w| has(w, first)));
    let id = world.leech(b, &info, &[addr(a, false)]);
    assert!(world.run_until(LIMIT, |w| w.nodes[b].driver.stats().read_bytes > 300_000));
    // Slow enough that the lease changes in the middle.
    let limit = Some(20_000);
    let engine = world.nodes[b].driver.engine_mut();
    engine.set_limits(world.now, dunlin_core::engine::Scope::Global, limit, None);
    offer.set(Ipv4Addr::new(10, 0, 0, 78));
    assert!(world.run_until(LIMIT, |w| has(w, Ipv4Addr::new(10, 0, 0, 78))));
    assert!(!has(&world, first) && !world.has(b, id, &info, &data));
    let engine = world.nodes[b].driver.engine_mut();
    engine.set_limits(world.now, dunlin_core::engine::Scope::Global, None, None);
    assert!(world.run_until(LIMIT * 3, |w| w.has(b, id, &info, &data)));
    assert!(acks.get() >= 2);
    world.audit();
}

/// Datagrams to a neighbour that is not there must not hold up those to others.
#[test]
fn a_dead_neighbour_does_not_silence_the_udp_socket() {
    let (info, data) = torrent(100_000, 64 << 10);
    let mut world = World::new(7);
    let a = world.plain(true);
    let b = world.plain(true);
    world.seed(a, &info, &data);
    // Nobody has these.
    let trackers = ["udp://10.0.0.91:1", "udp://10.0.0.92:1"];
    leech(&mut world, b, &info, &trackers);
    world.run(Duration::from_secs(20));
    let stats = world.nodes[b].driver.stats();
    assert!(stats.datagrams_dropped > 0, "{stats:?}");
    assert!(stats.datagrams_out > 2, "{stats:?}");
    world.audit();
}

/// Many servers drop questions for IPv6: the answer that is there does not wait for them.
#[test]
fn a_name_server_that_ignores_one_family_costs_a_second() {
    let (info, data) = torrent(100_000, 64 << 10);
    let mut world = World::new(8);
    let a = node(&mut world, |_| {});
    let b = node(&mut world, |_| {});
    world.seed(a, &info, &data);
    let script = serve(
        &mut world,
        Script {
            names: vec![("tracker.test".into(), vec![SERVER.into()])],
            peers: vec![addr(a, false)],
            silent_v6: true,
            ..Script::default()
        },
    );
    let url = format!("udp://tracker.test:{TRACKER}");
    leech(&mut world, b, &info, &[&url]);
    let announced = |_: &mut World| !script.borrow().announced.is_empty();
    assert!(world.run_until(Duration::from_secs(3), announced));
    world.audit();
}
