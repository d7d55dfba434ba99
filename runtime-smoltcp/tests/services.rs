//! The services besides streams: names, HTTP, datagrams, DHCP.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::dhcp::{self, Dhcp};
use common::server::{HTTP, Script, Server, TRACKER};
use common::{World, addr, torrent};
use dunlin_core::engine::{AddTorrent, Command, Event, Source, What};
use dunlin_core::http::respond;
use dunlin_core::metainfo::Info;
use dunlin_core::tracker::TrackerState;
use dunlin_core::{Config, TorrentId};
use dunlin_smoltcp::{NetConfig, SetupError};
use rand_chacha::rand_core::SeedableRng;

const LIMIT: Duration = Duration::from_secs(120);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);

/// A tracker's response with one peer (BEP 3, BEP 23).
fn page(peer: SocketAddr) -> Vec<u8> {
    let mut body = b"d8:intervali1800e5:peers6:".to_vec();
    if let IpAddr::V4(ip) = peer.ip() {
        body.extend(ip.octets());
    }
    body.extend(peer.port().to_be_bytes());
    body.push(b'e');
    respond(200, "text/plain", &body)
}

/// A node on bare IP that uses the server for names.
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

/// The tracker messages of a node.
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
            // Nobody has the first address, nor the one of the other family.
            names: vec![("tracker.test".into(), vec![dead, SERVER.into(), dead6])],
            pages: vec![("/announce?".into(), page(addr(a, false)))],
            ..Script::default()
        },
    );
    let url = format!("http://tracker.test:{HTTP}/announce");
    let id = leech(&mut world, b, &info, &[&url]);
    assert!(world.run_until(LIMIT, |w| w.has(b, id, &info, &data)));
    // A shutdown does not wait for machines that do not answer.
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
    // The engine sends from the port on which it listens.
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
    // The bytes and the FIN arrive together, and neither is lost.
    let page = page(addr(a, false));
    let body = page.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let until_closed = [b"HTTP/1.0 200 OK", &page[body..]].concat();
    let to = format!("HTTP/1.1 302 F\r\nLocation: http://{SERVER}:{HTTP}/new/announce\r\n\r\n");
    serve(
        &mut world,
        Script {
            pages: vec![
                ("/old/announce".into(), to.into_bytes()),
                ("/new/announce".into(), until_closed),
            ],
            ..Script::default()
        },
    );
    let old = format!("http://{SERVER}:{HTTP}/old/announce");
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
        .map(|i| format!("http://{SERVER}:{HTTP}/{i}/announce"))
        .collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    leech(&mut world, b, &info, &urls);
    let all = world.run_until(Duration::from_secs(60), |_| {
        let script = script.borrow();
        (0..12).all(|i| {
            let line = format!("GET /{i}/announce?");
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
    // Each op is answered also when the engine shuts down while names are looked up.
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
        router: dhcp::SERVER,
        acks: acks.clone(),
    }));
    let has = |w: &World, ip: Ipv4Addr| w.nodes[b].driver.addresses().any(|a| a == ip);
    let first = offer.get();
    assert!(world.run_until(LIMIT, |w| has(w, first)));
    let id = world.leech(b, &info, &[addr(a, false)]);
    assert!(world.run_until(LIMIT, |w| w.nodes[b].driver.stats().read_bytes > 300_000));
    // The transfer is slow enough for the lease to change during it.
    let limit = Some(20_000);
    let engine = world.nodes[b].driver.engine_mut();
    engine
        .command(
            world.now,
            Command::SetLimits {
                scope: dunlin_core::engine::Scope::Global,
                down: limit,
                up: None,
            },
        )
        .unwrap();
    offer.set(Ipv4Addr::new(10, 0, 0, 78));
    assert!(world.run_until(LIMIT, |w| has(w, Ipv4Addr::new(10, 0, 0, 78))));
    assert!(!has(&world, first) && !world.has(b, id, &info, &data));
    let engine = world.nodes[b].driver.engine_mut();
    engine
        .command(
            world.now,
            Command::SetLimits {
                scope: dunlin_core::engine::Scope::Global,
                down: None,
                up: None,
            },
        )
        .unwrap();
    assert!(world.run_until(LIMIT * 3, |w| w.has(b, id, &info, &data)));
    assert!(acks.get() >= 2);
    world.audit();
}

/// Datagrams to a neighbour that does not exist must not block datagrams to others.
#[test]
fn a_dead_neighbour_does_not_silence_the_udp_socket() {
    let (info, data) = torrent(100_000, 64 << 10);
    let mut world = World::new(7);
    let a = world.plain(true);
    let b = world.plain(true);
    world.seed(a, &info, &data);
    // Nobody has these addresses.
    let trackers = ["udp://10.0.0.91:1", "udp://10.0.0.92:1"];
    leech(&mut world, b, &info, &trackers);
    world.run(Duration::from_secs(20));
    let stats = world.nodes[b].driver.stats();
    assert!(stats.datagrams_dropped > 0, "{stats:?}");
    assert!(stats.datagrams_out > 2, "{stats:?}");
    world.audit();
}

/// Many servers ignore queries for IPv6. The answer for IPv4 is not delayed for long.
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

/// The address of a machine that is not on the link.
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// Messages of a DHCP server are untrusted: the stack would panic when it sends an ARP request for
/// a gateway that is not the address of one machine.
#[test]
fn a_dhcp_server_with_a_senseless_gateway_does_no_harm() {
    for router in [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::LOCALHOST,
    ] {
        let (info, data) = torrent(100_000, 64 << 10);
        let mut world = World::new(9);
        let a = world.plain(true);
        let config = Config::default();
        let mut net = World::net(1, true, &config);
        net.addresses.clear();
        net.dhcp = true;
        let b = world.node(net, config);
        world.seed(a, &info, &data);
        let leased = Ipv4Addr::new(10, 0, 0, 77);
        world.stations.push(Box::new(Dhcp {
            offer: Rc::new(Cell::new(leased)),
            lease: 600,
            router,
            acks: Rc::new(Cell::new(0)),
        }));
        let has = |w: &World| w.nodes[b].driver.addresses().any(|a| a == leased);
        assert!(world.run_until(LIMIT, |w| has(w)), "{router}");
        // Hosts on the link can be reached, and hosts behind a gateway cannot.
        let far = SocketAddr::new(FAR.into(), 6881);
        let id = world.leech(b, &info, &[far, addr(a, false)]);
        let done = world.run_until(LIMIT, |w| w.has(b, id, &info, &data));
        assert!(done, "{router}");
        world.audit();
    }
}

#[test]
fn a_senseless_gateway_or_name_server_is_refused() {
    for ip in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "127.0.0.1",
        "::",
        "ff02::1",
    ] {
        let ip: IpAddr = ip.parse().unwrap();
        let config = Config::default();
        let net = World::net(0, true, &config);
        let mut named = net.clone();
        named.dns.push(ip);
        for net in [net.gateway(ip), named] {
            let mut wire = common::Wire::new(&net);
            let made = dunlin_smoltcp::Driver::new(
                dunlin_core::Instant::ORIGIN,
                &mut wire,
                &net,
                Config::default(),
                common::disk::SlowDisk::default(),
                Box::new(rand_chacha::ChaCha8Rng::from_seed([1; 32])),
            );
            assert_eq!(made.err(), Some(SetupError::Address(ip)));
        }
    }
}

/// Nothing else happens on the link, so the answer must come when the stack gives up the name, and
/// not with the next packet.
#[test]
fn a_name_is_given_up_when_its_time_is_over() {
    let (info, _) = torrent(100_000, 64 << 10);
    let mut world = World::new(10);
    let b = node(&mut world, |_| {});
    let script = Script {
        silent: true,
        ..Script::default()
    };
    serve(&mut world, script);
    let id = leech(&mut world, b, &info, &["udp://one.test:1"]);
    let failed = |w: &mut World| {
        let trackers = w.nodes[b].driver.engine().torrent(id).unwrap().trackers();
        trackers.iter().any(|t| t.state == TrackerState::Failed)
    };
    // The stack gives a server 10 seconds, but checks this only when it would ask again: after 1,
    // 3, 7 and 15 seconds.
    assert!(!world.run_until(Duration::from_secs(14), failed));
    assert!(world.run_until(Duration::from_secs(2), failed));
    world.audit();
}

/// "All sockets at once" includes those that listen.
#[test]
fn no_socket_is_made_after_all_were_made_at_once() {
    for same in [true, false] {
        let (info, data) = torrent(300_000, 64 << 10);
        let mut world = World::new(11);
        let a = world.plain(false);
        world.seed(a, &info, &data);
        let mut config = Config::default();
        for (any, port) in [
            (IpAddr::from([0; 4]), 6881),
            (IpAddr::from([0u16; 8]), 6882),
        ] {
            let port = if same { 6881 } else { port };
            let _ = config.listen.push(SocketAddr::new(any, port));
        }
        let mut net = World::net(1, false, &config);
        (net.connections, net.reserve, net.preallocate) = (5, 2, true);
        let b = world.node(net, config);
        let all = if same { 7 } else { 9 };
        assert_eq!(world.nodes[b].driver.stats().sockets_made, all);
        let id = world.leech(b, &info, &[addr(a, false)]);
        assert!(world.run_until(LIMIT, |w| w.has(b, id, &info, &data)));
        let stats = world.nodes[b].driver.stats();
        let listening = if same { 2 } else { 4 };
        assert_eq!(
            (stats.sockets_made, stats.sockets_listening),
            (all, listening)
        );
        world.audit();
    }
}

/// A tracker on the local network must not lead the driver to other services of that network.
#[test]
fn neither_a_tracker_nor_its_redirect_reaches_other_services() {
    let (info, _) = torrent(100_000, 64 << 10);
    let mut world = World::new(12);
    let b = node(&mut world, |_| {});
    let to = format!("HTTP/1.1 302 F\r\nLocation: http://{SERVER}:{HTTP}/shutdown\r\n\r\n");
    let names = vec![("tracker.test".into(), vec![SERVER.into()])];
    let pages = vec![("/announce".into(), to.into_bytes())];
    let script = serve(
        &mut world,
        Script {
            names,
            pages,
            ..Script::default()
        },
    );
    let literal = format!("http://{SERVER}:{HTTP}/shutdown");
    let named = format!("http://tracker.test:{HTTP}/shutdown");
    let moved = format!("http://tracker.test:{HTTP}/announce");
    let urls = [literal.as_str(), named.as_str(), moved.as_str()];
    let id = leech(&mut world, b, &info, &urls);
    let all_failed = |w: &mut World| {
        let trackers = w.nodes[b].driver.engine().torrent(id).unwrap().trackers();
        let mut http = trackers.iter().filter(|t| t.dht.is_none());
        http.all(|t| t.state == TrackerState::Failed)
    };
    assert!(world.run_until(LIMIT, all_failed));
    world.audit();
    let script = script.borrow();
    let lines: Vec<&str> = script.requests.iter().map(|(_, l)| l.as_str()).collect();
    assert!(!lines.is_empty());
    let asks = |line: &&str| line.starts_with("GET /announce?");
    assert!(lines.iter().all(asks), "{lines:?}");
}
