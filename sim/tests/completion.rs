//! When a download completes does not depend on how long the scenario runs, or on what is recorded.

use std::time::Duration;

use dunlin_sim::scenario::{Check, RunOptions, RunResult, Scenario, run};

/// The scenario with another duration, and more expectations.
fn ran(duration: &str, more: &str, options: &RunOptions) -> RunResult {
    let text = include_str!("cases/within.toml");
    let text = text.replace("\"2h\"", &format!("\"{duration}\""));
    let s = Scenario::parse(&format!("{text}{more}"), "within.toml");
    let s = s.unwrap_or_else(|e| panic!("{e}"));
    run(&s, s.seed, options)
}

fn completed(r: &RunResult, host: &str) -> Option<Duration> {
    r.host(host)?.torrent.as_ref()?.completed
}

#[test]
fn a_download_completes_at_one_time_whatever_the_duration() {
    let first = ran("30s", "", &RunOptions::default());
    assert!(first.held(), "{:?}", first.outcomes);
    // The times are given to the millisecond.
    let told = |r: &RunResult| r.outcomes.iter().map(|o| o.why.clone()).collect::<Vec<_>>();
    assert!(
        told(&first)[1].contains("leech after "),
        "{:?}",
        told(&first)
    );
    for duration in ["47123ms", "10min", "2h", "1d"] {
        let curves = duration == "2h";
        let options = RunOptions {
            curves,
            ..RunOptions::default()
        };
        let other = ran(duration, "", &options);
        assert_eq!(told(&other), told(&first), "{duration}");
        for name in ["seed", "leech", "slow"] {
            let torrent = |r: &RunResult| r.host(name).unwrap().torrent.clone();
            assert_eq!(torrent(&other), torrent(&first), "{name}, {duration}");
        }
        assert!(other.held());
    }
    // A limit is kept or missed by a single microsecond.
    let at = completed(&first, "leech").unwrap();
    for (limit, held) in [(at, true), (at - Duration::from_micros(1), false)] {
        let more = format!(
            "[[expect]]\ncompleted = \"leech\"\nwithin = \"{}us\"\n",
            limit.as_micros()
        );
        let r = ran("1h", &more, &RunOptions::default());
        assert_eq!(r.outcomes[2].held, held, "{:?}", r.outcomes);
    }
}

#[test]
fn hosts_that_complete_between_any_two_looks_are_told_apart() {
    // Both complete within a second, which is less than a 240th of an hour.
    let text = "duration = '1h'\n[torrent]\nsize = '64 KiB'\n\
        [[host]]\nname='seed'\nkind='engine-seed'\n\
        [[host]]\nname='near'\nkind='engine-leech'\npeers='seed'\ndelay='1ms'\n\
        [[host]]\nname='far'\nkind='engine-leech'\npeers='seed'\ndelay='10ms'\n\
        [[expect]]\nsooner=['near','far']\n[[expect]]\nsooner=['far','near']\n";
    let s = Scenario::parse(text, "f").unwrap();
    assert!(matches!(s.expects[0].check, Check::Sooner { .. }));
    let r = run(&s, 1, &RunOptions::default());
    assert!(r.outcomes[0].held, "{:?}", r.outcomes);
    assert!(!r.outcomes[1].held);
    // A seed has everything as soon as it has opened its files.
    assert!(completed(&r, "seed").unwrap() < completed(&r, "near").unwrap());
}

#[test]
fn a_host_that_is_off_at_the_end_has_completed() {
    let text = "duration = '30s'\n[torrent]\nsize = '64 KiB'\n\
        [[host]]\nname='seed'\nkind='engine-seed'\n\
        [[host]]\nname='leech'\nkind='engine-leech'\npeers='seed'\n\
        [[event]]\nat='20s'\noff='leech'\n\
        [[expect]]\ncompleted='leech'\nwithin='5s'\n";
    let s = Scenario::parse(text, "f").unwrap();
    let r = run(&s, 1, &RunOptions::default());
    assert!(r.held(), "{:?}", r.outcomes);
}
