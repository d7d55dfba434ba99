//! Every setting, defined once: name, default, effect, allowed values, and the field it sets. The file that
//! is read, messages about it and the commented default file are all made from this.

use std::fmt::Display;

use dunlin_core::{DhtMode, dht, metainfo::HostPort};
use toml::de::DeValue;

use super::{
    Settings,
    values::{self, Expected, expected},
};
use crate::{disk::Allocation, paths::Names};

/// Policy for encrypting connections to peers (MSE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Encrypted connections are neither offered nor accepted.
    Off,
    /// Accepted, and tried if plaintext failed.
    Allowed,
    /// Tried first; plaintext is accepted.
    Preferred,
    /// Only encrypted connections.
    Required,
}

/// One setting.
pub(super) struct Key {
    /// `section.name`.
    pub(super) path: &'static str,
    /// As written in the file; the defaults of folders are computed.
    pub(super) default: &'static str,
    /// The comment in the default file; lines have at most 90 columns.
    pub(super) doc: &'static str,
    /// Stores a value.
    pub(super) set: fn(&mut Settings, &DeValue<'_>) -> Result<(), Expected>,
}

/// A value as text, so that `5`, `"5"` and `"5s"` are parsed by the same function.
fn text(value: &DeValue<'_>) -> Result<String, Expected> {
    match value {
        DeValue::String(s) => Ok(s.to_string()),
        DeValue::Integer(n) if n.radix() == 10 => Ok(n.as_str().replace('_', "")),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .map(|n| n.to_string())
            .or_else(|_| expected("a smaller number")),
        DeValue::Float(n) => Ok(n.as_str().replace('_', "")),
        DeValue::Boolean(b) => Ok(b.to_string()),
        _ => expected("a single value"),
    }
}

/// Parses a value with `parse`, whatever type it has: a wrong type gets the same error as a wrong text.
fn with<T>(
    value: &DeValue<'_>,
    parse: impl Fn(&str) -> Result<T, Expected>,
) -> Result<T, Expected> {
    text(value).map_or_else(|_| parse("\0"), |text| parse(&text))
}

fn number<T: TryFrom<u64> + Display + PartialOrd>(
    value: &DeValue<'_>,
    low: T,
    high: T,
) -> Result<T, Expected> {
    text(value)
        .ok()
        .and_then(|t| t.parse::<u64>().ok())
        .and_then(|n| T::try_from(n).ok())
        .filter(|n| *n >= low && *n <= high)
        .ok_or_else(|| Expected(format!("a number from {low} to {high}")))
}

/// The entry of `table` that `value` names.
fn choice<T: Copy>(value: &DeValue<'_>, table: &[(&str, T)]) -> Result<T, Expected> {
    let text = text(value).unwrap_or_default();
    let found = table.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = table.iter().map(|(n, _)| format!("{n:?}")).collect();
        let near = super::nearest(&text, table.iter().map(|(name, _)| *name));
        let near = near.map_or(String::new(), |n| format!(" (did you mean {n:?}?)"));
        Expected(format!("one of {}{near}", names.join(", ")))
    })
}

const ENCRYPTION: [(&str, Encryption); 4] = [
    ("off", Encryption::Off),
    ("allowed", Encryption::Allowed),
    ("preferred", Encryption::Preferred),
    ("required", Encryption::Required),
];
const DHT: [(&str, DhtMode); 4] = [
    ("disable", DhtMode::Disable),
    ("off", DhtMode::Off),
    ("auto", DhtMode::Auto),
    ("on", DhtMode::On),
];
const ALLOCATION: [(&str, Allocation); 2] =
    [("sparse", Allocation::Sparse), ("full", Allocation::Full)];
const NAMES: [(&str, Names); 3] = [
    ("native", Names::Native),
    ("unix", Names::Unix),
    ("windows", Names::Windows),
];

macro_rules! key {
    ($path:literal = $default:literal, $doc:literal, |$s:ident, $v:ident| $set:expr) => {
        Key {
            path: $path,
            default: $default,
            doc: $doc,
            set: |$s, $v| {
                $set;
                Ok(())
            },
        }
    };
}

/// All settings, by section.
pub(super) const KEYS: &[Key] = &[
    key!(
        "folders.downloads" = "\".\"",
        "Where torrents are saved, if the command line does not say; \".\" is the current folder.",
        |s, v| s.downloads = with(v, values::folder)?
    ),
    key!(
        "folders.session" = "",
        "Where Dunlin remembers its torrents from one run to the next.",
        |s, v| s.session = with(v, values::folder)?
    ),
    key!(
        "network.ports" = "\"6881-6889\"",
        "Port to listen on: a number, a range of which the \
        first free one is taken, or 0 for any.",
        |s, v| s.ports = with(v, str::parse)?
    ),
    key!(
        "network.interfaces" = "[]",
        "Addresses or names of interfaces to use, for instance \
        [\"eth0\", \"192.0.2.1\"].\nEmpty: all.",
        |s, v| s.interfaces = list(v)?
    ),
    key!(
        "network.encryption" = "\"preferred\"",
        "Encrypted connections to peers: \"off\", \"allowed\" (plaintext is tried first),\n\
        \"preferred\" (the handshake; all where the peer requires it) or \"required\" (all).",
        |s, v| s.encryption = choice(v, &ENCRYPTION)?
    ),
    key!(
        "network.pex" = "\"on\"",
        "Exchange addresses of peers with peers (not for private \
        torrents).",
        |s, v| s.pex = with(v, values::switch)?
    ),
    key!(
        "network.proxy" = "\"off\"",
        "SOCKS5 proxy for outgoing connections: \
        \"socks5://user:password@host:port\".\n\"socks5h://\" lets the proxy look names up as well.",
        |s, v| s.proxy = with(v, |t| if t == "off" {
            Ok(None)
        } else {
            t.parse().map(Some)
        })?
    ),
    key!(
        "network.user_agent" = "\"\"",
        "What to call ourselves to trackers and peers. Empty: \
        Dunlin and its version.",
        |s, v| s.user_agent = with(v, user_agent)?
    ),
    key!(
        "limits.down" = "\"off\"",
        "Download rate of everything together, such as \"2 MiB/s\"; a number alone is bytes per\n\
        second. At least 1 KiB/s; \"off\" for no limit.",
        |s, v| s.down = with(v, values::rate)?
    ),
    key!(
        "limits.up" = "\"off\"",
        "Upload rate of everything together.",
        |s, v| s.up = with(v, values::rate)?
    ),
    key!(
        "limits.torrent_down" = "\"off\"",
        "Download rate of each torrent.",
        |s, v| s.torrent_down = with(v, values::rate)?
    ),
    key!(
        "limits.torrent_up" = "\"off\"",
        "Upload rate of each torrent.",
        |s, v| s.torrent_up = with(v, values::rate)?
    ),
    key!(
        "limits.connections" = "500",
        "Connections to peers in all.",
        |s, v| s.connections = number(v, 1, 65_535)?
    ),
    key!(
        "limits.torrent_connections" = "100",
        "Connections to peers for each torrent.",
        |s, v| s.torrent_connections = number(v, 1, 65_535)?
    ),
    key!(
        "limits.memory" = "\"16 MiB\"",
        "Memory for blocks on their way between network and disk.",
        |s, v| s.memory = with(v, memory)?
    ),
    key!(
        "disk.threads" = "\"auto\"",
        "Threads that read, write and hash; \"auto\" goes by the \
        number of processors.",
        |s, v| s.disk_threads = threads(v)?
    ),
    key!(
        "disk.allocation" = "\"sparse\"",
        "\"sparse\" files take up space as they arrive, \
        \"full\" ones at once.",
        |s, v| s.allocation = choice(v, &ALLOCATION)?
    ),
    key!(
        "disk.open_files" = "256",
        "Files kept open at most.",
        |s, v| s.open_files = number(v, 8, 1_000_000)?
    ),
    key!(
        "disk.names" = "\"native\"",
        "Whose rules names of files keep: \"native\", \"unix\" or \
        \"windows\" (for disks that are\nshared with Windows).",
        |s, v| s.names = choice(v, &NAMES)?
    ),
    key!(
        "seeding.ratio" = "\"off\"",
        "Stop seeding a torrent when this many times its size has \
        been uploaded, such as 2.0.",
        |s, v| s.seed_ratio = with(v, values::ratio)?
    ),
    key!(
        "seeding.time" = "\"off\"",
        "Stop seeding a torrent after this long, such as \"12h\", if not by its ratio before.\n\
        A number alone is seconds.",
        |s, v| s.seed_time = with(v, values::duration_or_off)?
    ),
    key!(
        "dht.mode" = "\"auto\"",
        "Peers without trackers: \"disable\" for never, \"off\" until it is switched on, \"auto\"\n\
        while a torrent runs, \"on\" at once. It needs the session folder.",
        |s, v| s.dht.mode = choice(v, &DHT)?
    ),
    key!(
        "dht.port" = "\"shared\"",
        "UDP port of the DHT: \"shared\" with the peers', or one of its own.",
        |s, v| s.dht.port = dht_port(v)?
    ),
    key!(
        "dht.routers" = "\"public\"",
        "Nodes to begin with where no other is known: \"public\" ones, or a list such as\n\
        [\"router.example:6881\"]. An empty list asks nobody.",
        |s, v| s.dht.routers = routers(v)?
    ),
    key!(
        "dht.add_node" = "[]",
        "Nodes to begin with, always, such as [\"192.0.2.1:6881\"].",
        |s, v| s.dht.add_node = nodes(v)?
    ),
    key!(
        "dht.limit_up" = "\"off\"",
        "Upload rate of the DHT, within that of everything. Who sends less is asked less.",
        |s, v| s.dht.limit_up = with(v, values::rate)?
    ),
    key!(
        "dht.read_only" = "\"off\"",
        "Ask other nodes, but answer none: for batteries and shared addresses.",
        |s, v| s.dht.read_only = with(v, values::switch)?
    ),
    key!(
        "dht.new_remote_budget" = "12",
        "New remote addresses a second that the DHT may contact, each of which costs the router\n\
        an entry in its table; \"off\" for any number.",
        |s, v| s.dht.new_remote_budget = budget(v)?
    ),
    key!(
        "shutdown.timeout" = "\"3s\"",
        "How long to wait for trackers when stopping; a number alone is seconds.",
        |s, v| s.shutdown_timeout = with(v, values::duration)?
    ),
];

fn list<T: std::str::FromStr<Err = Expected>>(value: &DeValue<'_>) -> Result<Vec<T>, Expected> {
    match value {
        DeValue::Array(items) => items
            .iter()
            .map(|item| with(item.get_ref(), str::parse))
            .collect(),
        DeValue::String(one) => Ok(vec![one.parse()?]),
        _ => expected("a list such as [\"eth0\"]"),
    }
}

fn node(text: &str) -> Result<HostPort, Expected> {
    dht::parse_node(text).or_else(|why| {
        expected(&format!(
            "a node such as \"router.example:6881\" or \"[2001:db8::1]:6881\" ({why})"
        ))
    })
}

fn nodes(value: &DeValue<'_>) -> Result<Vec<HostPort>, Expected> {
    match value {
        DeValue::Array(items) => items
            .iter()
            .map(|item| with(item.get_ref(), node))
            .collect(),
        _ => Ok(vec![with(value, node)?]),
    }
}

fn routers(value: &DeValue<'_>) -> Result<Option<Vec<HostPort>>, Expected> {
    match text(value).as_deref() {
        Ok("public") => Ok(None),
        _ => nodes(value).map(Some),
    }
}

fn dht_port(value: &DeValue<'_>) -> Result<Option<u16>, Expected> {
    match text(value).as_deref() {
        Ok("shared") => Ok(None),
        _ => number(value, 1, 65_535)
            .map(Some)
            .or_else(|_| expected("\"shared\" or a number from 1 to 65535")),
    }
}

fn budget(value: &DeValue<'_>) -> Result<Option<u32>, Expected> {
    match text(value).as_deref() {
        Ok("off") => Ok(None),
        _ => number(value, 1, 1_000_000)
            .map(Some)
            .or_else(|_| expected("a number of addresses a second, or \"off\"")),
    }
}

fn threads(value: &DeValue<'_>) -> Result<Option<usize>, Expected> {
    match text(value).as_deref() {
        Ok("auto") => Ok(None),
        _ => number::<u64>(value, 1, 64)
            .map(|n| Some(n as usize))
            .or_else(|_| expected("\"auto\" or a number from 1 to 64")),
    }
}

fn memory(text: &str) -> Result<u64, Expected> {
    const RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 30;
    match values::size(text) {
        Ok(n) if RANGE.contains(&n) => Ok(n),
        _ => expected("a size from \"1 MiB\" to \"64 GiB\""),
    }
}

/// The name becomes an HTTP header field: one line of printable ASCII.
fn user_agent(text: &str) -> Result<Option<String>, Expected> {
    if text.len() > 128 || !text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return expected("at most 128 plain ASCII characters");
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
