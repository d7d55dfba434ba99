//! The oracle and the simulator agree about random paths.

use std::fmt::Write as _;

use dunlin_core::Instant;
use dunlin_sim::{
    BoxConfig, SimRng,
    experiment::{
        matrix::{self, Tried},
        oracle::{Attempt, End, Family, Meet, Pair, Transport},
    },
    middlebox::{
        firewall,
        nat::{
            self, Clash, Filtering, Hairpin, Mapping, NatConfig, PortPolicy, Translation,
            UnsolicitedSyn, WanInput,
        },
    },
    world::trace::Filter,
};
use rand_core::Rng;

/// Draws configurations. Every value has the same probability, except endpoint-independent mapping,
/// which has twice that.
struct Draw(SimRng);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn filtering(&mut self) -> Filtering {
        self.of(&[
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ])
    }

    fn syn(&mut self) -> UnsolicitedSyn {
        self.of(&[
            UnsolicitedSyn::Drop,
            UnsolicitedSyn::Reset,
            UnsolicitedSyn::Icmp,
            UnsolicitedSyn::DelayedIcmp,
        ])
    }

    fn translation(&mut self) -> Translation {
        Translation {
            mapping: self.of(&[
                Mapping::EndpointIndependent,
                Mapping::EndpointIndependent,
                Mapping::AddressDependent,
                Mapping::AddressAndPortDependent,
            ]),
            filtering: self.filtering(),
            ports: self.of(&[
                PortPolicy::Preserve,
                PortPolicy::PreserveParity,
                PortPolicy::Sequential(1),
                PortPolicy::Random,
                PortPolicy::Hash,
            ]),
            clash: self.of(&[Clash::Next, Clash::Random, Clash::Overload, Clash::Drop]),
        }
    }

    fn middlebox(&mut self) -> BoxConfig {
        let nat = (self.below(4) > 0).then(|| NatConfig {
            udp: self.translation(),
            tcp: self.translation(),
            wan_input: self.of(&[WanInput::Drop, WanInput::Reject, WanInput::Accept]),
            hairpin: self.of(&[
                Hairpin::None,
                Hairpin::InternalSource,
                Hairpin::ExternalSource,
            ]),
            unsolicited_syn: self.syn(),
            ..nat::presets::linux()
        });
        let firewall = (self.below(4) == 0).then(|| {
            let preset = self.of(firewall::presets::all());
            let mut firewall = (preset.make)();
            firewall.filtering = self.filtering();
            firewall.unsolicited_syn = self.syn();
            firewall
        });
        BoxConfig {
            nat,
            firewall,
            ..BoxConfig::default()
        }
    }

    fn end(&mut self) -> End {
        End {
            path: (0..self.below(4)).map(|_| self.middlebox()).collect(),
            port: self.of(&[443, 6881, 6881]),
            forwarded: self.below(8) == 0,
        }
    }
}

/// Returns `true` when two hosts may be behind this box and the oracle can predict the outcome.
fn may_be_shared(one: &BoxConfig) -> bool {
    one.nat.as_ref().is_some_and(|nat| {
        let by_address = [&nat.udp, &nat.tcp].map(|t| t.mapping == Mapping::AddressDependent);
        nat.hairpin != Hairpin::ExternalSource || by_address == [false, false]
    })
}

/// Two ends, where their paths meet, and the version of IP.
fn ends(seed: u64) -> (End, End, Meet, Family) {
    let mut draw = Draw(SimRng::new(seed));
    let (a, mut b) = (draw.end(), draw.end());
    let family = draw.of(&[Family::V4, Family::V4, Family::V4, Family::V6]);
    let mut meet = Meet::Core;
    if let Some(last) = a.path.last()
        && family == Family::V4
        && draw.below(3) == 0
        && may_be_shared(last)
    {
        b.path.pop();
        b.path.push(last.clone());
        meet = Meet::Box;
    }
    (a, b, meet, family)
}

/// The outcome of one draw: every attempt that does not agree, and how many connected.
fn drawn(seed: u64) -> (Vec<(Transport, Tried)>, usize) {
    let (a, b, meet, family) = ends(seed);
    let mut odd = Vec::new();
    let mut connected = 0;
    for transport in Transport::ALL {
        let (_, tried) = matrix::cell((&a, &b), meet, family, transport, &[seed]);
        for one in tried {
            connected += usize::from(one.runs[0].connected);
            if !one.agrees() {
                odd.push((transport, one));
            }
        }
    }
    (odd, connected)
}

/// What is needed to examine a draw: the ends, and the path of every packet.
fn told(seed: u64, transport: Transport, attempt: Attempt) -> String {
    let (a, mut b, meet, family) = ends(seed);
    if meet == Meet::Box && a.port == b.port {
        b.port += 1;
    }
    let mut text = format!("{meet:?} {family:?}\n");
    for end in [&a, &b] {
        let _ = writeln!(text, "port {} forwarded {}", end.port, end.forwarded);
        for one in &end.path {
            if let Some(wall) = &one.firewall {
                let _ = writeln!(
                    text,
                    "  firewall {:?} open {} {:?} out {:?}/{:?} {:?}",
                    wall.families,
                    wall.open,
                    wall.filtering,
                    wall.udp_out,
                    wall.tcp_out,
                    wall.unsolicited_syn
                );
            }
            if let Some(nat) = &one.nat {
                let of = match transport {
                    Transport::Udp => nat.udp,
                    Transport::Tcp => nat.tcp,
                };
                let _ = writeln!(
                    text,
                    "  nat {of:?} {:?} {:?} {:?}",
                    nat.wan_input, nat.hairpin, nat.unsolicited_syn
                );
            }
        }
    }
    let pair = Pair {
        a: &a,
        b: &b,
        meet,
        family,
    };
    let mut world = matrix::scene(pair, transport, attempt, seed).world;
    world.record_journeys(10_000);
    world.start();
    world.run_until(Instant::ORIGIN + matrix::TIME);
    for journey in world.explain(&Filter::default(), usize::MAX) {
        let _ = writeln!(text, "{}", world.describe(&journey));
    }
    text
}

fn agree(seeds: std::ops::Range<u64>) {
    let (mut connected, mut runs) = (0, 0);
    for seed in seeds {
        let (odd, yes) = drawn(seed);
        if let Some((transport, tried)) = odd.first() {
            let told = told(seed, *transport, tried.attempt);
            panic!("draw {seed}: {odd:#?}\n{told}");
        }
        connected += yes;
        runs += 6;
    }
    assert!(
        runs / 4 < connected && connected < runs * 3 / 4,
        "{connected} of {runs}"
    );
}

#[test]
fn random_paths_agree() {
    agree(0..300);
}

#[test]
#[ignore = "thousands of worlds; `tests/run sim` runs it"]
fn many_random_paths_agree() {
    agree(300..5_000);
}
