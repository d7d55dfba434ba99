//! Events and notices for the application.

use alloc::string::String;
use core::net::{IpAddr, SocketAddr};
use core::ops::{BitOr, BitOrAssign};

use crate::dht::{Cause, DhtEvent, DhtLog, Failure};
use crate::peer::crypto::StreamEncryption;
use crate::tracker::DHT_URL;
use crate::{OpErrorKind, TorrentId};

/// An event for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A torrent changed since the last such event. [`Engine::torrent`](crate::engine::Engine::torrent) returns its present
    /// state. At most one event per torrent is pending, however much happens.
    Changed {
        /// The torrent.
        torrent: TorrentId,
        /// What changed.
        what: Changes,
    },
    /// A torrent was removed: its files are closed and its id is invalid.
    Removed(TorrentId),
    /// A notice for the log. If too many are pending, the oldest are dropped and counted in
    /// [`EngineStatus::notices_lost`](crate::torrent::EngineStatus::notices_lost).
    Notice(Notice),
    /// A result of [`Command::Search`](crate::engine::Command::Search) or another command to the DHT.
    Dht(DhtEvent),
    /// The shutdown is complete. No event follows.
    Stopped,
}

impl Event {
    /// A warning that is not about a torrent.
    #[must_use]
    pub const fn warning(what: What) -> Self {
        Self::Notice(Notice {
            torrent: None,
            peer: None,
            level: Level::Warning,
            what,
        })
    }
}

/// A set of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes(u8);

impl Changes {
    /// The state: downloading, seeding, paused, an error, …
    pub const STATE: Self = Self(1);
    /// Pieces were verified or withdrawn.
    pub const PROGRESS: Self = Self(2);
    /// The metadata of a magnet is known.
    pub const METADATA: Self = Self(4);
    /// All wanted files are complete.
    pub const FINISHED: Self = Self(8);
    /// Peers connected or disconnected.
    pub const PEERS: Self = Self(16);
    /// A tracker answered or failed.
    pub const TRACKERS: Self = Self(32);

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing changed.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Changes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Changes {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Something that happened, for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The torrent that it is about, if any.
    pub torrent: Option<TorrentId>,
    /// The peer that it is about, if any.
    pub peer: Option<SocketAddr>,
    /// Its importance.
    pub level: Level,
    /// What happened.
    pub what: What,
}

/// The importance of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details about single peers.
    Detail,
    /// Normal operation.
    Info,
    /// Something failed, and Dunlin continues without it.
    Warning,
    /// A torrent, or the DHT, cannot continue.
    Error,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A connection is being opened.
    Connecting,
    /// The handshakes are complete.
    Connected {
        /// The name of the peer's client.
        client: String,
        /// Which part of the stream is encrypted.
        encryption: StreamEncryption,
        /// Whether the peer connected to us.
        incoming: bool,
    },
    /// The connection ended.
    Disconnected {
        /// The reason.
        reason: String,
    },
    /// A peer was banned because it sent data that failed the hash check.
    Banned,
    /// A piece failed its hash check.
    PieceFailed(u32),
    /// A tracker sent a warning or failed.
    Tracker {
        /// Its URL.
        url: String,
        /// The warning or the error.
        message: String,
    },
    /// Our external address, as others see it.
    ExternalAddress(IpAddr),
    /// A disk op failed, or a file is not as it should be.
    Disk {
        /// The file and the reason.
        message: String,
    },
    /// The metadata of a magnet has the right hash and cannot be used.
    UnusableMetadata {
        /// The reason.
        message: String,
    },
    /// The platform could not bind an address.
    Bind {
        /// The address and the reason.
        message: String,
    },
    /// The proxy cannot be reached, or refused a connection.
    Proxy {
        /// Its address and the reason.
        message: String,
    },
    /// The network interface that all traffic is bound to disappeared.
    InterfaceGone {
        /// Its name.
        name: String,
    },
    /// The network interface exists again.
    InterfaceBack {
        /// Its name.
        name: String,
    },
    /// Files differ from the resume record, and are checked again.
    Rechecking {
        /// The number of pieces to hash.
        pieces: u32,
    },
    /// The metadata of a magnet was received.
    Metadata,
    /// All wanted files are complete.
    Finished,
    /// A line of the DHT's log, in the terms of rTorrent's page "Using DHT".
    Dht(DhtLog),
    /// The DHT could not be started, and was switched off.
    DhtError {
        /// The error for the user.
        message: String,
        /// The kind of the error.
        cause: OpErrorKind,
    },
    /// A torrent's DHT search failed.
    DhtFailed {
        /// How it failed.
        failure: Failure,
        /// The likely cause.
        cause: Cause,
    },
    /// The DHT is off because there is no session folder to keep its nodes.
    DhtNeedsSession,
    /// A torrent has neither trackers nor the DHT to find peers.
    NoTrackers,
}

impl core::fmt::Display for What {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Connected {
                client,
                encryption,
                incoming,
            } => {
                let way = if *incoming { "from" } else { "to" };
                write!(f, "connected {way} {client}, {encryption}")
            }
            Self::Disconnected { reason } => write!(f, "disconnected: {reason}"),
            Self::Banned => f.write_str("banned: it sent data that failed the hash check"),
            Self::PieceFailed(piece) => {
                write!(f, "piece {piece} failed its hash check; fetching it again")
            }
            Self::Tracker { url, message } => write!(f, "tracker {url}: {message}"),
            Self::ExternalAddress(ip) => write!(f, "others see us as {ip}"),
            Self::Disk { message } => write!(f, "disk: {message}"),
            Self::UnusableMetadata { message } => {
                write!(f, "the metadata of this magnet is not usable: {message}")
            }
            Self::Bind { message } => write!(f, "cannot listen: {message}"),
            Self::Proxy { message } => write!(
                f,
                "proxy {message}; it is tried again, and nothing goes around it"
            ),
            Self::InterfaceGone { name } => {
                write!(
                    f,
                    "interface {name} is gone: nothing is sent until it is back"
                )
            }
            Self::InterfaceBack { name } => write!(f, "interface {name} is back"),
            Self::Rechecking { pieces } => {
                write!(
                    f,
                    "files differ from the resume record; checking {pieces} pieces"
                )
            }
            Self::Metadata => f.write_str("metadata received"),
            Self::Finished => f.write_str("complete"),
            Self::Dht(log) => write!(f, "{log}"),
            Self::DhtError { message, .. } => write!(f, "DHT error: {message}"),
            Self::DhtFailed { failure, .. } => write!(f, "tracker {DHT_URL}: {failure}"),
            Self::DhtNeedsSession => {
                f.write_str("there is no DHT without a session folder to keep its table in")
            }
            Self::NoTrackers => f.write_str("Could not find any trackers"),
        }
    }
}
