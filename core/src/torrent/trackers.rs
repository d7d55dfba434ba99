//! Trackers: queries become HTTP ops or UDP transactions, and answers become peers.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::conn::member::Member;
use super::io::Io;
use super::outbox::event::{Changes, Level, What};
use super::outbox::ops::Purpose;
use super::outbox::timers::{Timer, TorrentTimer};
use super::status::PeerSource;
use super::{Torrent, Wants, cx, peer_list};
use crate::dht::DhtEvent;
use crate::http::{HttpRequest, Origin};
use crate::net::Family;
use crate::scope::{Scope, is_unicast};
use crate::tracker::{
    DHT_URL, DhtFound, Query, QueryKey, QueryKind, SERVER_DOWN, Stats, TrackerEvent, TrackerId,
};
use crate::wire::tracker::{Crypto, Scheme, TrackerError, encoded, http, parse_url};
use crate::{EncryptionPolicy, Machine, Op, Outcome};

/// How long after a tracker's answer to check whether there are enough peers. The value is rTorrent's.
const ENOUGH_AFTER: Duration = Duration::from_secs(10);
/// How long an HTTP tracker may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

impl Torrent {
    /// Sends the due queries to the torrent's trackers, and handles the announcer's events.
    pub(crate) fn pump_trackers(&mut self, io: &mut Io<'_>) {
        // An announce without the port that accepts connections would be useless.
        if io.endpoints.binding > 0 {
            return;
        }
        let crypto = match io.setup.config.encryption {
            EncryptionPolicy::Off => Crypto::Plain,
            EncryptionPolicy::Allowed | EncryptionPolicy::Preferred => Crypto::Supported,
            EncryptionPolicy::Required => Crypto::Required,
        };
        loop {
            let ports = io.endpoints.ports();
            let numwant = if self.is_full(&io.setup.config) {
                0
            } else {
                io.setup.config.numwant
            };
            let stats = Stats {
                uploaded: self.traffic.uploaded,
                downloaded: self.traffic.downloaded,
                left: self.left(),
                partial: self.is_partial_seed(),
                ports,
                peer_id: io.setup.peer_id,
                key: io.setup.tracker_key,
                numwant: Some(numwant),
                crypto,
                ipv4: None,
                ipv6: None,
            };
            let Some(query) = self.sources.announcer.poll_query(&mut cx!(io), &stats) else {
                break;
            };
            self.ask(io, query);
        }
        self.tracker_events(io);
        let at = self.sources.announcer.poll_timeout();
        let timer = Timer::Torrent(self.id, TorrentTimer::Trackers);
        io.out.timers.set(timer, at);
        self.want(io, Wants::PROCEED);
    }

    fn ask(&mut self, io: &mut Io<'_>, query: Query) {
        let key = query.key;
        if query.url == DHT_URL {
            return self.ask_dht(io, key);
        }
        let url = match parse_url(&query.url) {
            Ok(url) => url,
            Err(error) => return self.refuse(io, key, error),
        };
        match url.scheme {
            Scheme::Http if io.setup.caps.http => self.ask_http(io, query),
            Scheme::Https if io.setup.caps.https => self.ask_http(io, query),
            Scheme::Udp => {
                let host = String::from(url.host);
                if let Ok(ip) = host.parse::<IpAddr>() {
                    io.trackers.resolving.insert((self.id, key), query);
                    self.ask_udp(io, key, &[ip]);
                } else if io.setup.caps.resolve {
                    io.trackers.resolving.insert((self.id, key), query);
                    io.out
                        .ops
                        .job(Purpose::Resolve(self.id, key), |op| Op::Resolve {
                            op,
                            host,
                        });
                } else {
                    self.refuse(
                        io,
                        key,
                        TrackerError::Dns("no names can be looked up here".into()),
                    );
                }
            }
            other => self.refuse(
                io,
                key,
                TrackerError::Unsupported {
                    scheme: alloc::format!("{other:?}"),
                },
            ),
        }
    }

    fn refuse(&mut self, io: &mut Io<'_>, key: QueryKey, error: TrackerError) {
        self.sources
            .announcer
            .handle_answer(&mut cx!(io), key, Err(error));
    }

    fn ask_http(&self, io: &mut Io<'_>, query: Query) {
        let request = HttpRequest {
            url: query.url,
            user_agent: io.setup.config.user_agent.clone(),
            family: query.family,
            max_body: http::MAX_BODY,
            timeout: HTTP_TIMEOUT,
            origin: Origin::Torrent,
        };
        io.out
            .ops
            .job(Purpose::Http(self.id, query.key), |op| Op::Http {
                op,
                request,
            });
    }

    /// An HTTP tracker answered.
    pub(crate) fn fetched(&mut self, io: &mut Io<'_>, key: QueryKey, outcome: Outcome) {
        match outcome {
            Outcome::Http { status, body } => {
                self.sources
                    .announcer
                    .handle_http(&mut cx!(io), key, status, &body);
            }
            Outcome::Failed { error, .. } => self.refuse(io, key, TrackerError::from(error)),
            _ => self.refuse(io, key, TrackerError::Cancelled),
        }
        self.want(io, Wants::TRACKERS);
    }

    /// The name of a UDP tracker was looked up.
    pub(crate) fn resolved(&mut self, io: &mut Io<'_>, key: QueryKey, outcome: Outcome) {
        match outcome {
            Outcome::Resolved(addrs) => self.ask_udp(io, key, &addrs),
            Outcome::Failed { error, .. } => {
                io.trackers.resolving.remove(&(self.id, key));
                self.refuse(io, key, TrackerError::from(error));
            }
            _ => {
                io.trackers.resolving.remove(&(self.id, key));
                self.refuse(io, key, TrackerError::Cancelled);
            }
        }
        self.want(io, Wants::TRACKERS);
    }

    fn ask_udp(&mut self, io: &mut Io<'_>, key: QueryKey, addrs: &[IpAddr]) {
        let Some(query) = io.trackers.resolving.remove(&(self.id, key)) else {
            return;
        };
        let Ok(url) = parse_url(&query.url) else {
            return;
        };
        let info_hash = self.info_hash;
        let fits = |ip: &&IpAddr| match query.family {
            Some(Family::V4) => ip.is_ipv4(),
            Some(Family::V6) => ip.is_ipv6(),
            None if ip.is_ipv4() => io.setup.caps.ipv4,
            None => io.setup.caps.ipv6,
        };
        // A torrent may name any address. A local one is harmless: until a tracker has answered the connect request (BEP 15),
        // nothing is sent that the torrent chose.
        let fits = |ip: &&IpAddr| fits(ip) && is_unicast(**ip) && url.port != 0;
        let mut fitting: Vec<SocketAddr> = addrs
            .iter()
            .filter(fits)
            .map(|ip| SocketAddr::new(*ip, url.port))
            .collect();
        // An address that has answered before is asked first: the others may be silent.
        fitting.sort_by_key(|at| !io.trackers.udp.has_answered(at));
        let Some((&dst, others)) = fitting.split_first() else {
            return self.refuse(io, key, TrackerError::NoAddress);
        };
        let sent = match query.kind {
            QueryKind::Announce(request) => {
                io.trackers
                    .udp
                    .announce(&mut cx!(io), dst, &encoded(url.path), request)
            }
            QueryKind::Scrape => io.trackers.udp.scrape(&mut cx!(io), dst, &[info_hash]),
        };
        match sent {
            Ok(sent) => {
                io.trackers.udp.set_alternatives(sent, others);
                io.trackers.asked.insert(sent, (self.id, key));
                io.out
                    .timers
                    .set(Timer::Udp, io.trackers.udp.poll_timeout());
            }
            Err(_) => self.refuse(io, key, TrackerError::Busy),
        }
    }

    fn tracker_events(&mut self, io: &mut Io<'_>) {
        while let Some(event) = self.sources.announcer.poll_event() {
            self.change(io, Changes::TRACKERS);
            match event {
                TrackerEvent::Peers { tracker, peers } => {
                    let message = match peers.len() {
                        1 => "it knows of 1 peer".into(),
                        n => alloc::format!("it knows of {n} peers"),
                    };
                    self.tracker_notice(io, tracker, Level::Detail, message);
                    let url = self.sources.announcer.url(tracker);
                    if let Some(url) = url.filter(|_| self.is_running()) {
                        let scope = parse_url(url).map(|url| Scope::of_name(url.host));
                        let scope = scope.unwrap_or(Scope::Global);
                        self.learn(io, peers, peer_list::Origin::tracker(scope));
                    }
                }
                TrackerEvent::Warning { tracker, text } => {
                    self.tracker_notice(io, tracker, Level::Info, text);
                }
                TrackerEvent::Failed { tracker, error, .. } => {
                    if let Some(what) = self.sources.search.told_as(&error) {
                        io.out.notice(Some(self.id), None, Level::Warning, what);
                        continue;
                    }
                    let quiet = matches!(error, TrackerError::Cancelled | TrackerError::Busy);
                    let level = if quiet { Level::Detail } else { Level::Warning };
                    self.tracker_notice(io, tracker, level, alloc::format!("{error}"));
                }
                TrackerEvent::Unusable { tracker, error } => {
                    // It does not matter while other trackers know peers.
                    let level = match self.has_sources(io) {
                        true => Level::Detail,
                        false => Level::Warning,
                    };
                    let message = alloc::format!("it cannot be used: {error}");
                    self.tracker_notice(io, tracker, level, message);
                }
                TrackerEvent::ExternalIp { ip, .. } => io.learn_external(Some(self.id), ip),
                TrackerEvent::Scraped { .. } => {}
            }
        }
        if self.sources.announcer.take_answered() && io.dht.exists {
            let timer = Timer::Torrent(self.id, TorrentTimer::Enough);
            io.out.timers.at_latest(timer, io.now + ENOUGH_AFTER);
        }
    }

    /// Whether it has a source of peers, or knows peers.
    fn has_sources(&self, io: &Io<'_>) -> bool {
        self.sources.announcer.has_usable()
            || (io.dht.wanted && self.sources.announcer.is_dht_enabled())
            || self.peer_list.len() > 0
            || !self.members.is_empty()
    }

    /// The announcer wants a DHT search.
    fn ask_dht(&mut self, io: &mut Io<'_>, key: QueryKey) {
        if !io.dht.active || self.is_private() {
            let error = TrackerError::Dht(SERVER_DOWN);
            self.sources
                .announcer
                .handle_dht(&mut cx!(io), key, Err(error));
            return;
        }
        self.sources.search.ask(key);
        self.want(io, Wants::DHT_SEARCH);
    }

    /// Emits a notice if there is no source of peers.
    pub(crate) fn note_no_trackers(&self, io: &mut Io<'_>) {
        if self.sources.announcer.is_empty() {
            // Peers that were named to it may suffice.
            let level = match self.peer_list.len() == 0 && self.members.is_empty() {
                true => Level::Warning,
                false => Level::Detail,
            };
            io.out.notice(Some(self.id), None, level, What::NoTrackers);
        }
    }

    fn tracker_notice(&self, io: &mut Io<'_>, tracker: TrackerId, level: Level, message: String) {
        let url = self
            .sources
            .announcer
            .url(tracker)
            .unwrap_or_default()
            .into();
        io.out
            .notice(Some(self.id), None, level, What::Tracker { url, message });
    }
}

/// The DHT as a tracker of last resort.
impl Torrent {
    /// It may not use the DHT.
    pub(crate) fn lose_dht(&mut self, io: &mut Io<'_>) {
        if self.sources.announcer.dht_id().is_some() {
            self.sources.announcer.remove_dht(&mut cx!(io));
            self.note_no_trackers(io);
        }
    }

    /// Handles an event of its search.
    pub(crate) fn dht_answered(&mut self, io: &mut Io<'_>, event: DhtEvent) {
        match event {
            // Peers wait while its files are checked. A paused torrent does not search.
            DhtEvent::Peers { peers, .. } if !self.is_private() => {
                self.learn(io, peers, PeerSource::Dht);
            }
            DhtEvent::Done { lookup, report } => {
                let Some(key) = self.sources.search.done(lookup, &report) else {
                    return;
                };
                let outcome = match report.failure {
                    None => Ok(DhtFound {
                        peers: report.peers,
                        swarm: report.swarm,
                    }),
                    Some((failure, _)) => Err(TrackerError::Dht(failure.words())),
                };
                self.sources
                    .announcer
                    .handle_dht(&mut cx!(io), key, outcome);
                self.want(io, Wants::TRACKERS);
            }
            // Its search has no other goal.
            _ => {}
        }
    }

    /// Whether the trackers know enough peers. With peer exchange, any peer is enough.
    pub(crate) fn judge_peers(&mut self, io: &mut Io<'_>) {
        if !self.is_running() {
            return;
        }
        let told = |m: &Member| {
            let extended = m.stream.peer.extended();
            extended.is_some_and(|e| e.ids.ut_pex != 0)
        };
        let short = if io.setup.config.pex && !self.is_private() && self.members.iter().any(told) {
            Some(false)
        } else {
            let here = self.members.established();
            let few = here + self.peer_list.available() / 2 < io.setup.config.min_peers as usize;
            few.then_some(true)
        };
        if let Some(short) = short {
            // A seed can wait for peers to connect.
            let hurry = short && !self.is_done();
            self.sources.announcer.set_short(&mut cx!(io), short, hurry);
            self.want(io, Wants::TRACKERS);
        }
    }
}
