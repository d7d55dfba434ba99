//! Ports, tables, port mappings, restarts and planted faults.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{Lab, addr};
use crate::{
    middlebox::nat::{
        Clash, Fault, Filtering, ForwardError, Full, MAX_FORWARDS, Mapping, Nat, NatConfig,
        Pooling, PortPolicy, presets,
    },
    packet::{
        Packet, Proto,
        verdict::{Rule, Verdict},
    },
};

const A: &str = "10.1.0.2:40000";
const S: &str = "192.0.2.1:3478";

fn ports_of(ports: PortPolicy, clash: Clash) -> NatConfig {
    presets::with(
        Mapping::AddressAndPortDependent,
        Filtering::AddressAndPortDependent,
        ports,
        clash,
    )
}

fn externals(lab: &mut Lab, n: u16) -> Vec<u16> {
    (0..n)
        .map(|p| lab.ext(A, &format!("192.0.2.1:{}", 1_000 + p)).port())
        .collect()
}

#[test]
fn sequential_ports_step_and_wrap() {
    for step in [1, -1, 3, -2] {
        let mut lab = Lab::new(NatConfig {
            port_range: (2_000, 2_099),
            ..ports_of(PortPolicy::Sequential(step), Clash::Next)
        });
        let ports = externals(&mut lab, 20);
        for pair in ports.windows(2) {
            let delta = i32::from(pair[1]) - i32::from(pair[0]);
            assert_eq!(delta.rem_euclid(100), step.rem_euclid(100), "{ports:?}");
        }
    }
}

#[test]
fn every_port_is_given_before_there_is_none() {
    let policies = [
        PortPolicy::Preserve,
        PortPolicy::Sequential(2),
        PortPolicy::Random,
        PortPolicy::Hash,
        PortPolicy::Block(50),
    ];
    for policy in policies {
        let mut lab = Lab::new(NatConfig {
            port_range: (2_000, 2_049),
            ..ports_of(policy, Clash::Next)
        });
        let inside = "10.1.0.2:2000";
        let mut all = BTreeSet::new();
        for p in 0..50 {
            all.insert(lab.ext(inside, &format!("192.0.2.1:{}", 1_000 + p)).port());
        }
        assert_eq!(all.len(), 50, "{policy:?}");
        assert_eq!(
            lab.udp_out(inside, "192.0.2.1:1"),
            (None, Rule::NatNoPort),
            "{policy:?}"
        );
        // Ports are free again when their mappings have expired.
        lab.wait(30_000);
        assert!(lab.udp_out(inside, "192.0.2.1:1").0.is_some());
    }
}

#[test]
fn an_overloaded_port_serves_each_destination_once() {
    let mut lab = Lab::new(NatConfig {
        port_range: (2_000, 2_001),
        ..presets::with(
            Mapping::EndpointIndependent,
            Filtering::AddressAndPortDependent,
            PortPolicy::Random,
            Clash::Overload,
        )
    });
    for host in 2..4 {
        for server in 1..9 {
            lab.ext(&format!("10.1.0.{host}:9"), &format!("192.0.2.{server}:1"));
        }
    }
    assert_eq!(
        lab.udp_out("10.1.0.9:9", "192.0.2.1:1"),
        (None, Rule::NatNoPort)
    );
}

#[test]
fn a_clash_may_mean_no_port() {
    let mut lab = Lab::new(ports_of(PortPolicy::Preserve, Clash::Drop));
    lab.ext(A, S);
    assert_eq!(lab.udp_out("10.1.0.3:40000", S), (None, Rule::NatNoPort));
    // To other servers the port is free for both.
    for (host, server) in [("10.1.0.3:40000", "192.0.2.200:1"), (A, "192.0.2.201:1")] {
        assert_eq!(lab.ext(host, server).port(), 40_000);
    }
}

#[test]
fn random_ports_fill_their_range() {
    let mut lab = Lab::new(NatConfig {
        port_range: (1_024, 65_535),
        ..ports_of(PortPolicy::Random, Clash::Random)
    });
    let ports = externals(&mut lab, 2_000);
    let low = ports.iter().filter(|p| **p < 33_280).count();
    assert!(
        (900..1_100).contains(&low),
        "{low} of 2000 in the lower half"
    );
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 2_000);
}

#[test]
fn blocks_are_disjoint_and_stay() {
    let mut lab = Lab::new(NatConfig {
        port_range: (10_000, 10_199),
        ..presets::with(
            Mapping::EndpointIndependent,
            Filtering::EndpointIndependent,
            PortPolicy::Block(64),
            Clash::Random,
        )
    });
    for host in 0..3u16 {
        for port in 0..64 {
            let inside = format!("10.1.0.{}:{}", host + 1, 5_000 + port);
            let external = lab.ext(&inside, S).port();
            assert_eq!((external - 10_000) / 64, host);
        }
    }
    assert_eq!(
        lab.udp_out("10.1.0.1:9", S),
        (None, Rule::NatNoPort),
        "its block is full"
    );
    assert_eq!(
        lab.udp_out("10.1.0.9:9", S),
        (None, Rule::NatNoPort),
        "no block is left"
    );
}

#[test]
fn paired_addresses_stay_and_arbitrary_ones_do_not() {
    let public: Vec<Ipv4Addr> = (1..9).map(|n| [203, 0, 113, n].into()).collect();
    let seen = |pooling, seed| {
        let config = NatConfig {
            pooling,
            ..presets::with(
                Mapping::AddressAndPortDependent,
                Filtering::AddressAndPortDependent,
                PortPolicy::Random,
                Clash::Random,
            )
        };
        let mut nat = Nat::new(config, &public, seed);
        let now = dunlin_core::Instant::ORIGIN;
        let mut per_host = Vec::new();
        for host in 1..30u8 {
            let mut ips = BTreeSet::new();
            for port in 1..20 {
                let (src, dst) = (
                    ([10, 0, 0, host], port).into(),
                    ([192, 0, 2, 1], port).into(),
                );
                let mut packet = Packet::udp(src, dst, b"");
                nat.outbound(now, &mut packet);
                ips.insert(packet.flow().src.ip());
            }
            per_host.push(ips);
        }
        per_host
    };
    let paired = seen(Pooling::Paired, 1);
    assert!(paired.iter().all(|ips| ips.len() == 1));
    assert!(paired.iter().flatten().collect::<BTreeSet<_>>().len() > 4);
    assert!(seen(Pooling::Arbitrary, 1).iter().all(|ips| ips.len() > 3));
}

fn full(full: Full) -> Lab {
    Lab::new(NatConfig {
        max_entries: 4,
        full,
        boot: Duration::from_secs(10),
        ..presets::linux()
    })
}

#[test]
fn a_full_table_drops_evicts_or_crashes() {
    let to = |n: u16| format!("192.0.2.1:{n}");
    let mut drops = full(Full::DropNew);
    let mut evicts = full(Full::EvictOldest);
    let mut crashes = full(Full::Crash);
    for lab in [&mut drops, &mut evicts, &mut crashes] {
        for n in 1..5 {
            lab.wait(10);
            lab.ext(A, &to(n));
        }
        lab.wait(10);
        lab.ext(A, &to(1));
    }
    let external = addr("203.0.113.11:40000");
    assert_eq!(drops.udp_out(A, &to(5)), (None, Rule::NatTableFull));
    assert_eq!(drops.nat.stats().table_full, 1);
    assert!(drops.udp_in(&to(2), external).0.is_some());
    // The first flow was used again, so the second one is removed.
    assert!(evicts.udp_out(A, &to(5)).0.is_some());
    assert_eq!((evicts.nat.len(), evicts.nat.stats().evicted), (4, 1));
    assert_eq!(evicts.udp_in(&to(2), external).0, None);
    assert!(evicts.udp_in(&to(1), external).0.is_some());
    assert_eq!(crashes.udp_out(A, &to(5)), (None, Rule::NatTableFull));
    assert!(crashes.nat.is_empty());
    assert_eq!(crashes.udp_out(A, &to(1)), (None, Rule::NatRebooted));
    crashes.wait(10_000);
    assert_eq!(crashes.udp_in(&to(1), external), (None, Rule::NatRebooted));
    assert_eq!(crashes.ext(A, &to(1)), external);
}

#[test]
fn a_box_slows_down_above_its_mark() {
    let mut lab = Lab::new(NatConfig {
        max_entries: 1_000,
        full: Full::Slowdown(500),
        ..presets::linux()
    });
    for n in 0..500 {
        lab.ext(A, &format!("192.0.2.1:{}", 1_000 + n));
    }
    assert_eq!(lab.nat.penalty(), Duration::ZERO);
    for n in 500..750 {
        lab.ext(A, &format!("192.0.2.1:{}", 1_000 + n));
    }
    assert_eq!(lab.nat.penalty(), Duration::from_millis(250));
}

#[test]
fn one_host_has_its_share_and_no_more() {
    let mut lab = Lab::new(NatConfig {
        max_per_host: Some(2),
        ..presets::linux()
    });
    lab.ext(A, "192.0.2.1:1");
    lab.tcp_out(A, "192.0.2.1:1", crate::packet::TcpFlags::SYN)
        .0
        .expect("passes");
    assert_eq!(lab.udp_out(A, "192.0.2.1:2"), (None, Rule::NatHostLimit));
    lab.ext("10.1.0.3:40000", "192.0.2.1:2");
    lab.wait(30_000);
    lab.ext(A, "192.0.2.1:2");
}

#[test]
fn port_mappings_lead_in_renew_end_and_outlive_a_restart_if_made_by_hand() {
    let mut lab = Lab::new(presets::linux());
    let (inside, external) = (addr("10.1.0.2:6881"), addr("203.0.113.11:7000"));
    let minute = Some(Duration::from_secs(60));
    let given = lab.nat.forward(lab.now, Proto::Udp, 7_000, inside, minute);
    assert_eq!(given, Ok(external));
    assert_eq!(lab.udp_in(S, external), (Some(inside), Rule::NatForwarded));
    assert_eq!(lab.udp_in(S, external), (Some(inside), Rule::NatMapped));
    // Answers and new flows use the mapping, too.
    assert_eq!(lab.ext("10.1.0.2:6881", S), external);
    assert_eq!(lab.ext("10.1.0.2:6881", "192.0.2.9:9"), external);
    let taken = lab.nat.forward(lab.now, Proto::Udp, 7_000, addr(A), minute);
    assert_eq!(taken, Err(ForwardError::Taken));
    lab.wait(59_000);
    assert_eq!(
        lab.nat.forward(lab.now, Proto::Udp, 7_000, inside, minute),
        Ok(external)
    );
    lab.wait(59_999);
    assert_eq!(lab.udp_in("192.0.2.7:7", external).1, Rule::NatForwarded);
    lab.wait(1);
    assert_eq!(lab.udp_in("192.0.2.8:8", external).0, None);
    assert_eq!(lab.nat.forwards().count(), 0);
    let by_hand = lab.nat.forward(lab.now, Proto::Tcp, 80, inside, None);
    assert_eq!(by_hand, Ok(addr("203.0.113.11:80")));
    lab.nat
        .forward(lab.now, Proto::Udp, 7_000, inside, minute)
        .expect("free");
    lab.nat.reboot(lab.now);
    lab.wait(30_000);
    let left: Vec<_> = lab.nat.forwards().map(|f| (f.proto, f.internal)).collect();
    assert_eq!(left, [(Proto::Tcp, inside)]);
    assert!(
        lab.nat
            .unforward(lab.now, Proto::Tcp, addr("203.0.113.11:80"))
    );
    assert!(
        !lab.nat
            .unforward(lab.now, Proto::Tcp, addr("203.0.113.11:80"))
    );
}

#[test]
fn port_mappings_have_a_limit_and_respect_mappings() {
    let mut lab = Lab::new(NatConfig {
        low_ports_stay: false,
        ..presets::with(
            Mapping::EndpointIndependent,
            Filtering::EndpointIndependent,
            PortPolicy::Preserve,
            Clash::Next,
        )
    });
    lab.ext(A, S);
    let other = addr("10.1.0.3:1");
    let taken = lab.nat.forward(lab.now, Proto::Udp, 40_000, other, None);
    assert_eq!(taken, Err(ForwardError::Taken));
    for n in 0..MAX_FORWARDS as u16 {
        let inside = SocketAddr::new(other.ip(), 1 + n);
        lab.nat
            .forward(lab.now, Proto::Udp, 1 + n, inside, None)
            .expect("free");
    }
    let full = lab.nat.forward(lab.now, Proto::Tcp, 1, other, None);
    assert_eq!(full, Err(ForwardError::Full));
    let v6 = lab
        .nat
        .forward(lab.now, Proto::Tcp, 1, addr("[::1]:1"), None);
    assert_eq!(v6, Err(ForwardError::Unsupported));
    // A port that is mapped to another host is not given out.
    let (external, rule) = lab.udp_out("10.1.0.9:1000", S);
    assert_eq!(rule, Rule::NatRemapped);
    assert_ne!(external.map(|e| e.port()), Some(1_000));
}

#[test]
fn external_of_foretells() {
    let mut lab = Lab::new(presets::linux());
    let (inside, s) = (addr(A), addr(S));
    let ask = |lab: &mut Lab, to| lab.nat.external_of(lab.now, Proto::Udp, inside, to);
    assert_eq!(ask(&mut lab, s), None);
    let external = lab.ext(A, S);
    assert_eq!(ask(&mut lab, s), Some(external));
    assert_eq!(ask(&mut lab, addr("192.0.2.9:9")), Some(external));
    lab.wait(30_000);
    assert_eq!(ask(&mut lab, s), None);
}

#[test]
fn a_planted_fault_forgets_one_mapping_once() {
    let mut lab = Lab::new(NatConfig {
        fault: Some(Fault::ForgetMapping {
            nth: 2,
            after: Duration::from_secs(5),
        }),
        ..presets::linux()
    });
    let (one, two) = (lab.ext(A, S), lab.ext("10.1.0.3:50000", S));
    lab.wait(4_999);
    assert!(lab.udp_in(S, two).0.is_some());
    lab.wait(1);
    assert_eq!(lab.udp_in(S, two), (None, Rule::PlantedFault));
    assert!(lab.udp_in(S, one).0.is_some());
    // A mapping that is made again stays.
    assert_eq!(lab.ext("10.1.0.3:50000", S), two);
    lab.wait(6_000);
    assert!(lab.udp_in(S, two).0.is_some());
}

#[test]
fn behind_a_carriers_nat_both_translate() {
    let mut home = Nat::new(presets::linux(), &[[100, 64, 3, 7].into()], 1);
    let carrier = (presets::find("cgnat-good").expect("a preset").make)();
    let mut carrier = Nat::new(carrier, &[[203, 0, 113, 1].into()], 2);
    let now = dunlin_core::Instant::from_micros(7);
    let mut out = Packet::udp(addr(A), addr(S), b"x");
    assert!(matches!(home.outbound(now, &mut out), Verdict::Pass(_)));
    assert_eq!(out.flow().src, addr("100.64.3.7:40000"));
    assert!(matches!(carrier.outbound(now, &mut out), Verdict::Pass(_)));
    let seen = out.flow().src;
    assert_eq!(seen.ip(), addr("203.0.113.1:1").ip());
    let mut back = Packet::udp(addr(S), seen, b"y");
    assert!(matches!(carrier.inbound(now, &mut back), Verdict::Pass(_)));
    assert!(matches!(home.inbound(now, &mut back), Verdict::Pass(_)));
    assert_eq!(back.flow().dst, addr(A));
    assert!(back.checksums_hold() && out.checksums_hold());
}

#[test]
fn v6_is_left_alone() {
    let mut lab = Lab::new(presets::linux());
    let mut packet = Packet::udp(addr("[2001:db8::1]:1"), addr("[2001:db8::2]:2"), b"");
    let before = packet.clone();
    assert_eq!(lab.out(&mut packet).1, Rule::NatUntouched);
    assert_eq!(lab.enter(&mut packet).1, Rule::NatUntouched);
    assert_eq!(packet, before);
}

#[test]
fn an_exposed_host_gets_what_has_no_mapping() {
    let mut lab = Lab::new(presets::linux());
    let exposed = "10.0.0.9".parse().ok();
    lab.nat.expose(exposed);
    assert_eq!(lab.nat.exposed(), exposed);
    let external = addr("203.0.113.11:7000");
    let exposed = addr("10.0.0.9:7000");
    assert_eq!(lab.udp_in(S, external), (Some(exposed), Rule::NatForwarded));
    // A mapping comes first.
    let inside = addr("10.0.0.3:7001");
    let mapped = lab.nat.forward(lab.now, Proto::Udp, 7_001, inside, None);
    let mapped = mapped.expect("a free port");
    assert_eq!(lab.udp_in(S, mapped), (Some(inside), Rule::NatForwarded));
    let found = lab.nat.forward_at(lab.now, Proto::Udp, mapped);
    assert_eq!(found.map(|f| f.internal), Some(inside));
    assert_eq!(lab.nat.forward_at(lab.now, Proto::Tcp, mapped), None);
    lab.nat.expose(None);
    let closed = addr("203.0.113.11:7002");
    assert_eq!(lab.udp_in(S, closed), (None, Rule::NatNoMapping));
}
