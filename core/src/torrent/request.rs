//! What an application hands an engine, and what a driver is told of a stream.

use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;

use super::status::FilePriority;
use crate::metainfo::{HostPort, Info};
use crate::sync::Arc;
use crate::{InfoHash, TorrentId};

/// What a stream waits for. A driver reads when it can and `read` is set, and writes when it can and `write` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Readiness {
    /// The engine would take bytes (not paused by the pool or a rate limit).
    pub read: bool,
    /// The engine has bytes to send.
    pub write: bool,
}

/// What [`Engine::add`](crate::engine::Engine::add) is given.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// What to fetch or seed.
    pub source: Source,
    /// Trackers in tiers (BEP 12), in addition to nothing: the caller passes those of the torrent file or magnet.
    pub trackers: Vec<Vec<String>>,
    /// Peers to try at once (a magnet's `x.pe`, an application's own knowledge).
    pub peers: Vec<SocketAddr>,
    /// DHT nodes to begin with (a torrent file's `nodes`); not used for private torrents.
    pub nodes: Vec<HostPort>,
    /// The record of an earlier session, from [`Op::Save`](crate::Op::Save); damaged or foreign ones are refused by a notice and the files are checked.
    pub resume: Option<Vec<u8>>,
    /// Add at rest.
    pub paused: bool,
    /// Fetch pieces in order.
    pub sequential: bool,
    /// How much each file is wanted; shorter lists leave the rest normal.
    pub priorities: Vec<FilePriority>,
    /// Which pieces already on disk to trust.
    pub check: Check,
    /// What may become of files that exist where the torrent's files belong.
    pub existing: Existing,
    /// Bytes per second in, for this torrent.
    pub limit_down: Option<u64>,
    /// Bytes per second out, for this torrent.
    pub limit_up: Option<u64>,
}

impl AddTorrent {
    /// A torrent with nothing but its source; set the other fields as needed.
    #[must_use]
    pub const fn new(source: Source) -> Self {
        Self {
            source,
            trackers: Vec::new(),
            peers: Vec::new(),
            nodes: Vec::new(),
            resume: None,
            paused: false,
            sequential: false,
            priorities: Vec::new(),
            check: Check::Doubted,
            existing: Existing::Adopt,
            limit_down: None,
            limit_up: None,
        }
    }
}

/// Where a torrent's content is described.
#[derive(Clone, Debug)]
pub enum Source {
    /// The info dictionary is known.
    Info(Arc<Info>),
    /// Only its hash is; peers are asked for the rest (BEP 9).
    Hash {
        /// The hash.
        info_hash: InfoHash,
        /// A name to show meanwhile (`dn`).
        name: Option<String>,
    },
}

/// Which pieces on disk to trust when a torrent is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Those of the resume record whose files still have their size and time; hash the others.
    #[default]
    Doubted,
    /// None: hash everything that exists.
    All,
    /// All: the caller knows that the content is complete.
    Nothing,
}

/// What may become of files that exist where a torrent's files belong.
///
/// A file is known to be the torrent's if its record vouches for it, or if nothing that it holds can be lost: the pieces that
/// cover it pass their check, where they do not it holds zeros, and it is not too long. What cannot be checked, because
/// the file ends too early or a neighbour is missing, goes with what passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Those that are this torrent's, or hold nothing, are taken over. If there is any other,
    /// nothing is written and the torrent fails with
    /// [`OpErrorKind::Exists`](crate::OpErrorKind::Exists) or another
    /// [obstruction](crate::OpErrorKind::is_obstruction), naming each;
    /// [`Command::Resume`](crate::engine::Command::Resume) looks again.
    #[default]
    Adopt,
    /// They are overwritten, and cut to their lengths, whatever they hold. This holds until the
    /// files are claimed, once.
    Overwrite,
    /// Nothing is written at all: what is here is shared, what is missing is not fetched.
    ReadOnly,
}

/// Why a torrent was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddError {
    /// It is here already.
    Duplicate(TorrentId),
    /// [`Config::max_torrents`](crate::Config::max_torrents) are here already.
    Full,
    /// The engine is shutting down.
    Stopping,
}

impl core::fmt::Display for AddError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Duplicate(_) => f.write_str("this torrent has been added already"),
            Self::Full => f.write_str("the configured number of torrents is reached"),
            Self::Stopping => f.write_str("the engine is shutting down"),
        }
    }
}

impl core::error::Error for AddError {}

/// What a rate limit applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All traffic.
    Global,
    /// One torrent.
    Torrent(TorrentId),
}
