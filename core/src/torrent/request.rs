//! What an application passes to the engine to add a torrent, and what a driver is told about a stream.

use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;

use super::status::FilePriority;
use crate::metainfo::{HostPort, Info};
use crate::sync::Arc;
use crate::{InfoHash, TorrentId};

/// What the engine is ready to do with a stream. A driver reads when the stream is readable and `read` is set, and writes when
/// it is writable and `write` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Readiness {
    /// The engine takes bytes: neither the block pool nor a rate limit stops it.
    pub read: bool,
    /// The engine has bytes to send.
    pub write: bool,
}

/// A torrent to add with [`Engine::add`](crate::engine::Engine::add).
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// What to download or seed.
    pub source: Source,
    /// The trackers in tiers (BEP 12). The caller passes those of the torrent file or magnet.
    pub trackers: Vec<Vec<String>>,
    /// Peers to connect to at once, such as those of a magnet's `x.pe`.
    pub peers: Vec<SocketAddr>,
    /// DHT nodes to contact, such as those of a torrent file's `nodes`. They are ignored if the torrent is private.
    pub nodes: Vec<HostPort>,
    /// The record of an earlier session, from [`Op::Save`](crate::Op::Save). If it is damaged or belongs to another torrent, a
    /// notice says so and the files are checked.
    pub resume: Option<Vec<u8>>,
    /// Whether to add it paused.
    pub paused: bool,
    /// Whether to request pieces in order.
    pub sequential: bool,
    /// The priority of each file. Files beyond the end of the list have normal priority.
    pub priorities: Vec<FilePriority>,
    /// Which pieces on disk to trust without a check.
    pub check: Check,
    /// What may be done with files that exist where the torrent's files belong.
    pub existing: Existing,
    /// The download limit of this torrent in bytes per second. `None` means unlimited.
    pub limit_down: Option<u64>,
    /// The upload limit of this torrent in bytes per second. `None` means unlimited.
    pub limit_up: Option<u64>,
}

impl AddTorrent {
    /// A torrent with its source and defaults for the other fields.
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

/// What is known of a torrent that is added.
#[derive(Clone, Debug)]
pub enum Source {
    /// The info dictionary is known.
    Info(Arc<Info>),
    /// Only its info-hash is known; the metadata is requested from peers (BEP 9).
    Hash {
        /// The info-hash.
        info_hash: InfoHash,
        /// A name to show until the metadata is known (`dn`).
        name: Option<String>,
    },
}

/// Which pieces on disk to trust when a torrent is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// The pieces of the resume record whose files still have their length and modification time. The others are hashed.
    #[default]
    Doubted,
    /// No piece: everything that exists is hashed.
    All,
    /// Every piece: the caller knows that the content is complete.
    Nothing,
}

/// What may be done with files that exist where a torrent's files belong.
///
/// A file belongs to the torrent if its record says so, or if it holds nothing that could be lost: every piece that covers it
/// passes its check or is all zeros, and the file is not too long. A piece that cannot be checked, because the file ends too
/// early or the file next to it is missing, is judged by the pieces that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Files that belong to this torrent, or hold nothing, are used. If there is any other file, nothing is written and the
    /// torrent fails with
    /// [`OpErrorKind::Exists`](crate::OpErrorKind::Exists) or another
    /// [obstruction](crate::OpErrorKind::is_obstruction), naming each;
    /// [`Command::Resume`](crate::engine::Command::Resume) checks again.
    #[default]
    Adopt,
    /// Files are overwritten and cut to their lengths, whatever they hold. This applies once, until the files are claimed.
    Overwrite,
    /// Nothing is written: pieces that exist are seeded, missing ones are not downloaded.
    ReadOnly,
}

/// Why a torrent was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddError {
    /// The torrent was added before.
    Duplicate(TorrentId),
    /// There are [`Config::max_torrents`](crate::Config::max_torrents) torrents.
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
