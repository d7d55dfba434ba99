//! The "Using DHT" page at a node by itself: requirements S6 and S12 to S34 of the project's list,
//! each under its number. What takes an engine is tested there.

use super::*;
use crate::dht::Cause;
use crate::dht::node::searches::{Requester, Search};
use crate::wire::krpc::{Item, MAX_DATAGRAM, Message};

const MINUTE: Duration = Duration::from_secs(60);

fn stranger_at(n: u8) -> SocketAddr {
    SocketAddr::from(([101, n, 3, 1], 5000))
}

fn parse(data: &[u8]) -> Message<'_> {
    krpc::parse(data).expect("sound")
}

fn code(data: Option<Vec<u8>>) -> Option<i64> {
    match parse(&data?).body {
        Body::Error(code, _) => Some(code),
        _ => None,
    }
}

const HASH: NodeId = NodeId([9; 20]);

const GET_PEERS: QueryOut<'_> = QueryOut::GetPeers {
    info_hash: HASH,
    want: None,
    scrape: false,
    noseed: false,
};

/// Announces from a stranger, with the token it is given; the error, if it is refused.
fn announce(net: &mut Net, n: usize, from: SocketAddr, port: u16) -> Option<i64> {
    let got = net.ask(n, from, &GET_PEERS).expect("an answer");
    let token = reply(&got).token.expect("a token").to_vec();
    let query = announce_with(&token, port);
    code(net.ask(n, from, &query))
}

const fn announce_with(token: &[u8], port: u16) -> QueryOut<'_> {
    QueryOut::AnnouncePeer {
        info_hash: HASH,
        token,
        port,
        implied_port: false,
        seed: false,
    }
}

#[test]
fn s05_start_and_stop_are_said() {
    let mut net = Net::new(1, &DhtConfig::default());
    net.with(0, Dht::stop);
    let said: Vec<_> = net.log(0).iter().map(DhtLog::to_string).collect();
    assert_eq!(
        said,
        ["Starting DHT server on port 6881.", "Stopping DHT server."]
    );
}

#[test]
fn s06_a_start_resets_statistics() {
    let mut net = Net::formed(40, &DhtConfig::default());
    assert!(net.nodes[3].1.stats().queries_sent > 0);
    net.with(3, Dht::stop);
    let (now, rng) = (net.now, &mut net.rng);
    net.nodes[3].1.start(&mut Cx { now, rng }, 6881);
    let stats = net.nodes[3].1.stats();
    let counters = (stats.queries_sent, stats.replies_received, stats.bytes_read);
    assert_eq!((stats.active, counters), (true, (0, 0, 0)));
}

#[test]
fn s12_nobody_answers_is_a_search_without_success() {
    let mut net = Net::new(2, &DhtConfig::default());
    net.with(1, Dht::stop);
    net.with(0, |dht, cx| dht.add_contact(cx, addr(1)));
    net.with(0, |dht, cx| dht.search(cx, peers(9, Some(1))).unwrap());
    net.run(Duration::from_secs(30));
    let report = net.report(0);
    let (failure, cause) = report.failure.expect("it failed");
    assert_eq!(failure.to_string(), "DHT search unsuccessful.");
    assert_eq!((report.contacted, cause), (1, Cause::NoReplies));
}

#[test]
fn s12_no_confirmation_and_no_peers_is_a_failed_announce() {
    let mut net = Net::formed(40, &DhtConfig::default());
    net.with(0, |dht, cx| dht.search(cx, peers(9, Some(1))).unwrap());
    // Everybody goes once the search is over and before the announces arrive.
    let searching = |net: &Net| {
        let searches = &net.nodes[0].1.searches;
        let owners = |s: &Search| s.requester == Requester::Owner && !s.is_storing();
        searches.values().any(|s| owners(s))
    };
    for _ in 0..1_000 {
        if !searching(&net) {
            break;
        }
        net.run(Duration::from_millis(5));
    }
    for n in 1..40 {
        net.with(n, Dht::stop);
    }
    net.run(Duration::from_secs(30));
    let report = net.report(0);
    let (failure, _) = report.failure.expect("it failed");
    assert_eq!(failure.to_string(), "Announce failed.");
    assert_eq!((report.stores, report.stored), (8, 0));
}

#[test]
fn s13_a_port_message_adds_a_node_in_any_phase() {
    let mut net = Net::formed(40, &DhtConfig::default());
    let late = net.nodes.len();
    net.add(&DhtConfig::default());
    net.with(late, |dht, cx| dht.ping(cx, addr(7)).unwrap());
    net.run(Duration::from_secs(20));
    let known = net.nodes[late].1.stats().nodes;
    assert!(known > 8, "it bootstraps from the one node: {known}");
    let pinged = |e: &DhtEvent| {
        matches!(
            e,
            DhtEvent::Ping {
                answer: Some(_),
                ..
            }
        )
    };
    assert!(net.events(late).iter().any(pinged));
}

#[test]
fn s15_contacts_are_bounded_and_few_at_a_time() {
    let mut net = Net::new(1, &DhtConfig::default());
    for n in 1..=200 {
        net.with(0, |dht, cx| dht.add_contact(cx, addr(n)));
    }
    let side = net.nodes[0].1.sides[0].as_ref().unwrap();
    assert_eq!(side.contacts.len(), 64);
    assert_eq!(
        side.contacts.back(),
        Some(&addr(200)),
        "the oldest make way"
    );
    net.sent = 0;
    net.run(Duration::from_millis(900));
    assert!(
        (1..=8).contains(&net.sent),
        "{} are asked in a round",
        net.sent
    );
}

#[test]
fn s15_contacts_are_dropped_when_the_bootstrap_is_complete() {
    let mut net = Net::formed(140, &DhtConfig::default());
    let side = net.nodes[5].1.sides[0].as_ref().unwrap();
    assert!(side.contacts.is_empty());
    net.with(5, |dht, cx| dht.add_contact(cx, addr(9_000)));
    net.run(MINUTE);
    assert!(net.nodes[5].1.queries.len() < 8, "nobody is asked for it");
}

#[test]
fn s16_a_table_that_suffices_from_the_cache_needs_no_bootstrap() {
    let mut net = Net::formed(140, &DhtConfig::default());
    let saved = net.nodes[4].1.save(net.now);
    assert!(saved.nodes.len() >= 32, "{}", saved.nodes.len());
    net.with(4, Dht::stop);
    net.log(4);
    let mut again = net.with_cx(|cx| Dht::new(cx, DhtConfig::default()));
    net.with_cx(|cx| again.restore(cx, &saved));
    net.with_cx(|cx| again.start(cx, 6881));
    net.replace(4, again);
    assert_eq!(net.nodes[4].1.id(false), saved.id.unwrap());
    assert_eq!(net.nodes[4].1.stats().cycle, 2);
    net.run(Duration::from_secs(20));
    let bootstrapped = |l: &DhtLog| matches!(l, DhtLog::Bootstrapped { .. });
    assert!(!net.log(4).iter().any(bootstrapped));
}

#[test]
fn s17_replies_without_queries_are_said_to_mean_unreachable() {
    let mut net = Net::formed(140, &DhtConfig::default());
    // A node behind a NAT that forwards nothing receives replies only.
    net.deaf = Some(8);
    net.log(8);
    assert!(net.nodes[8].1.is_reachable());
    for n in 0..60u8 {
        net.with(8, |dht, cx| dht.search(cx, peers(n, None)).unwrap());
        net.run(2 * MINUTE);
    }
    let said = net.log(8);
    let warned = said.iter().filter(|l| matches!(l, DhtLog::Unreachable(_)));
    assert_eq!(warned.count(), 1, "{said:?}");
    assert!(!net.nodes[8].1.is_reachable(), "PORT is sent no more");
    net.deaf = None;
    net.ask(8, stranger_at(1), &QueryOut::Ping);
    assert!(net.nodes[8].1.is_reachable(), "one query restores it");
}

#[test]
fn s18_queries_without_replies_are_said_to_mean_a_firewall() {
    let mut net = Net::new(1, &DhtConfig::default());
    for n in 1..=64 {
        net.with(0, |dht, cx| dht.add_contact(cx, addr(n)));
    }
    net.run(20 * MINUTE);
    let said = net.log(0);
    let warned = |l: &&DhtLog| matches!(l, DhtLog::Firewalled(Cause::NoReplies));
    assert_eq!(said.iter().filter(warned).count(), 1, "{said:?}");
}

#[test]
fn s19_statistics_come_at_15_minutes_every_two_hours_and_at_the_end() {
    let mut net = Net::formed(140, &DhtConfig::default());
    let begin = net.now;
    net.log(5);
    let mut minutes = Vec::new();
    while net.now < begin + 150 * MINUTE {
        net.run(MINUTE);
        let said = net.log(5);
        let lines = said
            .iter()
            .filter(|l| matches!(l, DhtLog::Statistics { .. }));
        minutes.extend(lines.map(|_| net.now.saturating_since(begin).as_secs().div_ceil(60)));
    }
    assert_eq!(minutes, [15, 135]);
    net.run(20 * MINUTE);
    net.with(5, Dht::stop);
    let said = net.log(5);
    assert!(
        matches!(said[..], [DhtLog::Statistics { .. }, DhtLog::Stopping]),
        "{said:?}"
    );
}

#[test]
fn s20_a_query_from_an_unknown_node_leads_to_a_ping_never_to_an_entry() {
    let mut net = Net::new(1, &DhtConfig::default());
    let from = stranger_at(1);
    assert!(net.ask(0, from, &QueryOut::Ping).is_some());
    assert_eq!(net.nodes[0].1.nodes().count(), 0);
    let ping = net
        .flying
        .iter()
        .find(|f| f.1 == from)
        .expect("a ping to it");
    assert!(matches!(
        parse(&ping.3).body,
        Body::Query(krpc::Method::Ping, _)
    ));
    net.run(MINUTE);
    assert_eq!(net.nodes[0].1.nodes().count(), 0, "it did not answer");
}

#[test]
fn s21_the_same_id_from_elsewhere_never_changes_the_entry() {
    let mut net = Net::formed(40, &DhtConfig::default());
    let victim = net.nodes[0].1.nodes().next().unwrap();
    let mut buf = [0; MAX_DATAGRAM];
    let len = krpc::query(&mut buf, b"aa", &victim.id, false, &QueryOut::Ping).unwrap();
    net.tell(0, stranger_at(2), &buf[..len]);
    net.run(MINUTE);
    let now = net.nodes[0].1.nodes().find(|c| c.id == victim.id);
    assert_eq!(now.map(|c| c.addr), Some(victim.addr));
}

#[test]
fn s22_an_outage_is_nobodys_fault() {
    let mut net = Net::formed(60, &DhtConfig::default());
    let before: Vec<_> = net.nodes[3].1.nodes().collect();
    net.down = true;
    for n in 0..20u8 {
        net.with(3, |dht, cx| dht.search(cx, peers(n, None)).unwrap());
        net.run(MINUTE);
    }
    net.down = false;
    net.with(3, |dht, cx| dht.search(cx, peers(99, None)).unwrap());
    let begin = net.now;
    net.events(3);
    while net.nodes[3].1.stats().lookups > 0 && net.now < begin + MINUTE {
        net.run(Duration::from_millis(10));
    }
    let took = net.now.saturating_since(begin);
    assert!(
        took <= Duration::from_secs(1),
        "the first search after it took {took:?}"
    );
    // A node that changed to the id of its address (BEP 42) is another node.
    let is_same = |c: &&Contact| net.nodes[net.by_addr[&c.addr]].1.id(false) == c.id;
    let after: Vec<_> = net.nodes[3].1.nodes().collect();
    assert!(before.iter().filter(is_same).count() > 16);
    assert!(before.iter().filter(is_same).all(|c| after.contains(c)));
}

#[test]
fn s23_peers_are_forgotten_after_half_an_hour() {
    let mut net = Net::formed(40, &DhtConfig::default());
    assert_eq!(announce(&mut net, 0, stranger_at(1), 4000), None);
    let stats = net.nodes[0].1.stats();
    assert_eq!((stats.peers, stats.torrents), (1, 1));
    net.run(29 * MINUTE);
    assert_eq!(net.nodes[0].1.stats().peers, 1);
    net.run(6 * MINUTE);
    let stats = net.nodes[0].1.stats();
    assert_eq!((stats.peers, stats.torrents, stats.peers_max), (0, 0, 1));
}

/// How many of the dead are replaced within a minute is chance at a single node: several are judged.
#[test]
fn s24_a_stale_cache_recovers_by_itself() {
    const WHO: [usize; 4] = [4, 9, 20, 33];
    let mut net = Net::formed(140, &DhtConfig::default());
    for who in WHO {
        let mut saved = net.nodes[who].1.save(net.now);
        // Nine in ten are gone since.
        let keep = saved.nodes.len() / 10 + 1;
        for (n, (contact, age)) in saved.nodes.iter_mut().enumerate() {
            *age = 86_400;
            if n >= keep {
                contact.addr = SocketAddr::from(([60, n as u8, 1, 1], 6881));
            }
        }
        let mut again = net.with_cx(|cx| Dht::new(cx, DhtConfig::default()));
        net.with_cx(|cx| again.restore(cx, &saved));
        net.with_cx(|cx| again.start(cx, 6881));
        net.replace(who, again);
    }
    net.run(MINUTE);
    let living = |c: &Contact| net.by_addr.contains_key(&c.addr);
    let counts = WHO.map(|who| {
        let nodes = || net.nodes[who].1.nodes();
        let alive = nodes().filter(living).count();
        (alive, nodes().count() - alive)
    });
    let dead: usize = counts.iter().map(|(_, dead)| dead).sum();
    assert!(
        counts.iter().all(|(alive, _)| *alive >= 32) && dead <= 8 * WHO.len(),
        "alive and dead after a minute: {counts:?}"
    );
}

#[test]
fn s25_silent_nodes_do_not_hold_a_search_up() {
    let mut net = Net::formed(140, &DhtConfig::default());
    // A quarter of the network is gone, and nobody knows it yet.
    for n in (1..140).step_by(4) {
        net.with(n, Dht::stop);
    }
    net.events(0);
    net.with(0, |dht, cx| dht.search(cx, peers(9, Some(1))).unwrap());
    net.run(Duration::from_secs(30));
    let report = net.report(0);
    assert_eq!((report.stored, report.failure), (8, None), "{report:?}");
    assert!(
        report.took < Duration::from_secs(4),
        "less than one stall of rTorrent's: {report:?}"
    );
    assert!(report.contacted <= 60, "{report:?}");
}

#[test]
fn s26_tokens_are_bound_to_the_asker_and_age() {
    let mut net = Net::formed(40, &DhtConfig::default());
    let got = net.ask(0, stranger_at(1), &GET_PEERS).unwrap();
    let token = reply(&got).token.unwrap().to_vec();
    let query = announce_with(&token, 4000);
    assert_eq!(
        code(net.ask(0, stranger_at(2), &query)),
        Some(203),
        "another's token"
    );
    // BEP 5 binds a token to the address alone: some nodes put with an id drawn for the purpose, and
    // some from another port than they asked from. `Net::ask` derives the id from the endpoint.
    let other_port = SocketAddr::new(stranger_at(1).ip(), 5001);
    assert_eq!(code(net.ask(0, other_port, &query)), None);
    let item = Item {
        v: Some(b"1:x"),
        ..Item::default()
    };
    let put = QueryOut::Put {
        target: crate::dht::item::immutable_target(b"1:x"),
        token: &token,
        item,
    };
    assert_eq!(code(net.ask(0, other_port, &put)), None);
    net.run(4 * MINUTE);
    assert_eq!(code(net.ask(0, stranger_at(1), &query)), None);
    net.run(10 * MINUTE);
    assert_eq!(
        code(net.ask(0, stranger_at(1), &query)),
        Some(203),
        "two epochs later"
    );
}

#[test]
fn s27_peers_of_a_hash_are_bounded_one_for_each_address() {
    let mut net = Net::formed(40, &DhtConfig::default());
    assert_eq!(
        announce(&mut net, 0, stranger_at(1), 0),
        Some(203),
        "port 0"
    );
    for n in 0..200u8 {
        for port in [4000, 4001] {
            assert_eq!(announce(&mut net, 0, stranger_at(n), port), None);
        }
    }
    assert_eq!(net.nodes[0].1.stats().peers, 128);
    let got = net.ask(0, stranger_at(201), &GET_PEERS).unwrap();
    let values: Vec<_> = reply(&got).peers().collect();
    assert!((20..=32).contains(&values.len()), "{}", values.len());
    assert!(
        values.iter().all(|p| p.port() == 4001),
        "the last word of an address counts"
    );
    assert!(got.len() <= 560, "{} bytes", got.len());
}

#[test]
fn s28_peers_and_nodes_are_answered_together() {
    let mut net = Net::formed(40, &DhtConfig::default());
    announce(&mut net, 0, stranger_at(1), 4000);
    let got = net.ask(0, stranger_at(2), &GET_PEERS).unwrap();
    let reply = reply(&got);
    assert_eq!(reply.peers().count(), 1);
    assert_eq!(reply.nodes.len(), 8 * krpc::COMPACT_V4);
}

#[test]
fn s30_announces_leave_first_and_stale_replies_not_at_all() {
    let mut net = Net::formed(40, &DhtConfig::default());
    let mut buf = [0; MAX_DATAGRAM];
    // Read-only: a node that answers would be pinged, before anything else.
    let len = krpc::query(&mut buf, b"tt", &HASH, true, &QueryOut::Ping).unwrap();
    let meta = RecvMeta {
        socket: SocketId::V4,
        from: stranger_at(1),
        local: None,
        ecn: Ecn::NotEct,
    };
    let (now, rng) = (net.now, &mut net.rng);
    let dht = &mut net.nodes[0].1;
    // The throttle is dry: nothing is asked for while these come together.
    dht.handle_datagram(&mut Cx { now, rng }, &meta, &buf[..len]);
    dht.ping(&mut Cx { now, rng }, addr(5)).unwrap();
    let mut out = [0; MAX_DATAGRAM];
    let first = dht.poll_transmit(&mut Cx { now, rng }, &mut out).unwrap();
    assert_eq!(first.dst, addr(5), "our own queries go before replies");
    let late = now + Duration::from_secs(16);
    let stale = core::iter::from_fn(|| dht.poll_transmit(&mut Cx { now: late, rng }, &mut out));
    assert!(
        stale.into_iter().all(|t| t.dst != meta.from),
        "it waited more than 15 s"
    );
}

#[test]
fn s31_who_falls_silent_is_soon_asked_no_more() {
    let mut net = Net::formed(60, &DhtConfig::default());
    net.with(7, Dht::stop);
    net.asked = 0;
    net.watch = Some(addr(7));
    net.run(60 * MINUTE);
    let first = core::mem::take(&mut net.asked);
    net.run(6 * 60 * MINUTE);
    net.asked = 0;
    net.run(60 * MINUTE);
    let later = core::mem::take(&mut net.asked);
    assert!(
        later * 5 < first,
        "{first} queries in the first hour, then {later} in one"
    );
    let knowing = (0..60).filter(|n| net.nodes[*n].1.nodes().any(|c| c.addr == addr(7)));
    assert_eq!(knowing.count(), 0, "everybody has forgotten it");
}

#[test]
fn s33_errors_have_their_codes() {
    let mut net = Net::formed(40, &DhtConfig::default());
    let from = stranger_at(1);
    let mut tell = |query: &[u8]| code(net.tell(0, from, query));
    let id = "2:id20:abcdefghij0123456789";
    let q = |args: &str, method: &str| {
        alloc::format!("d1:ad{args}e1:q{}:{method}1:t2:aa1:y1:qe", method.len()).into_bytes()
    };
    assert_eq!(tell(&q("2:id3:abc", "find_node")), Some(203), "a short id");
    assert_eq!(tell(&q(id, "find_node")), Some(203), "no target");
    assert_eq!(tell(&q(id, "get_peers")), Some(203), "no info_hash");
    assert_eq!(tell(&q(id, "announce_peer")), Some(203), "nothing at all");
    assert_eq!(tell(&q(id, "vote_for_me")), Some(204), "an unknown method");
    assert_eq!(tell(&q(id, "ping")), None);
    assert_eq!(
        net.tell(0, from, b"dear node, are you there?"),
        None,
        "no bencode: silence"
    );
}

#[test]
fn s34_the_size_is_estimated_in_two_ways() {
    let mut net = Net::formed(140, &DhtConfig::default());
    for n in 0..12u8 {
        net.with(5, |dht, cx| dht.search(cx, peers(n * 20, None)).unwrap());
        net.run(Duration::from_secs(5));
    }
    let stats = net.nodes[5].1.stats();
    assert_eq!(stats.size_by_buckets, 4 << stats.buckets);
    assert!(
        (70..=280).contains(&stats.size_by_lookups),
        "{}",
        stats.size_by_lookups
    );
}

#[test]
fn items_are_kept_and_found() {
    let mut net = Net::formed(40, &DhtConfig::default());
    let value = b"12:Hello World!".to_vec();
    net.with(3, |dht, cx| {
        dht.search(cx, Goal::PutImmutable(value.clone())).unwrap()
    });
    net.run(Duration::from_secs(5));
    assert_eq!(net.report(3).stored, 8);
    let target = crate::dht::item::immutable_target(&value);
    net.with(30, |dht, cx| {
        dht.search(cx, Goal::Immutable(target)).unwrap()
    });
    net.run(Duration::from_secs(5));
    let found = |e: DhtEvent| match e {
        DhtEvent::Item { item, .. } => Some(item.value),
        _ => None,
    };
    assert_eq!(net.events(30).into_iter().find_map(found), Some(value));
    // Without a token nothing is kept.
    let item = Item {
        v: Some(b"1:x"),
        ..Item::default()
    };
    let query = QueryOut::Put {
        target: crate::dht::item::immutable_target(b"1:x"),
        token: b"12345678",
        item,
    };
    assert_eq!(code(net.ask(0, stranger_at(1), &query)), Some(203));
}
