//! Properties that hold for every NAT and every sequence of packets.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

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

/// Something that happens at a NAT.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// Time passes.
    Wait(Duration),
    /// A host sends to a remote endpoint.
    Send {
        host: u8,
        port: u8,
        remote: u8,
        what: What,
    },
    /// A remote endpoint sends to one of the external endpoints seen so far.
    Receive { remote: u8, seen: u8, what: What },
}

/// A packet of an operation.
#[derive(Clone, Copy, Debug)]
struct What {
    /// The flags of a segment; `None` for a datagram.
    tcp: Option<TcpFlags>,
    /// The packet is an ICMP error about such a packet in the opposite direction.
    error: bool,
}

const HOSTS: u8 = 3;
const PORTS: u8 = 4;
const REMOTES: u8 = 6;

impl Arbitrary for What {
    fn arbitrary(g: &mut Gen) -> Self {
        let flags = [0x02, 0x02, 0x12, 0x10, 0x11, 0x04, 0x00].map(TcpFlags);
        Self {
            tcp: bool::arbitrary(g).then(|| *g.choose(&flags).unwrap()),
            error: u8::arbitrary(g).is_multiple_of(8),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let datagram = Self { tcp: None, ..*self };
        let no_error = Self {
            error: false,
            ..*self
        };
        let simpler = [
            self.tcp.is_some().then_some(datagram),
            self.error.then_some(no_error),
        ];
        Box::new(simpler.into_iter().flatten())
    }
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Self {
        let waits = [1, 50, 1_500, 7_000, 40_000, 130_000].map(Duration::from_millis);
        let what = What::arbitrary(g);
        let remote = u8::arbitrary(g) % REMOTES;
        match u8::arbitrary(g) % 8 {
            0 | 1 => Self::Wait(*g.choose(&waits).unwrap()),
            2..5 => Self::Send {
                host: u8::arbitrary(g) % HOSTS,
                port: u8::arbitrary(g) % PORTS,
                remote,
                what,
            },
            _ => Self::Receive {
                remote,
                seen: u8::arbitrary(g),
                what,
            },
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match *self {
            Self::Wait(time) => {
                let millis = u64::try_from(time.as_millis()).unwrap().shrink();
                Box::new(millis.map(|ms| Self::Wait(Duration::from_millis(ms))))
            }
            Self::Send {
                host,
                port,
                remote,
                what,
            } => {
                let smaller = (host, port, remote, what).shrink();
                Box::new(smaller.map(|(host, port, remote, what)| Self::Send {
                    host,
                    port,
                    remote,
                    what,
                }))
            }
            Self::Receive { remote, seen, what } => {
                let smaller = (remote, seen, what).shrink();
                Box::new(smaller.map(|(remote, seen, what)| Self::Receive { remote, seen, what }))
            }
        }
    }
}

/// Endpoint number `n` of [`REMOTES`] or more, of which two share an address.
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

impl What {
    /// The packet from `src` to `dst`.
    fn packet(self, src: SocketAddr, dst: SocketAddr) -> Packet {
        let plain = |src, dst| match self.tcp {
            Some(flags) => Packet::tcp(src, dst, flags, 1, 1, b"abc"),
            None => Packet::udp(src, dst, b"abc"),
        };
        if self.error {
            Packet::icmp_error(src.ip(), IcmpError::PortUnreachable, &plain(dst, src))
        } else {
            plain(src, dst)
        }
    }
}

/// Runs a script, and checks after each operation what must always hold. Returns the verdicts.
fn run(config: &NatConfig, ops: &[Op]) -> Vec<String> {
    let public = [[203, 0, 113, 1], [203, 0, 113, 2]].map(Ipv4Addr::from);
    let mut nat = Nat::new(config.clone(), &public, 5);
    let mut now = Instant::from_micros(9);
    let mut seen = vec![addr("203.0.113.1:40000")];
    let mut log = Vec::new();
    for op in ops {
        let before: Vec<_> = nat.entries().collect();
        let (verdict, packet) = match *op {
            Op::Wait(time) => {
                now += time;
                continue;
            }
            Op::Send {
                host,
                port,
                remote: to,
                what,
            } => {
                let from = SocketAddr::from(([10, 0, 0, host], 40_000 + u16::from(port)));
                let mut packet = what.packet(from, remote(to));
                let verdict = nat.outbound(now, &mut packet);
                if matches!(verdict, Verdict::Pass(_)) && !what.error {
                    let from = packet.flow().src;
                    assert!(public.iter().any(|ip| from.ip() == *ip), "{from}");
                    if !seen.contains(&from) {
                        seen.push(from);
                    }
                }
                (verdict, packet)
            }
            Op::Receive {
                remote: from,
                seen: n,
                what,
            } => {
                let external = seen[usize::from(n) % seen.len()];
                let mut packet = what.packet(remote(from), external);
                let verdict = nat.inbound(now, &mut packet);
                if matches!(verdict, Verdict::Pass(_)) && !what.error {
                    let (to, proto) = (packet.flow().dst, packet.flow().proto);
                    let owner = (proto, external, Some(to));
                    assert!(
                        before
                            .iter()
                            .any(|e| (e.proto, e.external, e.internal) == owner),
                        "{to} does not own {external}"
                    );
                }
                (verdict, packet)
            }
        };
        assert!(packet.checksums_hold(), "{op:?}");
        if let Verdict::Answer(_, answer) = &verdict {
            assert!(answer.checksums_hold(), "{op:?}");
        }
        invariants(&nat, config);
        log.push(format!("{verdict:?} {:?}", packet.flow()));
    }
    log
}

/// One of the classes of mapping.
#[derive(Clone, Copy, Debug)]
struct AnyMapping(Mapping);

impl Arbitrary for AnyMapping {
    fn arbitrary(g: &mut Gen) -> Self {
        let all = [
            Mapping::EndpointIndependent,
            Mapping::AddressDependent,
            Mapping::AddressAndPortDependent,
        ];
        Self(*g.choose(&all).unwrap())
    }
}

/// One of the classes of filtering.
#[derive(Clone, Copy, Debug)]
struct AnyFiltering(Filtering);

impl Arbitrary for AnyFiltering {
    fn arbitrary(g: &mut Gen) -> Self {
        let all = [
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ];
        Self(*g.choose(&all).unwrap())
    }
}

/// One of the policies for ports.
#[derive(Clone, Copy, Debug)]
struct AnyPorts(PortPolicy);

impl Arbitrary for AnyPorts {
    fn arbitrary(g: &mut Gen) -> Self {
        let all = [
            PortPolicy::Preserve,
            PortPolicy::PreserveParity,
            PortPolicy::Sequential(3),
            PortPolicy::Sequential(-1),
            PortPolicy::Random,
            PortPolicy::Block(128),
            PortPolicy::Hash,
        ];
        Self(*g.choose(&all).unwrap())
    }
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
            other => unreachable!("no script sends {other:?}"),
        };
        let owner = *owners
            .entry((entry.proto, entry.external))
            .or_insert(internal);
        assert!(
            owner == internal || matches!(shares, Clash::Overload | Clash::Drop),
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
    fn every_box_keeps_its_promises_and_repeats_itself(preset: u8, ops: Vec<Op>) -> bool {
        let config = small(preset);
        run(&config, &ops) == run(&config, &ops)
    }

    fn a_mapping_is_shared_as_its_class_says(mapping: AnyMapping, ports: AnyPorts, remotes: Vec<u8>) -> bool {
        let (AnyMapping(mapping), AnyPorts(ports)) = (mapping, ports);
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

    fn filtering_lets_in_whom_its_class_says(filtering: AnyFiltering, tcp: bool, asked: Vec<u8>, knocks: Vec<u8>) -> bool {
        let AnyFiltering(filtering) = filtering;
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
