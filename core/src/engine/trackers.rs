//! Trackers: queries become HTTP ops or UDP transactions, answers become peers.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::event::{Changes, Level, What};
use super::ops::Purpose;
use super::timers::{Timer, TorrentTimer};
use super::torrent::Wants;
use super::{Engine, cx, swarm};
use crate::http::Origin;
use crate::net::{Family, Ports};
use crate::op::HttpRequest;
use crate::scope::{Scope, is_unicast};
use crate::tracker::{DHT_URL, Query, QueryKey, QueryKind, Stats, TrackerEvent, TrackerId};
use crate::wire::tracker::{Crypto, Scheme, TrackerError, encoded, http, parse_url};
use crate::{DhtMode, EncryptionPolicy, Machine, Op, Outcome, TorrentId};

/// How long an HTTP tracker may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

impl Engine {
    /// Sends what is due to a torrent's trackers and reports what they said.
    pub(super) fn pump_trackers(&mut self, id: TorrentId) {
        // Without its port an announce would be of no use to anybody.
        if self.binding > 0 {
            return;
        }
        let crypto = match self.config.encryption {
            EncryptionPolicy::Off => Crypto::Plain,
            EncryptionPolicy::Allowed | EncryptionPolicy::Preferred => Crypto::Supported,
            EncryptionPolicy::Required => Crypto::Required,
        };
        loop {
            let ports = Ports::bound(self.listening.values());
            let Some(t) = self.torrents.get_mut(&id) else {
                return;
            };
            let numwant = if t.is_full(&self.config) {
                0
            } else {
                self.config.numwant
            };
            let stats = Stats {
                uploaded: t.uploaded,
                downloaded: t.downloaded,
                left: t.left(),
                partial: t.is_partial_seed(),
                ports,
                peer_id: self.peer_id,
                key: self.tracker_key,
                numwant: Some(numwant),
                crypto,
                ipv4: None,
                ipv6: None,
            };
            let Some(query) = t.announcer.poll_query(&mut cx!(self), &stats) else {
                break;
            };
            self.ask(id, query);
        }
        self.tracker_events(id);
        if let Some(t) = self.torrents.get(&id) {
            self.out.timers.set(
                Timer::Torrent(id, TorrentTimer::Trackers),
                t.announcer.poll_timeout(),
            );
        }
        if let Some((t, mut io)) = self.at(id) {
            t.want(&mut io, Wants::PROCEED);
        }
    }

    fn ask(&mut self, id: TorrentId, query: Query) {
        let key = query.key;
        if query.url == DHT_URL {
            return self.ask_dht(id, key);
        }
        let url = match parse_url(&query.url) {
            Ok(url) => url,
            Err(error) => return self.refuse(id, key, error),
        };
        match url.scheme {
            Scheme::Http if self.caps.http => self.ask_http(id, query),
            Scheme::Https if self.caps.https => self.ask_http(id, query),
            Scheme::Udp => {
                let host = String::from(url.host);
                if let Ok(ip) = host.parse::<IpAddr>() {
                    self.resolving.insert((id, key), query);
                    self.ask_udp(id, key, &[ip]);
                } else if self.caps.resolve {
                    self.resolving.insert((id, key), query);
                    self.out
                        .ops
                        .job(Purpose::Resolve(id, key), |op| Op::Resolve { op, host });
                } else {
                    self.refuse(
                        id,
                        key,
                        TrackerError::Dns("no names can be looked up here".into()),
                    );
                }
            }
            other => self.refuse(
                id,
                key,
                TrackerError::Unsupported {
                    scheme: alloc::format!("{other:?}"),
                },
            ),
        }
    }

    fn refuse(&mut self, id: TorrentId, key: QueryKey, error: TrackerError) {
        if let Some(t) = self.torrents.get_mut(&id) {
            t.announcer.handle_answer(&mut cx!(self), key, Err(error));
        }
    }

    fn ask_http(&mut self, id: TorrentId, query: Query) {
        let request = HttpRequest {
            url: query.url,
            user_agent: self.config.user_agent.clone(),
            family: query.family,
            max_body: http::MAX_BODY,
            timeout: HTTP_TIMEOUT,
            origin: Origin::Torrent,
        };
        self.out
            .ops
            .job(Purpose::Http(id, query.key), |op| Op::Http { op, request });
    }

    /// An HTTP tracker answered.
    pub(super) fn fetched(&mut self, id: TorrentId, key: QueryKey, outcome: Outcome) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        match outcome {
            Outcome::Http { status, body } => {
                t.announcer.handle_http(&mut cx!(self), key, status, &body);
            }
            Outcome::Failed { error, .. } => self.refuse(id, key, TrackerError::from(error)),
            _ => self.refuse(id, key, TrackerError::Cancelled),
        }
        self.pump_trackers(id);
    }

    /// The name of a UDP tracker was looked up.
    pub(super) fn resolved(&mut self, id: TorrentId, key: QueryKey, outcome: Outcome) {
        match outcome {
            Outcome::Resolved(addrs) => self.ask_udp(id, key, &addrs),
            Outcome::Failed { error, .. } => {
                self.resolving.remove(&(id, key));
                self.refuse(id, key, TrackerError::from(error));
            }
            _ => {
                self.resolving.remove(&(id, key));
                self.refuse(id, key, TrackerError::Cancelled);
            }
        }
        self.pump_trackers(id);
    }

    fn ask_udp(&mut self, id: TorrentId, key: QueryKey, addrs: &[IpAddr]) {
        let Some(query) = self.resolving.remove(&(id, key)) else {
            return;
        };
        let (Ok(url), Some(info_hash)) = (parse_url(&query.url), self.info_hash(id)) else {
            return;
        };
        let fits = |ip: &&IpAddr| match query.family {
            Some(Family::V4) => ip.is_ipv4(),
            Some(Family::V6) => ip.is_ipv6(),
            None if ip.is_ipv4() => self.caps.ipv4,
            None => self.caps.ipv6,
        };
        // What a torrent names may be anything. On a local address this is harmless: nothing that
        // the torrent chose is sent before a tracker has answered the connect request (BEP 15).
        let fits = |ip: &&IpAddr| fits(ip) && is_unicast(**ip) && url.port != 0;
        let mut fitting: Vec<SocketAddr> = addrs
            .iter()
            .filter(fits)
            .map(|ip| SocketAddr::new(*ip, url.port))
            .collect();
        // One that has answered before is asked first: the others may still be silent.
        fitting.sort_by_key(|at| !self.udp.has_answered(at));
        let Some((&dst, others)) = fitting.split_first() else {
            return self.refuse(id, key, TrackerError::NoAddress);
        };
        let sent = match query.kind {
            QueryKind::Announce(request) => {
                self.udp
                    .announce(&mut cx!(self), dst, &encoded(url.path), request)
            }
            QueryKind::Scrape => self.udp.scrape(&mut cx!(self), dst, &[info_hash]),
        };
        match sent {
            Ok(sent) => {
                self.udp.set_alternatives(sent, others);
                self.udp_queries.insert(sent, (id, key));
                self.out.timers.set(Timer::Udp, self.udp.poll_timeout());
            }
            Err(_) => self.refuse(id, key, TrackerError::Busy),
        }
    }

    /// A datagram to this address could not be sent.
    pub(super) fn udp_unsent(&mut self, addr: SocketAddr) {
        self.udp.handle_unsent(&mut cx!(self), addr);
        self.after_udp();
    }

    /// UDP tracker transactions may have ended, or want their timer moved.
    pub(super) fn after_udp(&mut self) {
        while let Some(event) = self.udp.poll_event() {
            let Some((id, key)) = self.udp_queries.remove(&event.id) else {
                continue;
            };
            if let Some(t) = self.torrents.get_mut(&id) {
                t.announcer.handle_answer(&mut cx!(self), key, event.result);
            }
            self.pump_trackers(id);
        }
        self.out.timers.set(Timer::Udp, self.udp.poll_timeout());
    }

    fn tracker_events(&mut self, id: TorrentId) {
        while let Some(event) = self
            .torrents
            .get_mut(&id)
            .and_then(|t| t.announcer.poll_event())
        {
            if let Some((t, mut io)) = self.at(id) {
                t.change(&mut io, Changes::TRACKERS);
            }
            match event {
                TrackerEvent::Peers { tracker, peers } => {
                    let message = match peers.len() {
                        1 => "it knows of 1 peer".into(),
                        n => alloc::format!("it knows of {n} peers"),
                    };
                    self.tracker_notice(id, tracker, Level::Detail, message);
                    let t = self.torrents.get(&id).filter(|t| t.is_running());
                    if let Some(url) = t.and_then(|t| t.announcer.url(tracker)) {
                        let scope = parse_url(url).map(|url| Scope::of_name(url.host));
                        let scope = scope.unwrap_or(Scope::Global);
                        if let Some((t, mut io)) = self.at(id) {
                            t.learn(&mut io, peers, swarm::Origin::tracker(scope));
                        }
                    }
                }
                TrackerEvent::Warning { tracker, text } => {
                    self.tracker_notice(id, tracker, Level::Info, text);
                }
                TrackerEvent::Failed { tracker, error, .. } => {
                    if let Some(what) = self.dht_failed(id, &error) {
                        self.out.notice(Some(id), None, Level::Warning, what);
                        continue;
                    }
                    let quiet = matches!(error, TrackerError::Cancelled | TrackerError::Busy);
                    let level = if quiet { Level::Detail } else { Level::Warning };
                    self.tracker_notice(id, tracker, level, alloc::format!("{error}"));
                }
                TrackerEvent::Unusable { tracker, error } => {
                    // Where others know peers it is of no importance.
                    let level = match self.has_sources(id) {
                        true => Level::Detail,
                        false => Level::Warning,
                    };
                    let message = alloc::format!("it cannot be used: {error}");
                    self.tracker_notice(id, tracker, level, message);
                }
                TrackerEvent::ExternalIp { ip, .. } => self.learn_external(Some(id), ip),
                TrackerEvent::Scraped { .. } => {}
            }
        }
        let t = self.torrents.get_mut(&id);
        if t.is_some_and(|t| t.announcer.take_answered()) {
            self.expect_peers(id);
        }
    }

    /// Whether a torrent has anybody to ask for peers, or knows some.
    fn has_sources(&self, id: TorrentId) -> bool {
        let dht = matches!(self.dht_mode(), DhtMode::Auto | DhtMode::On);
        self.torrents.get(&id).is_some_and(|t| {
            t.announcer.has_usable()
                || (dht && t.announcer.is_dht_enabled())
                || t.swarm.len() > 0
                || !t.members.is_empty()
        })
    }

    /// Somebody told how others see us.
    pub(super) fn learn_external(&mut self, id: Option<TorrentId>, ip: IpAddr) {
        if self.external != Some(ip) {
            self.external = Some(ip);
            self.out
                .notice(id, None, Level::Detail, What::ExternalAddress(ip));
        }
    }

    fn tracker_notice(&mut self, id: TorrentId, tracker: TrackerId, level: Level, message: String) {
        let url = self
            .torrents
            .get(&id)
            .and_then(|t| t.announcer.url(tracker))
            .unwrap_or_default()
            .into();
        self.out
            .notice(Some(id), None, level, What::Tracker { url, message });
    }

    /// Forgets the queries of a torrent that is gone.
    pub(super) fn drop_queries(&mut self, id: TorrentId) {
        self.dht_drop_search(id);
        self.out.ops.cancel_queries(id);
        self.resolving.retain(|(torrent, _), _| *torrent != id);
        let gone: Vec<_> = self
            .udp_queries
            .iter()
            .filter(|(_, (t, _))| *t == id)
            .map(|(q, _)| *q)
            .collect();
        for query in gone {
            self.udp_queries.remove(&query);
            self.udp.cancel(query);
        }
        self.out
            .timers
            .set(Timer::Torrent(id, TorrentTimer::Trackers), None);
        self.after_udp();
    }
}
