//! One tracker of a torrent, over all address families.

use alloc::{string::String, vec::Vec};

use crate::{
    id::InfoHash,
    net::Family,
    time::Instant,
    wire::tracker::{
        AnnounceEvent, AnnounceRequest, Answer, Scheme, TrackerError, http, parse_url,
    },
};

use super::{
    endpoint::{DEFAULT_MIN_INTERVAL, Endpoint, INTERVAL_CEILING},
    types::{
        DhtProgress, Families, NO_PORT, Query, QueryKey, QueryKind, Stats, TrackerEvent, TrackerId,
        TrackerState, TrackerStatus,
    },
};

/// The error of the DHT's pseudo-tracker while the node does not run.
const DOWN: &TrackerError = &TrackerError::Dht(super::SERVER_DOWN);

/// A tracker of a torrent.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: TrackerId,
    pub(super) url: String,
    pub(super) tier: u32,
    pub(super) http: bool,
    /// `Some` if it is the DHT's pseudo-tracker.
    pub(super) dht: Option<Dht>,
    pub(super) enabled: bool,
    /// Whether it was removed, and only waits for `stopped` to be sent.
    pub(super) leaving: bool,
    /// Why it cannot be used.
    pub(super) fault: Option<TrackerError>,
    /// Since when an answer is awaited, if any is.
    pub(super) asked: Instant,
    pub(super) tracker_id: Option<Vec<u8>>,
    pub(super) warning: Option<String>,
    pub(super) endpoints: heapless::Vec<Endpoint, 2>,
    pub(super) scrape: Scrape,
}

/// The additional state of the DHT's pseudo-tracker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dht {
    /// Whether the node runs.
    pub(super) up: bool,
    /// Whether it is asked although trackers work, as they do not know enough peers.
    pub(super) short: bool,
    /// Whether the user wants an announce, and has to be told why the DHT cannot be asked.
    pub(super) forced: bool,
}

/// The scrapes of a tracker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scrape {
    pub(super) wanted: bool,
    pub(super) asking: Option<QueryKey>,
    /// When the tracker allows the next scrape.
    pub(super) earliest: Instant,
}

impl Entry {
    pub(super) fn new(
        now: Instant,
        id: TrackerId,
        url: String,
        tier: u32,
        families: Families,
    ) -> Self {
        let parsed = parse_url(&url).map(|u| (u.scheme != Scheme::Udp, u.family()));
        let (http, literal, mut fault) = match parsed {
            Ok((http, literal)) => (http, literal, None),
            Err(error) => (false, None, Some(error)),
        };
        let wanted: &[Option<Family>] = match (families, literal) {
            (Families::Both, None) => &[Some(Family::V4), Some(Family::V6)],
            (Families::Both | Families::V4, Some(Family::V4)) | (Families::V4, None) => {
                &[Some(Family::V4)]
            }
            (Families::Both | Families::V6, Some(Family::V6)) | (Families::V6, None) => {
                &[Some(Family::V6)]
            }
            (Families::Any, _) => &[None],
            (Families::V4, Some(Family::V6)) | (Families::V6, Some(Family::V4)) => {
                fault = Some(TrackerError::NoAddress);
                &[]
            }
        };
        Self {
            id,
            url,
            tier,
            http,
            dht: None,
            enabled: true,
            leaving: false,
            fault,
            asked: now,
            tracker_id: None,
            warning: None,
            endpoints: wanted.iter().map(|&f| Endpoint::new(now, f)).collect(),
            scrape: Scrape {
                wanted: false,
                asking: None,
                earliest: now,
            },
        }
    }

    /// Whether it may be asked.
    pub(super) const fn is_usable(&self) -> bool {
        self.enabled && !self.leaving && self.fault.is_none() && !self.is_down()
    }

    /// Whether it is the DHT's pseudo-tracker while the node does not run.
    const fn is_down(&self) -> bool {
        matches!(self.dht, Some(Dht { up: false, .. }))
    }

    pub(super) fn is_asking(&self) -> bool {
        self.endpoints.iter().any(|e| e.asking.is_some())
    }

    pub(super) fn is_working(&self) -> bool {
        self.endpoints.iter().any(|e| e.working)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.endpoints.iter().all(Endpoint::is_quiet)
    }

    /// When it is asked next, if no answer is awaited.
    pub(super) fn next(&self) -> Option<Instant> {
        let idle = self.endpoints.iter().filter(|e| e.asking.is_none());
        idle.map(|e| e.next).min().filter(|_| self.is_usable())
    }

    /// An announce over one of its address families.
    pub(super) fn announce(
        &mut self,
        now: Instant,
        endpoint: usize,
        key: QueryKey,
        info_hash: InfoHash,
        stats: &Stats,
    ) -> Option<Query> {
        if !self.is_asking() {
            self.asked = now;
        }
        if let Some(dht) = &mut self.dht {
            dht.forced = false;
        }
        let end = self.endpoints.get_mut(endpoint)?;
        let event = end.event(stats.partial);
        end.asking = Some((key, event));
        let (uploaded, downloaded) = end.counted(stats.uploaded, stats.downloaded);
        let request = AnnounceRequest {
            info_hash,
            peer_id: stats.peer_id,
            downloaded,
            uploaded,
            left: stats.left,
            event,
            key: stats.key,
            numwant: match event {
                AnnounceEvent::Stopped => Some(0),
                _ => stats.numwant,
            },
            port: match end.family {
                Some(family) => stats.ports.of(family),
                None => stats.ports.any(),
            }
            .unwrap_or(NO_PORT),
            crypto: stats.crypto,
            ipv4: stats.ipv4,
            ipv6: stats.ipv6,
        };
        Some(Query {
            key,
            tracker: self.id,
            family: end.family,
            url: if self.http {
                http::announce_url(&self.url, &request, self.tracker_id.as_deref())
            } else {
                self.url.clone()
            },
            kind: QueryKind::Announce(request),
        })
    }

    /// A scrape. Both families lead to the same tracker; the one that works is asked.
    pub(super) fn ask_scrape(&mut self, key: QueryKey, info_hash: InfoHash) -> Query {
        self.scrape.wanted = false;
        self.scrape.asking = Some(key);
        let working = self.endpoints.iter().find(|e| e.working);
        let asked = working.or(self.endpoints.first());
        let url = if self.http {
            http::scrape_url(&self.url, &[info_hash])
        } else {
            None
        };
        Query {
            key,
            tracker: self.id,
            family: asked.and_then(|e| e.family),
            kind: QueryKind::Scrape,
            url: url.unwrap_or_else(|| self.url.clone()),
        }
    }

    /// The result of a scrape.
    pub(super) fn scraped(
        &mut self,
        now: Instant,
        answer: Result<Answer, TrackerError>,
    ) -> Option<TrackerEvent> {
        self.scrape.asking = None;
        self.scrape.earliest = now + DEFAULT_MIN_INTERVAL;
        let Ok(Answer::Scrape(answer)) = answer else {
            // Many trackers do not support scrapes; that says nothing about announces.
            return None;
        };
        if let Some(pause) = answer.min_interval {
            self.scrape.earliest = now + pause.min(INTERVAL_CEILING);
        }
        let figures = (*answer.files.first()?)?;
        for endpoint in &mut self.endpoints {
            endpoint.complete = Some(figures.complete);
            endpoint.incomplete = Some(figures.incomplete);
            endpoint.downloaded = Some(figures.downloaded);
        }
        Some(TrackerEvent::Scraped {
            tracker: self.id,
            complete: Some(figures.complete),
            incomplete: Some(figures.incomplete),
            downloaded: Some(figures.downloaded),
        })
    }

    fn state(&self) -> TrackerState {
        if !self.enabled {
            TrackerState::Disabled
        } else if self.fault.is_some() || self.is_down() {
            TrackerState::Unusable
        } else if self.is_asking() {
            TrackerState::Asking
        } else if self.is_working() {
            TrackerState::Working
        } else if self.endpoints.iter().any(|e| e.fails > 0) {
            TrackerState::Failed
        } else {
            TrackerState::Idle
        }
    }

    pub(super) fn status(&self, running: bool) -> TrackerStatus<'_> {
        let best =
            |figure: fn(&Endpoint) -> Option<u32>| self.endpoints.iter().filter_map(figure).max();
        let asking = self.is_asking();
        TrackerStatus {
            id: self.id,
            url: &self.url,
            tier: self.tier,
            state: self.state(),
            next: self.next().filter(|_| running && !asking),
            error: self
                .fault
                .as_ref()
                .or_else(|| self.is_down().then_some(DOWN))
                .or_else(|| self.endpoints.iter().find_map(|e| e.error.as_ref())),
            warning: self.warning.as_deref(),
            fails: self.endpoints.iter().map(|e| e.fails).min().unwrap_or(0),
            seeds: best(|e| e.complete),
            leeches: best(|e| e.incomplete),
            downloaded: best(|e| e.downloaded),
            peers: self
                .endpoints
                .iter()
                .fold(0, |sum, e| sum.saturating_add(e.peers)),
            // The owner adds the progress.
            dht: self.dht.map(|_| DhtProgress::default()),
        }
    }
}
