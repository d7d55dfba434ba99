//! Nobody answers: caches of nodes that are gone, a network that was left, a family that does not work.

use super::*;
use crate::dht::Cause;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Nodes that are gone, each in a network of its own.
fn gone(count: u8, v6: bool) -> Saved {
    let contact = |n: u8| {
        let addr = match v6 {
            true => SocketAddr::from(([0x2a00 + u16::from(n), 1, 1, 1, 0, 0, 0, 1], 6881)),
            false => SocketAddr::from(([60 + n % 60, n, 1, 1], 6881)),
        };
        let id = NodeId([n.wrapping_mul(53); 20]);
        (Contact { id, addr }, 86_400)
    };
    Saved {
        nodes: (1..=count).map(contact).collect(),
        ..Saved::default()
    }
}

fn dual() -> DhtConfig {
    DhtConfig {
        ipv6: true,
        ..DhtConfig::default()
    }
}

/// Adds a node with such a cache to a network; its number.
fn join(net: &mut Net, config: &DhtConfig, saved: &Saved) -> usize {
    let n = net.nodes.len();
    net.add(config);
    let mut dht = net.with_cx(|cx| Dht::new(cx, config.clone()));
    net.with_cx(|cx| dht.restore(cx, saved));
    net.with_cx(|cx| dht.start(cx, 6881));
    net.replace(n, dht);
    n
}

/// How long it takes node `n` to hear a first reply, at most a minute.
fn first_reply(net: &mut Net, n: usize) -> Duration {
    let begin = net.now;
    while net.nodes[n].1.stats().replies_received == 0 && net.now < begin + MINUTE {
        net.run(Duration::from_millis(10));
    }
    net.now.saturating_since(begin)
}

/// How long a search of node `n` takes, and its report.
fn search(net: &mut Net, n: usize, hash: u8) -> (Duration, LookupReport) {
    let begin = net.now;
    net.events(n);
    let lookup = net.with(n, |dht, cx| dht.search(cx, peers(hash, None)).unwrap());
    while net.nodes[n].1.progress(lookup).is_some() && net.now < begin + MINUTE {
        net.run(Duration::from_millis(10));
    }
    (net.now.saturating_since(begin), net.report(n))
}

#[test]
fn s24_a_cache_of_dead_nodes_does_not_block_a_living_contact() {
    for count in [5, 16, 20, 120] {
        let mut net = Net::formed(60, &DhtConfig::default());
        let n = join(&mut net, &DhtConfig::default(), &gone(count, false));
        // It comes before the first round, with more that are gone.
        for dead in 70..75 {
            net.with(n, |dht, cx| dht.add_contact(cx, addr(dead)));
        }
        net.with(n, |dht, cx| dht.add_contact(cx, addr(3)));
        let took = first_reply(&mut net, n);
        assert!(took <= SECOND / 10, "{count} dead: {took:?}");
        net.run(30 * SECOND);
        let good = net.nodes[n].1.stats().good_nodes;
        assert!(good >= 20, "{count} dead: {good} good nodes");
    }
}

/// A name is looked up while the first round is under way, and the owner searches meanwhile.
#[test]
fn s24_a_contact_that_comes_later_is_asked_at_once() {
    let mut net = Net::formed(60, &DhtConfig::default());
    let n = join(&mut net, &DhtConfig::default(), &gone(120, false));
    net.run(SECOND);
    assert!(net.nodes[n].1.wants_contacts(net.now));
    net.with(n, |dht, cx| dht.search(cx, peers(1, None)).unwrap());
    net.run(SECOND);
    net.with(n, |dht, cx| dht.add_contact(cx, addr(3)));
    let took = first_reply(&mut net, n);
    assert!(took <= SECOND / 10, "{took:?}");
    net.run(30 * SECOND);
    let report = net.report(n);
    assert!(report.replied >= 8, "{report:?}");
    assert!(!net.nodes[n].1.wants_contacts(net.now), "enough are known");
}

/// After a long sleep, or in another network: nobody of the table is there, and no cache is read.
#[test]
fn a_node_whose_whole_table_is_gone_begins_anew() {
    let mut net = Net::formed(100, &DhtConfig::default());
    let known: BTreeSet<_> = net.nodes[5].1.nodes().map(|c| c.addr).collect();
    for n in (0..100).filter(|n| *n != 5) {
        net.with(n, Dht::stop);
    }
    net.events(5);
    let mut asked = false;
    for hash in 0..8 {
        net.with(5, |dht, cx| dht.search(cx, peers(hash, None)).unwrap());
        net.run(30 * SECOND);
        let wanted = DhtEvent::NeedContacts { v6: false };
        asked |= net.events(5).contains(&wanted);
    }
    assert!(asked && !net.nodes[5].1.is_heard());
    let other = (0..100).find(|n| *n != 5 && !known.contains(&addr(*n)));
    let other = other.expect("one that it does not know");
    net.with(other, |dht, cx| dht.start(cx, 6881));
    net.with(5, |dht, cx| dht.add_contact(cx, addr(other)));
    net.run(SECOND);
    assert!(net.nodes[5].1.is_heard());
    let (_, report) = search(&mut net, 5, 99);
    assert_eq!((report.replied, report.failure), (1, None), "{report:?}");
}

#[test]
fn a_family_that_nobody_answers_in_is_left_out_of_searches() {
    let mut net = Net::formed(60, &DhtConfig::default());
    let n = join(&mut net, &dual(), &gone(40, true));
    net.with(n, |dht, cx| dht.add_contact(cx, addr(3)));
    net.run(20 * SECOND);
    for hash in 0..5 {
        let (took, report) = search(&mut net, n, hash);
        assert!(took <= SECOND, "{took:?}, {report:?}");
        assert!(report.contacted <= 60, "{report:?}");
    }
    // It is tried again later, and one reply is enough.
    net.run(16 * MINUTE);
    let liveness = net.nodes[n].1.sides[1].as_mut().map(|s| &mut s.liveness);
    liveness.expect("it takes part").replied();
    assert!(!net.nodes[n].1.is_resting(net.now, true));
}

#[test]
fn what_the_platform_refuses_fails_at_once() {
    let mut net = Net::formed(60, &DhtConfig::default());
    net.refused = Some(true);
    let n = join(&mut net, &dual(), &gone(40, true));
    net.with(n, |dht, cx| dht.add_contact(cx, addr(3)));
    net.run(3 * SECOND);
    let (took, report) = search(&mut net, n, 1);
    assert!(took <= SECOND, "{took:?}, {report:?}");
    assert_eq!(report.failure, None);
    let held_back = net.nodes[n].1.stats().held_back;
    net.run(MINUTE);
    assert_eq!(net.nodes[n].1.stats().held_back, held_back);
}

#[test]
fn the_cause_is_the_platform_only_while_it_refuses() {
    let mut net = Net::new(3, &DhtConfig::default());
    net.with(1, Dht::stop);
    net.refused = Some(false);
    net.with(0, |dht, cx| dht.add_contact(cx, addr(1)));
    net.with(0, |dht, cx| dht.add_contact(cx, addr(2)));
    let (took, report) = search(&mut net, 0, 1);
    assert!(took <= SECOND, "{took:?}");
    assert_eq!(report.failure, Some((Failure::NoReplies, Cause::Send)));
    // A datagram of another user of the socket does not concern the node.
    net.refused = None;
    net.with(2, Dht::stop);
    net.run(5 * MINUTE);
    for n in 0..9 {
        net.with(0, |dht, cx| dht.send_failed(cx, addr(40 + n)));
    }
    let (_, report) = search(&mut net, 0, 2);
    assert_eq!(report.failure, Some((Failure::NoReplies, Cause::NoReplies)));
}
