use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::entry::{BAD, WORSE};
use super::*;
use crate::dht::secure_id;

mod model;
mod pace;

const OWN: NodeId = NodeId([0xa5; 20]);
const LIMITS: Limits = Limits {
    max_buckets: 50,
    max_replacements: 128,
    local: false,
};
const RTT: Duration = Duration::from_millis(80);
const QUARTER: u64 = 15 * 60;

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000 + 1)
}

/// One address of each /24, from 11.0.0.1 on.
fn addr(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0b00_0001 + (n << 8)), 6881))
}

/// An id that shares exactly `bits` bits with ours.
fn sharing(rng: &mut ChaCha8Rng, bits: usize) -> NodeId {
    let mut id = NodeId([0; 20]);
    rng.fill_bytes(&mut id.0);
    for i in 0..=bits {
        let bit = 0x80 >> (i % 8);
        let ours = OWN.0[i / 8] & bit;
        id.0[i / 8] = (id.0[i / 8] & !bit) | if i == bits { ours ^ bit } else { ours };
    }
    id
}

fn audit(routes: &Routes) {
    each!(&routes.inner, t => t.audit());
}

/// A table and the randomness that fills it.
struct Bench {
    rng: ChaCha8Rng,
    routes: Routes,
    used: u32,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(1),
            routes: Routes::new(Family::V4, OWN, limits),
            used: 0,
        }
    }

    /// Another node that shares `bits` bits with us, at an address of its own.
    fn contact(&mut self, bits: usize) -> Contact {
        self.used += 1;
        Contact {
            id: sharing(&mut self.rng, bits),
            addr: addr(self.used),
        }
    }

    fn replied(&mut self, secs: u64, c: &Contact) -> Added {
        let added = self.routes.replied(at(secs), &c.id, c.addr, RTT);
        audit(&self.routes);
        added
    }

    fn failed(&mut self, secs: u64, c: &Contact) {
        self.routes.failed(at(secs), c.addr);
        audit(&self.routes);
    }

    /// `n` of them, in the table.
    fn fill(&mut self, secs: u64, bits: usize, n: usize) -> Vec<Contact> {
        let nodes: Vec<_> = (0..n).map(|_| self.contact(bits)).collect();
        for c in &nodes {
            assert_eq!(self.replied(secs, c), Added::New);
        }
        nodes
    }

    fn has(&self, c: &Contact) -> bool {
        self.routes.nodes(at(0)).any(|(known, ..)| known == *c)
    }

    /// Whether it is handed out to others.
    fn hands_out(&self, c: &Contact) -> bool {
        let mut out = [0; K * COMPACT_V4];
        let len = self.routes.write_closest(&c.id, &mut out);
        out[..len].chunks(COMPACT_V4).any(|n| n[..20] == c.id.0)
    }

    fn closest(&self, target: &NodeId) -> heapless::Vec<Contact, 20> {
        let mut out = heapless::Vec::new();
        self.routes.closest(target, &mut out);
        out
    }

    fn next_action(&mut self, secs: u64) -> Option<Action> {
        let (now, rng) = (at(secs), &mut self.rng);
        self.routes.next_action(&mut Cx { now, rng })
    }
}

#[test]
fn the_table_splits_towards_its_own_id_and_answers_from_it() {
    let mut b = Bench::new(LIMITS);
    for bits in 0..10 {
        b.fill(1, bits, 8);
    }
    assert_eq!(
        (b.routes.len(), b.routes.good(), b.routes.buckets()),
        (80, 80, 10)
    );
    let target = sharing(&mut b.rng, 3);
    let mut out = [0; K * COMPACT_V4];
    assert_eq!(b.routes.write_closest(&target, &mut out), out.len());
    for node in out.chunks(COMPACT_V4) {
        let id = NodeId(node[..20].try_into().unwrap());
        assert_eq!(OWN.common_prefix(&id), 3);
    }
}

#[test]
fn a_query_never_inserts_and_never_updates_an_address() {
    let mut b = Bench::new(LIMITS);
    let c = b.contact(3);
    assert!(b.routes.queried(at(1), &c.id, c.addr), "worth a ping");
    assert!(b.routes.is_empty());
    assert_eq!(b.replied(1, &c), Added::New);
    let elsewhere = Contact {
        addr: addr(900),
        ..c
    };
    assert!(!b.routes.queried(at(2), &c.id, elsewhere.addr));
    assert_eq!(b.replied(2, &elsewhere), Added::Refused);
    assert!(b.has(&c) && !b.has(&elsewhere));
}

#[test]
fn a_query_refreshes_only_a_node_that_has_replied() {
    let mut b = Bench::new(LIMITS);
    let (cached, known) = (b.contact(0), b.contact(1));
    b.routes.restore(at(0), &cached, Duration::from_secs(500));
    b.replied(0, &known);
    for c in [&cached, &known] {
        b.routes.queried(at(400), &c.id, c.addr);
    }
    for (c, unheard, _) in b.routes.nodes(at(400)) {
        assert_eq!(unheard.as_secs(), if c == known { 0 } else { 900 });
    }
}

#[test]
fn our_own_id_and_none_are_refused() {
    let mut b = Bench::new(LIMITS);
    for id in [OWN, NodeId([0; 20])] {
        assert!(!b.routes.queried(at(1), &id, addr(1)));
        assert_eq!(b.routes.replied(at(1), &id, addr(1), RTT), Added::Refused);
    }
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 6881));
    let id = NodeId([1; 20]);
    assert_eq!(b.routes.replied(at(1), &id, v6, RTT), Added::Refused);
    let no_port = SocketAddr::new(addr(1).ip(), 0);
    assert_eq!(b.routes.replied(at(1), &id, no_port, RTT), Added::Refused);
    assert!(b.routes.is_empty());
}

#[test]
fn another_id_at_the_same_endpoint_evicts_and_casts_doubt_on_its_neighbours() {
    let mut b = Bench::new(LIMITS);
    let nodes = b.fill(1, 2, 4);
    b.fill(1, 0, 8);
    b.fill(1, 1, 8);
    let other = Contact {
        id: sharing(&mut b.rng, 0),
        ..nodes[0]
    };
    assert_eq!(b.replied(2, &other), Added::IdChanged);
    assert!(!b.has(&nodes[0]) && !b.has(&other));
    // The neighbours were heard a second ago, and yet are asked again after five minutes.
    let mut asked = Vec::new();
    for secs in 2..600 {
        if let Some(Action::Ping(c)) = b.next_action(secs) {
            asked.push(c);
        }
    }
    assert_eq!(asked.len(), 3);
    assert!(nodes[1..].iter().all(|c| asked.contains(c)));
}

#[test]
fn a_node_that_takes_an_id_bound_to_its_address_is_kept() {
    let mut b = Bench::new(LIMITS);
    let c = b.fill(1, 0, 1)[0];
    let (rng, now) = (&mut b.rng, at(0));
    let id = secure_id::secure(&mut Cx { now, rng }, c.addr.ip());
    assert!(
        !b.routes.queried(at(2), &id, c.addr),
        "it was just heard of"
    );
    assert!(
        b.routes.queried(at(70), &id, c.addr),
        "the node itself will tell"
    );
    assert!(!b.routes.queried(at(71), &id, c.addr), "once a minute");
    assert!(b.has(&c), "a query may be forged");
    let same = Contact { id, ..c };
    assert_eq!(b.replied(71, &same), Added::New);
    assert!(b.has(&same) && !b.has(&c));
}

#[test]
fn one_node_of_an_address_and_one_of_a_subnet_in_a_bucket() {
    let mut b = Bench::new(LIMITS);
    let c = b.contact(2);
    b.fill(1, 1, 2);
    b.replied(1, &c);
    let ip = |last, port| SocketAddr::from((Ipv4Addr::new(11, 0, 1, last), port));
    let mut id = || sharing(&mut b.rng, 0);
    let (same_ip, same_net, same_net_again) = (id(), id(), id());
    assert_eq!(c.addr, ip(1, 6881));
    let r = &mut b.routes;
    assert_eq!(r.replied(at(1), &same_ip, ip(1, 7), RTT), Added::Refused);
    assert!(!r.queried(at(1), &same_ip, ip(1, 7)));
    // Another bucket, as far as that has split: until then it is the same one.
    assert_eq!(r.buckets(), 1);
    assert_eq!(r.replied(at(1), &same_net, ip(2, 7), RTT), Added::Refused);
    b.fill(1, 0, 1);
    b.fill(1, 1, 5);
    let r = &mut b.routes;
    assert!(r.queried(at(1), &same_net, ip(2, 7)));
    assert_eq!(r.replied(at(1), &same_net, ip(2, 7), RTT), Added::New);
    assert!(!r.queried(at(1), &same_net_again, ip(3, 7)));
    assert_eq!(
        r.replied(at(1), &same_net_again, ip(3, 7), RTT),
        Added::Refused
    );
    audit(r);
}

#[test]
fn one_node_of_a_64_in_an_ipv6_bucket() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut r = Routes::new(Family::V6, OWN, LIMITS);
    let host = |net, host| SocketAddr::from((Ipv6Addr::new(0x2001, 1, 2, net, 0, 0, 0, host), 1));
    let mut id = || sharing(&mut rng, 0);
    assert_eq!(r.replied(at(1), &id(), host(1, 1), RTT), Added::New);
    assert_eq!(r.replied(at(1), &id(), host(1, 2), RTT), Added::Refused);
    assert_eq!(r.replied(at(1), &id(), host(2, 1), RTT), Added::New);
    let mut out = [0; K * COMPACT_V6];
    assert_eq!(r.write_closest(&OWN, &mut out), 2 * COMPACT_V6);
    audit(&r);
}

#[test]
fn a_private_network_has_many_nodes_at_one_address() {
    let mut b = Bench::new(Limits {
        local: true,
        ..LIMITS
    });
    for port in 1..=20 {
        let id = sharing(&mut b.rng, usize::from(port / 8));
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_eq!(b.routes.replied(at(1), &id, addr, RTT), Added::New);
        audit(&b.routes);
    }
}

#[test]
fn made_up_ids_do_not_split_buckets_at_will() {
    let mut b = Bench::new(LIMITS);
    b.fill(1, 40, 8);
    for _ in 0..100 {
        let c = b.contact(40);
        assert_ne!(b.replied(1, &c), Added::New);
    }
    assert_eq!(b.routes.buckets(), 1, "one half would be empty");

    // With a node for each half a table grows, but only as deep as a real network would be.
    let mut b = Bench::new(LIMITS);
    for bits in 0..50 {
        for _ in 0..8 {
            let c = b.contact(bits);
            b.replied(1, &c);
        }
    }
    assert_eq!(b.routes.buckets(), 24);
    let mut tiny = Bench::new(Limits {
        max_buckets: 4,
        ..LIMITS
    });
    for bits in (0..50).rev() {
        let c = tiny.contact(bits);
        tiny.replied(1, &c);
    }
    assert!(tiny.routes.buckets() <= 4 && tiny.routes.len() <= 32);
}

#[test]
fn five_failures_in_a_row_make_a_node_bad_and_four_hours_make_it_go() {
    let mut b = Bench::new(LIMITS);
    let nodes = b.fill(0, 0, 2);
    let (dead, alive) = (nodes[0], nodes[1]);
    for n in 0..u64::from(BAD) {
        assert!(b.has(&dead), "not bad after {n}");
        b.replied(n, &alive);
        b.failed(n, &dead);
    }
    assert!(!b.has(&dead), "bad nodes are not listed");
    assert_eq!(b.routes.len(), 2);
    for quarter in 1..16 {
        b.routes.housekeeping(at(quarter * QUARTER), true);
        assert_eq!(b.routes.len(), 2);
    }
    b.routes.housekeeping(at(16 * QUARTER + 60), false);
    assert_eq!(b.routes.len(), 2, "kept while the network is silent");
    b.routes.housekeeping(at(16 * QUARTER + 60), true);
    assert_eq!(b.routes.len(), 1);
}

#[test]
fn an_answer_makes_good_for_all_failures() {
    let mut b = Bench::new(LIMITS);
    let nodes = b.fill(0, 0, 2);
    for n in 0..20 {
        b.replied(n, &nodes[1]);
        b.failed(n, &nodes[0]);
        assert!(!b.hands_out(&nodes[0]));
        if n % 4 == 3 {
            b.replied(n, &nodes[0]);
            assert!(b.hands_out(&nodes[0]));
        }
    }
    assert!(b.has(&nodes[0]));
}

#[test]
fn a_node_that_fails_gives_its_place_to_a_candidate() {
    let mut b = Bench::new(LIMITS);
    let nodes = b.fill(0, 0, 8);
    b.fill(0, 5, 8);
    let spare = b.contact(0);
    assert_eq!(b.replied(1, &spare), Added::Candidate);
    assert!(!b.has(&spare) && !b.hands_out(&spare));
    for n in 0..u64::from(WORSE) {
        assert!(b.has(&nodes[3]));
        b.replied(n, &nodes[0]);
        b.failed(n, &nodes[3]);
    }
    assert!(b.has(&spare) && !b.has(&nodes[3]));
}

#[test]
fn candidates_are_taken_by_gap_and_round_trip() {
    let mut b = Bench::new(LIMITS);
    let in_eighth = |b: &mut Bench, eighth: u8| {
        let mut c = b.contact(0);
        c.id.0[0] = (!OWN.0[0] & 0x80) | (eighth << 4) | (c.id.0[0] & 0x0f);
        c
    };
    let nodes: Vec<_> = (0..8).map(|e| in_eighth(&mut b, e)).collect();
    for c in &nodes {
        assert_eq!(b.replied(0, c), Added::New);
    }
    b.fill(0, 5, 8);
    let (crowded, far, near) = (
        in_eighth(&mut b, 4),
        in_eighth(&mut b, 2),
        in_eighth(&mut b, 2),
    );
    for (c, ms) in [(crowded, 10), (far, 300), (near, 100)] {
        let rtt = Duration::from_millis(ms);
        let added = b.routes.replied(at(0), &c.id, c.addr, rtt);
        assert_eq!(added, Added::Candidate);
    }
    for n in 0..u64::from(WORSE) {
        b.replied(n, &nodes[0]);
        b.failed(n, &nodes[2]);
    }
    assert!(b.has(&near) && !b.has(&far) && !b.has(&crowded));
}

#[test]
fn ids_bound_to_their_address_are_preferred() {
    let mut b = Bench::new(LIMITS);
    let loose = b.fill(0, 0, 8);
    b.fill(0, 5, 8);
    let bound = core::iter::repeat_with(|| {
        b.used += 1;
        let (rng, now) = (&mut b.rng, at(0));
        let id = secure_id::secure(&mut Cx { now, rng }, addr(b.used).ip());
        Contact {
            id,
            addr: addr(b.used),
        }
    });
    let far = bound.filter(|c| c.id.common_prefix(&OWN) == 0);
    let bound: Vec<_> = far.take(9).collect();
    for c in &bound[..8] {
        assert!(b.routes.queried(at(0), &c.id, c.addr));
        assert_eq!(b.replied(0, c), Added::Replaced);
    }
    assert!(loose.iter().all(|c| !b.has(c)));
    let c = bound[8];
    assert!(!b.routes.queried(at(0), &c.id, c.addr));
    assert_eq!(b.replied(0, &c), Added::Candidate);
}

#[test]
fn nodes_from_a_cache_are_asked_but_not_handed_out() {
    let mut b = Bench::new(LIMITS);
    let cached = b.contact(0);
    b.routes
        .restore(at(0), &cached, Duration::from_secs(86_400));
    assert_eq!((b.routes.len(), b.routes.good()), (1, 0));
    assert!(!b.hands_out(&cached));
    assert_eq!(b.closest(&OWN), [cached], "there is nobody else");
    assert_eq!(b.next_action(0), Some(Action::Ping(cached)));
    let fresh = b.contact(5);
    b.replied(1, &fresh);
    assert_eq!(b.closest(&cached.id), [fresh]);
    assert_eq!(b.replied(1, &cached), Added::Known);
    assert!(b.hands_out(&cached));
}

#[test]
fn a_new_own_id_keeps_the_nodes() {
    let mut b = Bench::new(LIMITS);
    for bits in 0..6 {
        b.fill(1, bits, 8);
    }
    let mut own = OWN;
    own.0[0] ^= 0x10;
    b.routes.set_own(at(2), own);
    audit(&b.routes);
    assert_eq!(*b.routes.own(), own);
    // Those that shared 4 bits and more share 3 now: 8 of them have places, 8 are candidates.
    assert_eq!(b.routes.len(), 40);
    let kept: Vec<_> = b.routes.nodes(at(2)).map(|(c, ..)| c).collect();
    assert_eq!(
        kept.iter()
            .filter(|c| own.common_prefix(&c.id) == 3)
            .count(),
        8
    );
}

#[test]
fn whoever_has_the_new_own_id_is_forgotten_as_a_candidate_too() {
    let mut b = Bench::new(LIMITS);
    b.fill(1, 0, 8);
    let spare = b.contact(0);
    assert_eq!(b.replied(1, &spare), Added::Candidate);
    b.routes.set_own(at(2), spare.id);
    audit(&b.routes);
    assert!(!b.has(&spare));
}

#[test]
fn a_live_node_costs_at_most_40_bytes() {
    assert!(size_of::<super::bucket::Bucket<COMPACT_V4>>() <= 40 * K);
    assert!(size_of::<super::candidates::Candidate<COMPACT_V4>>() <= 40);
}
