//! Snapshots: what an application sees when it asks.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use crate::peer::crypto::StreamEncryption;
use crate::{InfoHash, OpError, TorrentId};

/// What a torrent is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A magnet: the metadata is being fetched from peers.
    Metadata,
    /// The files are being looked at.
    Opening,
    /// Pieces on disk are being hashed.
    Checking {
        /// Pieces done.
        done: u32,
        /// Pieces to do.
        total: u32,
    },
    /// Fetching what is wanted.
    Downloading,
    /// All that is wanted is here; uploading.
    Seeding,
    /// At rest, at the application's wish.
    Paused,
    /// At rest, because of this. [`Command::Resume`](crate::engine::Command::Resume) tries again.
    Failed(OpError),
    /// Closing.
    Stopping,
}

/// One torrent, now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TorrentStatus {
    /// Its id.
    pub id: TorrentId,
    /// Its name on the network.
    pub info_hash: InfoHash,
    /// Its name for people; for a magnet without `dn`, the info-hash in hex.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Whether [`TorrentStatus::total`] and what follows from it are known.
    pub has_metadata: bool,
    /// Bytes in all.
    pub total: u64,
    /// Bytes of the pieces that hold the wanted files: what has to be fetched, so it may be a
    /// little more than the files themselves.
    pub wanted: u64,
    /// Bytes verified, wanted or not.
    pub done: u64,
    /// Bytes verified of the wanted ones.
    pub wanted_done: u64,
    /// Pieces in all.
    pub pieces: u32,
    /// Pieces verified.
    pub pieces_done: u32,
    /// Payload bytes received in this session, whatever became of them.
    pub downloaded: u64,
    /// Payload bytes sent in this session.
    pub uploaded: u64,
    /// Payload bytes received over all sessions.
    pub downloaded_ever: u64,
    /// Payload bytes sent over all sessions.
    pub uploaded_ever: u64,
    /// Bytes that failed a hash check or came twice.
    pub wasted: u64,
    /// Payload bytes per second in.
    pub rate_down: u64,
    /// Payload bytes per second out.
    pub rate_up: u64,
    /// Connections whose handshakes are through.
    pub peers: u32,
    /// Those of them that have everything.
    pub seeds: u32,
    /// Attempts under way.
    pub connecting: u32,
    /// Addresses known.
    pub known: u32,
    /// Seeds a tracker told of; the largest number.
    pub swarm_seeds: Option<u32>,
    /// Leeches a tracker told of; the largest number.
    pub swarm_leeches: Option<u32>,
    /// Copies of the rarest wanted piece among the connected peers.
    pub availability: u32,
}

impl TorrentStatus {
    /// A torrent of which nothing is known yet, to fill in where one is needed without an engine, as in tests.
    #[must_use]
    pub const fn new(id: TorrentId, info_hash: InfoHash, name: String) -> Self {
        Self {
            id,
            info_hash,
            name,
            state: State::Metadata,
            has_metadata: false,
            total: 0,
            wanted: 0,
            done: 0,
            wanted_done: 0,
            pieces: 0,
            pieces_done: 0,
            downloaded: 0,
            uploaded: 0,
            downloaded_ever: 0,
            uploaded_ever: 0,
            wasted: 0,
            rate_down: 0,
            rate_up: 0,
            peers: 0,
            seeds: 0,
            connecting: 0,
            known: 0,
            swarm_seeds: None,
            swarm_leeches: None,
            availability: 0,
        }
    }
}

/// One connection, now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its address.
    pub addr: SocketAddr,
    /// What it calls itself.
    pub client: String,
    /// Where its address came from.
    pub source: PeerSource,
    /// They came to us.
    pub incoming: bool,
    /// How much of the stream is encrypted.
    pub encryption: StreamEncryption,
    /// Handshakes are through.
    pub established: bool,
    /// We do not serve it.
    pub am_choking: bool,
    /// We want something it has.
    pub am_interested: bool,
    /// It does not serve us.
    pub peer_choking: bool,
    /// It wants something we have.
    pub peer_interested: bool,
    /// It owes us blocks and has sent nothing for a minute.
    pub snubbed: bool,
    /// Pieces it has.
    pub pieces: u32,
    /// Payload bytes per second in.
    pub rate_down: u64,
    /// Payload bytes per second out.
    pub rate_up: u64,
    /// Payload bytes in.
    pub downloaded: u64,
    /// Payload bytes out.
    pub uploaded: u64,
    /// Requests it owes us.
    pub requests: u32,
}

/// Where an address came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerSource {
    /// A tracker.
    Tracker,
    /// Another peer (BEP 11).
    Pex,
    /// They came to us.
    Incoming,
    /// The application or the magnet named it.
    Manual,
    /// The resume record.
    Resume,
    /// The DHT.
    Dht,
}

/// One file, now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStatus {
    /// Bytes.
    pub len: u64,
    /// Bytes in verified pieces.
    pub done: u64,
    /// How much it is wanted.
    pub priority: FilePriority,
}

/// How much a file is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilePriority {
    /// Not at all.
    Skip,
    /// After the others.
    Low,
    /// Like the others.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// The engine, now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStatus {
    /// Torrents.
    pub torrents: u32,
    /// Connections, half-open ones included.
    pub connections: u32,
    /// Attempts under way.
    pub half_open: u32,
    /// Blocks on loan.
    pub blocks_lent: u32,
    /// Ops in flight.
    pub jobs: u32,
    /// Payload bytes per second in.
    pub rate_down: u64,
    /// Payload bytes per second out.
    pub rate_up: u64,
    /// Addresses that are listened on.
    pub listening: Vec<SocketAddr>,
    /// How others see us.
    pub external: Option<IpAddr>,
    /// Datagrams that no machine wanted.
    pub stray_datagrams: u64,
    /// Outcomes for ops that were not in flight: a driver that keeps law 1 has none.
    pub stray_outcomes: u64,
    /// Peers that were closed for breaking the protocol.
    pub hostile_peers: u64,
    /// Mistakes of peers that were passed over: junk in extensions, spare bits set.
    pub forgiven: u64,
    /// Addresses of peers that were not believed: they lie within this machine or its network,
    /// and somebody farther away named them.
    pub refused_addresses: u64,
    /// Notices that made way because nobody fetched them.
    pub notices_lost: u64,
}
