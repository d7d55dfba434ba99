//! Every key of a scenario: its name, type, default, example and description, and the field that it
//! sets. The parser, its messages and the reference in `SCENARIOS.md` all use these tables.

use std::net::IpAddr;

use crate::{
    host::{engine::Leaves, service::DnsAnswer, stack::tcp::Algorithm},
    scenario::{
        model::{Advertise, NameAnswer, NameEntry, Options, Scenario, Torrent},
        syntax::{
            document::Value,
            value::{self, Wrong},
        },
    },
};

/// A key of a table that sets a field of `S`.
pub(crate) struct Key<S> {
    /// The name in the file.
    pub(crate) name: &'static str,
    /// The type, for the reference.
    pub(crate) takes: &'static str,
    /// The default, for the reference.
    pub(crate) default: &'static str,
    /// A valid value.
    pub(crate) example: &'static str,
    /// The description.
    pub(crate) doc: &'static str,
    /// Sets the field, or describes what was expected.
    pub(crate) set: fn(&mut S, &Value) -> Result<(), Wrong>,
}

/// Builds a table of keys, in the order of the reference: `name, takes, default, example, doc =>
/// |target, value| …`.
macro_rules! keys {
    ($($name:literal, $takes:literal, $default:literal, $example:literal, $doc:literal
       => |$s:ident, $v:ident| $set:expr;)+) => {
        &[$(Key {
            name: $name,
            takes: $takes,
            default: $default,
            example: $example,
            doc: $doc,
            set: |$s, $v| {
                $set;
                Ok(())
            },
        }),+]
    };
}
pub(crate) use keys;

/// The keys before the first table.
pub(crate) const TOP: &[Key<Scenario>] = keys! {
    "name", "text", "the file's name", "\"two homes\"", "The name in reports."
        => |s, v| s.name = value::line(v)?;
    "about", "text", "\"\"", "\"Who gets through to whom.\"", "What the scenario shows."
        => |s, v| s.about = value::prose(v)?;
    "seed", "whole number", "1", "7", "The seed of everything random. `--seed` overrides it."
        => |s, v| s.seed = value::whole(v, 0, u64::MAX)?;
    "duration", "time", "60s", "\"90s\"", "The simulated time that it runs, at most 30 days."
        => |s, v| s.duration = {
            let d = value::duration(v)?;
            if d.is_zero() || d.as_secs() > 30 * 86_400 {
                return Err("a time from 1us to 30d".into());
            }
            d
        };
};

/// The keys of `[torrent]`.
pub(crate) const TORRENT: &[Key<Torrent>] = keys! {
    "size", "size", "1 MiB", "\"4 MiB\"", "Its length, at most 1 GiB."
        => |s, v| s.size = {
            let n = value::size(v)?;
            if n == 0 || n > 1 << 30 {
                return Err("a size from 1 byte to 1 GiB".into());
            }
            n
        };
    "piece", "size", "64 KiB", "\"256 KiB\"", "The length of its pieces: a power of two from 16 KiB to 16 MiB."
        => |s, v| s.piece = {
            let n = value::size(v)?;
            if !n.is_power_of_two() || !(16 << 10..=16 << 20).contains(&n) {
                return Err("a power of two from \"16 KiB\" to \"16 MiB\"".into());
            }
            n
        };
};

/// The options of hosts, of which each kind takes some.
pub(crate) const OPTIONS: &[Key<Options>] = keys! {
    "port", "port", "the kind's", "6881", "The host's port."
        => |s, v| s.port = Some(value::short(v, 1, u16::MAX)?);
    "to", "host", "required", "\"bob\"", "The host that it sends to or connects to."
        => |s, v| s.to = Some(value::name(v)?);
    "to-port", "port", "that host's port", "7000", "The port of that host."
        => |s, v| s.to_port = Some(value::short(v, 1, u16::MAX)?);
    "via", "host", "required", "\"server\"", "The rendezvous server."
        => |s, v| s.via = Some(value::name(v)?);
    "lead", "time", "100ms", "\"250ms\"", "How long the rendezvous server waits, after all hosts that it introduces have registered, before it does so. Times of `connected` include it."
        => |s, v| s.lead = value::duration(v)?;
    "told-after", "time", "0s", "\"2s\"", "The rendezvous server introduces all hosts in one tick. This host is told later by this much."
        => |s, v| s.told_after = value::duration(v)?;
    "advertise", "useful, always or never", "useful", "\"always\"", "Whether it also tells its own address: if it is behind a NAT and the other host is behind the same one, always, or never."
        => |s, v| s.advertise = value::choice(v, &[("useful", Advertise::Useful), ("always", Advertise::Always), ("never", Advertise::Never)])?;
    "keepalive", "time", "none", "\"25s\"", "How often it sends to the other host once they are connected, at least 100ms."
        => |s, v| s.keepalive = Some({
            let d = value::duration(v)?;
            if d.as_millis() < 100 {
                return Err("a time from 100ms".into());
            }
            d
        });
    "start", "time", "0s", "\"2s\"", "When the host begins."
        => |s, v| s.start = value::duration(v)?;
    "stop", "time", "never", "\"40s\"", "When the host stops."
        => |s, v| s.stop = Some(value::duration(v)?);
    "every", "time", "1s", "\"500ms\"", "The time between two datagrams, at least 1ms."
        => |s, v| s.every = {
            let d = value::duration(v)?;
            if d.as_micros() < 1_000 {
                return Err("a time from 1ms".into());
            }
            d
        };
    "reply-after", "time", "0s", "\"20s\"", "How long a datagram is kept before it is sent back."
        => |s, v| s.reply_after = value::duration(v)?;
    "flows", "whole number", "100", "200", "New flows per second, from 1 to 10000."
        => |s, v| s.flows = value::word(v, 1, 10_000)?;
    "size", "whole number", "64", "200", "The bytes of data in each datagram, from 16 to 1400."
        => |s, v| s.size = value::short(v, 16, 1_400)?;
    "trackers", "hosts", "none", "[\"tracker\"]", "The trackers to which it announces."
        => |s, v| s.trackers = value::names(v)?;
    "tracker-urls", "texts", "none", "[\"http://tracker.example:6969/announce\"]", "Trackers to which it announces, too, by their addresses. Names are looked up at `dns`."
        => |s, v| s.tracker_urls = value::lines(v)?;
    "dns", "hosts", "none", "\"dns\"", "Its name servers, of kind `dns`."
        => |s, v| s.dns = value::names(v)?;
    "names", "names", "required", "[\"tracker.example = tracker\", \"gone.example = timeout\"]", "What the name server knows: a name, and a router or host whose addresses it has, addresses, or `nxdomain`, `servfail` or `timeout`."
        => |s, v| s.names = names(v)?;
    "bootstrap", "hosts", "none", "[\"node\"]", "Hosts of kind `dht`, from which it joins the DHT. An engine with none has no DHT."
        => |s, v| s.bootstrap = value::names(v)?;
    "peers", "hosts", "none", "[\"alice\", \"bob\"]", "Hosts whose addresses it is given at the start."
        => |s, v| s.peers = value::names(v)?;
    "upload", "rate", "off", "\"500 KiB/s\"", "The upload limit. `0` stops all uploading, including requests."
        => |s, v| s.upload = rate_or_none(v)?;
    "upload-slots", "whole number", "the engine's choice", "4", "The number of peers that it uploads to at once. `0` makes a free rider."
        => |s, v| s.upload_slots = Some(value::word(v, 0, 1_000)?);
    "download", "rate", "off", "\"1 MiB/s\"", "The download limit."
        => |s, v| s.download = value::rate(v)?.map(|bits| bits.div_ceil(8));
    "tcp", "name", "cubic", "\"firmware\"", "The TCP of its connections: `cubic` or `reno` for one that does what desktop systems do, with that congestion control, or `firmware` for smoltcp with a window of 64 KiB."
        => |s, v| s.tcp = value::choice(v, &[("firmware", None), ("cubic", Some(Algorithm::Cubic)), ("reno", Some(Algorithm::Reno))])?;
    "stay", "time", "to the end", "\"10min\"", "How long it takes part from `start` on. For a population also `\"exponential 10min\"`, with that mean."
        => |s, v| s.lifetime.stay = Some(value::duration(v)?);
    "seed-for", "time", "to the end", "\"60s\"", "How long it goes on after its download was complete."
        => |s, v| s.lifetime.seed_for = Some(value::duration(v)?);
    "leaves", "stop or crash", "stop", "\"crash\"", "How it leaves: the engine is shut down and tells its trackers, or the process is killed."
        => |s, v| s.lifetime.leaves = value::choice(v, &[("stop", Leaves::Stop), ("crash", Leaves::Crash)])?;
    "rejoin", "time", "never", "\"5min\"", "After how long it comes back, with what it has on disk, to stay as long again; at least 1s."
        => |s, v| s.lifetime.rejoin = Some({
            let d = value::duration(v)?;
            if d.as_secs() < 1 {
                return Err("a time from 1s".into());
            }
            d
        });
    "disk-delay", "time", "none", "\"200ms\"", "The time that each operation of its disk takes."
        => |s, v| s.disk_delay = Some(value::duration(v)?);
};

/// Reads `tracker.example = tracker`, or a list.
fn names(v: &Value) -> Result<Vec<NameEntry>, Wrong> {
    let entry = |text: String| {
        let (name, answer) = text.split_once('=')?;
        let (name, answer) = (name.trim(), answer.trim());
        let addrs: Option<Vec<IpAddr>> = answer.split(',').map(|a| a.trim().parse().ok()).collect();
        let answer = match answer {
            "nxdomain" => NameAnswer::Other(DnsAnswer::NoSuchName),
            "servfail" => NameAnswer::Other(DnsAnswer::Failure),
            "timeout" => NameAnswer::Other(DnsAnswer::Silence),
            other => match addrs {
                Some(addrs) => NameAnswer::Other(DnsAnswer::Addresses(addrs)),
                None => NameAnswer::Node(other.into()),
            },
        };
        let fits = !name.is_empty() && name.len() <= 253 && !name.contains(char::is_whitespace);
        (fits && answer != NameAnswer::Node(String::new())).then(|| NameEntry {
            name: name.into(),
            answer,
        })
    };
    let all: Option<Vec<NameEntry>> = value::lines(v)?.into_iter().map(entry).collect();
    all.ok_or_else(|| {
        "names such as \"tracker.example = tracker\" or \"gone.example = timeout\"".into()
    })
}

/// Bytes per second; 0 forbids all transfer.
fn rate_or_none(v: &Value) -> Result<Option<u64>, Wrong> {
    if value::whole(v, 0, 0).is_ok() {
        return Ok(Some(0));
    }
    value::rate(v)
        .map(|rate| rate.map(|bits| bits.div_ceil(8)))
        .map_err(|wrong| format!("{wrong}, or 0"))
}
