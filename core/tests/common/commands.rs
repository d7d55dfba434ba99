//! Commands as calls, so that tests read well. Each says what came of [`Engine::command`] in the shortest way.

use std::net::SocketAddr;

use dunlin_core::dht::{Goal, LookupId, PingId};
use dunlin_core::engine::{Command, CommandError, Engine, FilePriority, Reply, Scope};
use dunlin_core::tracker::TrackerId;
use dunlin_core::{DhtMode, Instant, TorrentId};

/// The commands of an engine. Those about a torrent return whether it exists.
pub trait Commands {
    fn done(&mut self, now: Instant, command: Command) -> bool;

    fn pause(&mut self, now: Instant, id: TorrentId) -> bool {
        self.done(now, Command::Pause(id))
    }

    fn resume(&mut self, now: Instant, id: TorrentId) -> bool {
        self.done(now, Command::Resume(id))
    }

    fn recheck(&mut self, now: Instant, id: TorrentId) -> bool {
        self.done(now, Command::Recheck(id))
    }

    fn remove(&mut self, now: Instant, torrent: TorrentId, delete: bool) -> bool {
        self.done(now, Command::Remove { torrent, delete })
    }

    fn set_priorities(&mut self, now: Instant, torrent: TorrentId, all: &[FilePriority]) -> bool {
        let priorities = all.to_vec();
        self.done(
            now,
            Command::SetPriorities {
                torrent,
                priorities,
            },
        )
    }

    fn set_sequential(&mut self, now: Instant, torrent: TorrentId, on: bool) -> bool {
        self.done(now, Command::SetSequential { torrent, on })
    }

    fn set_deadline(
        &mut self,
        now: Instant,
        torrent: TorrentId,
        piece: u32,
        by: Option<Instant>,
    ) -> bool {
        self.done(now, Command::SetDeadline { torrent, piece, by })
    }

    fn set_limits(
        &mut self,
        now: Instant,
        scope: Scope,
        down: Option<u64>,
        up: Option<u64>,
    ) -> bool {
        self.done(now, Command::SetLimits { scope, down, up })
    }

    fn add_peers(&mut self, now: Instant, torrent: TorrentId, peers: &[SocketAddr]) -> bool {
        let peers = peers.to_vec();
        self.done(now, Command::AddPeers { torrent, peers })
    }

    fn add_trackers(&mut self, now: Instant, torrent: TorrentId, urls: &[String]) -> bool {
        let urls = urls.to_vec();
        self.done(now, Command::AddTrackers { torrent, urls })
    }

    fn set_tracker_enabled(
        &mut self,
        now: Instant,
        torrent: TorrentId,
        tracker: TrackerId,
        enabled: bool,
    ) -> bool;

    fn reannounce(&mut self, now: Instant, id: TorrentId) -> bool {
        self.done(now, Command::Reannounce(id))
    }

    fn scrape(&mut self, now: Instant, id: TorrentId) -> bool {
        self.done(now, Command::Scrape(id))
    }

    fn save_all(&mut self, now: Instant) {
        assert!(self.done(now, Command::SaveAll));
    }

    fn shutdown(&mut self, now: Instant) {
        assert!(self.done(now, Command::Shutdown));
    }

    /// Returns whether there is a DHT.
    fn set_dht(&mut self, now: Instant, mode: DhtMode) -> bool {
        self.done(now, Command::SetDht(mode)) && mode != DhtMode::Disable
    }

    fn set_dht_port(&mut self, now: Instant, port: Option<u16>) {
        assert!(self.done(now, Command::SetDhtPort(port)));
    }

    fn set_dht_limit(
        &mut self,
        now: Instant,
        name: &str,
        up: Option<u64>,
    ) -> Result<(), CommandError>;
    fn dht_search(&mut self, now: Instant, goal: Goal) -> Result<LookupId, CommandError>;
    fn dht_ping(&mut self, now: Instant, addr: SocketAddr) -> Result<PingId, CommandError>;
    fn dht_add_node(&mut self, now: Instant, node: &str) -> Result<(), CommandError>;
}

impl Commands for Engine {
    fn done(&mut self, now: Instant, command: Command) -> bool {
        self.command(now, command).is_ok()
    }

    fn set_tracker_enabled(
        &mut self,
        now: Instant,
        torrent: TorrentId,
        tracker: TrackerId,
        enabled: bool,
    ) -> bool {
        let trackers = self.torrent(torrent).map(|t| t.trackers());
        let tracker = trackers.and_then(|all| {
            let mut all = all.into_iter();
            all.find(|t| t.id == tracker).map(|t| t.url.to_owned())
        });
        tracker.is_some_and(|url| {
            self.done(
                now,
                Command::SetTrackerEnabled {
                    torrent,
                    url,
                    enabled,
                },
            )
        })
    }

    fn set_dht_limit(
        &mut self,
        now: Instant,
        name: &str,
        up: Option<u64>,
    ) -> Result<(), CommandError> {
        let name = name.to_owned();
        self.command(now, Command::SetDhtLimit { name, up })
            .map(drop)
    }

    fn dht_search(&mut self, now: Instant, goal: Goal) -> Result<LookupId, CommandError> {
        match self.command(now, Command::Search(goal))? {
            Reply::Lookup(lookup) => Ok(lookup),
            reply => panic!("a search is answered by {reply:?}"),
        }
    }

    fn dht_ping(&mut self, now: Instant, addr: SocketAddr) -> Result<PingId, CommandError> {
        match self.command(now, Command::Ping(addr))? {
            Reply::Ping(ping) => Ok(ping),
            reply => panic!("a ping is answered by {reply:?}"),
        }
    }

    fn dht_add_node(&mut self, now: Instant, node: &str) -> Result<(), CommandError> {
        self.command(now, Command::AddDhtNode(node.to_owned()))
            .map(drop)
    }
}
