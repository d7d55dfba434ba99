//! What to tell and when: events, intervals, back-off.

use super::*;

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
    assert!(!b.trackers.awaits_stopped(), "it may be dead");
    b.ok(&query);
    assert!(b.trackers.awaits_stopped(), "it is not");
    let (stop, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Stopped);
    assert!(b.trackers.awaits_stopped());
    let QueryKind::Announce(request) = stop.kind else {
        panic!("an announce");
    };
    assert_eq!(request.numwant, Some(0));
    b.fail(&stop, TrackerError::Timeout);
    assert!(b.trackers.all_stopped(), "told once");
    assert!(!b.trackers.awaits_stopped());
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

/// A torrent to which no peer was named asks again long before the interval ends, and less and less often.
#[test]
fn a_torrent_without_peers_asks_sooner_but_not_forever() {
    let mut b = Bench::v4("a");
    let ask = |b: &mut Bench, peers: &[SocketAddr]| {
        let (query, _) = b.asks();
        let mut sent = answer(3600, Some(600));
        sent.peers = peers.to_vec();
        b.answer(&query, sent);
        b.pass(10);
        b.with(|t, _| t.take_answered());
        b.with(Announcer::found_nobody);
        // To be asked twice changes nothing.
        b.with(Announcer::found_nobody);
        b.step()
    };
    let pauses: Vec<u64> = (0..5).map(|_| ask(&mut b, &[]) + 10).collect();
    assert_eq!(pauses, [600, 1200, 2400, 3600, 3600]);
    // Peers were named, though none remained.
    let peer = ([20, 0, 0, 1], 6881).into();
    assert_eq!(ask(&mut b, &[peer]) + 10, 600);
    assert_eq!(ask(&mut b, &[]) + 10, 600);
    assert_eq!(ask(&mut b, &[]) + 10, 1200);
    // Who has peers waits for the interval.
    let (query, _) = b.asks();
    b.answer(&query, answer(3600, Some(600)));
    assert_eq!(b.step(), 3600);
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
    while b.trackers.poll_event().is_some() {}
    b.fail(&query, refused(Retry::Never));
    let Some(TrackerEvent::Failed { next, .. }) = b.trackers.poll_event() else {
        panic!("a failure");
    };
    assert_eq!(next, None, "never by itself");
    assert_eq!(b.trackers.poll_timeout(), None);
    assert_eq!(
        b.trackers.status().next().unwrap().state,
        TrackerState::Unusable
    );
    b.with(|t, cx| t.reannounce(cx, true));
    assert!(b.query().is_some(), "the user may insist");
}

#[test]
fn what_a_refusal_asks_for_is_heeded_by_all_but_force() {
    let refused = || TrackerError::Failure {
        reason: "not registered".into(),
        retry: Some(Retry::After(Duration::from_secs(7200))),
    };
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.fail(&query, refused());
    b.with(Announcer::need_peers);
    b.with(|t, cx| t.reannounce(cx, false));
    b.with(Announcer::stop);
    b.with(Announcer::start);
    assert_eq!(b.query(), None);
    assert_eq!(b.step(), 7200);
    let (query, _) = b.asks();
    b.fail(&query, refused());
    b.with(|t, cx| t.reannounce(cx, true));
    assert!(b.query().is_some(), "the user may insist");
}

#[test]
fn stopped_waits_for_room_in_a_full_queue() {
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.ok(&query);
    b.with(Announcer::stop);
    for _ in 0..5 {
        let (stop, event) = b.asks();
        assert_eq!(event, AnnounceEvent::Stopped);
        b.fail(&stop, TrackerError::Busy);
        assert!(!b.trackers.all_stopped() && b.trackers.awaits_stopped());
        assert_eq!(b.query(), None, "not at once");
        assert!(b.step() <= 1);
    }
    let (stop, _) = b.asks();
    b.ok(&stop);
    assert!(b.trackers.all_stopped());
    assert_eq!(
        b.failures(),
        [],
        "a full queue is not the fault of the tracker"
    );
}

/// A query with the counters and the port in it.
fn told(query: &Query) -> AnnounceRequest {
    match query.kind {
        QueryKind::Announce(request) => request,
        QueryKind::Scrape => panic!("an announce"),
    }
}

#[test]
fn counters_begin_anew_with_started() {
    let mut b = Bench::v4("a");
    let asks = |b: &mut Bench, uploaded, downloaded| {
        let stats = Stats {
            uploaded,
            downloaded,
            ..STATS
        };
        let query = b.with(|t, cx| t.poll_query(cx, &stats)).expect("a query");
        let said = told(&query);
        (query, said.event, said.uploaded, said.downloaded)
    };
    // An earlier session moved so much.
    let (query, event, up, down) = asks(&mut b, 1000, 2000);
    assert_eq!((event, up, down), (AnnounceEvent::Started, 0, 0));
    b.fail(&query, TrackerError::Timeout);
    b.step();
    let (query, event, up, down) = asks(&mut b, 1100, 2200);
    let started = AnnounceEvent::Started;
    assert_eq!((event, up, down), (started, 100, 200), "nothing is lost");
    b.ok(&query);
    b.step();
    let (query, event, up, down) = asks(&mut b, 1500, 2500);
    assert_eq!((event, up, down), (AnnounceEvent::None, 500, 500));
    b.ok(&query);
    b.with(Announcer::stop);
    let (query, event, up, down) = asks(&mut b, 1600, 2600);
    assert_eq!((event, up, down), (AnnounceEvent::Stopped, 600, 600));
    b.ok(&query);
    b.with(Announcer::start);
    let (_, event, up, down) = asks(&mut b, 1600, 2600);
    assert_eq!((event, up, down), (started, 0, 0));
}

#[test]
fn a_partial_seed_says_paused_in_regular_announces() {
    let partial = Stats {
        partial: true,
        ..STATS
    };
    let mut b = Bench::v4("http://h/announce");
    let asks = |b: &mut Bench| b.with(|t, cx| t.poll_query(cx, &partial)).expect("a query");
    let query = asks(&mut b);
    assert_eq!(told(&query).event, AnnounceEvent::Started);
    b.ok(&query);
    b.step();
    let query = asks(&mut b);
    assert_eq!(told(&query).event, AnnounceEvent::Paused);
    assert!(query.url.contains("&event=paused") && query.url.contains("&left=3&"));
    b.ok(&query);
    b.with(Announcer::stop);
    assert_eq!(told(&asks(&mut b)).event, AnnounceEvent::Stopped);
}

#[test]
fn each_family_is_told_its_own_port() {
    let mut b = Bench::new("a", AnnounceConfig::default());
    for (ports, v4, v6) in [
        (Ports::both(6881), 6881, 6881),
        (
            Ports {
                v4: Some(5),
                v6: None,
            },
            5,
            NO_PORT,
        ),
        (
            Ports {
                v4: None,
                v6: Some(6),
            },
            NO_PORT,
            6,
        ),
        (Ports::default(), NO_PORT, NO_PORT),
    ] {
        let stats = Stats { ports, ..STATS };
        for _ in 0..2 {
            let query = b.with(|t, cx| t.poll_query(cx, &stats)).expect("a query");
            let wanted = match query.family {
                Some(Family::V6) => v6,
                _ => v4,
            };
            assert_eq!(told(&query).port, wanted, "{ports:?} {:?}", query.family);
            b.ok(&query);
        }
        b.step();
    }
}

#[test]
fn a_network_that_is_back_is_used_at_once_and_not_again_and_again() {
    let mut b = Bench::v4("a | b");
    let (query, _) = b.asks();
    b.ok(&query);
    b.pass(100);
    b.with(Announcer::network_back);
    let (query, event) = b.asks();
    assert_eq!(event, AnnounceEvent::None);
    b.fail(&query, TrackerError::Unsent);
    let (backup, _) = b.asks();
    b.fail(&backup, TrackerError::Unsent);
    // It comes and goes: nobody is asked more often than every half a minute.
    b.pass(10);
    b.with(Announcer::network_back);
    assert_eq!(b.query(), None);
    assert!((12..=20).contains(&b.step()));
    assert!(b.query().is_some());
}
