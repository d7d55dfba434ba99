//! Clients in the lab: one room each, and what they have in common.

mod aria2;
pub mod dunlin;
pub mod libtorrent;
pub mod mio;
mod qbittorrent;
pub mod rtorrent;
pub mod transmission;
mod webtorrent;

use std::env;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::lab::{Lab, Proc};
use crate::payload::Torrent;

/// A client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The command under test.
    Dunlin,
    /// The example of the blocking driver.
    DunlinMio,
    /// rTorrent, driven over SCGI.
    Rtorrent,
    /// transmission-daemon, driven over its RPC.
    Transmission,
    /// Debian's python3-libtorrent, in a small script.
    Libtorrent,
    /// aria2; as a downloader it ends once it is complete.
    Aria2,
    /// qBittorrent without a window.
    Qbittorrent,
    /// webtorrent, in a small script, over TCP alone.
    Webtorrent,
}

/// Encryption (MSE/PE) a client is told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crypto {
    /// Plain streams alone.
    Off,
    /// Encrypted handshakes first, everything accepted.
    Preferred,
    /// RC4 or nothing, both ways.
    Required,
}

impl Crypto {
    /// The value of the option `--encryption` of our own programs, and of the script for libtorrent.
    pub fn option(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Preferred => "preferred",
            Self::Required => "required",
        }
    }
}

/// Which end of a transfer a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its folder holds the payload.
    Seed,
    /// Its folder is empty.
    Download,
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where it listens; an address of its own.
    pub listen: SocketAddr,
    /// Encryption.
    pub crypto: Crypto,
    /// What it does; most clients find out by themselves.
    pub role: Role,
    /// What to add.
    pub source: Source,
    /// Its download folder; for a seed, the one that holds the payload.
    pub dir: PathBuf,
    /// A file that daemons create when the download is complete, for measurements.
    pub marker: Option<PathBuf>,
    /// Nodes to begin with, if it takes part in the DHT; its node has the port it listens on.
    pub dht: Option<Vec<SocketAddr>>,
}

/// How a client learns of the torrent.
#[derive(Clone, Debug)]
pub enum Source {
    /// From the torrent file.
    File(Torrent),
    /// From a magnet link alone.
    Magnet(Torrent),
}

impl Source {
    /// The torrent itself.
    pub fn torrent(&self) -> &Torrent {
        match self {
            Self::File(torrent) | Self::Magnet(torrent) => torrent,
        }
    }

    /// Path or link, as one gives it to a command.
    pub fn argument(&self) -> String {
        match self {
            Self::File(torrent) => torrent.path.to_string_lossy().into_owned(),
            Self::Magnet(torrent) => torrent.magnet(),
        }
    }
}

/// A running client.
pub trait Peer: Debug {
    /// Whether it has, and has verified, everything.
    fn complete(&mut self, lab: &Lab) -> bool;
    /// Its process.
    fn process(&mut self) -> &mut Proc;
    /// Its process, for callers that need nothing else of it.
    fn into_process(self: Box<Self>) -> Proc;
}

impl Client {
    /// Starts it on a job. A seed is a client whose folder already holds the payload.
    pub fn start(self, lab: &Lab, job: &Job) -> Box<dyn Peer> {
        match self {
            Self::Dunlin => Box::new(dunlin::Dunlin::start(lab, job)),
            Self::DunlinMio => Box::new(mio::Mio::start(lab, job)),
            Self::Rtorrent => Box::new(rtorrent::Rtorrent::start(lab, job)),
            Self::Transmission => Box::new(transmission::Transmission::start(lab, job)),
            Self::Libtorrent => Box::new(libtorrent::Libtorrent::start(lab, job)),
            Self::Aria2 => Box::new(aria2::Aria2::start(lab, job)),
            Self::Qbittorrent => Box::new(qbittorrent::Qbittorrent::start(lab, job)),
            Self::Webtorrent => Box::new(webtorrent::Webtorrent::start(lab, job)),
        }
    }

    /// Whether it leaves empty files out.
    pub fn omits_empty_files(self) -> bool {
        matches!(self, Self::Transmission | Self::Aria2)
    }
}

/// A program of ours: what the environment `names`, else `path` in the target folder that this
/// program lies in.
pub(crate) fn built(names: &str, path: &str) -> Option<PathBuf> {
    let beside = || {
        let own = env::current_exe().expect("this program");
        own.ancestors()
            .map(|dir| dir.join(path))
            .find(|path| path.exists())
    };
    env::var_os(names).map(PathBuf::from).or_else(beside)
}
