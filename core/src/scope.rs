//! How far an address reaches, so that strangers on the network cannot direct us at services of this
//! machine or its own network.
//!
//! The ranges are those that the IANA special-purpose registries (RFC 6890) do not list as globally
//! reachable, except those reserved for documentation, which nobody uses.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches, from the narrowest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This machine, or no machine: loopback, unspecified, multicast, reserved.
    Host,
    /// The link: link-local addresses, which include the metadata services of many clouds.
    Link,
    /// The own network: private, unique-local and shared (carrier-grade NAT) addresses.
    Site,
    /// Reachable from everywhere.
    Global,
}

impl Scope {
    /// The scope of an address. An address that contains an IPv4 address for a translator or a tunnel has
    /// the scope of that address at most.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        }
    }

    /// The scope of a name that a proxy resolves, as far as the name shows it: `Global`, unless only a
    /// machine or a network gives itself such a name.
    #[must_use]
    pub(crate) fn of_name(name: &str) -> Self {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Self::of(ip);
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let label = name.rsplit('.').next().unwrap_or_default();
        let is = |other: &str| label.eq_ignore_ascii_case(other);
        // `127.1`, `0x7f000001`, `017700000001`: programs that use `inet_aton` take these for addresses.
        if label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit()) {
            return Self::Host;
        }
        // RFC 6761 §6.3.
        if is("localhost") {
            return Self::Host;
        }
        // RFC 6762 §3.
        if is("local") {
            return Self::Link;
        }
        // RFC 8375, ICANN's resolution 2024.07.29.06, and what home routers use.
        let home = is("arpa") && name.to_ascii_lowercase().ends_with("home.arpa");
        if home || is("internal") || is("lan") || is("home") || !name.contains('.') {
            return Self::Site;
        }
        Self::Global
    }

    /// Whether an address of this scope belongs to this machine or its own network.
    #[must_use]
    pub(crate) const fn is_local(self) -> bool {
        !matches!(self, Self::Global)
    }
}

/// Whether `ip` can be the address of one machine: it is neither unspecified, multicast nor broadcast.
#[must_use]
pub fn is_unicast(ip: IpAddr) -> bool {
    let many = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    !many && !ip.is_unspecified()
}

fn of_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        // "This network" (RFC 791 §3.2): Linux connects to itself.
        [0 | 127, ..] => Scope::Host,
        // RFC 3927.
        [169, 254, ..] => Scope::Link,
        // RFC 1918; shared addresses (RFC 6598); protocol assignments (RFC 6890), which DS-Lite
        // uses; benchmarks (RFC 2544).
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0, _]
        | [198, 18..=19, ..] => Scope::Site,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => Scope::Host,
        _ => Scope::Global,
    }
}

fn of_v6(ip: Ipv6Addr) -> Scope {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (s0, s1, s2) {
        _ if ip.is_unspecified() || ip.is_loopback() => Scope::Host,
        // IPv4-compatible and IPv4-mapped (RFC 4291 §2.5.5), IPv4-translated (RFC 2765 §2.1).
        (0, 0, 0) if s3 == 0 && s4 == 0 && (s5 == 0 || s5 == 0xffff) => embedded(s6, s7),
        (0, 0, 0) if s3 == 0 && s4 == 0xffff && s5 == 0 => embedded(s6, s7),
        // NAT64 (RFC 6052 §2.1); its local-use prefix (RFC 8215) leads where the network wishes.
        (0x64, 0xff9b, 0) if s3 == 0 && s4 == 0 && s5 == 0 => embedded(s6, s7),
        (0x64, 0xff9b, 1) => Scope::Site,
        // 6to4 (RFC 3056 §2).
        (0x2002, high, low) => embedded(high, low),
        // Teredo (RFC 4380 §4): the client's address is inverted.
        (0x2001, 0, _) => embedded(!s6, !s7),
        // Discard-only (RFC 6666), and whatever else is not given out (RFC 4291 §2.4).
        (0x100, 0, 0) if s3 == 0 => Scope::Host,
        (0..=0xff, ..) => Scope::Host,
        // Unique-local (RFC 4193).
        (0xfc00..=0xfdff, ..) => Scope::Site,
        // Link-local; site-local (RFC 3879) is deprecated, not reassigned.
        (0xfe80..=0xfebf, ..) => Scope::Link,
        (0xfec0..=0xfeff, ..) => Scope::Site,
        (0xff00..=0xffff, ..) => Scope::Host,
        _ => Scope::Global,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(ip: &str) -> Scope {
        Scope::of(ip.parse().unwrap())
    }

    #[test]
    fn ipv4_addresses_have_their_scope() {
        for (ip, wanted) in [
            ("0.0.0.0", Scope::Host),
            ("0.1.2.3", Scope::Host),
            ("127.0.0.1", Scope::Host),
            ("127.255.255.255", Scope::Host),
            ("224.0.0.1", Scope::Host),
            ("240.0.0.1", Scope::Host),
            ("255.255.255.255", Scope::Host),
            ("169.254.169.254", Scope::Link),
            ("10.0.0.1", Scope::Site),
            ("172.16.0.1", Scope::Site),
            ("172.31.255.255", Scope::Site),
            ("192.168.1.1", Scope::Site),
            ("100.64.0.1", Scope::Site),
            ("100.127.255.255", Scope::Site),
            ("192.0.0.8", Scope::Site),
            ("198.18.0.1", Scope::Site),
            ("198.19.255.255", Scope::Site),
            ("1.1.1.1", Scope::Global),
            ("9.255.255.255", Scope::Global),
            ("11.0.0.0", Scope::Global),
            ("100.63.255.255", Scope::Global),
            ("100.128.0.0", Scope::Global),
            ("126.255.255.255", Scope::Global),
            ("128.0.0.0", Scope::Global),
            ("169.253.0.1", Scope::Global),
            ("172.15.255.255", Scope::Global),
            ("172.32.0.0", Scope::Global),
            ("192.0.1.1", Scope::Global),
            ("192.167.255.255", Scope::Global),
            ("192.169.0.0", Scope::Global),
            ("198.17.255.255", Scope::Global),
            ("198.20.0.0", Scope::Global),
            ("203.0.113.5", Scope::Global),
            ("223.255.255.255", Scope::Global),
        ] {
            assert_eq!(scope(ip), wanted, "{ip}");
        }
    }

    #[test]
    fn ipv6_addresses_have_their_scope() {
        for (ip, wanted) in [
            ("::", Scope::Host),
            ("::1", Scope::Host),
            ("::2:0:0", Scope::Host),
            ("100::1", Scope::Host),
            ("ff02::1", Scope::Host),
            ("ff0e::1", Scope::Host),
            ("fe80::1", Scope::Link),
            ("febf::1", Scope::Link),
            ("fec0::1", Scope::Site),
            ("fc00::1", Scope::Site),
            ("fd12:3456::1", Scope::Site),
            ("64:ff9b:1::1", Scope::Site),
            ("2001:db8::1", Scope::Global),
            ("2606:4700::1111", Scope::Global),
            ("fbff::1", Scope::Global),
        ] {
            assert_eq!(scope(ip), wanted, "{ip}");
        }
    }

    /// An IPv6 address that stands for an IPv4 one has the same scope.
    #[test]
    fn embedded_addresses_have_the_scope_of_what_they_embed() {
        fn holds(bits: u32) -> bool {
            let v4 = Ipv4Addr::from(bits);
            let (high, low) = ((bits >> 16) as u16, bits as u16);
            let wanted = of_v4(v4);
            let forms = [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 7, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, !high, !low),
            ];
            forms.into_iter().all(|ip| of_v6(ip) == wanted)
        }
        for ip in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "1.1.1.1"] {
            let ip: Ipv4Addr = ip.parse().unwrap();
            assert!(holds(ip.to_bits()), "{ip}");
        }
        assert_eq!(scope("::7f00:2"), Scope::Host);
        quickcheck::quickcheck(holds as fn(u32) -> bool);
    }

    #[test]
    fn names_that_only_a_network_gives_itself_are_known() {
        for (name, wanted) in [
            ("localhost", Scope::Host),
            ("LOCALHOST.", Scope::Host),
            ("a.localhost", Scope::Host),
            ("127.0.0.1", Scope::Host),
            ("127.1", Scope::Host),
            ("2130706433", Scope::Host),
            ("0x7f000001", Scope::Host),
            ("[::1]", Scope::Host),
            ("", Scope::Host),
            ("printer.local", Scope::Link),
            ("nas", Scope::Site),
            ("10.0.0.1", Scope::Site),
            ("metadata.google.internal", Scope::Site),
            ("nas.home.arpa", Scope::Site),
            ("router.lan", Scope::Site),
            ("tracker.example", Scope::Global),
            ("local.example", Scope::Global),
            ("1.1.1.1", Scope::Global),
        ] {
            assert_eq!(Scope::of_name(name), wanted, "{name}");
        }
    }

    #[test]
    fn only_addresses_of_one_machine_are_unicast() {
        for ip in ["127.0.0.1", "10.0.0.1", "fe80::1", "2001:db8::1"] {
            assert!(is_unicast(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["0.0.0.0", "255.255.255.255", "239.1.1.1", "::", "ff02::1"] {
            assert!(!is_unicast(ip.parse().unwrap()), "{ip}");
        }
    }
}
