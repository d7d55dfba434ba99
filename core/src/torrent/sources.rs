//! Where a torrent asks for peers: its trackers, and the DHT. The announcer's queries become HTTP requests, UDP transactions
//! or a DHT search, and their outcomes become answers for the announcer.

use alloc::{format, string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::content::resume::Record;
use super::cx;
use super::intents::{Intents, Wants};
use super::io::Io;
use super::outbox::event::{Changes, Level, What};
use super::outbox::ops::Purpose;
use super::outbox::timers::{Timer, TorrentTimer};
use super::peer_list::Origin;
use super::request::{AddTorrent, Source};
use super::search::PeerSearch;
use super::tracker_queries::Asker;
use crate::dht::{Announce, Goal, LookupId, LookupReport};
use crate::http::{HttpRequest, Origin as RequestOrigin};
use crate::scope::Scope;
use crate::tracker::{
    AnnounceConfig, Announcer, DHT_URL, DhtFound, Families, Query, QueryKey, Reach, SERVER_DOWN,
    Stats, TrackerEvent, TrackerId,
};
use crate::wire::tracker::{Crypto, Scheme, TrackerError, http, parse_url};
use crate::{EncryptionPolicy, InfoHash, Machine, Op, Outcome, TorrentId};

/// How long after a tracker's answer to check whether there are enough peers. The value is rTorrent's.
const ENOUGH_AFTER: Duration = Duration::from_secs(10);
/// How long an HTTP tracker may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a torrent asks for peers.
#[derive(Debug)]
pub(crate) struct Sources {
    torrent: TorrentId,
    pub(crate) announcer: Announcer,
    /// Its DHT search.
    pub(crate) search: PeerSearch,
}

/// What the sources have to know about the torrent to ask for peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The payload bytes that were sent since it was added.
    pub(crate) uploaded: u64,
    /// The payload bytes that were received since it was added.
    pub(crate) downloaded: u64,
    /// The missing bytes of the whole torrent.
    pub(crate) left: u64,
    /// Whether it is a partial seed (BEP 21).
    pub(crate) partial: bool,
    /// Whether it is private (BEP 27).
    pub(crate) private: bool,
    /// Whether it has as many connections as it may have, so that it needs no more peers.
    pub(crate) full: bool,
}

/// Peers that a tracker named.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) origin: Origin,
}

impl Sources {
    /// The trackers of a torrent that is added, and the DHT unless it is known to be private.
    pub(crate) fn new(
        io: &mut Io<'_>,
        torrent: TorrentId,
        info_hash: InfoHash,
        add: &AddTorrent,
        resume: Option<&Record>,
    ) -> Self {
        let config = AnnounceConfig {
            families: match (io.setup.caps.ipv4, io.setup.caps.ipv6) {
                _ if io.setup.caps.proxied => Families::Any,
                (true, true) => Families::Both,
                (false, true) => Families::V6,
                _ => Families::V4,
            },
            reach: if io.setup.config.announce_to_all {
                Reach::All
            } else {
                Reach::First
            },
            ..AnnounceConfig::default()
        };
        let mut announcer = Announcer::new(&mut cx!(io), info_hash, &add.trackers, config);
        let private = matches!(&add.source, Source::Info(info) if info.private());
        let dht_up = io.dht.active;
        if io.dht.exists && !private {
            announcer.add_dht(&mut cx!(io), dht_up);
        }
        if let Some(record) = resume {
            announcer.restore(&mut cx!(io), &record.trackers);
        }
        Self {
            torrent,
            announcer,
            search: PeerSearch::default(),
        }
    }

    // ---- queries ----

    /// Sends the queries that are due.
    pub(crate) fn ask(&mut self, io: &mut Io<'_>, intents: &mut Intents, facts: &Facts) {
        let config = &io.setup.config;
        let stats = Stats {
            uploaded: facts.uploaded,
            downloaded: facts.downloaded,
            left: facts.left,
            partial: facts.partial,
            ports: io.endpoints.ports(),
            peer_id: io.setup.peer_id,
            key: io.setup.tracker_key,
            numwant: Some(if facts.full { 0 } else { config.numwant }),
            crypto: match config.encryption {
                EncryptionPolicy::Off => Crypto::Plain,
                EncryptionPolicy::Allowed | EncryptionPolicy::Preferred => Crypto::Supported,
                EncryptionPolicy::Required => Crypto::Required,
            },
            ipv4: None,
            ipv6: None,
        };
        while let Some(query) = self.announcer.poll_query(&mut cx!(io), &stats) {
            let key = query.key;
            let sent = match query.url == DHT_URL {
                true => self.ask_dht(io, intents, key, facts.private),
                false => self.send(io, query),
            };
            self.refuse(io, key, sent);
        }
    }

    /// Sends a query to a tracker, perhaps after its name was looked up.
    fn send(&self, io: &mut Io<'_>, query: Query) -> Result<(), TrackerError> {
        let url = parse_url(&query.url)?;
        match url.scheme {
            Scheme::Http if io.setup.caps.http => self.send_http(io, query),
            Scheme::Https if io.setup.caps.https => self.send_http(io, query),
            Scheme::Udp => {
                if let Ok(ip) = url.host.parse::<IpAddr>() {
                    return self.send_udp(io, &query, &[ip]);
                }
                if !io.setup.caps.resolve {
                    let why = "no names can be looked up here";
                    return Err(TrackerError::Dns(why.into()));
                }
                let host = String::from(url.host);
                let purpose = Purpose::Resolve(self.torrent, query.key);
                io.trackers.hold(self.torrent, query);
                io.out.ops.job(purpose, |op| Op::Resolve { op, host });
            }
            other => {
                return Err(TrackerError::Unsupported {
                    scheme: format!("{other:?}"),
                });
            }
        }
        Ok(())
    }

    fn send_http(&self, io: &mut Io<'_>, query: Query) {
        let request = HttpRequest {
            url: query.url,
            user_agent: io.setup.config.user_agent.clone(),
            family: query.family,
            max_body: http::MAX_BODY,
            timeout: HTTP_TIMEOUT,
            origin: RequestOrigin::Torrent,
        };
        let purpose = Purpose::Http(self.torrent, query.key);
        io.out.ops.job(purpose, |op| Op::Http { op, request });
    }

    fn send_udp(
        &self,
        io: &mut Io<'_>,
        query: &Query,
        addrs: &[IpAddr],
    ) -> Result<(), TrackerError> {
        let asker = Asker {
            torrent: self.torrent,
            info_hash: self.announcer.info_hash(),
            families: (io.setup.caps.ipv4, io.setup.caps.ipv6),
        };
        io.trackers.send(&mut cx!(io), asker, query, addrs)?;
        let next = io.trackers.udp.poll_timeout();
        io.out.timers.set(Timer::Udp, next);
        Ok(())
    }

    /// Handles the outcome of an HTTP request.
    pub(crate) fn fetched(
        &mut self,
        io: &mut Io<'_>,
        intents: &mut Intents,
        key: QueryKey,
        outcome: Outcome,
    ) {
        if let Outcome::Http { status, body } = outcome {
            let announcer = &mut self.announcer;
            announcer.handle_http(&mut cx!(io), key, status, &body);
        } else {
            self.refuse(io, key, Err(failure(outcome)));
        }
        intents.want(io.out, Wants::TRACKERS);
    }

    /// Handles the outcome of looking up the name of a UDP tracker.
    pub(crate) fn resolved(
        &mut self,
        io: &mut Io<'_>,
        intents: &mut Intents,
        key: QueryKey,
        outcome: Outcome,
    ) {
        let Some(query) = io.trackers.release(self.torrent, key) else {
            return;
        };
        let sent = match outcome {
            Outcome::Resolved(addrs) => self.send_udp(io, &query, &addrs),
            other => Err(failure(other)),
        };
        self.refuse(io, key, sent);
        intents.want(io.out, Wants::TRACKERS);
    }

    /// If a query could not be sent, the announcer is told.
    fn refuse(&mut self, io: &mut Io<'_>, key: QueryKey, sent: Result<(), TrackerError>) {
        if let Err(error) = sent {
            let announcer = &mut self.announcer;
            announcer.handle_answer(&mut cx!(io), key, Err(error));
        }
    }

    // ---- what the announcer reports ----

    /// Handles the announcer's events up to the next one with peers, which are returned. `knows_peers` says whether the
    /// torrent knows peers already.
    pub(crate) fn poll_found(
        &mut self,
        io: &mut Io<'_>,
        intents: &mut Intents,
        knows_peers: bool,
    ) -> Option<Found> {
        while let Some(event) = self.announcer.poll_event() {
            intents.change(io.out, Changes::TRACKERS);
            match event {
                TrackerEvent::Peers { tracker, peers } => {
                    let message = match peers.len() {
                        1 => "it knows of 1 peer".into(),
                        n => format!("it knows of {n} peers"),
                    };
                    self.notice(io, tracker, Level::Detail, message);
                    if let Some(url) = self.announcer.url(tracker) {
                        let scope = parse_url(url).map(|url| Scope::of_name(url.host));
                        let origin = Origin::tracker(scope.unwrap_or(Scope::Global));
                        return Some(Found { peers, origin });
                    }
                }
                TrackerEvent::Warning { tracker, text } => {
                    self.notice(io, tracker, Level::Info, text);
                }
                TrackerEvent::Failed { tracker, error, .. } => {
                    if let Some(what) = self.search.told_as(&error) {
                        let torrent = Some(self.torrent);
                        io.out.notice(torrent, None, Level::Warning, what);
                        continue;
                    }
                    let quiet = matches!(error, TrackerError::Cancelled | TrackerError::Busy);
                    let level = if quiet { Level::Detail } else { Level::Warning };
                    self.notice(io, tracker, level, format!("{error}"));
                }
                TrackerEvent::Unusable { tracker, error } => {
                    // It does not matter while other trackers know peers.
                    let level = match knows_peers || self.has_usable(io) {
                        true => Level::Detail,
                        false => Level::Warning,
                    };
                    let message = format!("it cannot be used: {error}");
                    self.notice(io, tracker, level, message);
                }
                TrackerEvent::ExternalIp { ip, .. } => io.learn_external(Some(self.torrent), ip),
                TrackerEvent::Scraped { .. } => {}
            }
        }
        None
    }

    /// Sets the timers: when the next query is due, and when to check whether there are enough peers.
    pub(crate) fn set_timers(&mut self, io: &mut Io<'_>) {
        if self.announcer.take_answered() {
            let timer = Timer::Torrent(self.torrent, TorrentTimer::Enough);
            io.out.timers.at_latest(timer, io.now + ENOUGH_AFTER);
        }
        let timer = Timer::Torrent(self.torrent, TorrentTimer::Trackers);
        io.out.timers.set(timer, self.announcer.poll_timeout());
    }

    fn has_usable(&self, io: &Io<'_>) -> bool {
        self.announcer.has_usable() || (io.dht.wanted && self.announcer.is_dht_enabled())
    }

    /// Emits a notice if there is none.
    pub(crate) fn note_if_none(&self, io: &mut Io<'_>, knows_peers: bool) {
        if self.announcer.is_empty() {
            // Peers that were named to it may suffice.
            let level = match knows_peers {
                true => Level::Detail,
                false => Level::Warning,
            };
            let torrent = Some(self.torrent);
            io.out.notice(torrent, None, level, What::NoTrackers);
        }
    }

    fn notice(&self, io: &mut Io<'_>, tracker: TrackerId, level: Level, message: String) {
        let url = self.announcer.url(tracker).unwrap_or_default().into();
        let what = What::Tracker { url, message };
        io.out.notice(Some(self.torrent), None, level, what);
    }

    // ---- the DHT as a tracker of last resort ----

    /// The announcer wants a DHT search.
    fn ask_dht(
        &mut self,
        io: &mut Io<'_>,
        intents: &mut Intents,
        key: QueryKey,
        private: bool,
    ) -> Result<(), TrackerError> {
        if !io.dht.active || private {
            return Err(TrackerError::Dht(SERVER_DOWN));
        }
        self.search.ask(key);
        intents.want(io.out, Wants::DHT_SEARCH);
        Ok(())
    }

    /// What to search for, if a search waits for its turn.
    pub(crate) fn search_goal(&self, io: &Io<'_>, seed: bool) -> Option<Goal> {
        let ports = io.endpoints.ports();
        self.search.is_waiting().then(|| Goal::Peers {
            hash: self.announcer.info_hash(),
            announce: ports.any().map(|_| Announce {
                ports,
                implied: false,
                seed,
            }),
            scrape: false,
        })
    }

    /// A search is over.
    pub(crate) fn search_done(
        &mut self,
        io: &mut Io<'_>,
        intents: &mut Intents,
        lookup: LookupId,
        report: &LookupReport,
    ) {
        let Some(key) = self.search.done(lookup, report) else {
            return;
        };
        let outcome = match report.failure {
            None => Ok(DhtFound {
                peers: report.peers,
                swarm: report.swarm,
            }),
            Some((failure, _)) => Err(TrackerError::Dht(failure.words())),
        };
        self.announcer.handle_dht(&mut cx!(io), key, outcome);
        intents.want(io.out, Wants::TRACKERS);
    }

    /// Ends the search, and tells the announcer why. Returns whether there was one.
    pub(crate) fn end_search(&mut self, io: &mut Io<'_>, why: TrackerError) -> bool {
        let ended = self.search.end();
        if let Some(key) = ended {
            self.announcer.handle_dht(&mut cx!(io), key, Err(why));
        }
        ended.is_some()
    }

    /// The torrent may not use the DHT.
    pub(crate) fn lose_dht(&mut self, io: &mut Io<'_>, knows_peers: bool) {
        if self.announcer.dht_id().is_some() {
            self.announcer.remove_dht(&mut cx!(io));
            self.note_if_none(io, knows_peers);
        }
    }

    // ---- commands of the application ----

    /// Adds trackers, one tier each, up to the announcer's limit.
    pub(crate) fn add(&mut self, io: &mut Io<'_>, urls: &[String]) {
        // The DHT's pseudo-tracker stays last.
        let trackers = self.announcer.status().filter(|s| s.dht.is_none());
        let last = trackers.map(|s| s.tier + 1).max().unwrap_or(0);
        for (tier, url) in (last..).zip(urls) {
            // The announcer would refuse more than this.
            if self.announcer.add(&mut cx!(io), tier, url).is_err() {
                break;
            }
        }
    }

    /// The tracker with this URL.
    pub(crate) fn find(&self, url: &str) -> Option<TrackerId> {
        let mut trackers = self.announcer.status();
        trackers.find(|t| t.url == url).map(|t| t.id)
    }

    /// Enables or disables a tracker. One that is disabled is told `stopped`.
    pub(crate) fn set_enabled(
        &mut self,
        io: &mut Io<'_>,
        intents: &mut Intents,
        tracker: TrackerId,
        enabled: bool,
    ) {
        self.announcer.set_enabled(&mut cx!(io), tracker, enabled);
        if !self.announcer.is_dht_enabled() {
            // The result of a running search is not wanted any more.
            intents.want(io.out, Wants::DHT_END);
        }
        intents.change(io.out, Changes::TRACKERS);
    }

    /// Asks the trackers for peers now, as far as their minimum interval allows.
    pub(crate) fn reannounce(&mut self, io: &mut Io<'_>, intents: &mut Intents) {
        self.announcer.reannounce(&mut cx!(io), false);
        intents.want(io.out, Wants::TRACKERS);
    }

    /// Asks the trackers how large the swarm is (BEP 48), as far as they allow.
    pub(crate) fn scrape(&mut self, io: &mut Io<'_>, intents: &mut Intents) {
        self.announcer.scrape(&mut cx!(io));
        intents.want(io.out, Wants::TRACKERS);
    }
}

/// Why an op had no result.
fn failure(outcome: Outcome) -> TrackerError {
    match outcome {
        Outcome::Failed { error, .. } => TrackerError::from(error),
        _ => TrackerError::Cancelled,
    }
}

#[cfg(test)]
mod tests;
