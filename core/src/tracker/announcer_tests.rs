use alloc::{collections::BTreeSet, format, string::String, vec, vec::Vec};
use core::{net::SocketAddr, time::Duration};

use quickcheck::quickcheck;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;
use crate::{
    id::PeerId,
    op::Family,
    tracker::{Families, TrackerState},
    wire::tracker::{Crypto, Retry, ScrapeAnswer, ScrapeFile},
};

const STATS: Stats = Stats {
    uploaded: 1,
    downloaded: 2,
    left: 3,
    port: 6881,
    peer_id: PeerId([2; 20]),
    key: 7,
    numwant: Some(50),
    crypto: Crypto::Plain,
    ipv4: None,
    ipv6: None,
};

/// An announcer, its clock and its owner's habits.
struct Bench {
    now: Instant,
    rng: ChaCha8Rng,
    trackers: Announcer,
}

impl Bench {
    /// Started; tiers by spaces and bars: `"a b | c"`.
    fn new(tiers: &str, config: AnnounceConfig) -> Self {
        let url = |name: &str| match name {
            name if name.contains(':') => String::from(name),
            name => format!("udp://{name}:1/announce"),
        };
        let tiers = tiers.split('|');
        let tiers: Vec<Vec<String>> = tiers
            .map(|tier| tier.split_whitespace().map(url).collect())
            .collect();
        let (now, mut rng) = (Instant::from_micros(1), ChaCha8Rng::seed_from_u64(7));
        let cx = &mut Cx { now, rng: &mut rng };
        let mut trackers = Announcer::new(cx, InfoHash([1; 20]), &tiers, config);
        trackers.start(cx);
        Self { now, rng, trackers }
    }

    /// Over one family, to keep things short.
    fn v4(tiers: &str) -> Self {
        Self::new(
            tiers,
            AnnounceConfig {
                families: Families::V4,
                ..AnnounceConfig::default()
            },
        )
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut Announcer, &mut Cx<'_>) -> T) -> T {
        let now = self.now;
        let rng = &mut self.rng;
        call(&mut self.trackers, &mut Cx { now, rng })
    }

    fn query(&mut self) -> Option<Query> {
        self.with(|t, cx| t.poll_query(cx, &STATS))
    }

    /// The next query, and the event it carries.
    fn asks(&mut self) -> (Query, AnnounceEvent) {
        let query = self.query().expect("a query");
        let QueryKind::Announce(request) = query.kind else {
            panic!("an announce");
        };
        (query, request.event)
    }

    fn answer(&mut self, query: &Query, answer: AnnounceAnswer) {
        self.with(|t, cx| t.handle_answer(cx, query.key, Ok(Answer::Announce(answer))));
    }

    fn ok(&mut self, query: &Query) {
        self.answer(query, answer(1800, None));
    }

    fn fail(&mut self, query: &Query, error: TrackerError) {
        self.with(|t, cx| t.handle_answer(cx, query.key, Err(error)));
    }

    /// Jumps to the next timeout; how many seconds that took.
    fn step(&mut self) -> u64 {
        let at = self.trackers.poll_timeout().expect("a timeout");
        let passed = at.saturating_since(self.now).as_secs();
        self.now = self.now.max(at);
        passed
    }

    fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
    }

    /// Names of the trackers in the order they are tried in.
    fn order(&self) -> Vec<&str> {
        self.trackers.status().map(|s| name(s.url)).collect()
    }

    fn failures(&mut self) -> Vec<TrackerError> {
        let events = core::iter::from_fn(|| self.trackers.poll_event());
        let failed = events.filter_map(|e| match e {
            TrackerEvent::Failed { error, .. } => Some(error),
            _ => None,
        });
        failed.collect()
    }
}

fn name(url: &str) -> &str {
    url.trim_start_matches("udp://")
        .trim_end_matches(":1/announce")
}

fn answer(interval: u64, min: Option<u64>) -> AnnounceAnswer {
    AnnounceAnswer {
        interval: Some(Duration::from_secs(interval)),
        min_interval: min.map(Duration::from_secs),
        ..AnnounceAnswer::default()
    }
}

// ---- tiers (BEP 12) ----

#[test]
fn tiers_are_shuffled_each_in_itself() {
    let order = |seed| {
        let tiers = vec![
            ('a'..='h')
                .map(|c| format!("udp://{c}:1/announce"))
                .collect(),
            vec![format!("udp://z:1/announce")],
        ];
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let now = Instant::ORIGIN;
        let cx = &mut Cx { now, rng: &mut rng };
        let t = Announcer::new(cx, InfoHash([1; 20]), &tiers, AnnounceConfig::default());
        t.status()
            .map(|s| String::from(name(s.url)))
            .collect::<Vec<_>>()
    };
    let orders: BTreeSet<_> = (0..20).map(order).collect();
    assert!(orders.len() > 15, "20 seeds hardly ever shuffle 8 alike");
    for order in orders {
        assert_eq!(order.len(), 9);
        assert_eq!(order[8], "z");
    }
}

#[test]
fn failure_tries_the_tier_then_the_next_and_success_promotes() {
    let mut b = Bench::v4("a b c | d");
    let order: Vec<String> = b.order().into_iter().map(String::from).collect();
    for expected in &order[..2] {
        let (query, event) = b.asks();
        assert_eq!(
            (name(&query.url), event),
            (expected.as_str(), AnnounceEvent::Started)
        );
        assert_eq!(b.query(), None, "one at a time");
        b.fail(&query, TrackerError::Refused);
    }
    let (query, _) = b.asks();
    b.ok(&query);
    assert_eq!(b.order(), [&*order[2], &*order[0], &*order[1], "d"]);
    assert_eq!(b.failures(), [TrackerError::Refused, TrackerError::Refused]);
    // The others come after it now, and it works: nobody is asked before its interval.
    assert_eq!(b.query(), None);
    assert_eq!(b.step(), 1800);
    let (query, event) = b.asks();
    assert_eq!((name(&query.url), event), (&*order[2], AnnounceEvent::None));
    // All fail at last, so the second tier is asked.
    b.fail(&query, TrackerError::Timeout);
    for _ in 0..2 {
        let (query, _) = b.asks();
        b.fail(&query, TrackerError::Timeout);
    }
    assert_eq!(name(&b.asks().0.url), "d");
}

#[test]
fn a_backup_does_not_keep_the_first_tier_from_being_tried_again() {
    let mut b = Bench::v4("a | b");
    let (a, _) = b.asks();
    b.fail(&a, TrackerError::Timeout);
    let (backup, _) = b.asks();
    b.ok(&backup);
    let pause = b.step();
    assert!((22..=38).contains(&pause), "{pause}: 30 s ± 25 %");
    let (a, event) = b.asks();
    assert_eq!((name(&a.url), event), ("a", AnnounceEvent::Started));
    b.ok(&a);
    // `a` works again, so `b` is left alone.
    assert_eq!(b.step(), 1800);
    assert_eq!(name(&b.asks().0.url), "a");
}

#[test]
fn reach_says_how_many_are_asked() {
    for (reach, expected) in [(Reach::First, 1), (Reach::EachTier, 2), (Reach::All, 4)] {
        let mut b = Bench::new(
            "a b | c d",
            AnnounceConfig {
                families: Families::Any,
                reach,
                ..AnnounceConfig::default()
            },
        );
        let asked = core::iter::from_fn(|| b.query()).count();
        assert_eq!(asked, expected, "{reach:?}");
    }
}

#[test]
fn queries_out_are_bounded() {
    let mut b = Bench::new(
        "a b c d",
        AnnounceConfig {
            reach: Reach::All,
            max_queries: 3,
            ..AnnounceConfig::default()
        },
    );
    let out: Vec<_> = core::iter::from_fn(|| b.query()).collect();
    assert_eq!(out.len(), 3);
    assert_eq!(b.trackers.poll_timeout(), None, "no spin while it is full");
    b.ok(&out[0]);
    assert!(b.query().is_some());
}

// ---- families (BEP 7) ----

#[test]
fn both_families_are_announced_and_one_may_fail() {
    let mut b = Bench::new("a b", AnnounceConfig::default());
    let (v4, v6) = (b.asks().0, b.asks().0);
    assert_eq!((v4.family, v6.family), (Some(Family::V4), Some(Family::V6)));
    assert_eq!(v4.tracker, v6.tracker);
    b.fail(&v6, TrackerError::NoAddress);
    assert_eq!(b.query(), None, "the other family is still out");
    let peer: SocketAddr = "10.0.0.1:6881".parse().unwrap();
    let mut good = answer(1800, None);
    good.peers = vec![peer];
    b.answer(&v4, good);
    let peers = TrackerEvent::Peers {
        tracker: v4.tracker,
        peers: vec![peer],
    };
    assert_eq!(b.trackers.poll_event(), Some(peers));
    assert_eq!(b.trackers.poll_event(), None, "no failure is reported");
    let status = b.trackers.status().next().unwrap();
    assert_eq!(status.state, TrackerState::Working);
    assert_eq!((status.fails, status.peers), (0, 1));
    assert_eq!(b.query(), None);
}

#[test]
fn a_tracker_fails_once_all_families_have() {
    let mut b = Bench::new("a | b", AnnounceConfig::default());
    let (v4, v6) = (b.asks().0, b.asks().0);
    b.fail(&v4, TrackerError::Refused);
    assert_eq!(b.failures(), []);
    b.fail(&v6, TrackerError::NoAddress);
    assert_eq!(
        b.failures(),
        [TrackerError::Refused],
        "says more than no address"
    );
    assert_eq!(name(&b.asks().0.url), "b");
}

#[test]
fn each_family_hears_started_and_stopped_itself() {
    let mut b = Bench::new("a", AnnounceConfig::default());
    let (v4, v6) = (b.asks().0, b.asks().0);
    b.ok(&v6);
    b.fail(&v4, TrackerError::Timeout);
    b.with(Announcer::stop);
    let (stop, event) = b.asks();
    assert_eq!(
        (stop.family, event),
        (Some(Family::V6), AnnounceEvent::Stopped)
    );
    assert_eq!(b.query(), None, "IPv4 never started");
    assert!(!b.trackers.all_stopped());
    b.ok(&stop);
    assert!(b.trackers.all_stopped());
}

#[test]
fn an_address_is_asked_over_its_own_family() {
    let mut b = Bench::new("udp://[::1]:1/announce", AnnounceConfig::default());
    assert_eq!(b.asks().0.family, Some(Family::V6));
    assert_eq!(b.query(), None);
    let b = Bench::v4("udp://[::1]:1/announce");
    let status = b.trackers.status().next().unwrap();
    assert_eq!(status.state, TrackerState::Unusable);
    assert_eq!(status.error, Some(&TrackerError::NoAddress));
}

// ---- events ----

#[test]
fn started_is_repeated_until_it_succeeds() {
    let mut b = Bench::v4("a");
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let (query, event) = b.asks();
        assert_eq!(event, AnnounceEvent::Started);
        b.fail(&query, TrackerError::Timeout);
        pauses.push(b.step());
    }
    // 30 s · 2ⁿ, at most an hour, ± 25 %.
    for (n, pause) in pauses.iter().enumerate() {
        let middle = (30 << n).min(3600);
        assert!(
            (middle * 3 / 4 - 1..=middle * 5 / 4).contains(pause),
            "{n}: {pause}"
        );
    }
    let (query, _) = b.asks();
    b.ok(&query);
    b.step();
    let (query, event) = b.asks();
    assert_eq!(event, AnnounceEvent::None);
    b.fail(&query, TrackerError::Timeout);
    assert!(b.step() <= 38, "success resets the back-off");
}

#[test]
fn back_off_differs_between_clients() {
    let pause = |seed| {
        let mut b = Bench::v4("a");
        b.rng = ChaCha8Rng::seed_from_u64(seed);
        let (query, _) = b.asks();
        b.fail(&query, TrackerError::Timeout);
        b.trackers.poll_timeout()
    };
    let pauses: BTreeSet<_> = (0..20).map(pause).collect();
    assert!(pauses.len() > 15);
}

#[test]
fn completed_is_told_once_to_who_saw_the_download() {
    let mut b = Bench::v4("a | b");
    let (a, _) = b.asks();
    b.ok(&a);
    b.pass(100);
    b.with(Announcer::completed);
    let (query, event) = b.asks();
    assert_eq!(
        event,
        AnnounceEvent::Completed,
        "at once, whatever the interval"
    );
    b.ok(&query);
    b.step();
    let (query, event) = b.asks();
    assert_eq!(event, AnnounceEvent::None);
    b.fail(&query, TrackerError::Timeout);
    let (backup, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Started);
    b.ok(&backup);
    assert_eq!(b.query(), None, "b never saw us download");
}

#[test]
fn completed_that_gets_lost_is_repeated() {
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.with(Announcer::completed);
    b.ok(&query);
    let (query, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Completed, "started was out already");
    b.fail(&query, TrackerError::Timeout);
    assert_eq!(b.query(), None);
    b.step();
    assert_eq!(b.asks().1, AnnounceEvent::Completed);
}

#[test]
fn stop_waits_for_what_is_out() {
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.with(Announcer::stop);
    assert_eq!(b.query(), None);
    assert!(!b.trackers.all_stopped());
    b.ok(&query);
    let (stop, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Stopped);
    let QueryKind::Announce(request) = stop.kind else {
        panic!("an announce");
    };
    assert_eq!(request.numwant, Some(0));
    b.fail(&stop, TrackerError::Timeout);
    assert!(b.trackers.all_stopped(), "told once");
    assert_eq!(b.trackers.poll_timeout(), None);
}

#[test]
fn nothing_to_stop_where_nothing_started() {
    let mut b = Bench::v4("a b");
    let (query, _) = b.asks();
    b.fail(&query, TrackerError::Timeout);
    let (query, _) = b.asks();
    b.with(Announcer::stop);
    b.fail(&query, TrackerError::Timeout);
    assert!(b.trackers.all_stopped());
    assert_eq!(b.query(), None);
}

#[test]
fn start_after_stop_starts_again() {
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.ok(&query);
    b.with(Announcer::stop);
    let (stop, _) = b.asks();
    b.with(Announcer::start);
    assert_eq!(b.query(), None, "the stop is still out");
    b.ok(&stop);
    assert_eq!(b.asks().1, AnnounceEvent::Started);
    // A stop that was not sent yet is simply forgotten.
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.ok(&query);
    b.with(Announcer::stop);
    b.with(Announcer::start);
    assert_eq!(b.query(), None);
    assert_eq!(b.step(), 1800);
    assert_eq!(b.asks().1, AnnounceEvent::None);
}

// ---- intervals ----

#[test]
fn intervals_are_kept_within_reason() {
    for (interval, min, expected) in [
        (Some(900), None, 900),
        (Some(0), None, 30),
        (Some(u64::from(u32::MAX)), None, 86400),
        (None, None, 1800),
        (Some(60), Some(600), 600),
    ] {
        let mut b = Bench::v4("a");
        let (query, _) = b.asks();
        let mut sent = answer(0, min);
        sent.interval = interval.map(Duration::from_secs);
        b.answer(&query, sent);
        assert_eq!(b.step(), expected);
    }
}

#[test]
fn min_interval_holds_back_all_but_force() {
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.answer(&query, answer(1800, Some(600)));
    b.pass(10);
    b.with(Announcer::need_peers);
    assert_eq!(b.step(), 590);
    let (query, _) = b.asks();
    b.answer(&query, answer(1800, None));
    b.with(|t, cx| t.reannounce(cx, false));
    assert_eq!(b.step(), 300, "five minutes if the tracker does not say");
    let (query, _) = b.asks();
    b.answer(&query, answer(1800, Some(600)));
    assert_eq!(b.query(), None);
    b.with(|t, cx| t.reannounce(cx, true));
    assert!(b.query().is_some());
}

#[test]
fn need_peers_does_not_shorten_a_back_off_but_the_user_does() {
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.fail(&query, TrackerError::Timeout);
    b.with(Announcer::need_peers);
    assert_eq!(b.query(), None);
    b.with(|t, cx| t.reannounce(cx, false));
    assert!(b.query().is_some());
}

#[test]
fn retry_in_is_obeyed() {
    let refused = |retry| TrackerError::Failure {
        reason: "no".into(),
        retry: Some(retry),
    };
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.fail(&query, refused(Retry::After(Duration::from_secs(1200))));
    assert_eq!(b.step(), 1200);
    let (query, _) = b.asks();
    b.fail(&query, refused(Retry::Never));
    assert_eq!(b.trackers.poll_timeout(), None);
    assert_eq!(
        b.trackers.status().next().unwrap().state,
        TrackerState::Unusable
    );
    b.with(|t, cx| t.reannounce(cx, true));
    assert!(b.query().is_some(), "the user may insist");
}

// ---- changes at run time ----

#[test]
fn wrong_urls_become_trackers_with_an_error() {
    let mut b = Bench::v4("wss://t/announce a");
    let shown: Vec<_> = b.trackers.status().collect();
    let bad = shown.iter().find(|s| s.url.starts_with("wss")).unwrap();
    assert_eq!(bad.state, TrackerState::Unusable);
    assert_eq!(
        format!("{}", bad.error.unwrap()),
        "unsupported kind of tracker: wss"
    );
    assert_eq!(name(&b.asks().0.url), "a");
}

#[test]
fn removed_and_disabled_trackers_hear_that_we_stop() {
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.ok(&query);
    b.with(|t, cx| t.set_enabled(cx, query.tracker, false));
    let (stop, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Stopped);
    b.ok(&stop);
    assert_eq!(b.trackers.poll_timeout(), None);
    b.with(|t, cx| t.set_enabled(cx, query.tracker, true));
    let (query, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Started);
    b.ok(&query);
    b.with(|t, cx| t.remove(cx, query.tracker));
    assert_eq!(b.order(), [""; 0]);
    let (stop, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Stopped);
    b.ok(&stop);
    assert_eq!(b.trackers.trackers.len(), 0);
}

#[test]
fn added_trackers_are_used() {
    let mut b = Bench::v4("a | b");
    let (a, _) = b.asks();
    let id = b.with(|t, cx| t.add(cx, 0, "udp://c:1/announce")).unwrap();
    assert_eq!(b.order(), ["a", "c", "b"]);
    assert_eq!(
        b.with(|t, cx| t.add(cx, 1, " udp://c:1/announce\n")),
        Ok(id)
    );
    b.fail(&a, TrackerError::Timeout);
    assert_eq!(b.asks().0.tracker, id);
    for i in 0..MAX_TRACKERS - 3 {
        b.with(|t, cx| t.add(cx, 0, &format!("udp://h:{}/", i + 1)))
            .unwrap();
    }
    assert_eq!(b.with(|t, cx| t.add(cx, 0, "udp://x:1/")), Err(Full));
}

#[test]
fn saved_order_switches_and_ids_come_back() {
    let mut b = Bench::v4("a b c | d");
    let (first, _) = b.asks();
    b.fail(&first, TrackerError::Timeout);
    let (second, _) = b.asks();
    let mut good = answer(1800, None);
    good.tracker_id = Some(b"id".to_vec());
    b.answer(&second, good);
    b.with(|t, cx| t.set_enabled(cx, first.tracker, false));
    let saved = b.trackers.save();
    let order: Vec<String> = b.order().into_iter().map(String::from).collect();
    let mut again = Bench::v4("c e b | d");
    again.with(|t, cx| t.restore(cx, &saved));
    assert_eq!(
        again.order(),
        [&*order[0], &*order[1], &*order[2], "e", "d"]
    );
    let kept = &again.trackers.trackers[0].tracker_id;
    assert_eq!(kept.as_deref(), Some(&b"id"[..]));
    assert_eq!(
        again.trackers.status().nth(1).unwrap().state,
        TrackerState::Disabled
    );
    let mut empty = Bench::v4("");
    empty.with(|t, cx| t.restore(cx, &saved));
    assert_eq!(empty.trackers.save(), saved);
}

// ---- HTTP and scrapes ----

#[test]
fn http_answers_are_read_and_the_tracker_id_sent_back() {
    let mut b = Bench::v4("http://t/announce");
    let (query, _) = b.asks();
    assert!(
        query.url.starts_with("http://t/announce?info_hash=%01"),
        "{}",
        query.url
    );
    let body = b"d8:completei5e8:intervali60e5:peers6:\x0a\x00\x00\x01\x1a\xe1\
        10:tracker id2:id11:external ip4:\x01\x02\x03\x04e";
    b.with(|t, cx| t.handle_http(cx, query.key, 200, body));
    let tracker = query.tracker;
    let events: Vec<_> = core::iter::from_fn(|| b.trackers.poll_event()).collect();
    assert_eq!(
        events,
        [
            TrackerEvent::ExternalIp {
                tracker,
                ip: [1, 2, 3, 4].into()
            },
            TrackerEvent::Scraped {
                tracker,
                complete: Some(5),
                incomplete: None,
                downloaded: None
            },
            TrackerEvent::Peers {
                tracker,
                peers: vec!["10.0.0.1:6881".parse().unwrap()]
            },
        ]
    );
    assert_eq!(b.step(), 60);
    let (query, _) = b.asks();
    assert!(query.url.ends_with("&trackerid=id"), "{}", query.url);
    b.with(|t, cx| t.handle_http(cx, query.key, 404, b"gone"));
    assert_eq!(b.failures(), [TrackerError::Http(404)]);
}

#[test]
fn scrapes_are_asked_where_possible_and_not_too_often() {
    let mut b = Bench::v4("http://t/announce http://no/a");
    b.with(Announcer::stop);
    b.with(Announcer::scrape);
    let query = b.query().unwrap();
    assert_eq!(query.kind, QueryKind::Scrape);
    assert!(query.url.starts_with("http://t/scrape?info_hash=%01"));
    assert_eq!(b.query(), None);
    let file = ScrapeFile {
        complete: 1,
        incomplete: 2,
        downloaded: 3,
    };
    let answer = ScrapeAnswer {
        files: vec![Some(file)],
        min_interval: Some(Duration::from_secs(900)),
    };
    b.with(|t, cx| t.handle_answer(cx, query.key, Ok(Answer::Scrape(answer))));
    let event = TrackerEvent::Scraped {
        tracker: query.tracker,
        complete: Some(1),
        incomplete: Some(2),
        downloaded: Some(3),
    };
    assert_eq!(b.trackers.poll_event(), Some(event));
    b.with(Announcer::scrape);
    assert_eq!(b.step(), 900);
    assert!(b.query().is_some());
}

quickcheck! {
    /// Law 3: whenever a timeout is due there is a query, and only then; and all of it ends in
    /// `all_stopped`. Law 2: in whatever order things are called.
    fn any_order_of_calls_is_legal(calls: Vec<(u8, u8)>) -> bool {
        let config = AnnounceConfig {
            reach: [Reach::First, Reach::EachTier, Reach::All][calls.len() % 3],
            max_queries: 3,
            ..AnnounceConfig::default()
        };
        let mut b = Bench::new("a b | http://c/announce [::1]:x | d", config);
        let mut out = Vec::new();
        let errors = [
            TrackerError::Timeout,
            TrackerError::NoAddress,
            TrackerError::Cancelled,
            TrackerError::Failure { reason: "no".into(), retry: Some(Retry::Never) },
        ];
        for (call, argument) in calls {
            let id = TrackerId(u32::from(argument % 8));
            match call % 13 {
                0 => b.with(Announcer::start),
                1 => b.with(Announcer::stop),
                2 => b.with(Announcer::completed),
                3 => b.with(|t, cx| t.reannounce(cx, argument % 2 == 0)),
                4 => b.with(Announcer::need_peers),
                5 => b.with(Announcer::scrape),
                6 => b.with(|t, cx| _ = t.add(cx, u32::from(argument % 3), &format!("udp://n:{argument}"))),
                7 => b.with(|t, cx| t.remove(cx, id)),
                8 => b.with(|t, cx| t.set_enabled(cx, id, argument >= 128)),
                9 => b.pass(u64::from(argument) * 10),
                10 | 11 if !out.is_empty() => {
                    let query: Query = out.swap_remove(usize::from(argument) % out.len());
                    if call % 13 == 10 {
                        b.answer(&query, answer(u64::from(argument), None));
                    } else {
                        b.fail(&query, errors[usize::from(argument) % 4].clone());
                    }
                }
                _ => {
                    let due = b.trackers.poll_timeout().is_some_and(|t| t <= b.now);
                    let query = b.query();
                    if query.is_some() != due {
                        return false;
                    }
                    out.extend(query);
                }
            }
            if usize::from(b.trackers.asking) != out.len() || out.len() > 3 {
                return false;
            }
            while b.trackers.poll_event().is_some() {}
        }
        b.with(Announcer::stop);
        for _ in 0..2 * MAX_TRACKERS {
            out.extend(core::iter::from_fn(|| b.query()));
            for query in out.drain(..) {
                b.ok(&query);
            }
        }
        b.trackers.all_stopped() && b.trackers.poll_timeout().is_none()
    }
}
