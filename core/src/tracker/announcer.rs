//! When to ask which tracker of one torrent (BEP 3, 7, 12).
//!
//! ```text
//!  tier 0:  A ──failed──▶ B ──failed──▶ C        success moves a tracker to the front of its tier
//!  tier 1:  D …      └─back-off─▶ A              tiers are tried from the first, always
//!
//!  each of them, over each family:  started ─▶ (none | completed)* ─▶ stopped
//! ```
//!
//! A tracker is skipped while it backs off. It keeps those behind it from being asked while it
//! works, and for the first 15 seconds in which its answer is awaited; [`Reach`] says how far
//! behind. A tracker fails only if it fails over all families.

use crate::{
    id::InfoHash,
    machine::Cx,
    time::Instant,
    wire::tracker::{AnnounceAnswer, AnnounceEvent, AnnounceRequest, Answer, TrackerError, http},
};
use alloc::{
    collections::VecDeque,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    endpoint::{Endpoint, INTERVAL_FLOOR},
    entry::Entry,
    plan::{Job, plan},
    types::{
        AnnounceConfig, MAX_TRACKERS, NO_PORT, Query, QueryKey, QueryKind, Reach, SavedTracker,
        Stats, TrackerEvent, TrackerId, TrackerStatus,
    },
    udp::Full,
};

/// Most events kept for the owner; beyond them the oldest go, as peers and errors of long ago
/// are of little use.
const MAX_EVENTS: usize = 64;

/// The trackers of one torrent.
#[derive(Clone, Debug)]
pub struct Announcer {
    info_hash: InfoHash,
    config: AnnounceConfig,
    /// In the order they are tried in: by tier, and promoted inside it; the DHT last.
    pub(super) trackers: Vec<Entry>,
    pub(super) running: bool,
    /// A tracker has answered an announce since this was last asked.
    pub(super) answered: bool,
    pub(super) next_tracker: u32,
    next_query: u64,
    /// The number of queries that are not answered yet.
    asking: u16,
    /// When `poll_query` has something next; never stale.
    wake: Option<Instant>,
    events: VecDeque<TrackerEvent>,
}

impl Announcer {
    /// The trackers of `tiers`, each tier shuffled (BEP 12), asking nobody until
    /// [`Announcer::start`]. A URL that cannot be used becomes a tracker with an error to read;
    /// repeated ones and those beyond [`MAX_TRACKERS`] are left out.
    pub fn new(
        cx: &mut Cx<'_>,
        info_hash: InfoHash,
        tiers: &[Vec<String>],
        config: AnnounceConfig,
    ) -> Self {
        let mut announcer = Self {
            info_hash,
            config: AnnounceConfig {
                max_queries: config.max_queries.max(1),
                ..config
            },
            trackers: Vec::new(),
            running: false,
            answered: false,
            next_tracker: 0,
            next_query: 0,
            asking: 0,
            wake: None,
            events: VecDeque::new(),
        };
        for (tier, urls) in (0..).zip(tiers) {
            let first = announcer.trackers.len();
            for url in urls {
                let _ = announcer.insert(cx.now, tier, url);
            }
            shuffle(cx, &mut announcer.trackers[first..]);
        }
        announcer
    }

    // ---- commands ----

    /// Begins, or goes on after [`Announcer::stop`].
    pub fn start(&mut self, cx: &mut Cx<'_>) {
        self.running = true;
        for tracker in self.trackers.iter_mut().filter(|t| t.is_usable()) {
            for endpoint in &mut tracker.endpoints {
                endpoint.start(cx.now);
            }
        }
        self.refresh(cx.now);
    }

    /// Tells every tracker that has us on its list that we stop, once, and asks nothing more.
    /// The owner goes on as usual until [`Announcer::all_stopped`], or until it has no more time.
    pub fn stop(&mut self, cx: &mut Cx<'_>) {
        self.running = false;
        for tracker in &mut self.trackers {
            tracker.scrape.wanted = false;
            for endpoint in &mut tracker.endpoints {
                endpoint.stop();
            }
        }
        self.refresh(cx.now);
    }

    /// Whether every tracker that had to hear that we stop has heard it, or did not answer.
    #[must_use]
    pub fn all_stopped(&self) -> bool {
        !self.running && self.trackers.iter().all(Entry::is_quiet)
    }

    /// Whether a tracker that answers has still to hear that we stop. What else
    /// [`Announcer::all_stopped`] waits for are trackers that never answered, or do no longer.
    #[must_use]
    pub fn awaits_stopped(&self) -> bool {
        let mut endpoints = self.trackers.iter().flat_map(|t| &t.endpoints);
        !self.running && endpoints.any(Endpoint::awaits_stopped)
    }

    /// The download has just finished: the trackers that saw it are told, once. Not to be
    /// called for a torrent that was complete from the start.
    pub fn completed(&mut self, cx: &mut Cx<'_>) {
        for endpoint in self.trackers.iter_mut().flat_map(|t| &mut t.endpoints) {
            endpoint.complete(cx.now);
        }
        self.refresh(cx.now);
    }

    /// The user wants an announce: at the end of the tracker's min interval, or with `force` now.
    pub fn reannounce(&mut self, cx: &mut Cx<'_>, force: bool) {
        for tracker in &mut self.trackers {
            if force && matches!(tracker.fault, Some(TrackerError::Failure { .. })) {
                tracker.fault = None;
            }
            for endpoint in &mut tracker.endpoints {
                // The DHT minds no pauses.
                endpoint.hurry(cx.now, true, force || tracker.dht.is_some());
            }
        }
        self.force_dht();
        self.refresh(cx.now);
    }

    /// The torrent is short of peers: working trackers are asked at the end of their min
    /// interval instead of their interval.
    pub fn need_peers(&mut self, cx: &mut Cx<'_>) {
        for endpoint in self.trackers.iter_mut().flat_map(|t| &mut t.endpoints) {
            endpoint.hurry(cx.now, false, false);
        }
        self.refresh(cx.now);
    }

    /// The network is back after it was gone, and our address may be another one: every tracker is
    /// asked soon, also one that failed, though none twice within the shortest interval there is.
    pub fn network_back(&mut self, cx: &mut Cx<'_>) {
        for tracker in &mut self.trackers {
            let at = cx.now.max(tracker.asked + INTERVAL_FLOOR);
            for endpoint in &mut tracker.endpoints {
                endpoint.move_up(at);
            }
        }
        self.refresh(cx.now);
    }

    /// Asks every tracker that can be scraped for the size of the swarm, also while stopped.
    pub fn scrape(&mut self, cx: &mut Cx<'_>) {
        for tracker in self.trackers.iter_mut().filter(|t| t.is_usable()) {
            tracker.scrape.wanted = tracker.scrape.asking.is_none()
                && tracker.dht.is_none()
                && (!tracker.http || http::scrape_url(&tracker.url, &[]).is_some());
        }
        self.refresh(cx.now);
    }

    /// Adds a tracker at the end of `tier`; one with this URL already there stays where it is.
    ///
    /// # Errors
    /// [`Full`] if there are [`MAX_TRACKERS`].
    pub fn add(&mut self, cx: &mut Cx<'_>, tier: u32, url: &str) -> Result<TrackerId, Full> {
        let id = self.insert(cx.now, tier, url)?;
        self.refresh(cx.now);
        Ok(id)
    }

    /// Removes a tracker, after it has heard that we stop.
    pub fn remove(&mut self, cx: &mut Cx<'_>, id: TrackerId) {
        if let Some(tracker) = self.tracker_mut(id) {
            tracker.leaving = true;
            tracker.endpoints.iter_mut().for_each(Endpoint::stop);
        }
        self.refresh(cx.now);
    }

    /// Switches a tracker on or off; switched off it hears that we stop.
    pub fn set_enabled(&mut self, cx: &mut Cx<'_>, id: TrackerId, enabled: bool) {
        if let Some(tracker) = self.tracker_mut(id) {
            tracker.enabled = enabled;
            for endpoint in &mut tracker.endpoints {
                if enabled {
                    endpoint.start(cx.now);
                } else {
                    endpoint.stop();
                }
            }
        }
        self.refresh(cx.now);
    }

    /// Changes how many trackers are kept informed.
    pub fn set_reach(&mut self, cx: &mut Cx<'_>, reach: Reach) {
        self.config.reach = reach;
        self.refresh(cx.now);
    }

    // ---- out ----

    /// The next thing to ask. Each query wants one [`Announcer::handle_answer`] (or
    /// [`Announcer::handle_http`]), whatever comes of it.
    pub fn poll_query(&mut self, cx: &mut Cx<'_>, stats: &Stats) -> Option<Query> {
        if self.wake? > cx.now {
            return None;
        }
        let query = match self.plan(cx.now).0? {
            Job::Announce { tracker, endpoint } => self.announce(cx.now, tracker, endpoint, stats),
            Job::Scrape { tracker } => self.ask_scrape(tracker),
        };
        self.refresh(cx.now);
        query
    }

    /// When [`Announcer::poll_query`] has something next. There are no other timers.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// The next thing the owner should know.
    pub fn poll_event(&mut self) -> Option<TrackerEvent> {
        self.events.pop_front()
    }

    /// The trackers, in the order they are tried in.
    pub fn status(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        let shown = self.trackers.iter().filter(|t| !t.leaving);
        shown.map(|t| t.status(self.running))
    }

    /// Whether any tracker can be asked, the DHT left aside.
    #[must_use]
    pub fn has_usable(&self) -> bool {
        let mut others = self.trackers.iter().filter(|t| t.dht.is_none());
        others.any(Entry::is_usable)
    }

    /// A tracker's URL, for messages.
    #[must_use]
    pub fn url(&self, id: TrackerId) -> Option<&str> {
        let found = self.trackers.iter().find(|t| t.id == id)?;
        Some(&found.url)
    }

    /// What is worth keeping, in the order trackers are tried in.
    pub fn save(&self) -> Vec<SavedTracker> {
        let kept = self.trackers.iter().filter(|t| !t.leaving);
        kept.map(|t| SavedTracker {
            url: t.url.clone(),
            tier: t.tier,
            enabled: t.enabled,
            tracker_id: t.tracker_id.clone(),
        })
        .collect()
    }

    /// Takes up what [`Announcer::save`] kept, before the start: order, switches, tracker ids.
    /// Trackers that were not there yet are added, those not mentioned come last in their tier.
    pub fn restore(&mut self, cx: &mut Cx<'_>, saved: &[SavedTracker]) {
        let mut position = 0;
        for kept in saved {
            if self.restore_dht(kept) || self.insert(cx.now, kept.tier, &kept.url).is_err() {
                continue;
            }
            let found = self.trackers[position..]
                .iter()
                .position(|t| t.url == kept.url.trim());
            // One that is mentioned twice stands before `position` already.
            let Some(found) = found else {
                continue;
            };
            self.trackers[position..=position + found].rotate_right(1);
            let tracker = &mut self.trackers[position];
            tracker.tier = kept.tier;
            tracker.enabled = kept.enabled;
            let id = kept.tracker_id.as_ref();
            tracker.tracker_id = id.filter(|id| id.len() <= http::MAX_TRACKER_ID).cloned();
            position += 1;
        }
        // Stable, so the order just made stays.
        self.trackers.sort_by_key(|t| t.tier);
        self.settle_dht();
        self.refresh(cx.now);
    }

    // ---- in ----

    /// The outcome of an HTTP query: `status` and `body` as they came.
    pub fn handle_http(&mut self, cx: &mut Cx<'_>, key: QueryKey, status: u16, body: &[u8]) {
        let scrape = self.trackers.iter().any(|t| t.scrape.asking == Some(key));
        let answer = if scrape {
            http::parse_scrape(status, body, &[self.info_hash]).map(Answer::Scrape)
        } else {
            http::parse_announce(status, body).map(Answer::Announce)
        };
        self.handle_answer(cx, key, answer);
    }

    /// What came of a query; a key that is not awaited is ignored.
    pub fn handle_answer(
        &mut self,
        cx: &mut Cx<'_>,
        key: QueryKey,
        answer: Result<Answer, TrackerError>,
    ) {
        let asked = |t: &Entry| {
            t.endpoints
                .iter()
                .position(|e| e.asking.is_some_and(|a| a.0 == key))
        };
        let found = self.trackers.iter().enumerate();
        let mut found = found.filter_map(|(i, t)| asked(t).map(|e| (i, e)));
        if let Some((tracker, endpoint)) = found.next() {
            self.asking = self.asking.saturating_sub(1);
            match answer {
                Ok(Answer::Announce(answer)) => self.announced(cx.now, tracker, endpoint, answer),
                Ok(Answer::Scrape(_)) => self.failed(cx, tracker, endpoint, mismatch()),
                Err(error) => self.failed(cx, tracker, endpoint, error),
            }
        } else if let Some(tracker) = self
            .trackers
            .iter_mut()
            .find(|t| t.scrape.asking == Some(key))
        {
            self.asking = self.asking.saturating_sub(1);
            let figures = tracker.scraped(cx.now, answer);
            if let Some(figures) = figures {
                self.push(figures);
            }
        }
        self.refresh(cx.now);
    }

    // ---- inside ----

    fn announced(&mut self, now: Instant, at: usize, endpoint: usize, answer: AnnounceAnswer) {
        let running = self.running;
        let tracker = &mut self.trackers[at];
        let id = tracker.id;
        // It may have said "never" over the other family; now it has thought better of it.
        tracker.fault = None;
        let staying = running && tracker.is_usable();
        let end = &mut tracker.endpoints[endpoint];
        end.succeeded(now, &answer);
        if !staying {
            end.stop();
        }
        if answer.tracker_id.is_some() {
            tracker.tracker_id = answer.tracker_id;
        }
        tracker.warning.clone_from(&answer.warning);
        if let Some(text) = answer.warning {
            self.push(TrackerEvent::Warning { tracker: id, text });
        }
        if let Some(ip) = answer.external_ip {
            self.push(TrackerEvent::ExternalIp { tracker: id, ip });
        }
        self.answered = true;
        let (complete, incomplete) = (answer.complete, answer.incomplete);
        if complete.or(incomplete).is_some() {
            self.push(TrackerEvent::Scraped {
                tracker: id,
                complete,
                incomplete,
                downloaded: answer.downloaded,
            });
        }
        if staying && !answer.peers.is_empty() {
            let peers = answer.peers;
            self.push(TrackerEvent::Peers { tracker: id, peers });
        }
        self.promote(at);
    }

    fn failed(&mut self, cx: &mut Cx<'_>, at: usize, endpoint: usize, error: TrackerError) {
        let tracker = &mut self.trackers[at];
        let end = &mut tracker.endpoints[endpoint];
        match error {
            TrackerError::Cancelled => end.cancelled(cx),
            TrackerError::Busy => end.postponed(cx),
            _ => end.failed(cx, error.clone()),
        }
        // Why the DHT cannot be asked is heard, if somebody wanted to know.
        let told = tracker.dht.is_some() && tracker.enabled;
        if !(self.running && (tracker.is_usable() || told)) {
            tracker.endpoints[endpoint].stop();
            return;
        }
        let given_up = matches!(error, TrackerError::Cancelled | TrackerError::Busy);
        if given_up || tracker.is_asking() || tracker.is_working() {
            return;
        }
        if error.is_permanent() {
            tracker.fault = Some(error.clone());
        }
        // "No such address" is the least that can be said; the other family may know more.
        let mut told = tracker.endpoints.iter().filter_map(|e| e.error.as_ref());
        let told = told.rfind(|e| **e != TrackerError::NoAddress);
        let failed = TrackerEvent::Failed {
            tracker: tracker.id,
            error: told.cloned().unwrap_or(error),
            next: tracker.next(),
        };
        self.push(failed);
    }

    /// Success moves a tracker to the front of its tier (BEP 12).
    fn promote(&mut self, at: usize) {
        if self.config.reach == Reach::All {
            return;
        }
        let tier = self.trackers[at].tier;
        let first = self.trackers.partition_point(|t| t.tier < tier);
        self.trackers[first..=at].rotate_right(1);
    }

    fn push(&mut self, event: TrackerEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn insert(&mut self, now: Instant, tier: u32, url: &str) -> Result<TrackerId, Full> {
        let url = url.trim();
        if url == super::DHT_URL {
            // It is added by the owner alone, where it may be.
            return self.dht_id().ok_or(Full);
        }
        if let Some(known) = self.trackers.iter_mut().find(|t| t.url == url) {
            if core::mem::take(&mut known.leaving) {
                known.endpoints.iter_mut().for_each(|e| e.start(now));
            }
            return Ok(known.id);
        }
        if self.trackers.len() >= MAX_TRACKERS {
            return Err(Full);
        }
        let id = TrackerId(self.next_tracker);
        self.next_tracker += 1;
        let at = self.trackers.partition_point(|t| t.tier <= tier);
        let families = self.config.families;
        let entry = Entry::new(now, id, url.to_string(), tier, families);
        let fault = entry.fault.clone();
        self.trackers.insert(at, entry);
        if let Some(error) = fault {
            self.push(TrackerEvent::Unusable { tracker: id, error });
        }
        self.settle_dht();
        Ok(id)
    }

    pub(super) fn tracker_mut(&mut self, id: TrackerId) -> Option<&mut Entry> {
        self.trackers.iter_mut().find(|t| t.id == id)
    }

    /// After every change: lets trackers go that have nothing left to say, and finds out when
    /// something is due.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.trackers
            .retain(|t| !t.leaving || !t.is_quiet() || t.scrape.asking.is_some());
        self.wake = self.plan(now).1;
    }

    /// What is due now, if anything, and when something is due next (now or earlier if it is).
    fn plan(&self, now: Instant) -> (Option<Job>, Option<Instant>) {
        if self.asking >= self.config.max_queries {
            return (None, None);
        }
        plan(&self.trackers, self.config.reach, self.running, now)
    }

    fn key(&mut self) -> QueryKey {
        self.asking += 1;
        self.next_query += 1;
        QueryKey(self.next_query)
    }

    fn announce(
        &mut self,
        now: Instant,
        at: usize,
        endpoint: usize,
        stats: &Stats,
    ) -> Option<Query> {
        let (key, info_hash) = (self.key(), self.info_hash);
        let tracker = self.trackers.get_mut(at)?;
        if !tracker.is_asking() {
            tracker.asked = now;
        }
        if let Some(dht) = &mut tracker.dht {
            dht.forced = false;
        }
        let end = tracker.endpoints.get_mut(endpoint)?;
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
            tracker: tracker.id,
            family: end.family,
            url: if tracker.http {
                http::announce_url(&tracker.url, &request, tracker.tracker_id.as_deref())
            } else {
                tracker.url.clone()
            },
            kind: QueryKind::Announce(request),
        })
    }

    fn ask_scrape(&mut self, at: usize) -> Option<Query> {
        let (key, info_hash) = (self.key(), self.info_hash);
        let tracker = self.trackers.get_mut(at)?;
        tracker.scrape.wanted = false;
        tracker.scrape.asking = Some(key);
        // Both families reach the same tracker; the one that works is asked.
        let working = tracker.endpoints.iter().find(|e| e.working);
        let asked = working.or(tracker.endpoints.first());
        let url = if tracker.http {
            http::scrape_url(&tracker.url, &[info_hash])
        } else {
            None
        };
        Some(Query {
            key,
            tracker: tracker.id,
            family: asked.and_then(|e| e.family),
            kind: QueryKind::Scrape,
            url: url.unwrap_or_else(|| tracker.url.clone()),
        })
    }
}

/// Fisher-Yates.
fn shuffle<T>(cx: &mut Cx<'_>, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        let bound = u32::try_from(i + 1).unwrap_or(u32::MAX);
        items.swap(i, cx.below(bound) as usize);
    }
}

const fn mismatch() -> TrackerError {
    TrackerError::Malformed {
        what: "an answer to something else",
        start: String::new(),
    }
}

#[cfg(test)]
#[path = "announcer_tests/mod.rs"]
mod tests;
