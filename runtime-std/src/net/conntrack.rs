//! The kernel's table of connections, and how to keep the DHT out of it.
//!
//! A firewall that tracks connections keeps an entry for every remote endpoint for half a minute or longer.
//! A busy DHT node talks to thousands, and once the table is full other connections are dropped.

use std::{fmt, fs, path::Path};

/// Where Linux publishes the table's size; missing in a network namespace without connection tracking.
const PROC: &str = "/proc/sys/net/netfilter";
/// A warning is due when the table is fuller than this, in per cent. Entries live for minutes, so there is
/// time to act before the table is full.
pub const WARN_ABOVE: u64 = 70;

/// The usage of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The number of entries in the table.
    pub count: u64,
    /// The most entries it can have.
    pub max: u64,
}

impl Usage {
    /// Reads the usage; `None` on other systems than Linux and without connection tracking.
    #[must_use]
    pub fn read() -> Option<Self> {
        Self::read_from(Path::new(PROC))
    }

    fn read_from(dir: &Path) -> Option<Self> {
        let number = |name: &str| {
            let text = fs::read_to_string(dir.join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        let usage = Self {
            count: number("nf_conntrack_count")?,
            max: number("nf_conntrack_max")?,
        };
        // 0 means unlimited.
        (usage.max > 0).then_some(usage)
    }

    /// The usage in per cent, rounded down.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let percent = u128::from(self.count) * 100 / u128::from(self.max.max(1));
        u64::try_from(percent).unwrap_or(u64::MAX)
    }

    /// Whether other connections may soon be dropped.
    #[must_use]
    pub fn is_high(&self) -> bool {
        u128::from(self.count) * 100 > u128::from(self.max) * u128::from(WARN_ABOVE)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, max } = self;
        write!(f, "{count} of {max} entries, {} %", self.percent())
    }
}

/// What to tell a person of a table that is nearly full, if the DHT uses `port`.
#[must_use]
pub fn warning(usage: &Usage, port: u16) -> String {
    format!(
        "Warning: the kernel's table of connections is nearly full ({usage}): connections of \
         other programs may be dropped. `dunlin dht advice --port {port}` says how to keep the \
         DHT out of it."
    )
}

/// Which firewall is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// `iptables`, as on the "Using DHT" page.
    Iptables,
    /// `ip6tables`.
    Ip6tables,
    /// `nft`, both families in one table.
    Nftables,
}

/// The commands that take datagrams of `port` out of the table.
#[must_use]
pub fn notrack(firewall: Firewall, port: u16) -> Vec<String> {
    let classic = |command: &str| {
        vec![
            format!("{command} -t raw -I PREROUTING -p udp --dport {port} -j NOTRACK"),
            format!("{command} -t raw -I OUTPUT -p udp --sport {port} -j NOTRACK"),
        ]
    };
    match firewall {
        Firewall::Iptables => classic("iptables"),
        Firewall::Ip6tables => classic("ip6tables"),
        // Quoted, so that a shell does not interpret braces and semicolons.
        Firewall::Nftables => vec![
            "nft 'add table inet dunlin_dht'".into(),
            "nft 'add chain inet dunlin_dht prerouting { type filter hook prerouting priority raw; policy accept; }'".into(),
            "nft 'add chain inet dunlin_dht output { type filter hook output priority raw; policy accept; }'".into(),
            format!("nft 'add rule inet dunlin_dht prerouting udp dport {port} notrack'"),
            format!("nft 'add rule inet dunlin_dht output udp sport {port} notrack'"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name, text| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(Usage::read_from(dir.path()), None);
        write("nf_conntrack_count", "184321\n");
        write("nf_conntrack_max", "262144\n");
        let usage = Usage::read_from(dir.path()).unwrap();
        assert_eq!((usage.percent(), usage.is_high()), (70, true));
        assert_eq!(usage.to_string(), "184321 of 262144 entries, 70 %");
        write("nf_conntrack_count", "183500");
        assert!(!Usage::read_from(dir.path()).unwrap().is_high());
        write("nf_conntrack_max", "0");
        assert_eq!(Usage::read_from(dir.path()), None);
        write("nf_conntrack_max", "many");
        assert_eq!(Usage::read_from(dir.path()), None);
    }

    #[test]
    fn s32_the_rules_are_those_of_the_page_for_the_real_port() {
        assert_eq!(
            notrack(Firewall::Iptables, 6881),
            [
                "iptables -t raw -I PREROUTING -p udp --dport 6881 -j NOTRACK",
                "iptables -t raw -I OUTPUT -p udp --sport 6881 -j NOTRACK",
            ]
        );
        for firewall in [Firewall::Ip6tables, Firewall::Nftables] {
            let rules = notrack(firewall, 51413).join("\n");
            assert_eq!(rules.matches("port 51413").count(), 2, "{rules}");
        }
    }
}
