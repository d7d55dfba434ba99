//! The tables of flows, the kernel's and the simulator's, in one form.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_core::Instant;
use dunlin_sim::Proto;
use dunlin_sim::middlebox::Middlebox;

use super::script::Place;

/// What identifies a flow in both worlds, of which external ports may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The protocol.
    pub proto: Proto,
    /// The inside endpoint; `None` for a flow of the router itself.
    pub inside: Option<SocketAddr>,
    /// The other end.
    pub remote: SocketAddr,
    /// The inside endpoint began.
    pub from_inside: bool,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Which.
    pub name: Name,
    /// The seconds that it has left.
    pub left: u64,
    /// Its state, if it has one. Only those of TCP have the same names in both worlds.
    pub state: Option<String>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name {
            proto,
            inside,
            remote,
            from_inside,
        } = self.name;
        let inside = inside.map_or("router".to_owned(), |at| at.to_string());
        let way = if from_inside { "->" } else { "<-" };
        let state = self.state.as_deref().unwrap_or("");
        write!(
            f,
            "{proto:?} {inside} {way} {remote} {state} {} s",
            self.left
        )
    }
}

/// The flows of one script.
pub type Table = Vec<Entry>;

/// The kernel's listing, by the number of the script.
///
/// # Panics
/// When a line cannot be understood.
pub fn kernel(listing: &str) -> BTreeMap<u16, Table> {
    let mut tables: BTreeMap<u16, Table> = BTreeMap::new();
    for line in listing.lines() {
        let entry = entry(line).unwrap_or_else(|| panic!("not a flow: {line}"));
        if let Some((place, entry)) = entry {
            tables.entry(place.number).or_default().push(entry);
        }
    }
    for table in tables.values_mut() {
        table.sort();
    }
    tables
}

/// A line: family, its number, protocol, its number, seconds, perhaps a state, then two tuples. It
/// may be of no script.
fn entry(line: &str) -> Option<Option<(Place, Entry)>> {
    let mut words = line.split_whitespace().skip(3);
    let proto = match words.next()? {
        "1" | "58" => Proto::Icmp,
        "6" => Proto::Tcp,
        "17" => Proto::Udp,
        "132" => Proto::Sctp,
        "136" => Proto::UdpLite,
        "47" => Proto::Gre,
        "50" => Proto::Esp,
        _ => return None,
    };
    let left = words.next()?.parse().ok()?;
    let (mut ends, mut state): ([[Option<IpAddr>; 2]; 2], _) = ([[None; 2]; 2], None);
    let (mut ports, mut tuple) = ([[0_u16; 2]; 2], 0);
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            if !word.starts_with('[') {
                state = Some(word.to_owned());
            }
            continue;
        };
        match key {
            "src" => {
                tuple = usize::from(ends[0][0].is_some());
                ends[tuple][0] = value.parse().ok();
            }
            "dst" => ends[tuple][1] = value.parse().ok(),
            "sport" => ports[tuple][0] = value.parse().ok()?,
            "dport" => ports[tuple][1] = value.parse().ok()?,
            "id" => ports[tuple] = [value.parse().ok()?; 2],
            _ => {}
        }
    }
    let end =
        |tuple: usize, side: usize| Some(SocketAddr::new(ends[tuple][side]?, ports[tuple][side]));
    let Some(place) = Place::of(ends[0][0]?) else {
        return Some(None);
    };
    let (src, dst, answers) = (end(0, 0)?, end(0, 1)?, end(1, 0)?);
    let is_local = |at| place.is_local(at).is_some();
    let bare = |at: SocketAddr| match proto {
        Proto::Icmp => SocketAddr::new(at.ip(), 0),
        _ => at,
    };
    let public = IpAddr::from(place.public());
    if dst.ip() == public && is_local(src) && is_local(answers) {
        // Sent back in with its own sender: the answer does not come by here.
        return Some(None);
    }
    let (inside, remote, from_inside) = if is_local(answers) && !is_local(src) {
        (Some(answers), src, false)
    } else if dst.ip() == public && !is_local(answers) {
        (None, src, false)
    } else {
        (Some(src), dst, true)
    };
    let name = Name {
        proto,
        inside,
        remote: bare(remote),
        from_inside,
    };
    Some(Some((place, Entry { name, left, state })))
}

/// The simulator's table.
pub fn simulated(middlebox: &Middlebox, now: Instant) -> Table {
    let bare = |proto, at: SocketAddr| match proto {
        Proto::Icmp => SocketAddr::new(at.ip(), 0),
        _ => at,
    };
    let entry = |proto, inside, remote, from_inside, state: Option<&str>, expires: Instant| {
        let left = expires.saturating_since(now);
        (left > Duration::ZERO).then(|| Entry {
            name: Name {
                proto,
                inside,
                remote: bare(proto, remote),
                from_inside,
            },
            left: left.as_secs(),
            state: state.map(str::to_owned),
        })
    };
    let mut table = Table::new();
    if let Some(nat) = middlebox.nat() {
        table.extend(nat.entries().filter_map(|e| {
            entry(
                e.proto,
                e.internal,
                e.remote,
                e.from_inside,
                e.state,
                e.expires,
            )
        }));
    }
    if let Some(wall) = middlebox.firewall() {
        table.extend(wall.entries().into_iter().filter_map(|e| {
            let inside = Some(e.internal);
            entry(e.proto, inside, e.remote, e.from_inside, e.state, e.expires)
        }));
    }
    table.sort();
    table
}

/// What one table has and the other has not, or otherwise. Each flow is named once.
pub fn differences(kernel: &Table, simulated: &Table) -> BTreeMap<Name, String> {
    let mut by_name: BTreeMap<Name, [Vec<&Entry>; 2]> = BTreeMap::new();
    for (side, table) in [kernel, simulated].into_iter().enumerate() {
        for entry in table {
            by_name.entry(entry.name).or_default()[side].push(entry);
        }
    }
    let same = |a: &Entry, b: &Entry| {
        let named = a.name.proto == Proto::Tcp;
        a.left.abs_diff(b.left) <= 1 && (!named || a.state == b.state)
    };
    by_name
        .retain(|_, [a, b]| a.len() != b.len() || a.iter().zip(b.iter()).any(|(a, b)| !same(a, b)));
    let told = |entries: &[&Entry]| {
        let all: Vec<String> = entries.iter().map(ToString::to_string).collect();
        if all.is_empty() {
            "nothing".to_owned()
        } else {
            all.join(", ")
        }
    };
    let differ = by_name.into_iter();
    differ
        .map(|(name, [a, b])| (name, format!("kernel {}; simulator {}", told(&a), told(&b))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let text = "\
ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.3.11 dst=20.0.3.101 sport=40000 dport=80 src=20.0.3.101 dst=20.0.3.1 sport=80 dport=40000 [ASSURED] mark=0 zone=0 use=2
ipv4     2 icmp     1 29 src=10.0.3.11 dst=20.0.3.101 type=8 code=0 id=77 [UNREPLIED] src=20.0.3.101 dst=20.0.3.1 type=0 code=0 id=77 mark=0 zone=0 use=2
ipv4     2 udp      17 30 src=20.0.3.102 dst=20.0.3.1 sport=9 dport=5 [UNREPLIED] src=20.0.3.1 dst=20.0.3.102 sport=5 dport=9 mark=0 zone=0 use=2
ipv4     2 unknown  50 599 src=20.0.3.102 dst=20.0.3.1 src=10.0.3.12 dst=20.0.3.102 mark=0 zone=0 use=2
";
        let told: Vec<String> = kernel(text)[&3].iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "Udp router <- 20.0.3.102:9  30 s",
                "Tcp 10.0.3.11:40000 -> 20.0.3.101:80 ESTABLISHED 431999 s",
                "Icmp 10.0.3.11:77 -> 20.0.3.101:0  29 s",
                "Esp 10.0.3.12:0 <- 20.0.3.102:0  599 s",
            ]
        );
    }
}
