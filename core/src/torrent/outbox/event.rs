//! What an application learns from an engine without asking.

use alloc::string::String;
use core::net::{IpAddr, SocketAddr};
use core::ops::{BitOr, BitOrAssign};

use crate::dht::{Cause, DhtEvent, DhtLog, Failure};
use crate::peer::crypto::StreamEncryption;
use crate::tracker::DHT_URL;
use crate::{OpErrorKind, TorrentId};

/// Something the application may want to react to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Something about a torrent changed since this was last said; ask
    /// [`Engine::torrent`](crate::engine::Engine::torrent) for the present state. One pending event per
    /// torrent at most, however much happens.
    Changed {
        /// Which.
        torrent: TorrentId,
        /// What.
        what: Changes,
    },
    /// A torrent is gone: its files are closed and its id is dead.
    Removed(TorrentId),
    /// A sentence for the log. Bounded: the oldest make way, and are counted in
    /// [`EngineStatus::notices_lost`](crate::torrent::EngineStatus::notices_lost).
    Notice(Notice),
    /// What the DHT answers to [`Command::Search`](crate::engine::Command::Search) and the like.
    Dht(DhtEvent),
    /// Shutting down has ended; nothing more will come.
    Stopped,
}

impl Event {
    /// A warning that concerns no torrent in particular: something did not work, and all goes on.
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

/// A set of things that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes(u8);

impl Changes {
    /// The state: downloading, seeding, paused, an error, …
    pub const STATE: Self = Self(1);
    /// Pieces were verified or lost.
    pub const PROGRESS: Self = Self(2);
    /// The metadata of a magnet arrived.
    pub const METADATA: Self = Self(4);
    /// All wanted files are complete.
    pub const FINISHED: Self = Self(8);
    /// Peers came or went.
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

/// One thing that happened, for people and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The torrent it is about, if one.
    pub torrent: Option<TorrentId>,
    /// The peer it is about, if one.
    pub peer: Option<SocketAddr>,
    /// How important.
    pub level: Level,
    /// What.
    pub what: What,
}

/// How important a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only of interest to somebody who asks what happens per peer.
    Detail,
    /// The ordinary course of things.
    Info,
    /// Something did not work; Dunlin carries on.
    Warning,
    /// A torrent cannot go on.
    Error,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// An outgoing attempt began.
    Connecting,
    /// The handshakes are through.
    Connected {
        /// What the peer calls itself.
        client: String,
        /// How much of the stream is encrypted.
        encryption: StreamEncryption,
        /// Whether they came to us.
        incoming: bool,
    },
    /// The connection ended.
    Disconnected {
        /// Why, in words.
        reason: String,
    },
    /// A peer sent bytes that failed the hash check, and is refused from now on.
    Banned,
    /// A piece failed its hash check.
    PieceFailed(u32),
    /// A tracker said something or failed.
    Tracker {
        /// Its URL.
        url: String,
        /// In words.
        message: String,
    },
    /// Others see us under this address.
    ExternalAddress(IpAddr),
    /// A disk op failed.
    Disk {
        /// File and reason.
        message: String,
    },
    /// The platform could not bind an address.
    Bind {
        /// Address and reason.
        message: String,
    },
    /// The proxy cannot be reached, or refuses to work for us.
    Proxy {
        /// Its address, and why.
        message: String,
    },
    /// The interface that traffic is bound to is gone.
    InterfaceGone {
        /// Its name.
        name: String,
    },
    /// It is back.
    InterfaceBack {
        /// Its name.
        name: String,
    },
    /// Files are not as the resume record says, and are checked again.
    Rechecking {
        /// Pieces that are doubted.
        pieces: u32,
    },
    /// The metadata of a magnet is here.
    Metadata,
    /// All wanted files are complete.
    Finished,
    /// The DHT's log, in the words of rTorrent's page "Using DHT".
    Dht(DhtLog),
    /// The DHT could not be started, and is off now.
    DhtError {
        /// In words.
        message: String,
        /// What a program can act on.
        cause: OpErrorKind,
    },
    /// A torrent's search of the DHT came to nothing.
    DhtFailed {
        /// How.
        failure: Failure,
        /// Why, as far as is known.
        cause: Cause,
    },
    /// There is no DHT, as nothing is kept between sessions.
    DhtNeedsSession,
    /// A torrent has neither trackers nor the DHT.
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
