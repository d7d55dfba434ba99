//! Commands: the changes that an application can make, as plain values.
//!
//! Every front end (the `Session` of the asynchronous driver, the handle of the blocking one, an RPC) sends the same
//! [`Command`]s and receives the same [`Reply`] or [`CommandError`]. Read access, such as [`Engine::torrent`], is not a
//! command: it changes nothing and cannot fail.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{fmt, net::SocketAddr};

use super::dht::ThrottleInUse;
use super::{Engine, Stop};
use crate::dht::{Full, Goal, LookupId, NodeNameError, PingId};
use crate::throttle::{BucketId, Direction};
use crate::torrent::Torrent;
use crate::torrent::io::Io;
use crate::torrent::request::{AddError, AddTorrent, Scope};
use crate::torrent::status::{FilePriority, PeerSource};
use crate::{DhtMode, Instant, NodeId, TorrentId};

/// A change to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// Add a torrent; answered by [`Reply::Added`].
    Add(Box<AddTorrent>),
    /// Pause a torrent: its peers are disconnected, and its trackers are told `stopped`.
    Pause(TorrentId),
    /// Resume a torrent, also out of [`State::Failed`](super::State::Failed).
    Resume(TorrentId),
    /// Hash everything of a torrent that is on disk again.
    Recheck(TorrentId),
    /// Remove a torrent: its trackers are told `stopped`, and its files are closed. [`Event::Removed`](super::Event::Removed)
    /// follows.
    Remove {
        /// Which.
        torrent: TorrentId,
        /// Whether to delete the downloaded files.
        delete: bool,
    },
    /// Set the priorities of a torrent's files.
    SetPriorities {
        /// Which.
        torrent: TorrentId,
        /// One for each file. Files beyond the end of the list have normal priority.
        priorities: Vec<FilePriority>,
    },
    /// Set whether the pieces of a torrent are requested in order, or rarest first.
    SetSequential {
        /// Which.
        torrent: TorrentId,
        /// Whether they are requested in order.
        on: bool,
    },
    /// Set the time by which a piece is wanted, for streaming. It may be set before the torrent's files are known.
    SetDeadline {
        /// The torrent.
        torrent: TorrentId,
        /// The index of the piece.
        piece: u32,
        /// The deadline. `None` removes it.
        by: Option<Instant>,
    },
    /// Set rate limits.
    SetLimits {
        /// What the limits apply to.
        scope: Scope,
        /// The download limit in bytes per second. `None` means unlimited, `Some(0)` stops payload.
        down: Option<u64>,
        /// The upload limit, likewise.
        up: Option<u64>,
    },
    /// Add peers to a torrent.
    AddPeers {
        /// Which.
        torrent: TorrentId,
        /// The addresses at which they accept connections.
        peers: Vec<SocketAddr>,
    },
    /// Add trackers to a torrent, up to the announcer's limit.
    AddTrackers {
        /// Which.
        torrent: TorrentId,
        /// Their URLs. Each becomes a tier of its own.
        urls: Vec<String>,
    },
    /// Enable or disable a tracker. A tracker that is disabled is told `stopped`.
    SetTrackerEnabled {
        /// The torrent.
        torrent: TorrentId,
        /// The tracker's URL. `dht://` is the DHT.
        url: String,
        /// Whether it is enabled.
        enabled: bool,
    },
    /// Ask the trackers of a torrent for peers now, as far as their minimum interval allows.
    Reannounce(TorrentId),
    /// Ask the trackers of a torrent how large the swarm is (BEP 48), as far as they allow.
    Scrape(TorrentId),
    /// Save the resume records of torrents that changed, and the DHT's nodes.
    SaveAll,
    /// Shut down: trackers are told `stopped`, received blocks are written, and records are saved.
    /// [`Event::Stopped`](super::Event::Stopped) follows when the disk is done and the trackers have answered, but trackers
    /// are not waited for beyond [`Config::stop_timeout`](crate::Config::stop_timeout).
    Shutdown,
    /// Change the DHT's mode. `Off` stops the node, `On` starts it, and `Auto` changes nothing at once: the next torrent
    /// that starts and is not private starts the node. After `Disable` the DHT cannot be enabled again.
    SetDht(DhtMode),
    /// Change the DHT's UDP port for its next start; see
    /// [`Config::dht_port`](crate::Config::dht_port).
    SetDhtPort(Option<u16>),
    /// Set the name and the rate of the DHT's own upload limit.
    SetDhtLimit {
        /// The name that statistics show.
        name: String,
        /// The limit in bytes per second. `None` means unlimited.
        up: Option<u64>,
    },
    /// Start the DHT's node in mode `auto`, as a torrent would.
    UseDht,
    /// Add a DHT node, written as `host` or `host:port`. It is pinged, and added to the routing table if that has room.
    /// While the DHT does not run, it is remembered for the start.
    AddDhtNode(String),
    /// Search the DHT. The reply is [`Reply::Lookup`], and the results are [`Event::Dht`](super::Event::Dht)s.
    Search(Goal),
    /// Cancel a search. No event follows.
    CancelSearch(LookupId),
    /// Ping a DHT node. The reply is [`Reply::Ping`], and an [`Event::Dht`](super::Event::Dht) follows.
    Ping(SocketAddr),
    /// Ask a DHT node for a sample of the info-hashes that it knows (BEP 51). [`Event::Dht`](super::Event::Dht) reports them.
    Sample {
        /// The node.
        addr: SocketAddr,
        /// The id near which nodes are asked for.
        target: NodeId,
    },
}

/// The reply to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// It was done.
    Done,
    /// The torrent was added under this id.
    Added(TorrentId),
    /// The search was started.
    Lookup(LookupId),
    /// The ping is being sent.
    Ping(PingId),
}

/// The reason for which a command was not carried out. It has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The torrent was not added.
    Add(AddError),
    /// There is no torrent with this id.
    NoTorrent(TorrentId),
    /// The torrent has no such tracker.
    NoTracker,
    /// There is no DHT: it is disabled, or there is no session folder.
    NoDht,
    /// The DHT's node does not run.
    DhtNotRunning,
    /// Too many DHT queries or searches are running.
    DhtBusy,
    /// The text is not the address of a node.
    DhtNode(NodeNameError),
    /// The DHT's limit cannot be changed while the node runs.
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

impl From<NodeNameError> for CommandError {
    fn from(error: NodeNameError) -> Self {
        Self::DhtNode(error)
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
        self.tick(now);
        let reply = self.carry_out(command);
        self.settle();
        reply
    }

    /// Adds a torrent, as [`Command::Add`] does.
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add(&mut self, now: Instant, mut add: AddTorrent) -> Result<TorrentId, AddError> {
        self.tick(now);
        if self.stop != Stop::Running {
            return Err(AddError::Stopping);
        }
        let (_, torrents, mut io) = self.parts();
        let id = torrents.add(&mut io, &mut add)?;
        let nodes = core::mem::take(&mut add.nodes);
        self.set_limits(Scope::Torrent(id), add.limit_down, add.limit_up);
        if let Some((t, mut io)) = self.at(id) {
            t.begin(&mut io, add);
        }
        self.settle();
        let (dht, torrents, mut io) = self.parts();
        if let Some(dht) = dht
            && torrents.get(&id).is_some_and(|t| !t.is_private())
        {
            dht.add_contacts(&mut io, torrents, nodes);
        }
        if let Some(t) = torrents.get(&id) {
            t.sources.note_if_none(&mut io, t.knows_peers());
        }
        self.settle();
        Ok(id)
    }

    fn carry_out(&mut self, command: Command) -> Result<Reply, CommandError> {
        match command {
            Command::Add(torrent) => return Ok(Reply::Added(self.add(self.now, *torrent)?)),
            Command::Pause(id) => self.with(id, Torrent::pause)?,
            Command::Resume(id) => self.with(id, Torrent::unpause)?,
            Command::Recheck(id) => self.with(id, Torrent::recheck)?,
            Command::Remove { torrent, delete } => {
                self.with(torrent, |t, io| t.begin_stop(io, delete))?;
            }
            Command::SetPriorities {
                torrent,
                priorities,
            } => self.with(torrent, |t, io| t.set_priorities(io, &priorities))?,
            Command::SetSequential { torrent, on } => {
                self.with(torrent, |t, _| t.set_sequential(on))?;
            }
            Command::SetDeadline { torrent, piece, by } => {
                self.with(torrent, |t, io| t.set_deadline(io, piece, by))?;
            }
            Command::SetLimits { scope, down, up } => {
                if !self.set_limits(scope, down, up)
                    && let Scope::Torrent(id) = scope
                {
                    return Err(CommandError::NoTorrent(id));
                }
            }
            Command::AddPeers { torrent, peers } => {
                self.with(torrent, |t, io| t.learn(io, peers, PeerSource::Manual))?;
            }
            Command::AddTrackers { torrent, urls } => {
                self.with(torrent, |t, io| t.add_trackers(io, &urls))?;
            }
            Command::SetTrackerEnabled {
                torrent,
                url,
                enabled,
            } => {
                let found = self.with(torrent, |t, io| t.set_tracker_enabled(io, &url, enabled))?;
                return found.then_some(Reply::Done).ok_or(CommandError::NoTracker);
            }
            Command::Reannounce(id) => {
                self.with(id, |t, io| t.sources.reannounce(io, &mut t.intents))?;
            }
            Command::Scrape(id) => {
                self.with(id, |t, io| t.sources.scrape(io, &mut t.intents))?;
            }
            Command::SaveAll => {
                let (dht, torrents, mut io) = self.parts();
                if let Some(dht) = dht {
                    dht.save(&mut io);
                }
                for t in torrents.values_mut() {
                    t.save(&mut io);
                }
            }
            Command::Shutdown => self.begin_stop(),
            Command::SetDht(DhtMode::Disable) => {
                let (dht, torrents, mut io) = self.parts();
                if let Some(dht) = dht {
                    dht.set_mode(&mut io, torrents, DhtMode::Disable);
                }
                self.dht = None;
                let (_, torrents, mut io) = self.parts();
                for t in torrents.values_mut() {
                    t.sources.lose_dht(&mut io, t.knows_peers());
                }
            }
            Command::SetDhtPort(port) => {
                if let Some(dht) = &mut self.dht {
                    dht.set_port(port);
                }
            }
            Command::SetDhtLimit { name, up } => {
                if let (Some(dht), _, mut io) = self.parts() {
                    dht.set_limit(&mut io, name, up)?;
                }
            }
            Command::CancelSearch(lookup) => {
                if let (Some(dht), torrents, mut io) = self.parts() {
                    dht.cancel(&mut io, torrents, lookup);
                }
            }
            command => return self.ask_dht(command),
        }
        Ok(Reply::Done)
    }

    /// Carries out a command that needs the DHT.
    fn ask_dht(&mut self, command: Command) -> Result<Reply, CommandError> {
        let (dht, torrents, mut io) = self.parts();
        let (dht, io) = (dht.ok_or(CommandError::NoDht)?, &mut io);
        let running = match dht.active() {
            Some(_) => Ok(()),
            None => Err(CommandError::DhtNotRunning),
        };
        match command {
            Command::SetDht(mode) => dht.set_mode(io, torrents, mode),
            Command::UseDht => match dht.want(io, torrents) {
                true => {}
                false => return Err(CommandError::DhtNotRunning),
            },
            Command::AddDhtNode(node) => dht.add_node(io, torrents, &node)?,
            Command::Search(goal) => {
                running?;
                return Ok(Reply::Lookup(dht.search(io, torrents, goal)?));
            }
            Command::Ping(addr) => {
                running?;
                return Ok(Reply::Ping(dht.ping(io, torrents, addr)?));
            }
            Command::Sample { addr, target } => {
                running?;
                dht.sample(io, torrents, (addr, target))?;
            }
            _ => {}
        }
        Ok(Reply::Done)
    }

    /// Does something with a torrent.
    fn with<T>(
        &mut self,
        id: TorrentId,
        what: impl FnOnce(&mut Torrent, &mut Io<'_>) -> T,
    ) -> Result<T, CommandError> {
        let (t, mut io) = self.at(id).ok_or(CommandError::NoTorrent(id))?;
        Ok(what(t, &mut io))
    }

    /// Sets rate limits in bytes per second. Returns `false` if there is no such torrent.
    fn set_limits(&mut self, scope: Scope, down: Option<u64>, up: Option<u64>) -> bool {
        let bucket = match scope {
            Scope::Global => BucketId::ROOT,
            Scope::Torrent(id) => match self.torrents.get(&id) {
                Some(t) => t.bucket,
                None => return false,
            },
        };
        let now = self.now;
        self.throttle.set_rate(now, bucket, Direction::Down, down);
        self.throttle.set_rate(now, bucket, Direction::Up, up);
        self.throttle_ready();
        let (_, torrents, mut io) = self.parts();
        match scope {
            Scope::Global => torrents
                .values_mut()
                .for_each(|t| t.limits_changed(&mut io)),
            Scope::Torrent(id) => {
                if let Some(t) = torrents.get_mut(&id) {
                    t.limits_changed(&mut io);
                }
            }
        }
        true
    }

    /// Begins the shutdown, see [`Command::Shutdown`].
    fn begin_stop(&mut self) {
        if self.stop != Stop::Running {
            return;
        }
        self.stop = Stop::Stopping;
        let (dht, torrents, mut io) = self.parts();
        if let Some(dht) = dht {
            dht.shut_down(&mut io, torrents);
        }
        torrents.begin_stop(&mut io);
        // Connections that belong to a torrent were closed with it.
        io.dismiss_unclaimed();
    }
}
