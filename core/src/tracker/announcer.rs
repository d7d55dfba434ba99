//! When to ask which tracker of one torrent (BEP 3, 7, 12).
//!
//! ```text
//!  tier 0:  A ──failed──▶ B ──failed──▶ C        success moves a tracker to the front of its tier
//!  tier 1:  D …      └─back-off─▶ A              tiers are tried from the first, always
//!
//!  each of them, over each family:  started ─▶ (none | completed)* ─▶ stopped
//! ```
//!
//! A tracker is skipped while it backs off. While it works, and for the first 15 seconds of waiting for its answer, the
//! trackers after it are not asked; [`Reach`] says which ones. A tracker fails only if it fails over all address families.

use crate::{
    id::InfoHash,
    machine::Cx,
    time::Instant,
    wire::tracker::{AnnounceAnswer, Answer, TrackerError, http},
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
        AnnounceConfig, MAX_TRACKERS, Query, QueryKey, Reach, SavedTracker, Stats, TrackerEvent,
        TrackerId, TrackerStatus,
    },
    udp::Full,
};

/// The maximum number of pending events. Beyond it the oldest are dropped, as old peers and errors are of little use.
const MAX_EVENTS: usize = 64;

/// The trackers of one torrent.
#[derive(Clone, Debug)]
pub struct Announcer {
    info_hash: InfoHash,
    config: AnnounceConfig,
    /// In the order in which they are tried: by tier, by their last success within a tier, and the DHT last.
    pub(super) trackers: Vec<Entry>,
    pub(super) running: bool,
    /// Whether a tracker has answered an announce since the last call of [`Announcer::take_answered`].
    pub(super) answered: bool,
    pub(super) next_tracker: u32,
    next_query: u64,
    /// The number of queries that are not answered yet.
    asking: u16,
    /// When `poll_query` has the next query. It is always up to date.
    wake: Option<Instant>,
    events: VecDeque<TrackerEvent>,
}

impl Announcer {
    /// Creates an announcer with the trackers of `tiers`, each tier shuffled (BEP 12). No tracker is asked before
    /// [`Announcer::start`]. A URL that cannot be used becomes a tracker with an error. Duplicates, and trackers beyond
    /// [`MAX_TRACKERS`], are left out.
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

    /// The torrent's info-hash.
    pub(crate) const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    // ---- commands ----

    /// Starts to announce, or starts again after [`Announcer::stop`].
    pub fn start(&mut self, cx: &mut Cx<'_>) {
        self.running = true;
        for tracker in self.trackers.iter_mut().filter(|t| t.is_usable()) {
            for endpoint in &mut tracker.endpoints {
                endpoint.start(cx.now);
            }
        }
        self.refresh(cx.now);
    }

    /// Sends `stopped` once to every tracker that knows us, and nothing else. The owner continues as usual until
    /// [`Announcer::all_stopped`], or until it has no more time.
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

    /// Whether every tracker that had to be told `stopped` was told, or did not answer.
    #[must_use]
    pub fn all_stopped(&self) -> bool {
        !self.running && self.trackers.iter().all(Entry::is_quiet)
    }

    /// Whether a tracker that answers still has to be told `stopped`. The others that [`Announcer::all_stopped`] waits for
    /// have never answered, or do not answer any more.
    #[must_use]
    pub fn awaits_stopped(&self) -> bool {
        let mut endpoints = self.trackers.iter().flat_map(|t| &t.endpoints);
        !self.running && endpoints.any(Endpoint::awaits_stopped)
    }

    /// The download has just finished: sends `completed` once to the trackers that were told of the download. It must not be
    /// called for a torrent that was complete from the start.
    pub fn completed(&mut self, cx: &mut Cx<'_>) {
        for endpoint in self.trackers.iter_mut().flat_map(|t| &mut t.endpoints) {
            endpoint.complete(cx.now);
        }
        self.refresh(cx.now);
    }

    /// The user wants an announce: at the end of the tracker's minimum interval or, with `force`, now.
    pub fn reannounce(&mut self, cx: &mut Cx<'_>, force: bool) {
        for tracker in &mut self.trackers {
            if force && matches!(tracker.fault, Some(TrackerError::Failure { .. })) {
                tracker.fault = None;
            }
            for endpoint in &mut tracker.endpoints {
                // The DHT has no minimum interval.
                endpoint.hurry(cx.now, true, force || tracker.dht.is_some());
            }
        }
        self.force_dht();
        self.refresh(cx.now);
    }

    /// The torrent needs peers: working trackers are asked at the end of their minimum interval instead of their interval.
    pub fn need_peers(&mut self, cx: &mut Cx<'_>) {
        for endpoint in self.trackers.iter_mut().flat_map(|t| &mut t.endpoints) {
            endpoint.hurry(cx.now, false, false);
        }
        self.refresh(cx.now);
    }

    /// Some time after an answer, the torrent has no peers and knows none: working trackers are asked before the end of their
    /// interval, which may be an hour. The pauses start with the minimum interval and double, up to the interval.
    pub fn found_nobody(&mut self, cx: &mut Cx<'_>) {
        for endpoint in self.trackers.iter_mut().flat_map(|t| &mut t.endpoints) {
            endpoint.found_nobody();
        }
        self.refresh(cx.now);
    }

    /// The network is available again, and our address may have changed: every tracker is asked soon, also one that failed,
    /// but not twice within the shortest interval.
    pub fn network_back(&mut self, cx: &mut Cx<'_>) {
        for tracker in &mut self.trackers {
            let at = cx.now.max(tracker.asked + INTERVAL_FLOOR);
            for endpoint in &mut tracker.endpoints {
                endpoint.move_up(at);
            }
        }
        self.refresh(cx.now);
    }

    /// Scrapes every tracker that supports it, also while stopped.
    pub fn scrape(&mut self, cx: &mut Cx<'_>) {
        for tracker in self.trackers.iter_mut().filter(|t| t.is_usable()) {
            tracker.scrape.wanted = tracker.scrape.asking.is_none()
                && tracker.dht.is_none()
                && (!tracker.http || http::scrape_url(&tracker.url, &[]).is_some());
        }
        self.refresh(cx.now);
    }

    /// Adds a tracker at the end of `tier`. If there is one with this URL, that stays where it is.
    ///
    /// # Errors
    /// [`Full`] if there are [`MAX_TRACKERS`].
    pub fn add(&mut self, cx: &mut Cx<'_>, tier: u32, url: &str) -> Result<TrackerId, Full> {
        let id = self.insert(cx.now, tier, url)?;
        self.refresh(cx.now);
        Ok(id)
    }

    /// Removes a tracker after it was told `stopped`.
    pub fn remove(&mut self, cx: &mut Cx<'_>, id: TrackerId) {
        if let Some(tracker) = self.tracker_mut(id) {
            tracker.leaving = true;
            tracker.endpoints.iter_mut().for_each(Endpoint::stop);
        }
        self.refresh(cx.now);
    }

    /// Enables or disables a tracker. A tracker that is disabled is told `stopped`.
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

    /// Changes which trackers are announced to.
    pub fn set_reach(&mut self, cx: &mut Cx<'_>, reach: Reach) {
        self.config.reach = reach;
        self.refresh(cx.now);
    }

    // ---- out ----

    /// Returns the next query. Each has to be answered once by [`Announcer::handle_answer`] or [`Announcer::handle_http`],
    /// whatever its result.
    pub fn poll_query(&mut self, cx: &mut Cx<'_>, stats: &Stats) -> Option<Query> {
        if self.wake? > cx.now {
            return None;
        }
        let job = self.plan(cx.now).0?;
        let (key, info_hash) = (self.key(), self.info_hash);
        let query = match job {
            Job::Announce { tracker, endpoint } => {
                let tracker = self.trackers.get_mut(tracker);
                tracker.and_then(|t| t.announce(cx.now, endpoint, key, info_hash, stats))
            }
            Job::Scrape { tracker } => {
                let tracker = self.trackers.get_mut(tracker);
                tracker.map(|t| t.ask_scrape(key, info_hash))
            }
        };
        self.refresh(cx.now);
        query
    }

    /// When [`Announcer::poll_query`] has the next query. There are no other timers.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<TrackerEvent> {
        self.events.pop_front()
    }

    /// The trackers, in the order in which they are tried.
    pub fn status(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        let shown = self.trackers.iter().filter(|t| !t.leaving);
        shown.map(|t| t.status(self.running))
    }

    /// Whether any tracker other than the DHT can be asked.
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

    /// The state to save, in the order in which trackers are tried.
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

    /// Restores what [`Announcer::save`] returned, before the start: order, enabled trackers, tracker ids. Unknown trackers
    /// are added, and those that are not mentioned come last in their tier.
    pub fn restore(&mut self, cx: &mut Cx<'_>, saved: &[SavedTracker]) {
        let mut position = 0;
        for kept in saved {
            if self.restore_dht(kept) || self.insert(cx.now, kept.tier, &kept.url).is_err() {
                continue;
            }
            let found = self.trackers[position..]
                .iter()
                .position(|t| t.url == kept.url.trim());
            // A tracker that is mentioned twice is before `position` already.
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
        // The sort is stable, so the order within a tier is kept.
        self.trackers.sort_by_key(|t| t.tier);
        self.settle_dht();
        self.refresh(cx.now);
    }

    // ---- in ----

    /// The outcome of an HTTP query, with the status and the body of the response.
    pub fn handle_http(&mut self, cx: &mut Cx<'_>, key: QueryKey, status: u16, body: &[u8]) {
        let scrape = self.trackers.iter().any(|t| t.scrape.asking == Some(key));
        let answer = if scrape {
            http::parse_scrape(status, body, &[self.info_hash]).map(Answer::Scrape)
        } else {
            http::parse_announce(status, body).map(Answer::Announce)
        };
        self.handle_answer(cx, key, answer);
    }

    /// The result of a query. A key that is not awaited is ignored.
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
        // It may have said "never" over the other family; this answer replaces it.
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
        // The user who wanted an announce is told why the DHT cannot be asked.
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
        // The error of the other family says more than "no address".
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
            // Only the owner adds it, if the torrent may use it.
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

    /// To be called after every change: drops removed trackers that have nothing left to send, and computes when the next
    /// query is due.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.trackers
            .retain(|t| !t.leaving || !t.is_quiet() || t.scrape.asking.is_some());
        self.wake = self.plan(now).1;
    }

    /// What is due now, if anything, and when the next query is due, which is now or earlier if one is due.
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
}

/// Shuffles by the Fisher-Yates algorithm.
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
