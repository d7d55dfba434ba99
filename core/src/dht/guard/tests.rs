use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quickcheck::quickcheck;

use core::time::Duration;

use super::*;

const T0: Instant = Instant::from_micros(1_600_000);
const LIMITS: GuardLimits = GuardLimits {
    max_sources: 1024,
    local: false,
    rate: Some(50),
    burst: 200,
};

fn guard(limits: GuardLimits) -> Guard {
    Guard::new((7, 8), limits)
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0b00_0000 + n).to_be_bytes(), 6881))
}

fn millis(n: u64) -> Instant {
    T0 + Duration::from_millis(n)
}

#[test]
fn a_network_gets_a_burst_and_then_its_rate() {
    let mut g = guard(LIMITS);
    // 256 hosts of one /24 are one source.
    let yes = |g: &mut Guard, now, n| g.admit(now, &addr(n % 256)) == Admit::Yes;
    assert_eq!((0..1000).filter(|n| yes(&mut g, T0, *n)).count(), 200);
    let later = (1..=10_000).filter(|n| yes(&mut g, millis(*n), *n as u32));
    assert_eq!(later.count(), 500, "ten seconds");
    assert_eq!(g.admit(T0, &addr(256)), Admit::Yes, "the next /24");
}

#[test]
fn a_flood_from_everywhere_neither_hides_the_greedy_nor_locks_out_the_honest() {
    let mut g = guard(LIMITS);
    let (greedy, mut got, mut honest) = (addr(5), 0, 0);
    // 20 000 forged networks a second, one greedy one at 1000 a second, an honest one at 10.
    for n in 0..200_000_u32 {
        let now = T0 + Duration::from_micros(u64::from(n) * 50);
        assert_eq!(g.admit(now, &addr(0x10_0000 + (n << 8))), Admit::Yes);
        if n % 20 == 0 {
            got += u32::from(g.admit(now, &greedy) == Admit::Yes);
        }
        if n % 2000 == 0 {
            honest += u32::from(g.admit(now, &addr(0x800)) == Admit::Yes);
        }
    }
    assert_eq!(honest, 100);
    assert!((650..=720).contains(&got), "200 + 10 s of 50, not {got}");
}

#[test]
fn replies_may_exceed_queries_by_so_much() {
    let mut g = guard(LIMITS);
    let sent = (0..1000).filter(|_| g.charge(T0, &addr(1), 100, 300));
    assert_eq!(sent.count(), 200);
    assert!(!g.charge(T0, &addr(2), 100, 101), "its neighbour, too");
    assert!(g.charge(T0, &addr(2), 100, 100), "as much as it sent");
    assert!(g.charge(T0, &addr(300), 100, 560));
    assert!(!g.charge(millis(19), &addr(1), 100, 300));
    assert!(g.charge(millis(20), &addr(1), 100, 300));
}

#[test]
fn a_destination_gets_ten_and_then_two_a_second() {
    let mut g = guard(LIMITS);
    assert_eq!((0..50).filter(|_| g.may_send(T0, &addr(1))).count(), 10);
    // Another port is the same victim.
    let mut port = addr(1);
    port.set_port(80);
    assert!(!g.may_send(T0, &port));
    let later = (1..=100).filter(|n| g.may_send(millis(n * 100), &port));
    assert_eq!(later.count(), 20);
}

#[test]
fn a_private_network_is_not_limited_by_source_and_by_port_in_destination() {
    let limits = GuardLimits {
        local: true,
        ..LIMITS
    };
    let mut g = guard(limits);
    let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
    assert!((0..5000).all(|_| g.admit(T0, &here(9)) == Admit::Yes));
    assert!((0..5000).all(|_| g.charge(T0, &here(9), 10, 500)));
    assert!((1..100).all(|port| g.may_send(T0, &here(port))));
    assert_eq!((0..50).filter(|_| g.may_send(T0, &here(5))).count(), 9);
}

#[test]
fn without_a_rate_nobody_is_limited() {
    let limits = GuardLimits {
        rate: None,
        ..LIMITS
    };
    let mut g = guard(limits);
    assert!((0..5000).all(|_| g.admit(T0, &addr(1)) == Admit::Yes));
    assert!((0..5000).all(|_| g.charge(T0, &addr(1), 10, 500)));
}

#[test]
fn who_changes_its_id_twice_within_an_hour_is_banned_for_one() {
    let mut g = guard(LIMITS);
    let (ip, hour) = (addr(1).ip(), 3_600_000);
    g.changed_id(T0, ip);
    assert!(!g.is_banned(T0, ip));
    g.changed_id(millis(hour), ip);
    assert!(!g.is_banned(millis(hour), ip), "that was long ago");
    g.changed_id(millis(hour + 1000), ip);
    assert!(g.is_banned(millis(hour + 1000), ip));
    assert!(!g.is_banned(millis(hour + 1000), addr(2).ip()));
    assert!(g.is_banned(millis(2 * hour), ip));
    assert!(!g.is_banned(millis(2 * hour + 1001), ip));
}

#[test]
fn who_answered_is_there_for_ten_minutes() {
    let mut g = guard(LIMITS);
    g.prove(T0, &addr(1));
    assert!(g.is_proven(millis(599_000), &addr(1)));
    assert!(!g.is_proven(millis(600_001), &addr(1)));
    let mut port = addr(1);
    port.set_port(1);
    assert!(!g.is_proven(T0, &port) && !g.is_proven(T0, &addr(2)));
}

#[test]
fn a_service_is_probed_once_a_day() {
    let mut g = guard(LIMITS);
    let mut dns = addr(1);
    dns.set_port(53);
    assert!(g.may_probe(T0, &dns) && !g.may_probe(T0, &dns));
    assert!(!g.may_probe(millis(86_399_000), &dns));
    assert!(g.may_probe(millis(86_400_016), &dns));
    assert!(g.may_probe(T0, &addr(1)) && g.may_probe(T0, &addr(1)));
}

#[test]
fn martians() {
    let check = |text: &str, public: bool, private: bool| {
        let addr: SocketAddr = text.parse().unwrap();
        assert_eq!(is_martian(&addr, false), public, "{text}");
        assert_eq!(is_martian(&addr, true), private, "{text}");
    };
    for text in [
        "0.1.2.3:1",
        "224.0.0.1:1",
        "239.255.255.250:1",
        "240.0.0.1:1",
        "255.255.255.255:1",
        "8.8.8.8:0",
        "[::]:1",
        "[ff02::1]:1",
        "[::ffff:8.8.8.8]:1",
        "[2a00::1]:0",
    ] {
        check(text, true, true);
    }
    for text in [
        "127.0.0.1:1",
        "10.255.0.1:1",
        "172.16.0.1:1",
        "172.31.255.1:1",
        "192.168.0.1:1",
        "169.254.9.9:1",
        "100.64.0.1:1",
        "100.127.0.1:1",
        "[::1]:1",
        "[fc00::1]:1",
        "[fd12::1]:1",
        "[fe80::1]:1",
    ] {
        check(text, true, false);
    }
    for text in [
        "8.8.8.8:1",
        "172.32.0.1:1",
        "172.15.0.1:1",
        "100.63.0.1:1",
        "100.128.0.1:1",
        "223.255.255.1:65535",
        "203.0.113.5:1",
        "[2a00::1]:1",
    ] {
        check(text, false, false);
    }
}

#[test]
fn the_tables_are_as_small_as_they_are_told() {
    let entries = |max| {
        let assoc = Assoc::new(max);
        size_of_val(assoc.sets()) / 8
    };
    assert_eq!((entries(0), entries(8), entries(32)), (8, 8, 32));
    assert_eq!((entries(1000), entries(u16::MAX)), (1024, 65536));
}

quickcheck! {
    /// With room for all, a bucket is a bucket.
    fn agrees_with_naive_buckets(steps: Vec<(u8, u8)>) -> bool {
        let limits = GuardLimits { rate: Some(10), burst: 3, ..LIMITS };
        let (mut g, mut now, mut naive) = (guard(limits), T0, BTreeMap::new());
        steps.into_iter().all(|(who, wait)| {
            now += Duration::from_millis(u64::from(wait) * 2);
            let (level, at) = naive.entry(who % 8).or_insert((3_000, now));
            *level = 3_000.min(*level + now.saturating_since(*at).as_millis() as u64 * 10);
            *at = now;
            let expect = *level >= 1_000;
            if expect {
                *level -= 1_000;
            }
            (g.admit(now, &addr(u32::from(who % 8) << 8)) == Admit::Yes) == expect
        })
    }
}
