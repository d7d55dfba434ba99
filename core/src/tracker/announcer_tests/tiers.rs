//! Whom to ask: tiers (BEP 12) and families (BEP 7).

use super::*;

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
fn a_silent_tracker_holds_back_the_next_for_15_seconds_only() {
    let mut b = Bench::v4("a | b | c");
    let (a, _) = b.asks();
    assert_eq!(b.step(), 15);
    let (backup, _) = b.asks();
    assert_eq!(name(&backup.url), "b");
    assert_eq!(b.query(), None);
    b.ok(&backup);
    assert_eq!(b.step(), 1800, "b works, so c is left alone");
    assert_eq!(name(&b.asks().0.url), "b");
    b.ok(&a);
    assert_eq!(b.step(), 1800);
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
    b.with(Announcer::stop);
    assert_eq!(b.query(), None, "one stop is enough");
    b.ok(&stop);
    assert!(b.trackers.all_stopped());
    assert_eq!(b.query(), None);
    let status = b.trackers.status().next().unwrap();
    assert_eq!((status.state, status.next), (TrackerState::Failed, None));
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
