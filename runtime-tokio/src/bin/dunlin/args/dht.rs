//! The command line of `dunlin dht`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Subcommand, ValueHint};
use dunlin_tokio::dunlin_core::{NodeId, dht, metainfo::HostPort};

use crate::units;

/// What `--help` says about the exit codes.
const HELP: &str = "\
Exit codes:
  0    done, and something was found
  1    nothing was done; the reason is on standard error
  2    the command line or the configuration makes no sense
  3    nodes answered, but none has what was asked for, or time ran out
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM, SIGHUP)";

/// What `--help` says about `--json`.
const JSON_HELP: &str = "\
Print one JSON object a line on standard output (docs/JSON.md has every key). Every object
has `type`:

  peer      get-peers: torrent (info-hash), peer (address)
  item      get: target, key, salt (hex), seq, sig, bencode (hex), text (if it is one)
  stored    put: target, key, salt (hex), seq
  pong      ping: node (address), id, seconds, version (hex)
  samples   sample: node, num (how many it knows), interval (seconds), hashes
  done      the end of a search: contacted, replied, peers, stores, stored (nodes), seconds,
            failure (one of the page's sentences), cause, seeds, leeches, suspicious,
            closest (nodes: id, node)
  status    node and stats: rTorrent's dht_statistics (dht, active, cycle, queries_received,
            queries_sent, replies_received, errors_received, errors_caught, bytes_read,
            bytes_written, nodes, buckets, peers, peers_max, torrents, throttle) and more
  log       what the node says: event, message, cause
  key       keygen: key (public), file
  advice    advice: port, iptables, ip6tables, nftables (lists of commands), conntrack
  error     something was not done: what, message, cause
  summary   the last line, always: version (of docs/JSON.md), exit, seconds, errors

A cause has `kind` (no_contacts, dns, send, no_replies, not_forwarded, port_mangled,
nodes_gone) and, for port_mangled, `observed`";

#[derive(Debug, clap::Args)]
pub(crate) struct Dht {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a DHT node, until interrupted
    #[command(after_help = HELP)]
    Node(Node),
    /// Find peers of a torrent
    #[command(after_help = HELP)]
    GetPeers(GetPeers),
    /// Tell the DHT that a peer of a torrent is here
    #[command(after_help = HELP)]
    Announce(Announce),
    /// Fetch an item (BEP 44)
    #[command(after_help = HELP)]
    Get(Get),
    /// Store an item for about two hours (BEP 44)
    #[command(after_help = HELP)]
    Put(Put),
    /// Make a key for items that can be changed
    Keygen(Keygen),
    /// Ask a node which info-hashes it knows (BEP 51)
    #[command(after_help = HELP)]
    Sample(Sample),
    /// Ask a node for a sign of life
    #[command(after_help = HELP)]
    Ping(Ping),
    /// Show what the cache holds, or with --live how the DHT is doing now
    #[command(after_help = HELP)]
    Stats(Stats),
    /// Print how to keep the DHT out of the kernel's table of connections
    Advice(Advice),
}

impl Command {
    /// Whether a program reads what it prints.
    pub(crate) const fn is_json(&self) -> bool {
        match self {
            Self::Node(args) => args.common.view.json,
            Self::GetPeers(args) => args.common.view.json,
            Self::Announce(args) => args.common.view.json,
            Self::Get(args) => args.common.view.json,
            Self::Put(args) => args.common.view.json,
            Self::Keygen(args) => args.json,
            Self::Sample(args) => args.common.view.json,
            Self::Ping(args) => args.common.view.json,
            Self::Stats(args) => args.common.view.json,
            Self::Advice(args) => args.json,
        }
    }
}

/// What all that use the network have in common.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Common {
    /// Begin with this node; may be given several times [default: public routers]
    #[arg(long, value_name = "HOST[:PORT]", value_parser = node)]
    pub(crate) bootstrap: Vec<HostPort>,
    /// Use this UDP port
    #[arg(short, long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Use only this address; may be given once per family
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Vec<IpAddr>,
    /// A private network: loopback and private addresses count, public routers are not asked
    #[arg(long)]
    pub(crate) local: bool,
    /// Keep known nodes in this folder, as rtorrent.dht_cache
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) session: Option<PathBuf>,
    /// Neither use nor keep known nodes
    #[arg(long, conflicts_with = "session")]
    pub(crate) no_session: bool,
    /// Read this configuration file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) view: View,
}

#[derive(Debug, Default, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct View {
    /// Say what the node does as well
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print one JSON object a line (see the manual page)
    #[arg(long, long_help = JSON_HELP)]
    pub(crate) json: bool,
}

/// For what ends by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Patience {
    /// Give up after this many seconds
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = units::parse_seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Node {
    /// Answer no queries: for batteries and shared addresses (BEP 43)
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Limit what is sent, per second (2MiB, 500k)
    #[arg(long, value_name = "BYTES", value_parser = units::parse_limit)]
    pub(crate) limit_up: Option<u64>,
    /// Stop after this many seconds [default: when interrupted]
    #[arg(long, value_name = "SECONDS", value_parser = units::parse_seconds)]
    pub(crate) timeout: Option<Duration>,
    /// How often to show the state [default: 1 on a terminal, else 60; 5 with --json]
    #[arg(long, value_name = "SECONDS", value_parser = units::parse_seconds)]
    pub(crate) interval: Option<Duration>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetPeers {
    /// An info-hash, magnet link or torrent file
    #[arg(value_name = "TORRENT", value_hint = ValueHint::FilePath)]
    pub(crate) torrent: String,
    /// Estimate seeds and leeches as well (BEP 33)
    #[arg(long)]
    pub(crate) scrape: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Announce {
    /// An info-hash, magnet link or torrent file
    #[arg(value_name = "TORRENT", value_hint = ValueHint::FilePath)]
    pub(crate) torrent: String,
    /// The TCP port on which the peer takes connections [default: the DHT's own, as others see it]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) peer_port: Option<u16>,
    /// The peer has everything (BEP 33)
    #[arg(long)]
    pub(crate) seed: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// What `put` printed: a target (40 hex digits) or a public key (64)
    #[arg(value_name = "TARGET|KEY", value_parser = wanted)]
    pub(crate) wanted: Wanted,
    /// Of the items of one key, this one
    #[arg(long, value_name = "TEXT", value_parser = salt, default_value = "", hide_default_value = true)]
    pub(crate) salt: Salt,
    /// Print the value as it is, without a line end
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// What to store, at most some 990 bytes
    #[arg(value_name = "VALUE")]
    pub(crate) value: String,
    /// The value is bencode already
    #[arg(long)]
    pub(crate) bencode: bool,
    /// Sign it with this key (see keygen): then it can be changed
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// Tells several items of one key apart
    #[arg(long, value_name = "TEXT", value_parser = salt, default_value = "", hide_default_value = true, requires = "key")]
    pub(crate) salt: Salt,
    /// Its version [default: one more than the one that is found]
    #[arg(long, value_name = "N", requires = "key", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) seq: Option<i64>,
    /// Replace this version only
    #[arg(long, value_name = "N", requires = "key", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) cas: Option<i64>,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Keygen {
    /// Write the secret key here, readable by you alone
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sample {
    /// The node
    #[arg(value_name = "HOST[:PORT]", value_parser = node)]
    pub(crate) node: HostPort,
    /// Ask for those near this id [default: any]
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(crate) target: Option<NodeId>,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ping {
    /// The node
    #[arg(value_name = "HOST[:PORT]", value_parser = node)]
    pub(crate) node: HostPort,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    /// Take part for as long as it takes to see the DHT, or until the time is up
    #[arg(long)]
    pub(crate) live: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Advice {
    /// The UDP port of the DHT [default: that of the configuration, or 6881]
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Read this configuration file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `get` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Immutable(NodeId),
    Mutable([u8; 32]),
}

/// At most 64 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) Vec<u8>);

/// A node of the DHT, or what is wrong with its name.
pub(crate) fn node(text: &str) -> Result<HostPort, String> {
    dht::parse_node(text)
        .map_err(|why| format!("{why} Write it like host:6881 or [2001:db8::1]:6881"))
}

/// Hexadecimal digits.
pub(crate) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn id(text: &str) -> Result<NodeId, String> {
    hex(text)
        .map(NodeId)
        .ok_or_else(|| "an id has 40 hexadecimal digits".into())
}

fn wanted(text: &str) -> Result<Wanted, String> {
    if let Some(key) = hex(text) {
        return Ok(Wanted::Mutable(key));
    }
    hex(text)
        .map(|target| Wanted::Immutable(NodeId(target)))
        .ok_or_else(|| "a target has 40 hexadecimal digits, a public key 64".into())
}

fn salt(text: &str) -> Result<Salt, String> {
    // BEP 44.
    const MAX_SALT: usize = 64;
    match text.len() <= MAX_SALT {
        true => Ok(Salt(text.into())),
        false => Err("a salt has at most 64 bytes".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_keys_and_ids_are_told_apart_by_their_length() {
        let target = "0123456789abcdefABCDEF0123456789abcdef01";
        assert!(matches!(
            wanted(target),
            Ok(Wanted::Immutable(NodeId([1, ..])))
        ));
        let key = "77".repeat(32);
        assert_eq!(wanted(&key), Ok(Wanted::Mutable([0x77; 32])));
        for bad in [
            "",
            "0",
            &target[1..],
            &key[2..],
            &"+1".repeat(20),
            &"é".repeat(20),
        ] {
            assert!(wanted(bad).is_err() && id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_salt_fits_into_a_message() {
        assert!(salt(&"x".repeat(64)).is_ok() && salt(&"x".repeat(65)).is_err());
    }
}
