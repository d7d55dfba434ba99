//! Answers to addresses that are not proved, rounds that are put off for others, and small networks.

use super::*;
use crate::wire::krpc::{COMPACT_V4, Item, MAX_DATAGRAM, ReplyOut};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A node at `addr` in a reply; its id is so close to `own` that a table wants it.
fn compact(own: NodeId, addr: SocketAddr) -> [u8; COMPACT_V4] {
    let mut node = [0; COMPACT_V4];
    node[..20].copy_from_slice(&own.0);
    node[19] ^= 0x55;
    if let SocketAddr::V4(addr) = addr {
        node[20..24].copy_from_slice(&addr.ip().octets());
        node[24..].copy_from_slice(&addr.port().to_be_bytes());
    }
    node
}

/// Node 0 of a network keeps a large item; a `get` for it.
fn with_large_item() -> (Net, NodeId) {
    let mut net = Net::formed(40, &DhtConfig::default());
    let value = [b"900:".to_vec(), vec![7; 900]].concat();
    let from = SocketAddr::from(([101, 1, 3, 1], 5000));
    let target = crate::dht::item::immutable_target(&value);
    let (seq, want) = (None, None);
    let get = QueryOut::Get { target, seq, want };
    let got = net.ask(0, from, &get).expect("a small answer");
    let Body::Reply(reply) = krpc::parse(&got).unwrap().body else {
        panic!("a reply");
    };
    let item = Item {
        v: Some(&value),
        ..Item::default()
    };
    let token = reply.token.expect("a token").to_vec();
    let put = QueryOut::Put {
        target,
        token: &token,
        item,
    };
    net.ask(0, from, &put).expect("it is kept");
    assert_eq!(net.nodes[0].1.stats().items, 1);
    (net, target)
}

fn get(target: NodeId, read_only: bool) -> Vec<u8> {
    let mut buf = [0; MAX_DATAGRAM];
    let (seq, want) = (None, None);
    let query = QueryOut::Get { target, seq, want };
    let len = krpc::query(&mut buf, b"tt", &NodeId([0x66; 20]), read_only, &query).unwrap();
    buf[..len].to_vec()
}

/// BEP 43: it answers no ping, so that it could never show that it is there.
#[test]
fn a_read_only_node_gets_a_small_answer_for_a_large_item() {
    let (mut net, target) = with_large_item();
    let from = SocketAddr::from(([102, 1, 3, 1], 5000));
    let query = get(target, true);
    let got = net.tell(0, from, &query).expect("an answer at once");
    let Body::Reply(reply) = krpc::parse(&got).unwrap().body else {
        panic!("a reply");
    };
    assert_eq!(reply.item.v, None);
    assert!(reply.token.is_some() && !reply.nodes.is_empty());
    assert!(got.len() <= query.len() * 32 / 10, "{} bytes", got.len());
}

#[test]
fn a_node_that_answers_no_ping_gets_the_small_answer_later() {
    let (mut net, target) = with_large_item();
    let from = SocketAddr::from(([102, 1, 3, 1], 5000));
    assert_eq!(net.tell(0, from, &get(target, false)), None, "first a ping");
    net.run(4 * SECOND);
    let (now, rng) = (net.now + 2 * SECOND, &mut net.rng);
    let dht = &mut net.nodes[0].1;
    dht.handle_timeout(&mut Cx { now, rng });
    let mut buf = [0; MAX_DATAGRAM];
    let sent = core::iter::from_fn(|| {
        let transmit = dht.poll_transmit(&mut Cx { now, rng }, &mut buf)?;
        Some((transmit.dst, buf[..transmit.len].to_vec()))
    });
    let to: Vec<_> = sent.filter(|(dst, _)| *dst == from).collect();
    let [(_, got)] = &to[..] else {
        panic!("one answer: {to:?}");
    };
    let Body::Reply(reply) = krpc::parse(got).unwrap().body else {
        panic!("a reply");
    };
    assert!(reply.item.v.is_none() && reply.token.is_some());
}

/// Replies must not make us knock at any address they like.
#[test]
fn addresses_that_no_public_host_has_are_never_pinged() {
    let mut net = Net::formed(40, &DhtConfig::default());
    let own = net.nodes[0].1.id(false);
    let places = [
        ([192, 168, 1, 1], 6881),
        ([10, 0, 0, 1], 6881),
        ([127, 0, 0, 1], 6881),
        ([224, 0, 0, 1], 6881),
        ([255, 255, 255, 255], 6881),
        ([100, 64, 0, 1], 6881),
        ([104, 1, 1, 1], 0),
        ([105, 1, 1, 1], 6881),
    ];
    let places = places.map(SocketAddr::from);
    let nodes: Vec<u8> = places.iter().flat_map(|p| compact(own, *p)).collect();
    let to = addr(5);
    let task = Task::Refresh { target: own };
    net.with(0, |dht, cx| {
        dht.outbox.clear();
        assert!(dht.enqueue(cx, task, to, None));
    });
    let query = net.flying.iter().rfind(|f| f.1 == to && f.2 == addr(0));
    let query = query.expect("a query").3.clone();
    let tid = krpc::parse(&query).unwrap().tid.to_vec();
    let mut buf = [0; MAX_DATAGRAM];
    let out = ReplyOut {
        nodes: Some(&nodes),
        ..ReplyOut::default()
    };
    let id = NodeId([0x55; 20]);
    let len = krpc::reply(&mut buf, &tid, &id, &addr(0), &out).unwrap();
    let before = net.flying.len();
    net.tell(0, to, &buf[..len]);
    let asked: Vec<_> = net.flying.iter().skip(before).map(|f| f.1).collect();
    assert!(asked.contains(&places[7]), "the public one: {asked:?}");
    assert!(places[..7].iter().all(|p| !asked.contains(p)), "{asked:?}");
}

#[test]
fn a_round_that_made_way_for_a_search_comes_again() {
    let config = DhtConfig {
        max_lookups: 1,
        ..DhtConfig::default()
    };
    let mut net = Net::formed(60, &DhtConfig::default());
    let n = net.nodes.len();
    net.add(&config);
    net.with(n, |dht, cx| dht.add_contact(cx, addr(3)));
    net.time_out(n);
    assert!(net.nodes[n].1.sides[0].as_ref().unwrap().searching);
    net.with(n, |dht, cx| dht.search(cx, peers(1, None)).unwrap());
    let side = net.nodes[n].1.sides[0].as_ref().unwrap();
    assert!(!side.searching && side.round.is_some());
    net.run(30 * SECOND);
    let good = net.nodes[n].1.stats().good_nodes;
    assert!(good >= 20, "{good} good nodes");
}

/// Nodes of a cache that answer again are known already: they are not new.
#[test]
fn a_small_network_is_told_of_after_a_restart() {
    let mut net = Net::formed(14, &DhtConfig::default());
    net.run(MINUTE);
    let saved = net.nodes[4].1.save(net.now);
    assert!((8..32).contains(&saved.nodes.len()));
    net.with(4, Dht::stop);
    let mut again = net.with_cx(|cx| Dht::new(cx, DhtConfig::default()));
    net.with_cx(|cx| again.restore(cx, &saved));
    net.with_cx(|cx| again.start(cx, 6881));
    net.replace(4, again);
    net.run(20 * SECOND);
    let from = SocketAddr::from(([101, 1, 3, 1], 5000));
    let (target, want) = (NodeId([1; 20]), None);
    let got = net.ask(4, from, &QueryOut::FindNode { target, want });
    let got = got.expect("an answer");
    let Body::Reply(reply) = krpc::parse(&got).unwrap().body else {
        panic!("a reply");
    };
    assert_eq!(reply.nodes.len(), 8 * COMPACT_V4);
}
