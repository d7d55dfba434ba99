//! The DHT as the pseudo-tracker of a torrent that is not private.
//!
//! It has a tier of its own after all others, and is asked when none of them works, or when they do not know enough peers
//! ([`Announcer::set_short`]). It is enabled, disabled and saved in resume records like any tracker. While the node does not
//! run, it exists but cannot be asked.

use core::time::Duration;

use alloc::string::String;

use crate::Cx;
use crate::wire::tracker::{AnnounceAnswer, Answer, TrackerError};

use super::announcer::Announcer;
use super::endpoint::Endpoint;
use super::entry::{Dht, Entry};
use super::types::{DHT_URL, DhtFound, Families, QueryKey, SavedTracker, TrackerId};

/// The time between searches. The value is rTorrent's.
const INTERVAL: Duration = Duration::from_secs(20 * 60);
/// The minimum time for a torrent that needs peers. The value is rTorrent's.
const MIN_INTERVAL: Duration = Duration::from_secs(5 * 60);

impl Announcer {
    /// Adds the pseudo-tracker after all others, unless it exists. `up` says whether the node runs.
    pub fn add_dht(&mut self, cx: &mut Cx<'_>, up: bool) -> TrackerId {
        if let Some(id) = self.dht_id() {
            return id;
        }
        let id = TrackerId(self.next_tracker);
        self.next_tracker += 1;
        let mut entry = Entry::new(cx.now, id, String::from(DHT_URL), 0, Families::Any);
        entry.fault = None;
        entry.dht = Some(Dht {
            up,
            ..Dht::default()
        });
        let mut endpoint = Endpoint::new(cx.now, None);
        endpoint.nameless = true;
        entry.endpoints = core::iter::once(endpoint).collect();
        self.trackers.push(entry);
        self.settle_dht();
        self.refresh(cx.now);
        id
    }

    /// Removes the pseudo-tracker: the torrent is private, or the DHT was disabled.
    pub fn remove_dht(&mut self, cx: &mut Cx<'_>) {
        self.trackers.retain(|t| t.dht.is_none());
        self.refresh(cx.now);
    }

    /// The pseudo-tracker, if it exists.
    #[must_use]
    pub fn dht_id(&self) -> Option<TrackerId> {
        self.trackers
            .last()
            .filter(|t| t.dht.is_some())
            .map(|t| t.id)
    }

    /// Whether there is any tracker, including the pseudo-tracker.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trackers.iter().all(|t| t.leaving)
    }

    /// Whether the pseudo-tracker is enabled.
    #[must_use]
    pub fn is_dht_enabled(&self) -> bool {
        self.trackers
            .last()
            .is_some_and(|t| t.dht.is_some() && t.enabled)
    }

    /// The node was started or stopped.
    pub fn set_dht_up(&mut self, cx: &mut Cx<'_>, up: bool) {
        let running = self.running;
        let Some((entry, dht)) = self.dht_mut().filter(|(_, dht)| dht.up != up) else {
            return;
        };
        entry.dht = Some(Dht { up, ..dht });
        for endpoint in &mut entry.endpoints {
            if !up {
                endpoint.stop();
            } else if running {
                endpoint.start(cx.now);
            }
        }
        self.refresh(cx.now);
    }

    /// Sets whether the trackers know too few peers, so that the DHT is asked as well; with `hurry`, also before its
    /// interval is over.
    pub fn set_short(&mut self, cx: &mut Cx<'_>, short: bool, hurry: bool) {
        let Some((entry, dht)) = self.dht_mut() else {
            return;
        };
        entry.dht = Some(Dht { short, ..dht });
        for endpoint in entry.endpoints.iter_mut().filter(|_| hurry) {
            endpoint.hurry(cx.now, false, false);
        }
        self.refresh(cx.now);
    }

    /// The node knows other nodes now: repeats a search that failed.
    pub fn retry_dht(&mut self, cx: &mut Cx<'_>) {
        let Some((entry, _)) = self.dht_mut() else {
            return;
        };
        for endpoint in entry.endpoints.iter_mut().filter(|e| e.fails > 0) {
            endpoint.next = cx.now;
        }
        self.refresh(cx.now);
    }

    /// The result of a search.
    pub fn handle_dht(
        &mut self,
        cx: &mut Cx<'_>,
        key: QueryKey,
        outcome: Result<DhtFound, TrackerError>,
    ) {
        let answer = match &outcome {
            Ok(found) => Ok(Answer::Announce(AnnounceAnswer {
                interval: Some(INTERVAL),
                min_interval: Some(MIN_INTERVAL),
                complete: found.swarm.map(|s| s.0),
                incomplete: found.swarm.map(|s| s.1),
                ..AnnounceAnswer::default()
            })),
            Err(error) => Err(error.clone()),
        };
        let asked = self.dht_mut().is_some_and(|(entry, _)| {
            let mut asking = entry.endpoints.iter().filter_map(|e| e.asking);
            asking.any(|(asked, _)| asked == key)
        });
        self.handle_answer(cx, key, answer);
        if let (true, Ok(found), Some((entry, _))) = (asked, outcome, self.dht_mut()) {
            for endpoint in &mut entry.endpoints {
                endpoint.peers = found.peers;
            }
        }
    }

    /// Whether a tracker has answered since the last call.
    pub fn take_answered(&mut self) -> bool {
        core::mem::take(&mut self.answered)
    }

    /// The user wants an announce: if nothing else can be asked, the DHT reports why it cannot be.
    pub(super) fn force_dht(&mut self) {
        let others = self
            .trackers
            .iter()
            .any(|t| t.dht.is_none() && t.is_usable());
        if let Some((entry, dht)) = self.dht_mut() {
            let forced = !others;
            entry.dht = Some(Dht { forced, ..dht });
        }
    }

    /// Restores the pseudo-tracker's state from a resume record.
    pub(super) fn restore_dht(&mut self, kept: &SavedTracker) -> bool {
        if kept.url != DHT_URL {
            return false;
        }
        if let Some(entry) = self.trackers.last_mut().filter(|t| t.dht.is_some()) {
            entry.enabled = kept.enabled;
        }
        true
    }

    /// Moves the pseudo-tracker to a tier of its own after all others.
    pub(super) fn settle_dht(&mut self) {
        let Some(at) = self.trackers.iter().position(|t| t.dht.is_some()) else {
            return;
        };
        let entry = self.trackers.remove(at);
        let tier = self.trackers.last().map_or(0, |t| t.tier.saturating_add(1));
        self.trackers.push(Entry { tier, ..entry });
    }

    fn dht_mut(&mut self) -> Option<(&mut Entry, Dht)> {
        let entry = self.trackers.last_mut()?;
        let dht = entry.dht?;
        Some((entry, dht))
    }
}
