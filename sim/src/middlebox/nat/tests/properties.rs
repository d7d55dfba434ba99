//! Properties that hold for every NAT and every sequence of packets.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use dunlin_core::Instant;
use quickcheck::{Arbitrary, Gen, quickcheck};

use super::{Lab, addr};
use crate::{
    middlebox::nat::{Clash, Filtering, Mapping, Nat, NatConfig, PortPolicy, presets},
    packet::{
        IcmpError, Packet, Proto, TcpFlags,
        verdict::{Rule, Verdict},
    },
};

/// One packet, and the time since the last one.
#[derive(Clone, Debug)]
struct Step {
    millis: u64,
    inward: bool,
    tcp: bool,
    flags: u8,
    host: u8,
    /// For a packet from outside: which of the external endpoints seen so far it is sent to, if
    /// any.
    port: u8,
    remote: u8,
    error: bool,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let byte = |g: &mut Gen| u8::arbitrary(g);
        let waits = [0, 0, 1, 50, 1_500, 7_000, 40_000, 130_000];
        let flags = [0x02, 0x02, 0x12, 0x10, 0x11, 0x04, 0x00];
        Self {
            millis: waits[usize::from(byte(g) % 8)],
            inward: bool::arbitrary(g),
            tcp: bool::arbitrary(g),
            flags: flags[usize::from(byte(g) % 7)],
            host: byte(g) % 3,
            port: byte(g) % 4,
            remote: byte(g) % 6,
            error: byte(g).is_multiple_of(8),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let calm = Self {
            millis: 0,
            error: false,
            ..self.clone()
        };
        Box::new((self.millis > 0 || self.error).then_some(calm).into_iter())
    }
}

fn remote(n: u8) -> SocketAddr {
    ([192, 0, 2, n / 2], 7_000 + u16::from(n % 2)).into()
}

/// The NAT under test: a preset with a small table.
fn small(n: u8) -> NatConfig {
    let all = presets::all();
    let mut config = (all[usize::from(n) % all.len()].make)();
    config.max_entries = config.max_entries.min(12);
    config.max_per_host = Some(6);
    config.boot = Duration::from_millis(10);
    config
}

/// Runs a script, and checks after each step what must always hold. Returns the verdicts.
fn run(config: &NatConfig, steps: &[Step]) -> Vec<String> {
    let public = [[203, 0, 113, 1].into(), [203, 0, 113, 2].into()];
    let mut nat = Nat::new(config.clone(), &public, 5);
    let mut now = Instant::from_micros(9);
    let mut seen = vec![addr("203.0.113.1:40000")];
    let mut log = Vec::new();
    for step in steps {
        now += Duration::from_millis(step.millis);
        let far = remote(step.remote);
        let internal = SocketAddr::from(([10, 0, 0, step.host], 40_000 + u16::from(step.port)));
        let external = seen[usize::from(step.host * 4 + step.port) % seen.len()];
        let (src, dst) = if step.inward {
            (far, external)
        } else {
            (internal, far)
        };
        let mut packet = match step.tcp {
            true => Packet::tcp(src, dst, TcpFlags(step.flags), 1, 1, b"abc"),
            false => Packet::udp(src, dst, b"abc"),
        };
        if step.error {
            // An error about a packet in the opposite direction.
            let about = match step.tcp {
                true => Packet::tcp(dst, src, TcpFlags(step.flags), 1, 1, b"abc"),
                false => Packet::udp(dst, src, b"abc"),
            };
            packet = Packet::icmp_error(src.ip(), IcmpError::PortUnreachable, &about);
        }
        let before: Vec<_> = nat.entries().collect();
        let verdict = if step.inward {
            nat.inbound(now, &mut packet)
        } else {
            nat.outbound(now, &mut packet)
        };
        assert!(packet.checksums_hold(), "{step:?}");
        if let Verdict::Answer(_, answer) = &verdict {
            assert!(answer.checksums_hold(), "{step:?}");
        }
        if matches!(verdict, Verdict::Pass(_)) && step.inward && !step.error {
            let (to, proto) = (packet.flow().dst, packet.flow().proto);
            let owns = |e: &&crate::middlebox::nat::Entry| {
                (e.proto, e.external, e.internal) == (proto, external, Some(to))
            };
            assert!(
                before.iter().any(|e| owns(&e)),
                "{to} does not own {external}"
            );
        }
        if matches!(verdict, Verdict::Pass(_)) && !step.inward && !step.error {
            let from = packet.flow().src;
            assert!(public.contains(&match from.ip() {
                std::net::IpAddr::V4(ip) => ip,
                std::net::IpAddr::V6(_) => panic!("v6"),
            }));
            if !seen.contains(&from) {
                seen.push(from);
            }
        }
        invariants(&nat, config);
        log.push(format!("{verdict:?} {:?}", packet.flow()));
    }
    log
}

fn invariants(nat: &Nat, config: &NatConfig) {
    assert!(nat.len() <= config.max_entries as usize);
    assert_eq!(nat.len(), nat.entries().count());
    let mut flows = BTreeMap::new();
    let mut owners: BTreeMap<(Proto, SocketAddr), SocketAddr> = BTreeMap::new();
    let mut hosts: BTreeMap<_, u32> = BTreeMap::new();
    for entry in nat.entries() {
        let key = (entry.proto, entry.external, entry.remote);
        assert!(flows.insert(key, entry).is_none(), "two flows of {key:?}");
        let Some(internal) = entry.internal else {
            continue;
        };
        *hosts.entry(internal.ip()).or_default() += 1;
        let shares = match entry.proto {
            Proto::Udp => config.udp.clash,
            Proto::Tcp => config.tcp.clash,
            Proto::Icmp => Clash::Overload,
        };
        let owner = *owners
            .entry((entry.proto, entry.external))
            .or_insert(internal);
        assert!(
            owner == internal || shares == Clash::Overload,
            "{owner} and {internal} share {}",
            entry.external
        );
    }
    assert!(
        hosts
            .values()
            .all(|n| config.max_per_host.is_none_or(|cap| *n <= cap))
    );
}

quickcheck! {
    fn every_box_keeps_its_promises_and_repeats_itself(preset: u8, steps: Vec<Step>) -> bool {
        let config = small(preset);
        run(&config, &steps) == run(&config, &steps)
    }

    fn a_mapping_is_shared_as_its_class_says(class: u8, policy: u8, remotes: Vec<u8>) -> bool {
        let mapping = [
            Mapping::EndpointIndependent,
            Mapping::AddressDependent,
            Mapping::AddressAndPortDependent,
        ][usize::from(class % 3)];
        let ports = [
            PortPolicy::Preserve,
            PortPolicy::PreserveParity,
            PortPolicy::Sequential(3),
            PortPolicy::Sequential(-1),
            PortPolicy::Random,
            PortPolicy::Block(128),
            PortPolicy::Hash,
        ][usize::from(policy % 7)];
        // Flows share nothing except what their class of mapping says.
        let config = presets::with(mapping, Filtering::EndpointIndependent, ports, Clash::Next);
        let mut lab = Lab::new(config);
        let class = |r: SocketAddr| match mapping {
            Mapping::EndpointIndependent => None,
            Mapping::AddressDependent => Some((r.ip(), 0)),
            Mapping::AddressAndPortDependent => Some((r.ip(), r.port())),
        };
        let mut seen: Vec<(Option<_>, SocketAddr)> = Vec::new();
        for n in remotes {
            let to = remote(n % 12);
            let external = lab.ext("10.0.0.2:5000", &to.to_string());
            if seen.iter().any(|(c, e)| (*c == class(to)) != (*e == external)) {
                return false;
            }
            seen.push((class(to), external));
        }
        true
    }

    fn filtering_lets_in_whom_its_class_says(class: u8, tcp: bool, asked: Vec<u8>, knocks: Vec<u8>) -> bool {
        let filtering = [
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ][usize::from(class % 3)];
        let config = presets::with(
            Mapping::EndpointIndependent, filtering, PortPolicy::Preserve, Clash::Next,
        );
        let mut lab = Lab::new(config);
        let (inside, external) = ("10.0.0.2:5000", addr("203.0.113.11:5000"));
        let asked: Vec<SocketAddr> = asked.iter().map(|n| remote(n % 12)).collect();
        for to in &asked {
            match tcp {
                true => lab.tcp_out(inside, &to.to_string(), TcpFlags::SYN),
                false => lab.udp_out(inside, &to.to_string()),
            };
        }
        knocks.iter().all(|n| {
            let from = remote(n % 12);
            let expected = !asked.is_empty() && match filtering {
                Filtering::EndpointIndependent => true,
                Filtering::AddressDependent => asked.iter().any(|a| a.ip() == from.ip()),
                Filtering::AddressAndPortDependent => asked.contains(&from),
            };
            let (got, rule) = match tcp {
                true => lab.tcp_in(&from.to_string(), external, TcpFlags::SYN),
                false => lab.udp_in(&from.to_string(), external),
            };
            let why = match (asked.is_empty(), tcp) {
                (false, _) => Rule::NatFiltered,
                (true, true) => Rule::NatUnsolicitedSyn,
                (true, false) => Rule::NatNoMapping,
            };
            (got.is_some() == expected) && (expected || rule == why)
        })
    }

    fn an_expired_mapping_comes_back_where_the_policy_says_so(port: u16, preserve: bool) -> bool {
        let ports = if preserve { PortPolicy::Preserve } else { PortPolicy::Hash };
        let mut lab = Lab::new(presets::with(
            Mapping::AddressAndPortDependent,
            Filtering::AddressAndPortDependent,
            ports,
            Clash::Overload,
        ));
        let inside = format!("10.0.0.2:{}", port.max(1));
        let first = lab.ext(&inside, "192.0.2.1:9");
        lab.wait(30_000);
        first == lab.ext(&inside, "192.0.2.1:9") && lab.nat.stats().expired == 1
    }
}
