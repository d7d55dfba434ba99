//! Expectations over time are judged by events, and a failure says what was seen and when.

use dunlin_sim::scenario::{RunOptions, Scenario, run};

/// Whether each expectation held, and what was seen.
fn judged(text: &str) -> Vec<(bool, String)> {
    let s = Scenario::parse(text, "f").unwrap_or_else(|e| panic!("{e}"));
    let r = run(&s, s.seed, &RunOptions::default());
    // What is watched does not change the run.
    let bare = Scenario::parse(text.split("[[expect]]").next().expect("text"), "f").expect("valid");
    assert_eq!(run(&bare, s.seed, &RunOptions::default()).trace, r.trace);
    r.outcomes.into_iter().map(|o| (o.held, o.why)).collect()
}

/// Two homes that punch, with this interval of keepalives and a NAT that forgets after 30 s.
fn pair(keepalive: &str, more: &str) -> String {
    format!(
        "duration = '10min'\n[[host]]\nname = 'meet'\nkind = 'rendezvous'\n\
        [[router]]\nname = 'left'\nnat = 'port-restricted'\nudp-stream = '30s'\nudp-first = '30s'\n\
        [[router]]\nname = 'right'\nnat = 'port-restricted'\n\
        [[host]]\nname = 'anna'\nbehind = 'left'\nkind = 'udp-punch'\nto = 'bert'\nvia = 'meet'\n\
        keepalive = '{keepalive}'\n\
        [[host]]\nname = 'bert'\nbehind = 'right'\nkind = 'udp-punch'\nto = 'anna'\nvia = 'meet'\n\
        keepalive = '{keepalive}'\n{more}"
    )
}

#[test]
fn a_connection_stays_as_long_as_it_is_kept_alive() {
    let stays = "[[expect]]\nstays-connected = ['anna', 'bert']\nuntil = '5min'\n";
    assert!(judged(&pair("25s", stays))[0].0);
    // The cut is noticed if it is before the time in question, to the microsecond.
    let cut = "[[event]]\nat = '100s'\ncut = 'left'\n[[event]]\nat = '200s'\nmend = 'left'\n";
    for (until, held) in [
        ("5min", false),
        ("103s", true),
        ("104s", false),
        ("90s", true),
    ] {
        let expect =
            format!("{cut}[[expect]]\nstays-connected = ['anna', 'bert']\nuntil = '{until}'\n");
        let seen = judged(&pair("25s", &expect));
        assert_eq!(seen[0].0, held, "{until}: {seen:?}");
        if !held {
            let why = &seen[0].1;
            assert!(
                why.starts_with("anna did not hear bert from 1 min 15.1 s to "),
                "{why}"
            );
        }
    }
}

#[test]
fn the_last_microsecond_counts() {
    let cut = "[[event]]\nat = '100s'\ncut = 'left'\n";
    let held = |micros: u64| {
        let expect = format!(
            "{cut}[[expect]]\nstays-connected = ['anna', 'bert']\nuntil = '{micros}us'\ngap = '1s'\n"
        );
        judged(&pair("20s", &expect))[0].0
    };
    // The silence is too long at one instant, and not before.
    let (mut early, mut late) = (100_000_000, 200_000_000);
    assert!(held(early) && !held(late));
    while late - early > 1 {
        let middle = early.midpoint(late);
        match held(middle) {
            true => early = middle,
            false => late = middle,
        }
    }
    // They last heard each other 80 s after they connected, which took 0.1 s.
    assert!((101_100_000..101_110_000).contains(&late), "{late}");
}

#[test]
fn a_mapping_is_lost_when_a_packet_meets_it_missing() {
    let expect = "[[expect]]\nmappings-kept = 'left'\n[[expect]]\nflows-kept = 'anna'\n";
    let kept = judged(&pair("25s", expect));
    assert!(kept.iter().all(|(held, _)| *held), "{kept:?}");
    // The rendezvous is asked every second, which keeps the mapping; but the peer may no longer send in
    // after 30 s.
    let lost = judged(&pair("40s", expect));
    assert!(lost[0].0, "{lost:?}");
    let (held, why) = &lost[1];
    assert!(!held && why.starts_with("after 40.1"), "{why}");
    assert!(why.contains("left has lost the flow of 10."), "{why}");
}

#[test]
fn a_restart_loses_what_was_there() {
    let steady = "duration = '60s'\n[[host]]\nname = 'e'\nkind = 'echo'\n\
        [[router]]\nname = 'home'\nnat = 'symmetric'\nboot = '1s'\n\
        [[host]]\nname = 's'\nbehind = 'home'\nkind = 'steady'\nto = 'e'\n";
    let expect = "[[expect]]\nmappings-kept = 'home'\n";
    assert_eq!(
        judged(&format!("{steady}{expect}"))[0],
        (true, "none was lost".into())
    );
    let event = "[[event]]\nat = '20.5s'\nreboot = 'home'\n";
    let (held, why) = judged(&format!("{steady}{event}{expect}")).remove(0);
    assert!(!held && why.starts_with("after 22"), "{why}");
}

/// A bystander behind the same table as a host that opens many flows.
fn table(nat: &str, flows: u32) -> String {
    format!(
        "duration = '2min'\n[[host]]\nname = 'world'\nkind = 'manual'\n\
        [[host]]\nname = 'e'\nkind = 'echo'\n[[router]]\nname = 'home'\nnat = '{nat}'\n\
        [[host]]\nname = 'noisy'\nbehind = 'home'\nkind = 'flood'\nflows = {flows}\nto = 'world'\nstart = '5s'\n\
        [[host]]\nname = 'bystander'\nbehind = 'home'\nkind = 'steady'\nto = 'e'\nevery = '20s'\n"
    )
}

#[test]
fn the_flows_of_a_bystander_live_or_do_not() {
    let expect = "[[expect]]\nflows-kept = 'bystander'\n";
    let (held, why) = judged(&format!("{}{expect}", table("tiny", 50))).remove(0);
    assert!(held, "{why}");
    let (held, why) = judged(&format!("{}{expect}", table("tiny-evict", 200))).remove(0);
    assert!(!held, "{why}");
    assert!(why.contains("home has lost the mapping of 10."), "{why}");
    let (held, why) = judged(&format!("{}{expect}", table("tiny-evict", 20))).remove(0);
    assert!(held, "{why}");
}

#[test]
fn new_flows_are_counted_in_every_second() {
    let of = |node: &str, bound: &str| {
        let expect = format!("[[expect]]\nnew-flows = '{node}'\n{bound}\n");
        judged(&format!("{}{expect}", table("linux", 50))).remove(0)
    };
    assert!(of("noisy", "at-most = 50").0);
    assert!(!of("noisy", "at-most = 49").0);
    // The bystander opens one more, and not within a second in which it matters.
    assert!(of("home", "at-most = 50").0);
    assert!(of("bystander", "exactly = 1").0);
    assert_eq!(of("world", "at-most = 0"), (true, "none".into()));
    assert!(
        of("noisy", "at-most = 49")
            .1
            .starts_with("at most 50, in the second until ")
    );
}

#[test]
fn the_wait_before_a_line_is_that_of_its_packets() {
    // 1 000 bytes with headers take 8 ms. Four of them at once wait 0, 8, 16 and 24 ms.
    let mut text = "duration = '10s'\n[[host]]\nname = 'far'\nkind = 'manual'\n\
        [[host]]\nname = 'near'\nkind = 'manual'\nup = '1 Mbit/s'\n"
        .to_owned();
    for _ in 0..4 {
        text.push_str("[[event]]\nat = '1s'\nsend = 'near'\nto = 'far'\nsize = 972\n");
    }
    let of = |keys: &str| {
        let expect = format!("[[expect]]\nqueue-delay = 'near'\n{keys}\n");
        judged(&format!("{text}{expect}")).remove(0)
    };
    for (quantile, below, held) in [
        ("25%", "1us", true),
        ("50%", "8ms", false),
        ("50%", "8001us", true),
        ("75%", "16001us", true),
        ("100%", "24ms", false),
        ("100%", "24001us", true),
    ] {
        let (is, why) = of(&format!("quantile = '{quantile}'\nbelow = '{below}'"));
        assert_eq!(is, held, "{quantile} {below}: {why}");
    }
    let why = of("below = '1ms'").1;
    assert_eq!(
        why,
        "24 ms; the longest of 4 packets waited 24 ms, from 1 s"
    );
    let (held, why) = of("way = 'down'\nbelow = '1s'");
    assert!(!held && why.contains("without a rate"), "{why}");
    // A queue that chooses among its packets is watched as well.
    text = text.replace(
        "up = '1 Mbit/s'",
        "up = '1 Mbit/s'\nqueue-discipline = 'fq-codel'",
    );
    if Scenario::parse(&text, "f").is_ok() {
        let expect = "[[expect]]\nqueue-delay = 'near'\nquantile = '100%'\nbelow = '24001us'\n";
        assert!(judged(&format!("{text}{expect}"))[0].0);
    }
}

#[test]
fn members_of_a_group_are_watched_too() {
    let text = "duration = '30s'\n[[host]]\nname = 'world'\nkind = 'manual'\n\
        [[router]]\nname = 'home'\ncount = 10\nnat = 'linux'\n\
        [[host]]\nname = 'pc'\nbehind = 'home'\nkind = 'flood'\nto = 'world'\n\
        flows = ['70% 10', '30% 20']\n\
        [[expect]]\nnew-flows = 'home'\nat-most = 10\nshare = '70%'\n\
        [[expect]]\nnew-flows = 'home'\nat-most = 10\n";
    let seen = judged(text);
    assert!(seen[0].0 && !seen[1].0, "{seen:?}");
    assert!(seen[1].1.starts_with("7 of 10, 70.0 %"), "{seen:?}");
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let wrong = |text: &str| Scenario::parse(text, "f").expect_err(text).to_string();
    let punch = pair("25s", "[[expect]]\nstays-connected = ['anna', 'bert']\n");
    let punch = punch.replace("keepalive = '25s'\n", "");
    assert!(
        wrong(&punch).contains("give it `keepalive"),
        "{}",
        wrong(&punch)
    );
    let host = "[[host]]\nname = 'a'\nkind = 'manual'\n";
    for (expect, help) in [
        ("new-flows = 'a'", "add `at-most"),
        ("queue-delay = 'a'", "add `below"),
        ("mappings-kept = 'a'", "this takes a router"),
        ("flows-kept = 'b'", "names: a"),
    ] {
        let error = wrong(&format!("{host}[[expect]]\n{expect}\n"));
        assert!(error.contains(help), "{error}");
    }
}

#[test]
fn a_silence_is_measured_by_the_keepalives_of_who_is_silent() {
    // The one who hears sends more rarely than the silence lasts.
    let host = |name: &str, to: &str, every: &str| {
        format!(
            "[[host]]\nname = '{name}'\nkind = 'udp-punch'\nto = '{to}'\nvia = 'meet'\nkeepalive = '{every}'\n"
        )
    };
    let text = format!(
        "duration = '3min'\n[[host]]\nname = 'meet'\nkind = 'rendezvous'\n{}{}\
        [[event]]\nat = '15s'\noff = 'bert'\n[[event]]\nat = '95s'\non = 'bert'\n\
        [[expect]]\nstays-connected = ['anna', 'bert']\n",
        host("anna", "bert", "100s"),
        host("bert", "anna", "10s")
    );
    let (held, why) = judged(&text).remove(0);
    assert!(
        !held && why.starts_with("anna did not hear bert from 10.1 s"),
        "{why}"
    );
}

#[test]
fn an_answer_opens_no_flow() {
    let text = "duration = '10s'\n[[host]]\nname = 'server'\nkind = 'echo'\n\
        [[host]]\nname = 'client'\nkind = 'steady'\nto = 'server'\n\
        [[expect]]\nnew-flows = 'server'\nat-most = 0\n\
        [[expect]]\nnew-flows = 'client'\nat-most = 0\n";
    let seen = judged(text);
    assert!(seen[0].0 && !seen[1].0, "{seen:?}");
}
