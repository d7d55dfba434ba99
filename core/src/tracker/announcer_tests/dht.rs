//! The DHT as a pseudo-tracker.

use super::*;
use crate::tracker::{DHT_URL, DhtFound, DhtProgress, DhtState, SERVER_DOWN};

const EMPTY: TrackerError = TrackerError::Dht("DHT search unsuccessful.");

impl Bench {
    /// With the pseudo-tracker, before the start.
    fn dht(tiers: &str, up: bool) -> Self {
        let mut b = Self::v4(tiers);
        b.with(|t, cx| {
            t.add_dht(cx, up);
        });
        b
    }

    fn found(&mut self, query: &Query, peers: u32) {
        let found = DhtFound { peers, swarm: None };
        self.with(|t, cx| t.handle_dht(cx, query.key, Ok(found)));
    }

    fn lost(&mut self, query: &Query) {
        self.with(|t, cx| t.handle_dht(cx, query.key, Err(EMPTY)));
    }

    fn shown(&self) -> (TrackerState, &'static str) {
        let last = self.trackers.status().last().expect("the pseudo-tracker");
        assert!(last.dht.is_some());
        (last.state, last.enabled())
    }
}

#[test]
fn it_is_asked_at_once_where_there_is_nobody_else() {
    let mut b = Bench::dht("", true);
    let (query, event) = b.asks();
    assert_eq!(
        (query.url.as_str(), event),
        (DHT_URL, AnnounceEvent::Started)
    );
    b.found(&query, 7);
    assert_eq!(b.trackers.status().next().map(|s| s.peers), Some(7));
    assert_eq!(b.step(), 20 * 60);
    assert!(b.query().is_some());
}

#[test]
fn it_waits_while_others_work_and_comes_when_they_fail() {
    let mut b = Bench::dht("a", true);
    let (a, _) = b.asks();
    assert!(b.query().is_none(), "it has three seconds to answer");
    b.ok(&a);
    b.pass(1000);
    assert!(b.query().is_none(), "it works");
    b.pass(800);
    let (a, _) = b.asks();
    assert!(
        b.query().is_none(),
        "nor does a slow one that works call for it"
    );
    b.fail(&a, TrackerError::Timeout);
    let (dht, _) = b.asks();
    assert_eq!(dht.url, DHT_URL);
}

#[test]
fn it_comes_three_seconds_after_trackers_that_do_not_answer() {
    let mut b = Bench::dht("a | b", true);
    let _a = b.asks();
    assert_eq!(b.step(), 3);
    let (dht, _) = b.asks();
    assert_eq!(dht.url, DHT_URL);
    assert_eq!(b.step(), 12, "the next tracker has not been forgotten");
    assert_eq!(name(&b.asks().0.url), "b");
}

#[test]
fn whoever_is_to_be_asked_it_comes_last() {
    for reach in [Reach::First, Reach::EachTier, Reach::All] {
        let config = AnnounceConfig {
            families: Families::V4,
            reach,
            ..AnnounceConfig::default()
        };
        let mut b = Bench::new("a | b", config);
        b.with(|t, cx| {
            t.add_dht(cx, true);
        });
        let mut asked = 0;
        while let Some(query) = b.query() {
            assert_ne!(query.url, DHT_URL, "{reach:?}");
            b.ok(&query);
            asked += 1;
        }
        assert!(asked > 0);
        let _ = b.with(|t, cx| t.add(cx, 9, "udp://c:1/announce"));
        let (tiers, urls): (Vec<u32>, Vec<&str>) =
            b.trackers.status().map(|s| (s.tier, s.url)).unzip();
        assert_eq!((tiers.last(), urls.last()), (Some(&10), Some(&DHT_URL)));
    }
}

#[test]
fn who_is_short_of_peers_asks_beside_trackers_that_work() {
    let mut b = Bench::dht("a", true);
    let (a, _) = b.asks();
    b.ok(&a);
    assert!(b.trackers.take_answered() && !b.trackers.take_answered());
    b.with(|t, cx| t.set_short(cx, true, true));
    let (dht, _) = b.asks();
    b.found(&dht, 1);
    b.with(|t, cx| t.set_short(cx, true, true));
    assert_eq!(b.step(), 5 * 60, "not at every turn");
    let (dht, _) = b.asks();
    b.found(&dht, 1);
    b.with(|t, cx| t.set_short(cx, false, false));
    b.pass(21 * 60);
    assert!(b.query().is_none());
}

#[test]
fn while_the_server_is_down_it_is_there_but_is_not_asked() {
    let mut b = Bench::dht("", false);
    assert!(b.query().is_none());
    assert_eq!(b.shown(), (TrackerState::Unusable, "off"));
    b.with(|t, cx| t.set_dht_up(cx, true));
    assert_eq!(b.shown(), (TrackerState::Idle, "yes"));
    let (query, _) = b.asks();
    b.with(|t, cx| t.set_dht_up(cx, false));
    let down = TrackerError::Dht(SERVER_DOWN);
    b.with(|t, cx| t.handle_dht(cx, query.key, Err(down.clone())));
    assert_eq!(b.failures(), core::slice::from_ref(&down));
    assert!(b.query().is_none());
    // A request of the application fails with the reason, once.
    b.with(|t, cx| t.reannounce(cx, false));
    let (query, _) = b.asks();
    b.with(|t, cx| t.handle_dht(cx, query.key, Err(down.clone())));
    assert_eq!(b.failures(), [down]);
    assert!(b.query().is_none());
}

#[test]
fn it_is_switched_like_any_tracker_and_its_switch_is_kept() {
    let mut b = Bench::dht("a", true);
    let id = b.trackers.dht_id().expect("it was added");
    b.with(|t, cx| t.set_enabled(cx, id, false));
    assert_eq!(b.shown(), (TrackerState::Disabled, " no"));
    let saved = b.trackers.save();
    let mut again = Bench::dht("a", true);
    again.with(|t, cx| t.restore(cx, &saved));
    assert_eq!(again.shown(), (TrackerState::Disabled, " no"));
    assert_eq!(again.trackers.status().count(), 2);
    // Where there is no DHT any more, the record does not bring it back.
    let mut without = Bench::v4("a");
    without.with(|t, cx| t.restore(cx, &saved));
    assert_eq!(without.order(), ["a"]);
    let _ = without.with(|t, cx| t.add(cx, 0, DHT_URL));
    assert_eq!(without.order(), ["a"]);
}

#[test]
fn nobody_hears_that_we_stop_and_a_new_start_asks_anew() {
    let mut b = Bench::dht("", true);
    let (query, _) = b.asks();
    b.found(&query, 3);
    b.with(Announcer::stop);
    assert!(b.query().is_none() && b.trackers.all_stopped());
    b.with(Announcer::start);
    assert!(b.query().is_some());
}

#[test]
fn failures_are_repeated_within_minutes_or_when_others_are_known() {
    let mut b = Bench::dht("", true);
    for _ in 0..12 {
        let (query, _) = b.asks();
        b.lost(&query);
        assert!(b.step() <= 320);
    }
    assert_eq!(b.failures().len(), 12);
    let (query, _) = b.asks();
    b.lost(&query);
    assert!(b.query().is_none());
    b.with(Announcer::retry_dht);
    assert!(b.query().is_some());
}

#[test]
fn it_cannot_be_scraped() {
    let mut b = Bench::dht("", true);
    let (query, _) = b.asks();
    b.found(&query, 0);
    b.with(Announcer::scrape);
    assert!(b.query().is_none());
}

#[test]
fn s11_the_status_has_the_words_of_rtorrent() {
    for (state, word) in [
        (DhtState::Idle, "[Idle: 3/8 nodes replied]"),
        (DhtState::Searching, "[Searching: 3/8 nodes replied]"),
        (DhtState::Announcing, "[Announcing: 3/8 nodes replied]"),
    ] {
        let progress = DhtProgress {
            state,
            replied: 3,
            contacted: 8,
        };
        assert_eq!(format!("{progress}"), word);
    }
}
