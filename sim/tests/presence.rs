//! Engines that leave, when they are done or after a time, and come back.

use std::time::Duration;

use dunlin_sim::scenario::{RunOptions, RunResult, Scenario, run};

fn ran(duration: &str, leech: &str, more: &str) -> RunResult {
    let text = format!(
        "duration = '{duration}'\n[torrent]\nsize = '1 MiB'\n\
        [[host]]\nname = 'tracker'\nkind = 'tracker'\n\
        [[host]]\nname = 'seed'\nkind = 'engine-seed'\ntrackers = 'tracker'\nupload = '50 KiB/s'\n\
        [[host]]\nname = 'peer'\nkind = 'engine-leech'\ntrackers = 'tracker'\n{leech}\n{more}"
    );
    let s = Scenario::parse(&text, "f").unwrap_or_else(|e| panic!("{e}"));
    let r = run(&s, 1, &RunOptions::default());
    assert!(r.stuck.is_none(), "{:?}", r.stuck);
    r
}

fn completed(r: &RunResult) -> Option<Duration> {
    r.host("peer")?.torrent.as_ref()?.completed
}

fn sent(r: &RunResult) -> u64 {
    r.host("peer").expect("there").traffic.sent_packets
}

#[test]
fn a_peer_leaves_some_time_after_it_is_done() {
    let done = completed(&ran("5min", "", "")).expect("complete");
    let with = |duration: &str| ran(duration, "seed-for = '30s'", "");
    let (short, long) = (with("2min"), with("1h"));
    assert_eq!(completed(&short), Some(done));
    // Nothing is sent after it has left.
    assert_eq!(sent(&short), sent(&long));
    let before = |secs: u64| {
        let at = done + Duration::from_secs(secs);
        sent(&with(&format!("{}us", at.as_micros())))
    };
    assert!(before(29) < before(60));
    assert_eq!(before(60), sent(&long));
}

#[test]
fn one_that_stops_tells_its_tracker_and_one_that_crashes_does_not() {
    let at_end = |how: &str| {
        let r = ran("10min", &format!("stay = '10s'\nleaves = '{how}'"), "");
        assert_eq!(completed(&r), None);
        let tracker = r.host("tracker").expect("there").traffic;
        (sent(&r), tracker.received_packets)
    };
    let (stop, crash) = (at_end("stop"), at_end("crash"));
    assert!(stop.0 > crash.0 && stop.1 > crash.1, "{stop:?} {crash:?}");
}

#[test]
fn one_that_comes_back_goes_on_where_it_was() {
    let alone = completed(&ran("10min", "", "")).expect("complete");
    for how in ["stop", "crash"] {
        let leech = format!("stay = '12s'\nrejoin = '30s'\nleaves = '{how}'");
        let r = ran("20min", &leech, "");
        let done = completed(&r).unwrap_or_else(|| panic!("{how}: {:?}", r.host("peer")));
        assert!(done > alone + Duration::from_secs(30), "{how}: {done:?}");
        // What was verified before it left was not lost.
        let points = &r
            .host("peer")
            .expect("there")
            .torrent
            .as_ref()
            .expect("one")
            .curve;
        let at = |secs| {
            points
                .iter()
                .rev()
                .find(|(t, _)| *t <= Duration::from_secs(secs))
        };
        let (left, back) = (at(13).expect("some").1, at(55).expect("some").1);
        assert!(left > 0 && back > left, "{how}: {points:?}");
    }
}

#[test]
fn a_population_comes_and_goes() {
    let text = "duration = '30min'\n[torrent]\nsize = '512 KiB'\n\
        [[host]]\nname = 'tracker'\nkind = 'tracker'\n\
        [[host]]\nname = 'seed'\nkind = 'engine-seed'\ntrackers = 'tracker'\n\
        [[host]]\nname = 'peer'\ncount = 20\nkind = 'engine-leech'\ntrackers = 'tracker'\n\
        arrive = 'poisson 4/min'\nstay = 'exponential 5min'\nseed-for = '60s'\n\
        leaves = ['50% stop', '50% crash']\nrejoin = '10min'\n\
        [[expect]]\ncompleted = 'peer'\nshare = '90%'\n";
    let s = Scenario::parse(text, "f").unwrap_or_else(|e| panic!("{e}"));
    let r = run(&s, 1, &RunOptions::default());
    assert!(r.held(), "{:?}", r.outcomes);
    assert_eq!(run(&s, 1, &RunOptions::default()).trace, r.trace);
}
