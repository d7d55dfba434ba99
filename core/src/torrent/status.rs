//! Snapshots of the state for the application.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use crate::peer::crypto::StreamEncryption;
use crate::{InfoHash, OpError, TorrentId};

/// The state of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A magnet: the metadata is being fetched from peers.
    Metadata,
    /// The files are being opened.
    Opening,
    /// Pieces on disk are being hashed.
    Checking {
        /// The number of pieces hashed so far.
        done: u32,
        /// The number of pieces to hash.
        total: u32,
    },
    /// Downloading the wanted files.
    Downloading,
    /// Every wanted piece is verified; uploading.
    Seeding,
    /// Paused by the application.
    Paused,
    /// Stopped by this error. It retries after [`DISK_RETRY`](crate::engine::DISK_RETRY), unless something is in the way of a file
    /// ([`OpErrorKind::is_obstruction`](crate::OpErrorKind::is_obstruction)), its metadata is unusable, or it is paused.
    /// [`Command::Resume`](crate::engine::Command::Resume) retries at once.
    Failed(OpError),
    /// Shutting down.
    Stopping,
}

/// A snapshot of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TorrentStatus {
    /// Its id.
    pub id: TorrentId,
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// Its name for the user. For a magnet without `dn` it is the info-hash in hex.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Whether the metadata is known, and with it [`TorrentStatus::total`] and the numbers of pieces.
    pub has_metadata: bool,
    /// The total number of bytes.
    pub total: u64,
    /// The bytes of all pieces that contain wanted files: what has to be downloaded. It may be a little more than the files
    /// themselves.
    pub wanted: u64,
    /// The verified bytes, wanted or not.
    pub done: u64,
    /// The verified bytes of the wanted pieces.
    pub wanted_done: u64,
    /// The number of pieces.
    pub pieces: u32,
    /// The number of verified pieces.
    pub pieces_done: u32,
    /// The bytes of requested blocks that were received in this session, verified or not.
    pub downloaded: u64,
    /// Payload bytes sent in this session.
    pub uploaded: u64,
    /// Payload bytes received over all sessions.
    pub downloaded_ever: u64,
    /// Payload bytes sent over all sessions.
    pub uploaded_ever: u64,
    /// Payload bytes that were discarded: not requested, received twice, or of a piece that failed its check, including blocks
    /// of it from an earlier session. It may exceed [`TorrentStatus::downloaded`].
    pub wasted: u64,
    /// Payload bytes per second in.
    pub rate_down: u64,
    /// Payload bytes per second out.
    pub rate_up: u64,
    /// The number of connections that have completed their handshakes.
    pub peers: u32,
    /// The number of those peers that have every piece.
    pub seeds: u32,
    /// The number of connections that are being opened.
    pub connecting: u32,
    /// The number of known peer addresses.
    pub known: u32,
    /// The largest number of seeds that a tracker reported.
    pub swarm_seeds: Option<u32>,
    /// The largest number of leeches that a tracker reported.
    pub swarm_leeches: Option<u32>,
    /// The number of connected peers that have the rarest wanted piece.
    pub availability: u32,
}

impl TorrentStatus {
    /// A snapshot in which only these values are set. Tests without an engine fill in the rest.
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

/// A snapshot of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its address.
    pub addr: SocketAddr,
    /// The name of its client, from its extension handshake or peer id.
    pub client: String,
    /// Where its address came from.
    pub source: PeerSource,
    /// Whether it connected to us.
    pub incoming: bool,
    /// Which part of the stream is encrypted.
    pub encryption: StreamEncryption,
    /// Whether the handshakes are complete.
    pub established: bool,
    /// Whether we choke it.
    pub am_choking: bool,
    /// Whether we are interested in its pieces.
    pub am_interested: bool,
    /// Whether it chokes us.
    pub peer_choking: bool,
    /// Whether it is interested in our pieces.
    pub peer_interested: bool,
    /// Whether it has sent nothing for a minute although we requested blocks.
    pub snubbed: bool,
    /// The number of its pieces.
    pub pieces: u32,
    /// Payload bytes per second in.
    pub rate_down: u64,
    /// Payload bytes per second out.
    pub rate_up: u64,
    /// Payload bytes received.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// The number of our requests that it has not answered.
    pub requests: u32,
}

/// The source of a peer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerSource {
    /// A tracker.
    Tracker,
    /// Another peer (BEP 11).
    Pex,
    /// It connected to us.
    Incoming,
    /// The application or the magnet.
    Manual,
    /// The resume record.
    Resume,
    /// The DHT.
    Dht,
}

/// A snapshot of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStatus {
    /// Its length in bytes.
    pub len: u64,
    /// Its bytes in verified pieces.
    pub done: u64,
    /// Its priority.
    pub priority: FilePriority,
}

/// The priority of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilePriority {
    /// Not wanted.
    Skip,
    /// Downloaded after the others.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Downloaded before the others.
    High,
}

/// A snapshot of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStatus {
    /// The number of torrents.
    pub torrents: u32,
    /// The number of connections, including half-open ones.
    pub connections: u32,
    /// The number of outgoing connections that have not completed their handshakes.
    pub half_open: u32,
    /// The number of blocks that are in use.
    pub blocks_lent: u32,
    /// The number of ops in flight.
    pub jobs: u32,
    /// Payload bytes per second in.
    pub rate_down: u64,
    /// Payload bytes per second out.
    pub rate_up: u64,
    /// The addresses that accept connections.
    pub listening: Vec<SocketAddr>,
    /// Our external address, as peers, trackers or nodes reported it.
    pub external: Option<IpAddr>,
    /// The number of datagrams that belonged to no protocol or query.
    pub stray_datagrams: u64,
    /// The number of outcomes for ops that were not in flight. It stays 0 with a driver that keeps law 1.
    pub stray_outcomes: u64,
    /// The number of peers that were disconnected because they broke the protocol.
    pub hostile_peers: u64,
    /// The number of peers' mistakes that were tolerated, such as malformed extension messages and spare bits that are set.
    pub forgiven: u64,
    /// The number of peer addresses that were refused: they belong to this machine or its network, and came from a source
    /// outside of it.
    pub refused_addresses: u64,
    /// The number of notices that were dropped because nobody polled them.
    pub notices_lost: u64,
}
