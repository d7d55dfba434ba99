//! The attacks of the specification that one node can be shown to withstand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use dunlin_core::dht::{Announce, Dht, DhtConfig, DhtEvent, DhtLog, Goal};
use dunlin_core::net::Ports;
use dunlin_core::wire::krpc::{Body, Method, ReplyOut};
use dunlin_core::{InfoHash, Machine, NodeId};
use rand_chacha::rand_core::Rng;

use crate::bench::*;

const MINUTE: Duration = Duration::from_secs(60);

fn peers(hash: u8, port: Option<u16>) -> Goal {
    let announce = port.map(|port| Announce {
        ports: Ports::both(port),
        implied: false,
        seed: false,
    });
    Goal::Peers {
        hash: InfoHash([hash; 20]),
        announce,
        scrape: false,
    }
}

/// Datagrams of a flood: a million take too long without optimisation.
const FLOOD: u32 = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

/// Row 1.
#[test]
fn forged_queries_neither_insert_nor_evict() {
    let mut b = Bench::settled(DhtConfig::default(), 200);
    let before = b.nodes();
    let known: Vec<_> = before.clone().into_iter().collect();
    for n in 0..FLOOD {
        let (ip, port) = (b.rng.next_u32(), b.rng.next_u32() as u16 | 1024);
        let random = b.random_id();
        let (addr, node) = known[n as usize % known.len()];
        let (from, data) = match n % 5 {
            0 => ((ip.to_be_bytes(), port).into(), ping(&random)),
            1 => ((ip.to_be_bytes(), port).into(), find_node(&random, &node)),
            // A known node's address under another id, its id from elsewhere, and what it never sent.
            2 => (addr, ping(&random)),
            3 => ((ip.to_be_bytes(), port).into(), ping(&node)),
            _ => (
                addr,
                reply(&ip.to_be_bytes(), &random, &addr, &ReplyOut::default()),
            ),
        };
        b.give(from, &data);
        if n % 1000 == 0 {
            b.run(Duration::from_secs(1));
        }
    }
    b.run(MINUTE);
    let after = b.nodes();
    for (addr, id) in &before {
        assert_eq!(after.get(addr), Some(id), "{addr} was evicted");
    }
    for (addr, id) in &after {
        assert_eq!(b.world.get(addr), Some(id), "{addr} was inserted");
    }
}

/// Row 2.
#[test]
fn a_reply_cannot_be_forged_off_the_path() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let (mut secrets, mut count) = (BTreeSet::new(), 0);
    for n in 0..500 {
        let to = public(7_000 + n);
        b.with(|dht, cx| dht.ping(cx, to).unwrap());
        for (to, sent) in b.sends() {
            let tid = parse(&sent).tid;
            assert!(tid.len() >= 4);
            count += 1;
            secrets.insert(tid[tid.len() - 4..].to_vec());
            if n == 0 {
                // The attacker knows everything but the secret, and is very lucky.
                for guess in 0..100_000_u32 {
                    let mut forged = tid.to_vec();
                    let guess = guess.wrapping_mul(0x9e37_79b9).to_be_bytes();
                    forged.truncate(tid.len() - 4);
                    forged.extend(guess);
                    if forged != tid {
                        b.give(to, &reply(&forged, &id(7), &to, &ReplyOut::default()));
                    }
                }
                assert!(!b.nodes().contains_key(&to));
            }
        }
        b.run(Duration::from_secs(1));
    }
    assert!(count >= 500 && secrets.len() == count, "no two alike");
    let bits = |bit: usize| {
        let set = secrets.iter().filter(|s| s[bit / 8] >> (bit % 8) & 1 == 1);
        set.count() * 100 / secrets.len()
    };
    assert!(
        (0..32).all(|bit| (35..65).contains(&bits(bit))),
        "32 random bits"
    );
}

/// Row 3.
#[test]
fn who_changes_its_id_is_evicted_and_then_banned() {
    let mut b = Bench::settled(DhtConfig::default(), 30);
    let addr = addr("198.51.100.7:4444");
    let own = b.dht.id(false);
    // Near us there is always a place.
    let near = |n| {
        let mut id = own;
        id.0[9] ^= n;
        id
    };
    let answer_as = |b: &mut Bench, id: &NodeId| {
        b.run(Duration::from_secs(20));
        let sent = b.pinged(addr);
        b.give(
            addr,
            &reply(parse(&sent).tid, id, &addr, &ReplyOut::default()),
        );
        b.nodes().get(&addr).copied()
    };
    assert_eq!(answer_as(&mut b, &near(1)), Some(near(1)));
    assert_eq!(answer_as(&mut b, &near(2)), None, "evicted");
    assert_eq!(
        answer_as(&mut b, &near(2)),
        Some(near(2)),
        "it may have been restarted"
    );
    assert!(b.ask(addr, &ping(&near(2))).is_some());
    assert_eq!(answer_as(&mut b, &near(3)), None, "evicted again");
    assert_eq!(b.ask(addr, &ping(&near(3))), None, "banned");
    assert_eq!(answer_as(&mut b, &near(3)), None, "it does not come back");
    b.run(61 * MINUTE);
    assert_eq!(
        answer_as(&mut b, &near(3)),
        Some(near(3)),
        "until an hour has passed"
    );
}

/// Row 6.
#[test]
fn references_do_not_make_us_flood_a_victim() {
    let mut b = Bench::settled(DhtConfig::default(), 100);
    let victim = IpAddr::from([198, 51, 100, 9]);
    for n in 0..20_u8 {
        let near = NodeId([n; 20]);
        b.poison.push((near, (victim, 1000 + u16::from(n)).into()));
    }
    for bad in [
        "0.0.0.1:1",
        "127.0.0.1:80",
        "10.0.0.1:53",
        "224.0.0.1:9",
        "192.168.0.1:1",
        "9.9.9.9:0",
    ] {
        b.poison.push((id(3), addr(bad)));
        b.values.push(addr(bad));
    }
    b.values.push(addr("198.51.100.20:5000"));
    let start = b.now;
    for n in 0..20 {
        b.with(|dht, cx| dht.search(cx, peers(n, Some(1))).unwrap());
    }
    b.run(10 * MINUTE);
    let passed = b.now.saturating_since(start).as_secs() as usize;
    let to_victim = b.strays.iter().filter(|(to, _)| to.ip() == victim).count();
    assert!(to_victim > 0, "it is not known to be one");
    assert!(
        to_victim <= 20 + 5,
        "once for each search, and rarely else: {to_victim}"
    );
    assert!(to_victim <= 10 + 2 * passed);
    for (to, _) in &b.strays {
        assert_eq!(to.ip(), victim, "nobody else was named");
    }
    // What is found is told, but no martians.
    let told = b.events.iter().filter_map(|e| match e {
        DhtEvent::Peers { peers, .. } => Some(peers.clone()),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 20);
    assert!(
        told.iter()
            .flatten()
            .all(|p| *p == addr("198.51.100.20:5000")),
        "{told:?}"
    );
}

/// Row 6: eight nodes of a reply are enough.
#[test]
fn one_reply_does_not_fill_a_search() {
    let mut b = Bench::new(DhtConfig::default());
    let liar = public(1);
    b.world.insert(liar, id(0xee));
    for n in 0..40 {
        b.poison.push((NodeId([n as u8; 20]), public(2_000 + n)));
    }
    b.with(|dht, cx| dht.add_contact(cx, liar));
    b.run(Duration::from_secs(3));
    let asked: BTreeSet<_> = b.strays.iter().map(|(to, _)| *to).collect();
    assert!(!asked.is_empty());
    assert!(
        asked.len() <= 8 * b.answered,
        "{} of {} replies",
        asked.len(),
        b.answered
    );
}

/// Row 6: services below port 1024 are not DHT nodes; one may be, so it gets one ping.
#[test]
fn a_privileged_port_is_probed_once() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let victim = addr("198.51.100.9:53");
    for _ in 0..600 {
        let me = b.random_id();
        b.give(victim, &ping(&me));
        b.run(Duration::from_secs(1));
    }
    let pings = |b: &Bench, to| {
        let to_it = b.strays.iter().filter(|(addr, _)| *addr == to);
        let queries = to_it.filter(|(_, d)| matches!(parse(d).body, Body::Query(Method::Ping, _)));
        queries.count()
    };
    assert_eq!(pings(&b, victim), 1);
    // Answers do not count: they are to what was asked.
    assert!(b.strays.iter().filter(|(to, _)| *to == victim).count() > 500);
}

/// Row 7.
#[test]
fn a_token_is_good_for_one_address_and_ten_minutes() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let (from, me, hash) = (addr("198.51.100.7:4444"), id(7), id(1));
    let token = b.token(from, &me, &hash);
    let try_it = |b: &mut Bench, from: &str, me: &NodeId, hash: &NodeId, token: &[u8]| {
        let answer = b.ask(addr(from), &announce(me, hash, 9, token)).unwrap();
        matches!(parse(&answer).body, Body::Reply(_))
    };
    let here = "198.51.100.7:4444";
    assert!(
        !try_it(&mut b, "198.51.100.8:4444", &me, &hash, &token),
        "address"
    );
    let mut flipped = token.clone();
    flipped[3] ^= 4;
    assert!(!try_it(&mut b, here, &me, &hash, &flipped), "bits");
    assert!(!try_it(&mut b, here, &me, &hash, &token[..7]), "cut");
    assert_eq!(b.dht.stats().peers, 0);
    assert!(try_it(&mut b, here, &me, &hash, &token));
    // BEP 5 binds it to nothing but the address.
    let elsewhere = "198.51.100.7:4445";
    assert!(try_it(&mut b, elsewhere, &me, &hash, &token), "port");
    assert!(try_it(&mut b, here, &id(8), &hash, &token), "id");
    assert!(try_it(&mut b, here, &me, &id(2), &token), "hash");
    assert_eq!(b.dht.stats().peers, 2, "one for each hash");
    b.run(5 * MINUTE - Duration::from_secs(61));
    assert!(
        try_it(&mut b, here, &me, &hash, &token),
        "five minutes, less what passed before"
    );
    b.run(7 * MINUTE);
    assert!(
        !try_it(&mut b, here, &me, &hash, &token),
        "more than ten minutes"
    );
    assert_eq!(b.dht.stats().peers, 2);
}

/// Row 9.
#[test]
fn every_table_has_a_cap() {
    let config = DhtConfig {
        source_rate: None,
        max_hashes: 50,
        max_peers: 200,
        max_peers_per_hash: 20,
        max_items: 10,
        max_replies: 16,
        ..DhtConfig::default()
    };
    let mut b = Bench::settled(config, 60);
    for n in 0..3_000_u32 {
        let (from, me) = (public(10_000 + n % 97), b.random_id());
        let hash = if n % 3 == 0 { id(1) } else { b.random_id() };
        let token = b.token(from, &me, &hash);
        assert!(b.ask(from, &announce(&me, &hash, 5, &token)).is_some());
        let value = int(n.into());
        let target = dunlin_core::dht::item::immutable_target(&value);
        let token = b.token(from, &me, &target);
        let put = [
            ("id", string(&me.0)),
            ("token", string(&token)),
            ("v", value),
        ];
        assert!(b.ask(from, &raw("put", &put)).is_some());
        let stats = b.dht.stats();
        assert!(
            stats.torrents <= 50 && stats.peers <= 200 && stats.items <= 10,
            "{stats:?}"
        );
    }
    let stats = b.dht.stats();
    assert_eq!((stats.torrents, stats.items), (50, 10));
    // Replies that are not fetched do not pile up.
    b.sends();
    for n in 0..5_000 {
        b.give(public(n), &ping(&id(7)));
    }
    let replies = b
        .sends()
        .into_iter()
        .filter(|(_, d)| matches!(parse(d).body, Body::Reply(_)));
    assert_eq!(replies.count(), 16);
    // Nor do events that nobody wants, nor contacts of PORT messages while we are off.
    b.with(Dht::stop);
    for n in 0..5_000 {
        b.with(|dht, cx| {
            dht.add_contact(cx, public(n));
            assert!(dht.ping(cx, public(n)).is_err());
        });
    }
    assert!(b.dht.save(b.now).contacts.len() <= 64);
    assert!(core::iter::from_fn(|| b.dht.poll_event()).count() <= 256);
}

/// Row 11.
#[test]
fn ids_made_up_to_be_near_do_not_grow_the_table() {
    let mut b = Bench::settled(DhtConfig::default(), 100);
    let (own, before) = (b.dht.id(false), b.nodes());
    let mut n = 0;
    for shared in 0..120_usize {
        for _ in 0..12 {
            let mut near = b.random_id();
            near.0[..shared / 8].copy_from_slice(&own.0[..shared / 8]);
            let (mask, byte) = (0xff_u8 >> (shared % 8), shared / 8);
            near.0[byte] = (own.0[byte] & !mask) | (near.0[byte] & mask);
            near.0[byte] ^=
                (own.0[byte] ^ near.0[byte] ^ 0x80 >> (shared % 8)) & 0x80 >> (shared % 8);
            n += 1;
            let from = public(20_000 + n);
            b.world.insert(from, near);
            b.give(from, &ping(&near));
            b.run(Duration::from_millis(500));
        }
    }
    let stats = b.dht.stats();
    assert!(stats.buckets <= 26, "{} buckets", stats.buckets);
    assert!(stats.nodes <= 26 * 8);
    // Nobody of the deepest half is an attacker's only because it chose its id.
    let kept = before
        .keys()
        .filter(|addr| b.nodes().contains_key(addr))
        .count();
    assert!(
        kept * 10 >= before.len() * 9,
        "{kept} of {} honest ones",
        before.len()
    );
}

/// Row 12.
#[test]
fn nodes_of_one_network_are_no_network() {
    let mut b = Bench::new(DhtConfig::default());
    for n in 0..80_u8 {
        let from = addr(&format!("11.22.{n}.1:6881"));
        let id = b.sound_id(from.ip());
        b.world.insert(from, id);
    }
    let complete = |b: &Bench| {
        b.events
            .iter()
            .any(|e| matches!(e, DhtEvent::Log(DhtLog::Bootstrapped { .. })))
    };
    b.with(|dht, cx| dht.add_contact(cx, addr("11.22.0.1:6881")));
    b.run(5 * MINUTE);
    assert!(b.nodes().len() >= 32 && !complete(&b));
    // As many of different ones are one.
    assert!(complete(&Bench::settled(DhtConfig::default(), 200)));
}

/// Row 13.
#[test]
fn few_liars_do_not_tell_us_who_we_are() {
    let mut b = Bench::settled(DhtConfig::default(), 100);
    let (ours, own) = (b.external.ip(), b.dht.id(false));
    let externals = |b: &Bench| {
        let told = b.events.iter().filter_map(|e| match e {
            DhtEvent::External(ip) => Some(*ip),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(externals(&b), [ours]);
    assert!(dunlin_core::dht::secure_id::is_secure(&own, ours));
    // Many of one network, and a few of others: nothing happens.
    let lie = addr("203.0.113.66:6881");
    let tell = |b: &mut Bench, from: std::net::SocketAddr, seen| {
        b.with(|dht, cx| dht.ping(cx, from).unwrap());
        for (to, sent) in b.sends() {
            if to == from {
                b.give(
                    from,
                    &reply(parse(&sent).tid, &id(7), &seen, &ReplyOut::default()),
                );
            }
        }
        b.run(Duration::from_millis(100));
    };
    for n in 0..100 {
        tell(&mut b, addr(&format!("198.51.100.{n}:7")), lie);
    }
    for n in 0..7 {
        tell(&mut b, public(30_000 + n), lie);
    }
    b.run(35 * MINUTE);
    assert_eq!((externals(&b).len(), b.dht.id(false)), (1, own));
    // Everybody says so: then it is true, but not twice within half an hour.
    b.external = lie;
    b.run(70 * MINUTE);
    assert_eq!(externals(&b), [ours, lie.ip()]);
    let id = b.dht.id(false);
    assert!(dunlin_core::dht::secure_id::is_secure(&id, lie.ip()));
    b.external = addr("203.0.113.77:6881");
    for n in 0..40 {
        let seen = b.external;
        tell(&mut b, public(40_000 + n), seen);
    }
    assert!(externals(&b).len() <= 3);
}

/// Row 14: time that jumps.
#[test]
fn clocks_that_jump_do_no_harm() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let before: BTreeMap<_, _> = b.nodes();
    let late = b.now + 100_000 * MINUTE;
    let early = dunlin_core::Instant::from_micros(1);
    for now in [early, late, early] {
        let back = b.now;
        b.now = now;
        assert!(b.ask(addr("198.51.100.7:4444"), &ping(&id(7))).is_some() || now == early);
        b.with(Machine::handle_timeout);
        b.sends();
        b.now = back.max(now);
    }
    b.run(30 * MINUTE);
    let kept = before
        .keys()
        .filter(|addr| b.nodes().contains_key(addr))
        .count();
    assert!(kept * 2 > before.len(), "{kept} of {}", before.len());
}

/// Row 15.
#[test]
fn who_never_answered_is_not_handed_out() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    for n in 0..300_u32 {
        let me = b.random_id();
        b.give(public(50_000 + n), &ping(&me));
        b.run(Duration::from_millis(100));
    }
    let world: BTreeSet<Vec<u8>> = b.world.iter().map(|(addr, id)| compact(id, addr)).collect();
    let mut told = 0;
    for n in 0..200_u32 {
        let target = b.random_id();
        let answer = b
            .ask(public(60_000 + n), &find_node(&id(7), &target))
            .unwrap();
        for node in reply_of(&answer).nodes.chunks(26) {
            assert!(world.contains(node));
            told += 1;
        }
    }
    assert!(told > 1000, "{told}");
}
