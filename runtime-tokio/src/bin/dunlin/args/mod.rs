//! The command line.

pub(crate) mod dht;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum, ValueHint};
use dunlin_tokio::{
    EncryptionPolicy, Proxy,
    dunlin_core::{
        BLOCK_LEN, DhtMode,
        metainfo::{HostPort, MAX_PIECE_LEN},
        wire::tracker::{Scheme, parse_url},
    },
    system::config::{Interface, values::Expected},
};

use crate::{exit, select::Selection, units};

/// Fetch and share files with BitTorrent.
#[derive(Debug, Parser)]
#[command(name = "dunlin", version, about = "Fetch and share files with BitTorrent", after_help = exit::HELP, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch torrents; the same command again goes on where it stopped
    #[command(after_help = exit::HELP)]
    Get(Get),
    /// Share what is here, until interrupted
    #[command(after_help = exit::HELP)]
    Seed(Seed),
    /// Make a torrent file
    #[command(after_help = exit::HELP)]
    Create(Create),
    /// Check files against their torrent
    #[command(after_help = exit::HELP)]
    Check(Check),
    /// Show what a torrent file or magnet link contains
    #[command(after_help = exit::HELP)]
    Show(Show),
    /// Ask the DHT, or be a part of it
    Dht(dht::Dht),
    /// See it work, without a network: make a torrent, share and fetch it on this machine
    #[command(after_help = exit::HELP)]
    Demo(Demo),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print every key of the configuration file with its default, and say where the file is
    #[command(after_help = exit::HELP)]
    Config(ShowConfig),
    /// Print the manual pages, or write each to a file of its own
    Man {
        /// Write dunlin.1, dunlin-get.1 and so on to this folder
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowConfig {
    /// Print the path of the configuration file only
    #[arg(long)]
    pub(crate) path: bool,
    /// Write the file with every key commented out, if there is none yet
    #[arg(long, conflicts_with = "path")]
    pub(crate) init: bool,
    /// Look at this configuration file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
}

impl Command {
    /// Whether all it does is to print something.
    pub(crate) const fn only_prints(&self) -> bool {
        matches!(self, Self::Check(_) | Self::Show(_) | Self::Dht(_))
    }

    /// Whether a program reads what it prints.
    pub(crate) const fn is_json(&self) -> bool {
        match self {
            Self::Get(get) => get.view.json,
            Self::Seed(seed) => seed.view.json,
            Self::Create(create) => create.json,
            Self::Check(check) => check.json,
            Self::Show(show) => show.json,
            Self::Dht(dht) => dht.command.is_json(),
            Self::Demo(_) | Self::Completions { .. } | Self::Config(_) | Self::Man { .. } => false,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Torrent files, magnet links, info-hashes, URLs of torrent files, or - for a torrent file on
    /// standard input
    #[arg(required = true, value_name = "TORRENT", value_hint = ValueHint::FilePath)]
    pub(crate) torrents: Vec<String>,
    /// The folder that holds the torrents' files or folders [default: where the session saved them
    /// before, else as configured, else the current one]
    // `-o` and `--output` are what older versions called it.
    #[arg(short, long, alias = "output", short_alias = 'o', value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// Fetch only these files: numbers as `show` counts them (1,3-5) and patterns (*.iso)
    #[arg(short, long, value_name = "FILES", value_parser = Selection::parse)]
    pub(crate) select: Vec<Selection>,
    /// Go on sharing until this many times the size is uploaded [default: stop when complete]
    #[arg(long, value_name = "RATIO", value_parser = units::parse_ratio)]
    pub(crate) seed_ratio: Option<f64>,
    /// Do so for this many seconds at most; without a ratio, for so long
    #[arg(long, value_name = "SECONDS", value_parser = units::parse_seconds)]
    pub(crate) seed_time: Option<Duration>,
    /// Fetch the pieces in order
    #[arg(long)]
    pub(crate) sequential: bool,
    /// Overwrite files that exist and hold something else, and cut them to their lengths
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = units::parse_seconds)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) swarm: Swarm,
    #[command(flatten)]
    pub(crate) view: View,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Seed {
    /// Torrent files, magnet links, info-hashes, URLs of torrent files, or - for a torrent file on
    /// standard input
    #[arg(required = true, value_name = "TORRENT", value_hint = ValueHint::FilePath)]
    pub(crate) torrents: Vec<String>,
    /// The folder that holds the torrents' files or folders [default: where the session saved them
    /// before, else as configured, else the current one]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// Stop when this many times the size is uploaded [default: when interrupted]
    #[arg(long, value_name = "RATIO", value_parser = units::parse_ratio)]
    pub(crate) seed_ratio: Option<f64>,
    /// Stop after this many seconds of sharing
    #[arg(long, value_name = "SECONDS", value_parser = units::parse_seconds)]
    pub(crate) seed_time: Option<Duration>,
    /// Believe that the files are complete, without checking them
    #[arg(long)]
    pub(crate) no_check: bool,
    #[command(flatten)]
    pub(crate) swarm: Swarm,
    #[command(flatten)]
    pub(crate) view: View,
}

/// What `get` and `seed` have in common. What is not given comes from the configuration file.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Swarm {
    /// Listen on this port [default: as configured, or the first free one of 6881-6889]
    #[arg(short, long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Use only this address or network interface; may be given once per family. Nothing leaves over
    /// a family that is not named, but names are looked up by the system, which cannot be bound
    #[arg(long, value_name = "ADDR|INTERFACE", value_parser = wanted::<Interface>)]
    pub(crate) bind: Vec<Interface>,
    /// Connect to this peer as well
    #[arg(long = "peer", value_name = "HOST:PORT", value_parser = peer)]
    pub(crate) peers: Vec<HostPort>,
    /// Use this tracker as well
    #[arg(long = "tracker", value_name = "URL", value_parser = tracker)]
    pub(crate) trackers: Vec<String>,
    /// Encryption of peer connections [default: as configured, or preferred]
    #[arg(long, value_name = "POLICY")]
    pub(crate) encryption: Option<Encryption>,
    /// Go through this SOCKS5 proxy, with everything: nothing is listened on, and UDP trackers
    /// are not asked
    #[arg(long, value_name = "socks5://[USER:PASSWORD@]HOST:PORT", value_parser = wanted::<Proxy>)]
    pub(crate) proxy: Option<Proxy>,
    /// Limit downloading, per second (2MiB, 500k)
    #[arg(long, value_name = "BYTES", value_parser = units::parse_limit)]
    pub(crate) limit_down: Option<u64>,
    /// Limit uploading, per second
    #[arg(long, value_name = "BYTES", value_parser = units::parse_limit)]
    pub(crate) limit_up: Option<u64>,
    /// Most connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_peers: Option<u32>,
    /// Do not tell peers of other peers, nor ask them
    #[arg(long)]
    pub(crate) no_pex: bool,
    /// The DHT: disable, off, auto (while a torrent runs) or on; it needs a session
    /// [default: auto]
    #[arg(long, value_name = "MODE", value_parser = dht_mode)]
    pub(crate) dht: Option<DhtMode>,
    /// Use this UDP port for the DHT [default: that of the peers]
    #[arg(long, alias = "dht_port", value_name = "PORT")]
    pub(crate) dht_port: Option<u16>,
    /// Begin with this node of the DHT as well
    #[arg(long = "dht-node", alias = "dht_add_node", value_name = "HOST[:PORT]", value_parser = dht::node)]
    pub(crate) dht_nodes: Vec<HostPort>,
    /// The DHT is that of a private network: its addresses count, public routers are not asked
    #[arg(long)]
    pub(crate) dht_local: bool,
    /// Do not listen for peers
    #[arg(long, conflicts_with = "port")]
    pub(crate) no_listen: bool,
    /// Remember nothing for the next time
    #[arg(long, conflicts_with = "session")]
    pub(crate) no_session: bool,
    /// Remember the state of torrents in this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) session: Option<PathBuf>,
    /// Read this configuration file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Default, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct View {
    /// Say what happens with every peer; twice: and what the program does
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with_all = ["verbose", "json"])]
    pub(crate) quiet: bool,
    /// Print one JSON object a line (see the manual page)
    #[arg(long, long_help = crate::json::HELP)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encryption {
    /// Plaintext only
    Off,
    /// Both; try plaintext first
    Allowed,
    /// Both; try an encrypted handshake first. All is encrypted where the peer requires it
    Preferred,
    /// All of every connection
    Required,
}

impl From<Encryption> for EncryptionPolicy {
    fn from(encryption: Encryption) -> Self {
        match encryption {
            Encryption::Off => Self::Off,
            Encryption::Allowed => Self::Allowed,
            Encryption::Preferred => Self::Preferred,
            Encryption::Required => Self::Required,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The file or folder to share. Symbolic links in a folder are followed if they stay inside of it;
    /// links that lead outside, pipes and devices are left out and named
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// Write the torrent here, - for standard output [default: the name with .torrent, in the
    /// current folder]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Replace the torrent file if it is there already
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Announce to this tracker; several are tried in this order
    #[arg(short, long = "tracker", value_name = "URL", value_parser = tracker)]
    pub(crate) trackers: Vec<String>,
    /// A web server that has the files, too (BEP 19): for other programs, as Dunlin does not fetch
    /// from web servers yet
    #[arg(short, long = "web-seed", value_name = "URL", value_parser = web_seed)]
    pub(crate) web_seeds: Vec<String>,
    /// Length of a piece, a power of two (256KiB, 1MiB) [default: fits the size]
    #[arg(long, value_name = "BYTES", value_parser = piece_size)]
    pub(crate) piece_size: Option<u32>,
    /// Peers may come from the trackers only (BEP 27)
    #[arg(long)]
    pub(crate) private: bool,
    /// Where it is made for: gives equal content another info-hash
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,
    /// Whatever you like to say
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// Call it this, in place of the name of the file or folder
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Leave the date out: equal content makes equal torrent files
    #[arg(long)]
    pub(crate) no_date: bool,
    /// Start every file at a piece (BEP 47)
    #[arg(long)]
    pub(crate) align: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl Create {
    /// Whether the torrent file goes to standard output.
    pub(crate) fn to_stdout(&self) -> bool {
        self.output.as_deref() == Some(Path::new("-"))
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The torrent file, or - for standard input
    #[arg(value_name = "TORRENT", value_hint = ValueHint::FilePath)]
    pub(crate) torrent: String,
    /// The folder that holds the torrent's file or folder
    #[arg(short, long, default_value = ".", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Read this configuration file: disk.names says how files are named
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Torrent files or magnet links, or - for a torrent file on standard input
    #[arg(required = true, value_name = "TORRENT", value_hint = ValueHint::FilePath)]
    pub(crate) torrents: Vec<String>,
    /// Print one JSON object for each
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// How much to share and fetch
    #[arg(long, default_value = "64MiB", value_name = "BYTES", value_parser = units::parse_size)]
    pub(crate) size: u64,
    /// Leave the files, and say where they are
    #[arg(long)]
    pub(crate) keep: bool,
    /// Say what happens with every peer
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Shortest pieces that are made: one block, of which every client is sure to be capable.
const MIN_PIECE_SIZE: u64 = BLOCK_LEN as u64;

fn piece_size(text: &str) -> Result<u32, String> {
    let size = units::parse_size(text)?;
    match u32::try_from(size) {
        Ok(size)
            if size.is_power_of_two()
                && (MIN_PIECE_SIZE..=MAX_PIECE_LEN.into()).contains(&size.into()) =>
        {
            Ok(size)
        }
        _ => Err(format!(
            "a piece has a power of two of bytes, from {} to {}",
            units::size(MIN_PIECE_SIZE),
            units::size(MAX_PIECE_LEN.into())
        )),
    }
}

/// A tracker that can be asked.
fn tracker(text: &str) -> Result<String, String> {
    match parse_url(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!(
            "{error}; write it like https://host/announce or udp://host:port"
        )),
    }
}

/// A peer: an address or a name, and a port.
fn peer(text: &str) -> Result<HostPort, String> {
    const FORM: &str = "write it like host:6881, 192.0.2.1:6881 or [2001:db8::1]:6881";
    let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(FORM.into());
    }
    let port = port.parse().ok().filter(|port| *port > 0).ok_or(FORM)?;
    HostPort::new(bare.unwrap_or(host), port).ok_or_else(|| FORM.into())
}

fn dht_mode(text: &str) -> Result<DhtMode, String> {
    text.parse()
        .map_err(|error| format!("{error} There are disable, off, auto and on"))
}

fn web_seed(text: &str) -> Result<String, String> {
    match parse_url(text) {
        Ok(url) if url.scheme != Scheme::Udp => Ok(text.into()),
        _ => Err("write it like https://host/folder/".into()),
    }
}

/// Reads a value with the parser of the configuration file.
fn wanted<T: FromStr<Err = Expected>>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|expected: Expected| format!("expected {}", expected.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_by_address_or_host() {
        for (text, host, port) in [
            ("192.0.2.1:6881", "192.0.2.1", 6881),
            ("[2001:db8::1]:1", "2001:db8::1", 1),
            ("seed.example:80", "seed.example", 80),
        ] {
            let peer = peer(text).unwrap();
            assert_eq!((peer.host.as_str(), peer.port), (host, port), "{text}");
        }
        for text in [
            "",
            "host",
            "host:",
            "host:0",
            "host:70000",
            "2001:db8::1",
            ":1",
        ] {
            assert!(peer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
