//! The addresses of a scenario, and the checks that they are consistent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{Action, Kind, Scenario};
use crate::world::CORE_ADDRESSES;

/// The most ends that one rendezvous server introduces.
const MAX_ENDS: usize = 64;

/// The addresses of routers and hosts, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan(BTreeMap<String, Vec<IpAddr>>);

/// A contradiction, at a key of a router or host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) node: String,
    pub(crate) key: &'static str,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// The scope in which addresses must be unique: everything below the nearest NAT, or the core when
/// there is none.
type Scope = Option<String>;

struct Wanted<'a> {
    name: &'a str,
    behind: Option<&'a str>,
    given: &'a [IpAddr],
    count: u16,
    is_router: bool,
    key: &'static str,
}

impl Plan {
    pub(crate) fn new(s: &Scenario) -> Result<Self, Conflict> {
        let nats: BTreeMap<&str, (usize, bool, Option<&str>)> = s
            .routers
            .iter()
            .enumerate()
            .map(|(n, r)| (r.name.as_str(), (n, r.nat.is_some(), r.behind.as_deref())))
            .collect();
        let scope_of = |behind: Option<&str>, addr: Option<&IpAddr>| -> Scope {
            match addr {
                Some(IpAddr::V6(a)) if a.is_unicast_link_local() => behind.map(Into::into),
                Some(IpAddr::V4(a)) if a.is_link_local() => behind.map(Into::into),
                Some(IpAddr::V6(_)) => None,
                _ => {
                    let mut above = behind;
                    while let Some(name) = above {
                        match nats.get(name) {
                            Some((_, true, _)) => return Some(name.into()),
                            Some((_, false, next)) => above = *next,
                            None => break,
                        }
                    }
                    None
                }
            }
        };
        let routers = s.routers.iter().map(|r| Wanted {
            name: &r.name,
            behind: r.behind.as_deref(),
            given: &r.wan,
            count: r.wan_count,
            is_router: true,
            key: "wan",
        });
        let hosts = s.hosts.iter().map(|h| Wanted {
            name: &h.name,
            behind: h.behind.as_deref(),
            given: &h.addresses,
            count: 1,
            is_router: false,
            key: "address",
        });
        let all: Vec<Wanted<'_>> = routers.chain(hosts).collect();
        let mut used: BTreeSet<(Scope, IpAddr)> = CORE_ADDRESSES.map(|a| (None, a)).into();
        for w in &all {
            for addr in w.given {
                w.check(s, addr)?;
                if !used.insert((scope_of(w.behind, Some(addr)), *addr)) {
                    return Err(w.conflict(
                        format!("{addr} is taken"),
                        "an address is one node's alone below a NAT, or in the core",
                    ));
                }
            }
        }
        let mut plan = Self::default();
        let mut next: BTreeMap<(Scope, bool), u32> = BTreeMap::new();
        for w in &all {
            let mut addrs = w.given.to_vec();
            let scope = scope_of(w.behind, None);
            while addrs.is_empty() || w.given.is_empty() && addrs.len() < usize::from(w.count) {
                let below = scope
                    .as_deref()
                    .and_then(|name| nats.get(name))
                    .map(|n| n.0);
                let n = next.entry((scope.clone(), w.is_router)).or_default();
                *n += 1;
                let addr = chosen(below, w.is_router, *n);
                if used.insert((scope.clone(), addr)) {
                    addrs.push(addr);
                }
            }
            plan.0.insert(w.name.into(), addrs);
        }
        plan.check_pairs(s)?;
        Ok(plan)
    }

    /// Checks that every host has an address of the same family as the host that it sends to.
    fn check_pairs(&self, s: &Scenario) -> Result<(), Conflict> {
        let speak = |a: &str, b: &str, key| match self.between(a, b) {
            Some(_) => Ok(()),
            None => Err(Conflict {
                node: a.into(),
                key,
                message: format!("{a} and {b} have no IP version in common"),
                help: format!("{a} has {}, {b} has {}", self.list(a), self.list(b)),
            }),
        };
        for h in &s.hosts {
            if let Some(to) = &h.options.to {
                speak(&h.name, to, "to")?;
            }
            if let Some(via) = &h.options.via {
                speak(&h.name, via, "via")?;
            }
            if h.kind == Kind::Rendezvous {
                let ends = s
                    .hosts
                    .iter()
                    .filter(|o| o.options.via.as_ref() == Some(&h.name));
                if ends.count() > MAX_ENDS {
                    return Err(Conflict {
                        node: h.name.clone(),
                        key: "kind",
                        message: format!("more than {MAX_ENDS} hosts meet by this one"),
                        help: "add another".into(),
                    });
                }
            }
        }
        for event in &s.events {
            if let Action::Send { from, to, .. } = &event.action {
                speak(from, to, "address")?;
            }
        }
        if let Some(random) = &s.random {
            for from in &random.senders {
                for to in &random.receivers {
                    speak(from, to, "address")?;
                }
            }
        }
        Ok(())
    }

    fn list(&self, name: &str) -> String {
        let list: Vec<String> = self.of(name).iter().map(ToString::to_string).collect();
        list.join(", ")
    }

    /// The addresses of a router or host of the scenario, of which there is at least one.
    pub(crate) fn of(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The addresses, of one family, between which `a` sends to `b`.
    pub(crate) fn between(&self, a: &str, b: &str) -> Option<(IpAddr, IpAddr)> {
        let of_family = |a: &IpAddr| {
            let there = self.of(b).iter().find(|b| b.is_ipv4() == a.is_ipv4());
            there.map(|b| (*a, *b))
        };
        self.of(a).iter().find_map(of_family)
    }
}

impl Wanted<'_> {
    fn conflict(&self, message: String, help: &str) -> Conflict {
        Conflict {
            node: self.name.into(),
            key: self.key,
            message,
            help: help.into(),
        }
    }

    fn check(&self, s: &Scenario, addr: &IpAddr) -> Result<(), Conflict> {
        let odd = addr.is_unspecified()
            || addr.is_loopback()
            || addr.is_multicast()
            || matches!(addr, IpAddr::V4(a) if a.is_broadcast());
        if odd {
            return Err(self.conflict(format!("{addr} is not a machine's address"), "another"));
        }
        let nat = s
            .routers
            .iter()
            .any(|r| r.name == self.name && r.nat.is_some());
        if self.is_router && nat && !self.given.iter().any(IpAddr::is_ipv4) {
            return Err(self.conflict(
                "a NAT has an IPv4 address on its upper side".into(),
                "add one, or leave `wan` out",
            ));
        }
        Ok(())
    }
}

/// The `n`th address, counted from 1, to be chosen below the NAT with this number.
fn chosen(below: Option<usize>, is_router: bool, n: u32) -> IpAddr {
    let [_, b, c, d] = n.to_be_bytes();
    let (c1, d1) = (((n / 250) % 256) as u8, (n % 250 + 1) as u8);
    let v4 = match (below, is_router) {
        // The ranges for documentation (RFC 5737), and a wide one after them.
        (None, true) if n < 250 => Ipv4Addr::new(203, 0, 113, d),
        (None, false) if n < 250 => Ipv4Addr::new(198, 51, 100, d),
        (None, true) => Ipv4Addr::new(20, b, c, d),
        (None, false) => Ipv4Addr::new(30, b, c, d),
        // The inside of a carrier (RFC 6598), and of a home (RFC 1918).
        (Some(_), true) => Ipv4Addr::new(100, 64 + ((n / 64_000) % 64) as u8, c1, d1),
        (Some(k), false) if n < 64_000 => Ipv4Addr::new(10, (k % 250) as u8, c1, d1),
        (Some(_), false) => Ipv4Addr::new(11, b, c, d),
    };
    v4.into()
}
