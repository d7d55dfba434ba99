//! Commands: what an application may change, as values that travel well.
//!
//! Every front end (a session of the async driver, a handle of the blocking one, an RPC) gives the
//! same [`Command`]s and gets the same [`Reply`] or [`CommandError`]. What only looks, such as
//! [`Engine::torrent`], is not a command: it changes nothing and cannot fail.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{fmt, net::SocketAddr};

use super::Engine;
use super::dht::{DhtNodeError, ThrottleInUse};
use super::request::{AddError, AddTorrent, Scope};
use super::status::FilePriority;
use crate::dht::{Full, Goal, LookupId, PingId};
use crate::{DhtMode, Instant, NodeId, TorrentId};

/// Something to be changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// Add a torrent; answered by [`Reply::Added`].
    Add(Box<AddTorrent>),
    /// Put a torrent to rest: peers are let go, trackers hear `stopped`.
    Pause(TorrentId),
    /// Wake a torrent, also out of [`State::Failed`](super::State::Failed).
    Resume(TorrentId),
    /// Hash everything of a torrent that is on disk anew.
    Recheck(TorrentId),
    /// Take a torrent out: trackers hear `stopped`, its files are closed;
    /// [`Event::Removed`](super::Event::Removed) follows.
    Remove {
        /// Which.
        torrent: TorrentId,
        /// Delete what was downloaded as well.
        delete: bool,
    },
    /// Say how much each file of a torrent is wanted.
    SetPriorities {
        /// Which.
        torrent: TorrentId,
        /// One a file; a list that is too short leaves the rest normal.
        priorities: Vec<FilePriority>,
    },
    /// Fetch the pieces of a torrent in order, or the rarest first.
    SetSequential {
        /// Which.
        torrent: TorrentId,
        /// In order.
        on: bool,
    },
    /// Want a piece by a time (streaming). Holds also for a torrent whose files are not known yet.
    SetDeadline {
        /// Which torrent.
        torrent: TorrentId,
        /// Which piece of it.
        piece: u32,
        /// By when; `None` takes the deadline back.
        by: Option<Instant>,
    },
    /// Limit rates.
    SetLimits {
        /// Of what.
        scope: Scope,
        /// Bytes per second in; `None` is unlimited, `Some(0)` stops.
        down: Option<u64>,
        /// The same out.
        up: Option<u64>,
    },
    /// Tell a torrent of peers.
    AddPeers {
        /// Which.
        torrent: TorrentId,
        /// Where they listen.
        peers: Vec<SocketAddr>,
    },
    /// Add trackers to a torrent, as far as it has room for them.
    AddTrackers {
        /// Which.
        torrent: TorrentId,
        /// A tier each.
        urls: Vec<String>,
    },
    /// Switch a tracker on or off; one that is switched off hears that we stop.
    SetTrackerEnabled {
        /// Of which torrent.
        torrent: TorrentId,
        /// The tracker's URL; `dht://` is the DHT.
        url: String,
        /// On.
        enabled: bool,
    },
    /// Ask the trackers of a torrent for peers now, as far as their minimum interval allows.
    Reannounce(TorrentId),
    /// Ask the trackers of a torrent how large the swarm is (BEP 48), as far as they allow.
    Scrape(TorrentId),
    /// Save the resume record of every torrent that changed, and the DHT's table.
    SaveAll,
    /// End: [`Event::Stopped`](super::Event::Stopped) follows.
    Shutdown,
    /// Change the DHT's mode; see [`Engine::set_dht`].
    SetDht(DhtMode),
    /// Change the DHT's UDP port for its next start; see
    /// [`Config::dht_port`](crate::Config::dht_port).
    SetDhtPort(Option<u16>),
    /// Name and set the DHT's own limit, in bytes per second out.
    SetDhtLimit {
        /// The name, as statistics show it.
        name: String,
        /// `None` is unlimited.
        up: Option<u64>,
    },
    /// Start the DHT's node in mode `auto`, as a torrent would.
    UseDht,
    /// Tell the DHT of a node; see [`Engine::dht_add_node`].
    AddDhtNode(String),
    /// Search the DHT; answered by [`Reply::Lookup`], and by [`Event::Dht`](super::Event::Dht) as
    /// something is found.
    Search(Goal),
    /// End a search without a word.
    CancelSearch(LookupId),
    /// Ask a DHT node for a sign of life; answered by [`Reply::Ping`], and later by
    /// [`Event::Dht`](super::Event::Dht).
    Ping(SocketAddr),
    /// Ask a DHT node which info-hashes it knows (BEP 51); [`Event::Dht`](super::Event::Dht) tells
    /// them.
    Sample {
        /// The node.
        addr: SocketAddr,
        /// Near which id.
        target: NodeId,
    },
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// It was done.
    Done,
    /// The torrent was added under this id.
    Added(TorrentId),
    /// The search that began.
    Lookup(LookupId),
    /// The query that was sent.
    Ping(PingId),
}

/// Why a command was not carried out. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The torrent was not added.
    Add(AddError),
    /// There is no torrent of this id.
    NoTorrent(TorrentId),
    /// The torrent has no such tracker.
    NoTracker,
    /// There is no DHT: it is disabled, or nothing is kept between sessions.
    NoDht,
    /// The DHT's node does not run.
    DhtNotRunning,
    /// Too many of the DHT's queries or searches are under way.
    DhtBusy,
    /// The DHT was not told of a node.
    DhtNode(DhtNodeError),
    /// The DHT's limit is not changed while the node runs.
    DhtLimit(ThrottleInUse),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(error) => error.fmt(f),
            Self::NoTorrent(_) => f.write_str("there is no such torrent"),
            Self::NoTracker => f.write_str("the torrent has no such tracker"),
            Self::NoDht => f.write_str("there is no DHT"),
            Self::DhtNotRunning => f.write_str("the DHT does not run"),
            Self::DhtBusy => f.write_str("too many queries of the DHT are under way"),
            Self::DhtNode(error) => error.fmt(f),
            Self::DhtLimit(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CommandError {}

impl From<AddError> for CommandError {
    fn from(error: AddError) -> Self {
        Self::Add(error)
    }
}

impl From<Full> for CommandError {
    fn from(_: Full) -> Self {
        Self::DhtBusy
    }
}

impl From<DhtNodeError> for CommandError {
    fn from(error: DhtNodeError) -> Self {
        match error {
            DhtNodeError::NotEnabled => Self::NoDht,
            error => Self::DhtNode(error),
        }
    }
}

impl From<ThrottleInUse> for CommandError {
    fn from(error: ThrottleInUse) -> Self {
        Self::DhtLimit(error)
    }
}

impl Engine {
    /// Carries out a command.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn command(&mut self, now: Instant, command: Command) -> Result<Reply, CommandError> {
        let known = |torrent: TorrentId, exists: bool| match exists {
            true => Ok(Reply::Done),
            false => Err(CommandError::NoTorrent(torrent)),
        };
        match command {
            Command::Add(torrent) => return Ok(Reply::Added(self.add(now, *torrent)?)),
            Command::Pause(id) => return known(id, self.pause(now, id)),
            Command::Resume(id) => return known(id, self.resume(now, id)),
            Command::Recheck(id) => return known(id, self.recheck(now, id)),
            Command::Remove {
                torrent: id,
                delete,
            } => return known(id, self.remove(now, id, delete)),
            Command::SetPriorities {
                torrent: id,
                priorities,
            } => return known(id, self.set_priorities(now, id, &priorities)),
            Command::SetSequential { torrent: id, on } => {
                return known(id, self.set_sequential(now, id, on));
            }
            Command::SetDeadline {
                torrent: id,
                piece,
                by,
            } => return known(id, self.set_deadline(now, id, piece, by)),
            Command::SetLimits { scope, down, up } => {
                let exists = self.set_limits(now, scope, down, up);
                if let Scope::Torrent(id) = scope {
                    return known(id, exists);
                }
            }
            Command::AddPeers { torrent: id, peers } => {
                return known(id, self.add_peers(now, id, &peers));
            }
            Command::AddTrackers { torrent: id, urls } => {
                return known(id, self.add_trackers(now, id, &urls));
            }
            Command::SetTrackerEnabled {
                torrent: id,
                url,
                enabled,
            } => self.switch_tracker(now, id, &url, enabled)?,
            Command::Reannounce(id) => return known(id, self.reannounce(now, id)),
            Command::Scrape(id) => return known(id, self.scrape(now, id)),
            Command::SaveAll => self.save_all(now),
            Command::Shutdown => self.shutdown(now),
            Command::SetDht(mode) => {
                if self.dht.is_none() && mode != DhtMode::Disable {
                    return Err(CommandError::NoDht);
                }
                self.set_dht(now, mode);
            }
            Command::SetDhtPort(port) => self.set_dht_port(now, port),
            Command::SetDhtLimit { name, up } => self.set_dht_throttle(now, &name, up)?,
            Command::UseDht => {
                if !self.dht_want(now) {
                    return Err(self.dht_absence());
                }
            }
            Command::AddDhtNode(node) => self.dht_add_node(now, &node)?,
            Command::Search(goal) => {
                self.dht_running()?;
                return Ok(Reply::Lookup(self.dht_search(now, goal)?));
            }
            Command::CancelSearch(lookup) => self.dht_cancel(now, lookup),
            Command::Ping(addr) => {
                self.dht_running()?;
                return Ok(Reply::Ping(self.dht_ping(now, addr)?));
            }
            Command::Sample { addr, target } => {
                self.dht_running()?;
                self.dht_sample(now, addr, target)?;
            }
        }
        Ok(Reply::Done)
    }

    fn dht_running(&self) -> Result<(), CommandError> {
        match self.dht_is_active() {
            true => Ok(()),
            false => Err(self.dht_absence()),
        }
    }

    const fn dht_absence(&self) -> CommandError {
        match self.dht {
            None => CommandError::NoDht,
            Some(_) => CommandError::DhtNotRunning,
        }
    }

    fn switch_tracker(
        &mut self,
        now: Instant,
        id: TorrentId,
        url: &str,
        enabled: bool,
    ) -> Result<(), CommandError> {
        let torrent = self.torrents.get(&id).ok_or(CommandError::NoTorrent(id))?;
        let tracker = torrent
            .announcer
            .status()
            .find(|tracker| tracker.url == url)
            .map(|tracker| tracker.id)
            .ok_or(CommandError::NoTracker)?;
        self.set_tracker_enabled(now, id, tracker, enabled);
        Ok(())
    }
}
