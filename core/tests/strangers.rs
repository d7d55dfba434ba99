//! Strangers that take places, names and attention: what one IP address can do to everybody else.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use common::bench::{Bench, message, number_of, pex_payload};
use common::commands::Commands;
use common::{add, torrent};
use dunlin_core::engine::{Engine, Source};
use dunlin_core::{Caps, CloseReason, Config, ConnId, DhtMode, InfoHash, Instant};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn v4(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 8, 0, host], port))
}

const EXTENDED_HELLO: &[u8] = b"\0d1:md6:ut_pexi1eee";

/// A message of peer exchange; the number is the one that our own handshake gives.
fn pex(heard: &[u8], peers: &[SocketAddr]) -> Vec<u8> {
    message(20, &pex_payload(number_of(heard, "ut_pex").unwrap(), peers))
}

#[test]
fn repeating_a_peers_id_from_another_address_ends_nobodys_connection() {
    let (info, _) = torrent(100_000, 32 << 10);
    let hash = info.info_hash();
    let (mut b, _) = Bench::with(&info, Config::default());
    let honest = b.peer(v4(1, 40_000), hash, 9).unwrap();
    let thief = b.peer(v4(2, 40_000), hash, 9);
    assert!(!b.closed.contains(&honest));
    // Nor does a thief that comes first keep the honest one out.
    assert!(thief.is_some());
    // From the same address it is the same peer, which keeps one connection.
    let again = b.peer(v4(1, 40_001), hash, 9);
    assert_eq!(again, None);
    assert!(!b.closed.contains(&honest));
    assert_eq!(b.connections(), 2);
}

#[test]
fn silent_connections_from_one_address_keep_nobody_out() {
    let (info, _) = torrent(100_000, 32 << 10);
    let (mut b, _) = Bench::with(&info, Config::default());
    let flood: Vec<_> = (0..600).map(|n| b.accept(v4(66, 1000 + n))).collect();
    assert!(
        flood.iter().all(Option::is_some),
        "each took the oldest's place"
    );
    assert_eq!(b.connections(), 8);
    let last = flood.iter().rev().take(8).flatten();
    assert!(last.into_iter().all(|conn| !b.closed.contains(conn)));
    assert!(b.peer(v4(1, 5), info.info_hash(), 1).is_some());
}

#[test]
fn silent_connections_from_everywhere_have_a_quota_and_the_oldest_goes_first() {
    let (info, _) = torrent(100_000, 32 << 10);
    let (mut b, _) = Bench::with(&info, Config::default());
    let hash = info.info_hash();
    let honest = b.peer(v4(1, 5), hash, 1).unwrap();
    let from = |n: u16| SocketAddr::from(([10, 9, (n >> 8) as u8, n as u8], 5));
    let flood: Vec<_> = (0..1000).map(|n| b.accept(from(n)).unwrap()).collect();
    assert_eq!(b.connections(), 101);
    assert!(flood[..900].iter().all(|conn| b.closed.contains(conn)));
    assert!(!b.closed.contains(&honest));
    assert!(b.peer(v4(2, 5), hash, 2).is_some());
}

#[test]
fn silent_connections_make_way_for_those_that_we_open() {
    let (info, _) = torrent(100_000, 32 << 10);
    let config = Config {
        max_connections: 4,
        ..Config::default()
    };
    let (mut b, id) = Bench::with(&info, config);
    (0..9).for_each(|n| assert!(b.accept(v4(n, 5)).is_some()));
    assert_eq!(b.connections(), 4);
    let peers: Vec<_> = (0..9).map(|n| v4(100 + n, 5)).collect();
    b.e.add_peers(b.now, id, &peers);
    b.pump();
    assert_eq!((b.dialled.len(), b.connections()), (4, 4));
    assert_eq!(b.accept(v4(50, 5)), None, "all places are in use");
}

#[test]
fn one_ipv6_64_and_one_ipv4_address_get_a_few_places_each() {
    let (info, _) = torrent(100_000, 32 << 10);
    let hash = info.info_hash();
    for attacker in [
        |n: u8| SocketAddr::from(([0x2001, 0xdb8, 0, 1, 0, 0, 0, n.into()], 7)),
        |n: u8| v4(66, n.into()),
    ] {
        let (mut b, _) = Bench::with(&info, Config::default());
        let places = (1..200).filter_map(|n| b.peer(attacker(n), hash, n));
        assert_eq!(places.count(), 8);
        let honest = SocketAddr::from(([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1], 7));
        assert!(b.peer(honest, hash, 250).is_some());
    }
}

#[test]
fn one_address_gets_a_few_places_however_many_torrents_it_asks_for() {
    let mut b = Bench::new(Config::default());
    let hashes: Vec<_> = (0..40).map(|n| InfoHash([n; 20])).collect();
    for &info_hash in &hashes {
        let name = None;
        b.add(Source::Hash { info_hash, name }, &[]);
    }
    let mut places = 0;
    for (n, hash) in hashes.iter().enumerate() {
        for id in 0..8 {
            let port = (n * 8 + id) as u16 + 1;
            places += u32::from(b.peer(v4(66, port), *hash, id as u8).is_some());
        }
    }
    assert_eq!((places, b.connections()), (32, 32));
    assert!(b.peer(v4(1, 5), hashes[39], 99).is_some());
}

#[test]
fn peer_exchange_does_not_turn_us_against_an_address() {
    let (info, _) = torrent(100_000, 32 << 10);
    let hash = info.info_hash();
    let (mut b, _) = Bench::with(&info, Config::default());
    let victim = |port: u16| SocketAddr::from(([10, 99, 0, 1], port));
    // Twelve peers, each of which tells of fifty ports a minute.
    for minute in 0..30_u16 {
        for teller in 0..12_u16 {
            let Some(conn) = b.peer(v4(teller as u8, 1 + minute), hash, teller as u8) else {
                continue;
            };
            b.say(conn, &message(20, EXTENDED_HELLO));
            let heard = b.hear(conn);
            let first = 1 + (minute * 12 + teller) * 50;
            let ports: Vec<_> = (first..first + 50).map(victim).collect();
            b.say(conn, &pex(&heard, &ports));
            b.wait(Duration::from_millis(1));
            assert!(b.dialled.len() <= 4, "{} at once", b.dialled.len());
            b.e.handle_closed(b.now, conn, CloseReason::Eof);
        }
        b.refuse_all();
        b.wait(MINUTE);
    }
    let dials = b
        .dials()
        .iter()
        .filter(|a| a.ip() == victim(1).ip())
        .count();
    assert!((4..=40).contains(&dials), "{dials} in half an hour");
}

#[test]
fn peer_exchange_does_not_keep_us_from_a_peer_that_is_named_later() {
    let (info, _) = torrent(100_000, 32 << 10);
    let hash = info.info_hash();
    let (mut b, id) = Bench::with(&info, Config::default());
    for n in 0..100_u16 {
        let conn = b.peer(v4(66, 1 + n), hash, n as u8).unwrap();
        b.say(conn, &message(20, EXTENDED_HELLO));
        let heard = b.hear(conn);
        let told = |i: u16| SocketAddr::from(([10, 50, (n + i * 7) as u8, i as u8], 1 + n));
        let told: Vec<_> = (0..50).map(told).collect();
        b.say(conn, &pex(&heard, &told));
        b.e.handle_closed(b.now, conn, CloseReason::Eof);
    }
    assert!(b.known(id) <= 100 + 8, "{} are known", b.known(id));
    let named = v4(1, 1);
    b.e.add_peers(b.now, id, &[named]);
    b.pump();
    // The places for attempts are all taken; the next goes to the one that was named.
    b.refuse_all();
    assert!(b.dials().contains(&named));
}

/// A peer that has all and sends rubbish for whatever it is asked, until it is let go.
fn poison(b: &mut Bench, conn: ConnId) {
    b.say(conn, &[message(14, &[]), message(1, &[])].concat());
    for _ in 0..100 {
        let heard = b.hear(conn);
        let mut rest = &heard[..];
        if rest.starts_with(b"\x13BitTorrent protocol") {
            rest = &rest[68..];
        }
        let mut asked = false;
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (body, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            rest = tail;
            if body.first() == Some(&6) {
                asked = true;
                let len = u32::from_be_bytes(body[9..13].try_into().unwrap());
                let block = [&body[1..9], &vec![0xee; len as usize]].concat();
                b.say(conn, &message(7, &block));
            }
        }
        if !asked || b.closed.contains(&conn) {
            return;
        }
    }
}

#[test]
fn three_ports_with_bad_pieces_keep_an_address_out_whoever_dials_and_on_whichever_port() {
    let (info, _) = torrent(64 * (16 << 10), 16 << 10);
    let hash = info.info_hash();
    let (mut b, id) = Bench::with(&info, Config::default());
    let evil = |port| v4(66, port);
    let mut came = 0;
    for port in 1..30 {
        if let Some(conn) = b.peer(evil(port), hash, port as u8) {
            came += 1;
            poison(&mut b, conn);
            assert!(b.closed.contains(&conn), "it is banned");
        }
        b.wait(SECOND);
    }
    assert!((1..=3).contains(&came), "{came} times");
    // Neither by name, nor by peer exchange, nor by coming again on a new port.
    let before = b.dials().len();
    b.e.add_peers(b.now, id, &[evil(6881), evil(6882)]);
    b.pump();
    let teller = b.peer(v4(1, 1), hash, 200).unwrap();
    b.say(teller, &message(20, EXTENDED_HELLO));
    let heard = b.hear(teller);
    b.say(teller, &pex(&heard, &[evil(6883), v4(2, 5)]));
    b.wait(MINUTE);
    assert!(b.dials()[before..].iter().all(|a| a.ip() != evil(1).ip()));
    assert!(
        b.dials()[before..].contains(&v4(2, 5)),
        "others are dialled"
    );
    assert_eq!(b.peer(evil(7000), hash, 77), None);
}

#[test]
fn addresses_of_a_family_that_is_missing_are_not_learned() {
    let now = Instant::from_micros(10);
    let mut caps = Caps::all();
    caps.ipv6 = false;
    let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
    let mut e = Engine::new(now, Config::default(), caps, rng);
    let source = Source::Hash {
        info_hash: InfoHash([1; 20]),
        name: None,
    };
    let id = e.add(now, add(source)).unwrap();
    e.add_peers(now, id, &["[2001:db8::1]:5".parse().unwrap(), v4(1, 1)]);
    assert_eq!(e.torrent(id).unwrap().status(now).known, 1);
}

#[test]
fn many_peers_at_one_address_are_all_dialled_if_the_application_names_them() {
    let (info, _) = torrent(100_000, 32 << 10);
    let (mut b, id) = Bench::with(&info, Config::default());
    let peers: Vec<_> = (1..=40).map(|port| v4(7, port)).collect();
    b.e.add_peers(b.now, id, &peers);
    b.pump();
    assert_eq!(b.dialled.len(), 40);
}

#[test]
fn torrents_take_turns_in_connecting() {
    let config = Config {
        max_half_open: 1,
        ..Config::default()
    };
    let mut b = Bench::new(config);
    for t in 0..4 {
        let peers: Vec<_> = (0..20)
            .map(|n| SocketAddr::from(([10, 1, t, n], 9)))
            .collect();
        let source = Source::Hash {
            info_hash: InfoHash([t; 20]),
            name: None,
        };
        b.add(source, &peers);
    }
    for _ in 0..40 {
        b.refuse_all();
    }
    let torrent = |a: &SocketAddr| match a.ip() {
        IpAddr::V4(ip) => ip.octets()[2],
        IpAddr::V6(_) => 0,
    };
    let order: Vec<_> = b.dials().iter().map(torrent).collect();
    for turn in order[4..].chunks_exact(4) {
        let all: BTreeSet<_> = turn.iter().collect();
        assert_eq!(all.len(), 4, "{order:?}");
    }
}

#[test]
fn a_torrent_that_comes_late_gets_a_place_from_one_that_has_many() {
    let (info, _) = torrent(100_000, 32 << 10);
    let config = Config {
        max_connections: 20,
        ..Config::default()
    };
    let (mut b, _) = Bench::with(&info, config);
    let early: Vec<_> = (0..20)
        .map(|n| b.peer(v4(n, 5), info.info_hash(), n).unwrap())
        .collect();
    let alive = |b: &mut Bench| {
        for &conn in &early {
            b.say(conn, &[0; 4]);
            b.hear(conn);
        }
    };
    alive(&mut b);
    b.wait(2 * MINUTE);
    let name = None;
    let info_hash = InfoHash([7; 20]);
    let peers: Vec<_> = (0..30).map(|n| v4(100 + n, 9)).collect();
    b.add(Source::Hash { info_hash, name }, &peers);
    assert!(b.dials().is_empty(), "there is no place");
    // One each ten seconds: it neither waits for ever nor empties the other at once.
    for n in 1..=3 {
        b.wait(10 * SECOND);
        assert_eq!(b.dialled.len(), n);
    }
    for _ in 0..40 {
        b.wait(10 * SECOND);
        alive(&mut b);
    }
    let left = early.iter().filter(|c| !b.closed.contains(c)).count();
    assert!((9..=12).contains(&left), "{left} are left of twenty");
}

#[test]
fn a_peer_that_says_more_than_is_kept_before_the_metadata_comes_is_connected_to_again() {
    let (info, _) = torrent(64 * (16 << 10), 16 << 10);
    let config = Config {
        // Seven bytes each, one less than the bitfield.
        max_early_bitfields: 7 * 500,
        ..Config::default()
    };
    let mut b = Bench::new(config);
    let info_hash = info.info_hash();
    let name = None;
    b.add(Source::Hash { info_hash, name }, &[]);
    let from = v4(1, 5);
    let conn = b.peer(from, info_hash, 1).unwrap();
    let size = info.raw().len();
    let hello = format!("\0d1:md11:ut_metadatai1ee13:metadata_sizei{size}e1:pi99ee");
    b.say(conn, &message(5, &[0xff; 8]));
    b.say(conn, &message(20, hello.as_bytes()));
    let heard = b.hear(conn);
    let text = String::from_utf8_lossy(&heard);
    let at = text.find("11:ut_metadatai").unwrap() + "11:ut_metadatai".len();
    let mut answer = vec![text[at..].split('e').next().unwrap().parse().unwrap()];
    answer.extend(format!("d8:msg_typei1e5:piecei0e10:total_sizei{size}ee").into_bytes());
    answer.extend(info.raw());
    b.say(conn, &message(20, &answer));
    assert!(b.closed.contains(&conn));
    b.wait(MINUTE);
    assert_eq!(b.dials(), [SocketAddr::new(from.ip(), 99)]);
}

/// Addresses from the nearest to the farthest: this machine, the link, the own network, others.
const NEAR_AND_FAR: [&str; 4] = [
    "127.0.0.1:80",
    "169.254.169.254:80",
    "192.168.1.1:80",
    "20.0.0.5:6881",
];

fn near_and_far(from: usize) -> Vec<SocketAddr> {
    NEAR_AND_FAR[from..]
        .iter()
        .map(|a| a.parse().unwrap())
        .collect()
}

#[test]
fn peers_tell_of_no_address_that_is_closer_to_us_than_they_are() {
    let (info, _) = torrent(100_000, 32 << 10);
    let hash = info.info_hash();
    for (near, teller) in ["127.0.0.7", "169.254.7.7", "10.8.0.1", "9.9.9.9"]
        .into_iter()
        .enumerate()
    {
        let (mut b, _) = Bench::with(&info, Config::default());
        let teller = SocketAddr::new(teller.parse().unwrap(), 5);
        let conn = b.peer(teller, hash, 1).unwrap();
        b.say(conn, &message(20, EXTENDED_HELLO));
        let heard = b.hear(conn);
        b.say(conn, &pex(&heard, &near_and_far(0)));
        b.wait(SECOND);
        let mut dials = b.dials();
        dials.sort_by_key(|addr| near_and_far(0).iter().position(|a| a == addr));
        assert_eq!(dials, near_and_far(near), "told by {teller}");
        assert_eq!(b.e.status(b.now).refused_addresses, near as u64);
    }
}

#[test]
fn trackers_name_peers_of_our_network_but_not_of_our_machine() {
    for (tracker, near) in [
        ("http://tracker.example/announce", 2),
        ("http://20.0.0.1/announce", 2),
        ("http://10.8.0.1/announce", 2),
        ("http://169.254.7.7/announce", 1),
        ("http://localhost/announce", 0),
        ("http://[::1]/announce", 0),
    ] {
        let mut b = Bench::new(Config::default());
        b.tracker_peers = near_and_far(0);
        let source = Source::Hash {
            info_hash: InfoHash([1; 20]),
            name: None,
        };
        let mut torrent = add(source);
        torrent.trackers = vec![vec![tracker.into()]];
        b.e.add(b.now, torrent).unwrap();
        b.pump();
        b.wait(SECOND);
        let mut dials = b.dials();
        dials.sort_by_key(|addr| near_and_far(0).iter().position(|a| a == addr));
        assert_eq!(dials, near_and_far(near), "named by {tracker}");
        assert_eq!(b.e.status(b.now).refused_addresses > 0, near > 0);
    }
}

#[test]
fn the_dht_names_addresses_of_the_internet_only() {
    for (local, near) in [(false, 3), (true, 0)] {
        let mut config = Config {
            dht: DhtMode::On,
            dht_routers: vec!["20.0.0.9:6881".parse().unwrap()],
            ..Config::default()
        };
        config.dht_config.local = local;
        let mut b = Bench::new(config);
        b.dht_peers = near_and_far(0);
        let source = Source::Hash {
            info_hash: InfoHash([1; 20]),
            name: None,
        };
        b.add(source, &[]);
        b.wait(MINUTE);
        let mut dials = b.dials();
        dials.sort_by_key(|addr| near_and_far(0).iter().position(|a| a == addr));
        dials.dedup();
        assert_eq!(dials, near_and_far(near), "a local DHT: {local}");
    }
}

#[test]
fn who_asks_for_a_torrent_that_is_being_opened_is_answered_when_it_is_open() {
    let (info, _) = torrent(100_000, 32 << 10);
    let hash = info.info_hash();
    let mut b = Bench::new(Config::default());
    b.opens_slowly = true;
    b.add(Source::Info(info.clone()), &[]);
    // Whether the driver is to read from it, if that changed.
    let reads = |b: &mut Bench, conn: ConnId| {
        let told = std::iter::from_fn(|| b.e.poll_interest());
        let its = told.filter(|(c, _)| *c == conn).last();
        its.map(|(_, readiness)| readiness.read)
    };
    let early = b.accept(v4(1, 40_000)).unwrap();
    assert_eq!(reads(&mut b, early), Some(true));
    b.hello(early, hash, 1);
    // Nothing more of it is read before it has an answer.
    assert_eq!(reads(&mut b, early), Some(false));
    b.say(early, EXTENDED_HELLO);
    assert!(b.hear(early).is_empty());
    let stranger = b.peer(v4(2, 40_000), InfoHash([7; 20]), 2);
    assert_eq!(stranger, None, "asks for a torrent that is not here");
    b.open();
    assert_eq!(reads(&mut b, early), Some(true));
    assert!(b.hear(early).starts_with(b"\x13BitTorrent protocol"));
    assert!(!b.closed.contains(&early));
}

#[test]
fn who_waits_for_a_torrent_has_no_more_time_and_room_than_who_says_nothing() {
    let (info, _) = torrent(100_000, 32 << 10);
    let hash = info.info_hash();
    let mut b = Bench::new(Config::default());
    b.opens_slowly = true;
    let id = b.add(Source::Info(info.clone()), &[]);
    let flood: Vec<_> = (0..600)
        .map(|n| b.accept(v4(66, 1000 + n)).unwrap())
        .collect();
    flood
        .iter()
        .rev()
        .take(8)
        .for_each(|c| b.hello(*c, hash, 1));
    assert_eq!(b.connections(), 8);
    b.wait(MINUTE);
    assert_eq!(b.connections(), 0);
    // Nor is there anything to wait for once the torrent is paused.
    let early = b.peer(v4(1, 40_000), hash, 1).unwrap();
    b.e.pause(b.now, id);
    b.pump();
    assert!(b.closed.contains(&early));
    assert_eq!(b.peer(v4(1, 40_000), hash, 1), None);
    b.e.resume(b.now, id);
    let early = b.peer(v4(1, 40_000), hash, 1).unwrap();
    b.open();
    assert!(!b.hear(early).is_empty());
}
