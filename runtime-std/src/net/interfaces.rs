//! The machine's own network: addresses of interfaces, and the gateway.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use dunlin_core::Instant;

use crate::{config::Interface, net::socket::Egress};

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name of the interface.
    pub interface: String,
    /// An address of the interface.
    pub ip: IpAddr,
    /// The length of the network prefix in bits.
    pub prefix: u8,
    /// The number of the interface, which is the scope of link-local IPv6 addresses.
    pub index: Option<u32>,
    /// Whether the interface is up.
    pub up: bool,
}

/// The addresses of all interfaces, loopback included.
pub fn addresses() -> io::Result<Vec<Address>> {
    let found = if_addrs::get_if_addrs()?;
    let address = |i: if_addrs::Interface| Address {
        up: i.is_oper_up(),
        ip: i.ip(),
        prefix: match &i.addr {
            if_addrs::IfAddr::V4(v4) => v4.prefixlen,
            if_addrs::IfAddr::V6(v6) => v6.prefixlen,
        },
        index: i.index,
        interface: i.name,
    };
    Ok(found.into_iter().map(address).collect())
}

/// Returns the addresses to bind to for the interfaces and addresses that the settings name, and the
/// interfaces that have no address at present. If the settings name nothing, both lists are empty,
/// and every address is meant.
#[must_use]
pub fn bind_addresses(wanted: &[Interface], have: &[Address]) -> (Vec<IpAddr>, Vec<String>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for interface in wanted {
        match interface {
            Interface::Address(ip) => found.push(*ip),
            Interface::Name(name) => {
                let before = found.len();
                // A link-local address is of no use to a peer elsewhere.
                let global = have
                    .iter()
                    .filter(|a| a.interface == *name && !link_local(a.ip));
                found.extend(global.map(|a| a.ip));
                if found.len() == before {
                    missing.push(name.clone());
                }
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|ip| seen.insert(*ip));
    (found, missing)
}

/// The time between two looks at an interface; somebody who restarts a VPN does not notice the delay.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// How an interface changed since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is missing, down, or has no address.
    Gone,
    /// It is back.
    Back,
    /// Another interface has its name: it was missing in between.
    Replaced,
}

/// Watches the interface that traffic is bound to. Sockets stay bound to an interface that is gone even
/// when another one of the same name appears, so they have to be bound again.
#[derive(Debug)]
pub struct InterfaceWatch {
    name: String,
    /// The interface's number when it was last seen, if it has one; `Err` while it is missing.
    seen: Result<Option<u32>, ()>,
    next: Instant,
}

impl InterfaceWatch {
    /// Watches the interface of `egress`; `None` if it names none.
    #[must_use]
    pub fn new(egress: &Egress, now: Instant) -> Option<Self> {
        let name = egress.interface.clone()?;
        let mut watch = Self {
            name,
            seen: Err(()),
            next: now + LOOK_PERIOD,
        };
        watch.seen = watch.find();
        Some(watch)
    }

    /// The name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When [`InterfaceWatch::look`] has something to do.
    #[must_use]
    pub const fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Looks at the interface if it is time to. Returns what changed.
    pub fn look(&mut self, now: Instant) -> Option<Turn> {
        if now < self.next {
            return None;
        }
        self.next = now + LOOK_PERIOD;
        let found = self.find();
        let turn = match (self.seen, found) {
            (Ok(before), Ok(after)) if before != after => Some(Turn::Replaced),
            (Ok(_), Err(())) => Some(Turn::Gone),
            (Err(()), Ok(_)) => Some(Turn::Back),
            _ => None,
        };
        self.seen = found;
        turn
    }

    /// The interface's number.
    ///
    /// # Errors
    /// The interface is missing.
    fn find(&self) -> Result<Option<u32>, ()> {
        // If the system does not answer, nothing is assumed to have changed.
        let Ok(have) = addresses() else {
            return self.seen;
        };
        let of_it = have.iter().filter(|a| a.interface == self.name);
        let mut usable = of_it.filter(|a| a.up && !link_local(a.ip));
        usable.next().map(|a| a.index).ok_or(())
    }
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The next hop of the default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address; a link-local address is valid on the interface below only.
    pub ip: IpAddr,
    /// The interface through which it is reached.
    pub interface: String,
}

/// The preferred default gateways of IPv4 and IPv6. Read from Linux's `/proc/net`; empty on other systems.
#[must_use]
pub fn gateways() -> Vec<Gateway> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = gateway_v4(&read("/proc/net/route"));
    let v6 = gateway_v6(&read("/proc/net/ipv6_route"));
    v4.into_iter().chain(v6).collect()
}

/// `RTF_UP | RTF_GATEWAY` of Linux's `route.h`.
const UP_GATEWAY: u32 = 3;

/// Columns: interface, destination, gateway, flags, two counters, metric, mask. Addresses are
/// the hex of an integer in the byte order of the machine.
fn gateway_v4(routes: &str) -> Option<Gateway> {
    let route = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let interface = columns.next()?.to_owned();
        let mut hex = || u32::from_str_radix(columns.next()?, 16).ok();
        let (destination, gateway, flags) = (hex()?, hex()?, hex()?);
        let metric: u32 = columns.nth(2)?.parse().ok()?;
        let mask = columns.next()?;
        let default = destination == 0 && mask == "00000000";
        (default && flags & UP_GATEWAY == UP_GATEWAY).then(|| {
            let ip = IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes()));
            (metric, Gateway { ip, interface })
        })
    };
    let routes = routes.lines().skip(1).filter_map(route);
    routes.min_by_key(|(metric, _)| *metric).map(|(_, g)| g)
}

/// Columns: destination, its prefix, source, its prefix, next hop, metric, two counters, flags,
/// interface; all hex, addresses in network order.
fn gateway_v6(routes: &str) -> Option<Gateway> {
    let route = |line: &str| {
        let columns: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, "00", _, "00", hop, metric, _, _, flags, interface] = columns[..] else {
            return None;
        };
        let hop = u128::from_str_radix(hop, 16).ok().filter(|hop| *hop != 0)?;
        let metric = u32::from_str_radix(metric, 16).ok()?;
        let flags = u32::from_str_radix(flags, 16).ok()?;
        (flags & UP_GATEWAY == UP_GATEWAY).then(|| {
            let (ip, interface) = (Ipv6Addr::from(hop).into(), interface.to_owned());
            (metric, Gateway { ip, interface })
        })
    };
    let routes = routes.lines().filter_map(route);
    routes.min_by_key(|(metric, _)| *metric).map(|(_, g)| g)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_default_route_is_found() {
        let bytes = |a, b, c, d| format!("{:08X}", u32::from_ne_bytes([a, b, c, d]));
        let table = format!(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
             wlan0 00000000 {} 0003 0 0 600 00000000 0 0 0\n\
             eth0 00000000 {} 0003 0 0 100 00000000 0 0 0\n\
             eth0 {} 00000000 0001 0 0 0 {} 0 0 0\n\
             tun0 00000000 {} 0003 0 0 0 {} 0 0 0\n\
             broken line\n",
            bytes(192, 168, 1, 1),
            bytes(10, 0, 0, 1),
            bytes(10, 0, 0, 0),
            bytes(255, 255, 255, 0),
            bytes(10, 8, 0, 1),
            bytes(128, 0, 0, 0),
        );
        let gateway = gateway_v4(&table).unwrap();
        assert_eq!(gateway.ip, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(gateway.interface, "eth0");
        assert_eq!(gateway_v4(""), None);
    }

    #[test]
    fn the_ipv6_default_route_is_found() {
        let zero = "0".repeat(32);
        let hop = "fe800000000000000000000000000001";
        let table = format!(
            "fe80{} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n\
             {zero} 00 {zero} 00 {hop} 00000400 00000001 00000000 00450003 eth0\n",
            "0".repeat(28)
        );
        let gateway = gateway_v6(&table).unwrap();
        assert_eq!(gateway.ip.to_string(), "fe80::1");
        assert_eq!(gateway.interface, "eth0");
    }

    #[test]
    fn loopback_is_there_and_can_be_named() {
        let have = addresses().unwrap();
        let lo = have.iter().find(|a| a.ip.is_loopback()).unwrap();
        let wanted = [
            Interface::Name(lo.interface.clone()),
            Interface::Name("none-such".into()),
            Interface::Address(lo.ip),
        ];
        let (found, missing) = bind_addresses(&wanted, &have);
        assert!(found.contains(&lo.ip) && missing == ["none-such"]);
        assert_eq!(found.iter().filter(|ip| **ip == lo.ip).count(), 1);
    }
}
