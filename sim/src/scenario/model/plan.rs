//! The addresses of a scenario, and the checks that they are consistent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{Action, IpVersions, Router, Scenario, gateway};
use crate::{
    addresses::{public_v4, public_v6},
    middlebox::nat::MAX_FORWARDS,
    world::CORE_ADDRESSES,
};

/// The most ends that one rendezvous server introduces.
const MAX_ENDS: usize = 64;

/// The addresses of routers and hosts, by name, and the new ones of routers in the order of the
/// events that give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan(BTreeMap<String, Spot>, Vec<Vec<IpAddr>>);

/// The addresses of a router or host, and where they can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spot {
    addrs: Vec<IpAddr>,
    behind: Option<String>,
    /// The NATs above it, from the nearest outwards.
    nats: Vec<String>,
}

/// A contradiction in a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// The place of a contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A key of the router or host of this name.
    Node(String, &'static str),
    /// The receiver of the event in which the first host sends to the second.
    Send(String, String),
    /// The event in which this host asks for a port mapping.
    Map(String),
    /// The receivers of `[random]`.
    Random,
    /// The new addresses of this router.
    Renumber(String),
}

/// The scope in which addresses must be unique: everything below the nearest NAT, or the core when
/// there is none.
type Scope = Option<String>;

struct Wanted<'a> {
    name: &'a str,
    behind: Option<&'a str>,
    given: &'a [IpAddr],
    count: u16,
    ip: IpVersions,
    is_router: bool,
    key: &'static str,
}

impl Plan {
    pub(crate) fn new(s: &Scenario) -> Result<Self, Vec<Conflict>> {
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
            ip: IpVersions::V4,
            is_router: true,
            key: "wan",
        });
        let hosts = s.hosts.iter().map(|h| Wanted {
            name: &h.name,
            behind: h.behind.as_deref(),
            given: &h.addresses,
            count: h.address_count,
            ip: h.ip,
            is_router: false,
            key: "address",
        });
        let all: Vec<Wanted<'_>> = routers.chain(hosts).collect();
        let mut used: BTreeSet<(Scope, IpAddr)> = CORE_ADDRESSES.map(|a| (None, a)).into();
        for (n, r) in s.routers.iter().enumerate() {
            let inner = r.gateway_address.unwrap_or_else(|| gateway::chosen(n));
            if r.gateway.is_some() {
                used.insert((Some(r.name.clone()), inner));
            }
        }
        let mut conflicts = Vec::new();
        for w in &all {
            for addr in w.given {
                conflicts.extend(w.check(s, addr).err());
                if !used.insert((scope_of(w.behind, Some(addr)), *addr)) {
                    conflicts.push(w.conflict(
                        format!("{addr} is taken"),
                        "an address is one node's alone below a NAT, or in the core",
                    ));
                }
            }
        }
        let mut plan = Self::default();
        let mut next: BTreeMap<(Scope, bool), u32> = BTreeMap::new();
        let mut sites = Sites::default();
        for w in &all {
            let mut addrs = w.given.to_vec();
            let choose = w.given.is_empty();
            let scope = scope_of(w.behind, None);
            let wanted = if choose && w.ip != IpVersions::V6 {
                usize::from(w.count)
            } else {
                0
            };
            while addrs.len() < wanted {
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
            if choose && w.ip != IpVersions::V4 {
                let place = w.behind.and_then(|name| nats.get(name)).map(|n| n.0);
                let mut more = std::iter::repeat_with(|| sites.next(place));
                for _ in 0..w.count {
                    addrs.extend(more.find(|addr| used.insert((None, *addr))));
                }
            }
            let above = std::iter::successors(w.behind, |name| nats.get(name)?.2);
            let translating = above.filter(|name| nats.get(name).is_some_and(|n| n.1));
            let spot = Spot {
                addrs,
                behind: w.behind.map(Into::into),
                nats: translating.map(Into::into).collect(),
            };
            plan.0.insert(w.name.into(), spot);
        }
        for event in &s.events {
            let Action::Renumber { router, wan, .. } = &event.action else {
                continue;
            };
            let Some(w) = all.iter().find(|w| w.name == router) else {
                continue;
            };
            let place = || Place::Renumber(router.clone());
            for addr in wan {
                let conflict = w.check_all(s, wan, addr).err();
                conflicts.extend(conflict.map(|c| Conflict {
                    place: place(),
                    ..c
                }));
                let own = plan.of(router).contains(addr);
                if !own && !used.insert((scope_of(w.behind, Some(addr)), *addr)) {
                    conflicts.push(Conflict {
                        place: place(),
                        message: format!("{addr} is taken"),
                        help: "an address that nobody else ever has".into(),
                    });
                }
            }
            let scope = scope_of(w.behind, None);
            let below = scope.as_deref().and_then(|name| nats.get(name));
            let next = next.entry((scope.clone(), true)).or_default();
            let mut choose = |old: &IpAddr| match old {
                IpAddr::V6(_) => *old,
                IpAddr::V4(_) => loop {
                    *next += 1;
                    let addr = chosen(below.map(|n| n.0), true, *next);
                    if used.insert((scope.clone(), addr)) {
                        break addr;
                    }
                },
            };
            let addrs = match wan.is_empty() {
                true => plan.of(router).iter().map(&mut choose).collect(),
                false => wan.clone(),
            };
            plan.1.push(addrs);
        }
        plan.check_pairs(s, &mut conflicts);
        if conflicts.is_empty() {
            Ok(plan)
        } else {
            Err(conflicts)
        }
    }

    /// Checks that every host can send to the hosts that it is to send to.
    fn check_pairs(&self, s: &Scenario, conflicts: &mut Vec<Conflict>) {
        let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
        for via in s.hosts.iter().filter_map(|h| h.options.via.as_deref()) {
            *ends.entry(via).or_default() += 1;
        }
        for h in &s.hosts {
            let o = &h.options;
            let own = |key| Place::Node(h.name.clone(), key);
            match &o.to {
                // A rendezvous tells these where to send.
                Some(to) if h.kind.is_puncher() => {
                    conflicts.extend(self.check_family(&h.name, to, own("to")).err());
                }
                Some(to) => conflicts.extend(self.check_pair(&h.name, to, own("to")).err()),
                None => {}
            }
            let others = o.via.iter().map(|name| (name, "via"));
            let others = others.chain(o.trackers.iter().map(|name| (name, "trackers")));
            let others = others.chain(o.dns.iter().map(|name| (name, "dns")));
            let others = others.chain(o.bootstrap.iter().map(|name| (name, "bootstrap")));
            for (name, key) in others.chain(o.peers.iter().map(|name| (name, "peers"))) {
                conflicts.extend(self.check_pair(&h.name, name, own(key)).err());
            }
            if ends.get(h.name.as_str()).is_some_and(|n| *n > MAX_ENDS) {
                conflicts.push(Conflict {
                    place: own("kind"),
                    message: format!("more than {MAX_ENDS} hosts meet by this one"),
                    help: "add another".into(),
                });
            }
        }
        for r in &s.routers {
            self.check_forwards(r, conflicts);
        }
        let mut seen = BTreeSet::new();
        for event in &s.events {
            if let Action::Map { host, client, .. } = &event.action {
                let v4 = |name| self.of(name).iter().any(IpAddr::is_ipv4);
                let gateway = s.gateway_of(host);
                if gateway.is_none() || s.gateway_of(client) != gateway {
                    conflicts.push(Conflict {
                        place: Place::Map(host.clone()),
                        message: format!("no gateway maps ports for {client} when {host} asks"),
                        help: "put both behind one router with `gateway = \"standard\"`".into(),
                    });
                } else if !v4(host) || !v4(client) {
                    conflicts.push(Conflict {
                        place: Place::Map(host.clone()),
                        message: "port mappings are made for hosts with IPv4".into(),
                        help: format!("{host} has {}", self.list(host)),
                    });
                }
            }
            if let Action::Send { from, to, .. } = &event.action
                && seen.insert((from, to))
            {
                let place = Place::Send(from.clone(), to.clone());
                conflicts.extend(self.check_pair(from, to, place).err());
            }
        }
        if let Some(random) = &s.random {
            for from in &random.senders {
                let checked = random.receivers.iter().map(|to| {
                    // One receiver is enough to tell.
                    self.check_pair(from, to, Place::Random)
                });
                conflicts.extend(checked.filter_map(Result::err).next());
            }
        }
    }

    /// Checks that port mappings lead to hosts behind their router, and each from a port of its own.
    fn check_forwards(&self, r: &Router, conflicts: &mut Vec<Conflict>) {
        let mut taken = BTreeSet::new();
        let mut wrong = |message: String, help: String| {
            conflicts.push(Conflict {
                place: Place::Node(r.name.clone(), "forward"),
                message,
                help,
            });
        };
        for f in &r.forwards {
            let host = &f.host;
            let spot = self.0.get(host);
            if spot.is_none_or(|spot| spot.nats.first() != Some(&r.name)) {
                wrong(
                    format!("{host} is not behind the NAT of {}", r.name),
                    format!("forward to a host whose nearest NAT is {}", r.name),
                );
            } else if !self.of(host).iter().any(IpAddr::is_ipv4) {
                wrong(
                    format!("{host} has no IPv4 address"),
                    "a NAT forwards IPv4 only".into(),
                );
            }
            if !f
                .protos()
                .iter()
                .all(|proto| taken.insert((*proto, f.port)))
            {
                wrong(
                    format!("port {} is forwarded twice", f.port),
                    "leave one of them out, or give it another outer port".into(),
                );
            }
        }
        if taken.len() > MAX_FORWARDS {
            let help = format!("at most {MAX_FORWARDS} ports, where UDP and TCP count apart");
            wrong("there are too many port forwards".into(), help);
        }
    }

    fn check_family(&self, a: &str, b: &str, place: Place) -> Result<(), Conflict> {
        let of_family = |a: &IpAddr| self.of(b).iter().any(|b| b.is_ipv4() == a.is_ipv4());
        if self.of(a).iter().any(of_family) {
            return Ok(());
        }
        Err(Conflict {
            place,
            message: format!("{a} and {b} have no IP version in common"),
            help: format!("{a} has {}, {b} has {}", self.list(a), self.list(b)),
        })
    }

    /// Checks that `a` can send to an address of `b`.
    fn check_pair(&self, a: &str, b: &str, place: Place) -> Result<(), Conflict> {
        self.check_family(a, b, place.clone())?;
        if self.between(a, b).is_some() {
            return Ok(());
        }
        let list = self.list(b);
        let nat = self.0.get(b).and_then(|spot| spot.nats.first());
        let (message, help) = match nat {
            Some(nat) => (
                format!("{a} cannot send to {b}, which is behind the NAT of {nat}"),
                format!("{list} means nothing outside: put {a} behind {nat} too, or {b} outside"),
            ),
            None => (
                format!("{a} and {b} are not on one link"),
                format!("{list} means nothing elsewhere"),
            ),
        };
        Err(Conflict {
            place,
            message,
            help,
        })
    }

    fn list(&self, name: &str) -> String {
        let list: Vec<String> = self.of(name).iter().map(ToString::to_string).collect();
        list.join(", ")
    }

    /// The addresses of a router or host of the scenario, of which there is at least one.
    pub(crate) fn of(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map_or(&[], |spot| spot.addrs.as_slice())
    }

    /// Returns `true` when a NAT hides this address of a host.
    pub(crate) fn is_hidden(&self, name: &str, addr: &IpAddr) -> bool {
        addr.is_ipv4() && self.0.get(name).is_some_and(|spot| !spot.nats.is_empty())
    }

    /// The new addresses of a router, by the number of the event that gives them.
    pub(crate) fn renumbered(&self, n: usize) -> &[IpAddr] {
        self.1.get(n).map_or(&[], Vec::as_slice)
    }

    /// The addresses, of one family, between which `a` sends to `b`: those by which it reaches it.
    pub(crate) fn between(&self, a: &str, b: &str) -> Option<(IpAddr, IpAddr)> {
        let (from, to) = (self.0.get(a)?, self.0.get(b)?);
        let of_family = |a: &IpAddr| {
            let fits = |b: &&IpAddr| b.is_ipv4() == a.is_ipv4() && from.reaches(to, b);
            Some((*a, *to.addrs.iter().find(fits)?))
        };
        from.addrs.iter().find_map(of_family)
    }
}

impl Spot {
    /// Returns `true` when packets from here to this address of `there` have a way.
    fn reaches(&self, there: &Self, addr: &IpAddr) -> bool {
        match addr {
            IpAddr::V4(a) if a.is_link_local() => self.behind == there.behind,
            IpAddr::V6(a) if a.is_unicast_link_local() => self.behind == there.behind,
            // Nobody outside the nearest NAT knows it.
            IpAddr::V4(_) => there.nats.first().is_none_or(|nat| self.nats.contains(nat)),
            IpAddr::V6(_) => true,
        }
    }
}

impl Wanted<'_> {
    fn conflict(&self, message: String, help: &str) -> Conflict {
        Conflict {
            place: Place::Node(self.name.into(), self.key),
            message,
            help: help.into(),
        }
    }

    fn check(&self, s: &Scenario, addr: &IpAddr) -> Result<(), Conflict> {
        self.check_all(s, self.given, addr)
    }

    /// Checks an address, which is one of `given`.
    fn check_all(&self, s: &Scenario, given: &[IpAddr], addr: &IpAddr) -> Result<(), Conflict> {
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
        if self.is_router && nat && !given.iter().any(IpAddr::is_ipv4) {
            return Err(self.conflict(
                "a NAT has an IPv4 address on its upper side".into(),
                "add one, or leave `wan` out",
            ));
        }
        Ok(())
    }
}

/// Chooses IPv6 addresses. Hosts directly below the same router are in one /64; a host in the core has
/// a /64 of its own.
#[derive(Default)]
struct Sites {
    /// The number of hosts at a site.
    hosts: BTreeMap<u32, u16>,
    /// The number of hosts in the core.
    in_core: u32,
}

impl Sites {
    /// The next address below the router with this number, or in the core.
    fn next(&mut self, router: Option<usize>) -> IpAddr {
        let site = match router {
            Some(router) => 2 * router as u32,
            None => {
                self.in_core += 1;
                2 * self.in_core - 1
            }
        };
        let host = self.hosts.entry(site).or_default();
        *host += 1;
        public_v6(site, *host).into()
    }
}

/// The `n`th IPv4 address, counted from 1, to be chosen below the NAT with this number. Routers and
/// hosts are counted apart, so that adding a host changes no other address.
fn chosen(below: Option<usize>, is_router: bool, n: u32) -> IpAddr {
    let [_, b, c, d] = n.to_be_bytes();
    let (c1, d1) = (((n / 250) % 256) as u8, (n % 250 + 1) as u8);
    let v4 = match (below, is_router) {
        (None, true) => public_v4(2 * n),
        (None, false) => public_v4(2 * n - 1),
        // The inside of a carrier (RFC 6598), and of a home (RFC 1918).
        (Some(_), true) => Ipv4Addr::new(100, 64 + ((n / 64_000) % 64) as u8, c1, d1),
        (Some(k), false) if n < 64_000 => Ipv4Addr::new(10, (k % 250) as u8, c1, d1),
        (Some(_), false) => Ipv4Addr::new(11, b, c, d),
    };
    v4.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"
[[router]]
name = "home"
nat = "linux"
[[router]]
name = "office"
nat = "linux"
wan-count = 2
[[host]]
name = "inside"
kind = "manual"
behind = "home"
ip = "both"
[[host]]
name = "beside"
kind = "manual"
behind = "home"
ip = "v6"
[[host]]
name = "open"
kind = "manual"
ip = "both"
[[host]]
name = "other"
kind = "manual"
"#;

    fn plan(text: &str) -> Plan {
        let s = Scenario::parse(text, "plan.toml").unwrap_or_else(|e| panic!("{e}"));
        Plan::new(&s).expect("no conflict")
    }

    #[test]
    fn chosen_addresses_are_far_apart_and_a_home_has_one_prefix() {
        let plan = plan(NETWORK);
        let v4 = |name: &str| -> Vec<Ipv4Addr> {
            let of = plan.of(name).iter();
            of.filter_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            })
            .collect()
        };
        let v6 = |name: &str| -> Vec<u128> {
            let of = plan.of(name).iter();
            of.filter_map(|ip| match ip {
                IpAddr::V4(_) => None,
                IpAddr::V6(ip) => Some(ip.to_bits()),
            })
            .collect()
        };
        let core: Vec<u8> = ["home", "office", "open", "other"]
            .iter()
            .flat_map(|name| v4(name))
            .map(|ip| ip.octets()[0])
            .collect();
        assert_eq!(core.len(), 5);
        let apart: BTreeSet<&u8> = core.iter().collect();
        assert_eq!(apart.len(), 5, "one /8 each: {core:?}");
        assert!(v4("inside")[0].is_private() && v4("beside").is_empty());
        let (inside, beside, open) = (v6("inside")[0], v6("beside")[0], v6("open")[0]);
        assert_eq!(inside >> 64, beside >> 64);
        assert_ne!(inside, beside);
        assert_ne!(inside >> 96, open >> 96);
        assert!(v6("other").is_empty());
    }

    #[test]
    fn another_host_at_the_end_changes_no_address() {
        let one = plan(NETWORK);
        let more = ["ip = \"both\"", "behind = \"home\"\nip = \"both\""];
        let more = more
            .map(|key| format!("{NETWORK}[[host]]\nname = \"last\"\nkind = \"manual\"\n{key}\n"));
        for text in more {
            let mut two = plan(&text);
            assert!(two.0.remove("last").is_some_and(|a| a.addrs.len() == 2));
            assert_eq!(one, two);
        }
    }
}
