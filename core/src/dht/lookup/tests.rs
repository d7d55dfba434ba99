use alloc::vec::Vec;
use core::net::Ipv4Addr;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

const STALL: Duration = Duration::from_millis(200);
const OWN: NodeId = NodeId([0xaa; 20]);

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1_000)
}

/// A node whose distance to the target (0) begins with `near`.
fn node(near: u8, n: u8) -> Contact {
    let mut id = [0; 20];
    id[0] = near;
    id[19] = n;
    let ip = Ipv4Addr::new(80, near, n, 1);
    Contact {
        id: NodeId(id),
        addr: SocketAddr::new(ip.into(), 6881),
    }
}

/// A search where any id is as good as any other.
fn lookup(seeds: &[Contact]) -> Lookup {
    search(seeds, true)
}

fn search(seeds: &[Contact], local: bool) -> Lookup {
    let mut lookup = Lookup::new(at(0), NodeId([0; 20]), Params::new(OWN, local));
    for seed in seeds {
        lookup.add(Some(seed.id), seed.addr);
    }
    lookup
}

fn asks(lookup: &mut Lookup, now: Instant) -> Vec<Ask> {
    core::iter::from_fn(|| lookup.poll_query(now, STALL)).collect()
}

fn answer(lookup: &mut Lookup, now: Instant, ask: &Ask, nodes: &[Contact]) {
    let id = ask.id.unwrap();
    lookup.replied(now, ask.slot, id, nodes.iter().copied(), Some(b"tk"), false);
}

#[test]
fn a_search_is_small() {
    assert!(size_of::<Lookup>() <= 4_096, "{}", size_of::<Lookup>());
}

#[test]
fn without_anybody_to_ask_it_is_over() {
    let mut lookup = lookup(&[]);
    assert!(lookup.is_done());
    assert_eq!(lookup.poll_query(at(0), STALL), None);
    assert_eq!(lookup.poll_timeout(), None);
}

#[test]
fn the_closest_are_asked_first_and_alpha_at_a_time() {
    let seeds: Vec<_> = (1..=8).rev().map(|n| node(n, n)).collect();
    let mut lookup = lookup(&seeds);
    let asked: Vec<_> = asks(&mut lookup, at(0)).iter().map(|a| a.addr).collect();
    assert_eq!(asked, [1, 2, 3, 4, 5, 6].map(|n| node(n, n).addr));
    let late = at(100);
    assert_eq!(
        lookup.poll_timeout(),
        Some(late),
        "they count for less then"
    );
    assert_eq!(asks(&mut lookup, late).len(), 2);
}

#[test]
fn a_stalled_query_opens_a_slot_at_the_front_and_its_late_reply_counts() {
    let seeds: Vec<_> = (11..=18).map(|n| node(n, n)).collect();
    let mut lookup = lookup(&seeds);
    let first = asks(&mut lookup, at(0));
    answer(&mut lookup, at(50), &first[3], &[node(1, 1), node(2, 2)]);
    let second = asks(&mut lookup, at(50));
    assert_eq!(second[0].addr, node(1, 1).addr, "closest first");
    let stalled = asks(&mut lookup, at(200));
    assert!(!stalled.is_empty(), "three queries stalled");
    let before = lookup.replied_count();
    answer(&mut lookup, at(900), &first[0], &[]);
    assert_eq!(lookup.replied_count(), before + 1);
}

#[test]
fn silent_nodes_do_not_hold_up_the_end_but_are_waited_for_when_all_are_silent() {
    let seeds: Vec<_> = (1..=12).map(|n| node(n, n)).collect();
    let mut lookup = lookup(&seeds);
    let mut now = 0;
    let mut silent = 0;
    while !lookup.is_done() {
        for ask in asks(&mut lookup, at(now)) {
            // The closest four are dead.
            if ask.id.unwrap().0[0] > 4 {
                answer(&mut lookup, at(now), &ask, &[]);
            } else {
                silent += 1;
            }
        }
        now += 10;
    }
    assert_eq!(silent, 4);
    assert!(now <= 410, "two stalls: {now}");

    let mut lookup = self::lookup(&seeds[..3]);
    let all = asks(&mut lookup, at(0));
    assert_eq!(asks(&mut lookup, at(10_000)), []);
    assert!(!lookup.is_done(), "nobody answered yet");
    for ask in all {
        lookup.failed(at(15_000), ask.slot);
    }
    assert!(lookup.is_done());
}

#[test]
fn what_could_not_be_sent_is_given_again_and_not_counted() {
    let mut lookup = lookup(&[node(1, 1), node(2, 2)]);
    let first = lookup.poll_query(at(0), STALL).unwrap();
    lookup.unsent(first.slot);
    assert_eq!(lookup.contacted(), 0);
    let again = lookup.poll_query(at(0), STALL).unwrap();
    assert_eq!(again.addr, first.addr);
    assert_eq!(lookup.contacted(), 1);
}

#[test]
fn another_id_than_expected_is_a_failure() {
    let mut lookup = lookup(&[node(1, 1)]);
    let ask = lookup.poll_query(at(0), STALL).unwrap();
    let liar = [node(3, 3)];
    lookup.replied(
        at(9),
        ask.slot,
        NodeId([9; 20]),
        liar.into_iter(),
        None,
        true,
    );
    assert_eq!((lookup.replied_count(), lookup.found_count()), (0, 0));
    assert!(lookup.is_done());
}

#[test]
fn a_router_takes_its_place_once_its_id_is_known() {
    let mut lookup = lookup(&[]);
    let router = node(5, 5);
    lookup.add(None, router.addr);
    let ask = lookup.poll_query(at(0), STALL).unwrap();
    assert_eq!(ask.id, None);
    let near = [node(1, 1)];
    lookup.replied(at(9), ask.slot, router.id, near.into_iter(), None, false);
    let mut out = heapless::Vec::<_, 8>::new();
    lookup.closest(&mut out);
    assert_eq!(out.as_slice(), [router]);
    assert_eq!(asks(&mut lookup, at(9)).len(), 1);
}

#[test]
fn poisoned_replies_are_cut() {
    let mut lookup = search(&[node(100, 1)], false);
    let ask = lookup.poll_query(at(0), STALL).unwrap();
    let same_ip = (1..20).map(|n| Contact {
        addr: node(1, 1).addr,
        ..node(n, n)
    });
    let same_subnet = (1..20).map(|n| Contact {
        addr: SocketAddr::new(Ipv4Addr::new(81, 1, 1, n).into(), 6881),
        ..node(20 + n, n)
    });
    let nowhere = [
        "0.1.2.3:1",
        "127.0.0.1:1",
        "10.0.0.1:1",
        "80.1.1.1:0",
        "224.0.0.1:1",
    ];
    let martians = nowhere.iter().map(|addr| Contact {
        addr: addr.parse().unwrap(),
        ..node(50, 1)
    });
    let own = [Contact {
        id: OWN,
        ..node(3, 3)
    }];
    let id = ask.id.unwrap();
    lookup.params.per_reply = 16;
    let seen = lookup.candidates.len();
    for (nodes, accepted) in [
        (same_ip.collect::<Vec<_>>(), 1),
        (same_subnet.collect(), 2),
        (martians.collect(), 0),
        (own.to_vec(), 0),
    ] {
        let mut one = lookup.clone();
        one.replied(at(9), ask.slot, id, nodes.into_iter(), None, false);
        assert_eq!(one.candidates.len(), seen + accepted);
    }
    lookup.params.per_reply = 8;
    let crowd = (1..=20).rev().map(|n| node(n, n));
    lookup.replied(at(9), ask.slot, id, crowd, None, false);
    assert_eq!(lookup.candidates.len(), seen + 8);
    assert_eq!(lookup.candidates[0].addr(), node(1, 1).addr, "the closest");
}

#[test]
fn stores_are_the_closest_eight_with_tokens() {
    let seeds: Vec<_> = (1..=12).map(|n| node(n, n)).collect();
    let mut lookup = lookup(&seeds);
    let mut now = 0;
    while !lookup.is_done() {
        for ask in asks(&mut lookup, at(now)) {
            let id = ask.id.unwrap();
            let long = [0; TOKEN_LEN + 1];
            let token = if id.0[0] == 2 { &long[..] } else { &id.0[..1] };
            lookup.replied(
                at(now),
                ask.slot,
                id,
                core::iter::empty(),
                Some(token),
                false,
            );
        }
        now += 10;
    }
    let stores: Vec<_> = lookup.stores().map(|(a, _, t)| (a, t.to_vec())).collect();
    let expected: Vec<_> = [1, 3, 4, 5, 6, 7, 8]
        .map(|n| (node(n, n).addr, [n].to_vec()))
        .into();
    assert_eq!(stores, expected, "a token too long is not kept");
}

#[test]
fn a_crowd_at_the_target_makes_it_look_suspicious_and_go_on() {
    let mut size = SizeEstimate::new();
    let spread: Vec<_> = (1..=8).map(|n| node(n * 16, 0).id).collect();
    for _ in 0..8 {
        size.add(&NodeId([0; 20]), &spread);
    }
    let crowd: Vec<_> = (1..=8).map(|n| node(n, n)).collect();
    let honest: Vec<_> = (1..=9).map(|n| node(16 * n, n)).collect();
    let mut params = Params::new(OWN, true);
    params.expected = size.expected_kth_distance(8);
    let mut lookup = Lookup::new(at(0), NodeId([0; 20]), params);
    for n in crowd.iter().chain(&honest) {
        lookup.add(Some(n.id), n.addr);
    }
    while !lookup.is_done() {
        for ask in asks(&mut lookup, at(0)) {
            answer(&mut lookup, at(0), &ask, &[]);
        }
    }
    assert!(lookup.is_suspicious(&size));
    assert_eq!(lookup.stores().count(), 16);
    assert!(!self::lookup(&[]).is_suspicious(&size));
}

#[test]
fn liars_who_lead_to_each_other_leave_a_hole_that_is_filled() {
    let gap = 1 << 56;
    let mut params = Params::new(OWN, true);
    params.expected = Some(8 * gap);
    let mut lookup = Lookup::new(at(0), NodeId([0; 20]), params);
    // Every third of the closest nodes is a liar; the honest ones are known to one far away only.
    let liars: Vec<_> = (1..=8).map(|n| node(3 * n, n)).collect();
    let honest: Vec<_> = (1..=8).map(|n| node(3 * n - 1, 100 + n)).collect();
    let far: Vec<_> = (1..=12).map(|n| node(100 + n, n)).collect();
    for n in liars.iter().chain(&far) {
        lookup.add(Some(n.id), n.addr);
    }
    let mut reached = 0;
    while !lookup.is_done() {
        for ask in asks(&mut lookup, at(0)) {
            let told = if ask.addr == far[11].addr {
                &honest[..]
            } else {
                &[]
            };
            reached += usize::from(honest.iter().any(|h| h.addr == ask.addr));
            answer(&mut lookup, at(0), &ask, told);
        }
    }
    assert_eq!(reached, 8);
}

#[test]
fn once_it_is_over_the_nodes_to_store_at_do_not_change() {
    let seeds: Vec<_> = (1..=24).map(|n| node(n, n)).collect();
    let mut lookup = lookup(&seeds);
    let mut late = None;
    let mut now = 0;
    while !lookup.is_done() {
        for ask in asks(&mut lookup, at(now)) {
            if ask.addr == seeds[0].addr {
                late = Some(ask);
            } else {
                answer(&mut lookup, at(now), &ask, &[]);
            }
        }
        now += 10;
    }
    let stores = |l: &Lookup| l.stores().map(|(a, ..)| a).collect::<Vec<_>>();
    let (before, replied) = (stores(&lookup), lookup.replied_count());
    assert_eq!(before.len(), 8);
    answer(&mut lookup, at(now), &late.unwrap(), &[]);
    assert_eq!(stores(&lookup), before);
    assert_eq!(
        lookup.replied_count(),
        replied + 1,
        "it counts all the same"
    );
}

/// What can happen to a search.
#[derive(Clone, Debug)]
enum Event {
    Add(u8, u8),
    Poll,
    Wait(u16),
    Reply { nth: u8, nodes: Vec<(u8, u8)> },
    Fail(u8),
    Unsent(u8),
}

impl Arbitrary for Event {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 12 {
            0 => Self::Add(u8::arbitrary(g), u8::arbitrary(g)),
            1..=5 => Self::Poll,
            6 | 7 => Self::Wait(u16::arbitrary(g) % 600),
            8..=9 => Self::Reply {
                nth: u8::arbitrary(g),
                nodes: Vec::arbitrary(g),
            },
            10 => Self::Fail(u8::arbitrary(g)),
            _ => Self::Unsent(u8::arbitrary(g)),
        }
    }
}

/// Sums up what must hold at any time.
fn audit(lookup: &Lookup, now: Instant) {
    let c = &lookup.candidates;
    assert!(c.is_sorted_by_key(|c| c.dist));
    let flying = |c: &&Candidate| matches!(c.state, State::Asked | State::Stalled);
    let flying = c.iter().filter(flying).count();
    assert!(flying <= usize::from(lookup.params.max_in_flight));
    for (i, a) in c.iter().enumerate() {
        for b in &c[i + 1..] {
            assert_ne!(a.at.owner(false), b.at.owner(false));
            assert!(a.token == NONE || a.token != b.token);
            assert!(!(a.is_open() && b.is_open()) || a.ask != b.ask);
        }
        assert!(a.token == NONE || lookup.tokens_used & (1 << a.token) != 0);
        let same = c.iter().filter(|b| b.at.subnet() == a.at.subnet()).count();
        assert!(same <= PER_SUBNET);
    }
    let tokens = c.iter().filter(|c| c.token != NONE).count();
    assert_eq!(tokens as u32, lookup.tokens_used.count_ones());
    assert!(lookup.stores().count() <= MAX_STORES);
    assert!(lookup.contacted() <= MAX_QUERIES as u32);
    assert!(lookup.poll_timeout().is_none_or(|t| t > now), "law 3");
}

quickcheck! {
    fn whatever_happens_it_stays_sound_and_ends(events: Vec<Event>) -> bool {
        let mut lookup = search(&[node(200, 1), node(201, 2), node(202, 3)], false);
        let mut now = at(0);
        let mut open: Vec<Ask> = Vec::new();
        let mut asked: Vec<core::net::IpAddr> = Vec::new();
        for event in events {
            let pick = |nth: u8| (!open.is_empty()).then(|| usize::from(nth) % open.len());
            match event {
                Event::Add(near, n) => lookup.add(Some(node(near, n).id), node(near, n).addr),
                Event::Poll => while let Some(ask) = lookup.poll_query(now, STALL) {
                    assert!(!asked.contains(&ask.addr.ip()), "asked twice");
                    assert!(open.iter().all(|o| o.slot != ask.slot));
                    asked.push(ask.addr.ip());
                    open.push(ask);
                },
                Event::Wait(ms) => now += Duration::from_millis(ms.into()),
                Event::Reply { nth, nodes } => if let Some(i) = pick(nth) {
                    let ask = open.swap_remove(i);
                    let nodes = nodes.into_iter().map(|(near, n)| node(near, n));
                    lookup.replied(now, ask.slot, ask.id.unwrap(), nodes, Some(&[1]), false);
                },
                Event::Fail(nth) => if let Some(i) = pick(nth) {
                    lookup.failed(now, open.swap_remove(i).slot);
                },
                Event::Unsent(nth) => if let Some(i) = pick(nth) {
                    let ask = open.swap_remove(i);
                    asked.retain(|ip| *ip != ask.addr.ip());
                    lookup.unsent(ask.slot);
                },
            }
            let _ = lookup.poll_timeout();
            if lookup.now == now {
                audit(&lookup, now);
            }
        }
        // From here on everybody is silent, and every query fails after 15 s.
        for _ in 0..2_000 {
            while let Some(ask) = lookup.poll_query(now, STALL) {
                open.push(ask);
            }
            audit(&lookup, now);
            if lookup.is_done() {
                return true;
            }
            match lookup.poll_timeout() {
                Some(at) => now = at,
                None => match open.pop() {
                    Some(ask) => lookup.failed(now, ask.slot),
                    None => return false,
                },
            }
        }
        false
    }
}
