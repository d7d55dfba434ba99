//! Populations: exact shares, stable names, members that arrive, expectations of groups, and shrinking.

use std::{collections::BTreeMap, time::Duration};

use dunlin_sim::scenario::{Document, MAX_NODES, RunOptions, RunResult, Scenario, run, shrink};

fn read(text: &str) -> Scenario {
    Scenario::parse(text, "f").unwrap_or_else(|e| panic!("{e}"))
}

fn wrong(text: &str) -> String {
    Scenario::parse(text, "f").expect_err(text).to_string()
}

fn ran(text: &str, seed: u64) -> RunResult {
    run(&read(text), seed, &RunOptions::default())
}

const HOMES: &str = "seed = 3\nduration = '20s'\n\
    [[router]]\nname = 'home'\ncount = 20\n\
    nat = ['60% linux', '15% none', '10% symmetric', '15% full-cone']\n\
    up = '1 Mbit/s to 3 Mbit/s'\n\
    [[host]]\nname = 'pc'\ncount = 2\nbehind = 'home'\nkind = 'manual'\ngroup = 'machines'\n\
    [[host]]\nname = 'alone'\nkind = 'manual'\ngroup = ['machines', 'others']\n";

/// How many routers have each preset.
fn nats(s: &Scenario) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for router in &s.routers {
        *counts.entry(router.nat_name.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn members_have_stable_names_and_exact_shares() {
    let s = read(HOMES);
    assert_eq!((s.routers.len(), s.hosts.len()), (20, 41));
    assert_eq!(
        nats(&s),
        [("linux", 12), ("", 3), ("symmetric", 2), ("full-cone", 3)].into()
    );
    let seventeen = &s.routers[16];
    assert_eq!(seventeen.name, "home-17");
    assert_eq!(seventeen.population(), Some("home"));
    let of_17 = s
        .hosts
        .iter()
        .filter(|h| h.behind.as_deref() == Some("home-17"));
    let of_17: Vec<&str> = of_17.map(|h| h.name.as_str()).collect();
    assert_eq!(of_17, ["pc-17-1", "pc-17-2"]);
    assert_eq!(s.groups["machines"].len(), 41);
    assert_eq!(s.groups["others"], ["alone"]);
    let mut rates: Vec<u64> = s.routers.iter().filter_map(|r| r.link.up?).collect();
    rates.sort_unstable();
    assert_eq!(
        (rates.len(), rates[0], rates[19]),
        (20, 1_050_000, 2_950_000)
    );
}

#[test]
fn another_seed_draws_anew_with_the_same_shares() {
    let s = read(HOMES);
    let order =
        |s: &Scenario| -> Vec<String> { s.routers.iter().map(|r| r.nat_name.clone()).collect() };
    let other = s.drawn(4).expect("valid");
    assert_eq!(nats(&s), nats(&other));
    assert_ne!(order(&s), order(&other));
    assert_eq!(order(&s), order(&s.drawn(3).expect("valid")));
    // Another population changes nothing for this one.
    let more = format!("{HOMES}[[router]]\nname = 'more'\ncount = 5\nnat = ['100% linux']\n");
    assert_eq!(order(&s), order(&read(&more))[..20]);
}

#[test]
fn a_run_draws_with_its_own_seed() {
    let text = format!(
        "{HOMES}[[host]]\nname = 'far'\nkind = 'echo'\n\
        [[event]]\nat = '1s'\nsend = 'pc-1-1'\nto = 'far'\n"
    );
    let translated = |seed| {
        let r = ran(&text, seed);
        let s = read(&text);
        let drawn = s.drawn(seed).expect("valid");
        let has = drawn.routers[0].nat.is_some();
        assert_eq!(r.counters.iter().any(|c| c.rule == "nat.new-mapping"), has);
        has
    };
    let seen: Vec<bool> = (0..20).map(translated).collect();
    assert!(seen.contains(&true) && seen.contains(&false));
}

#[test]
fn members_arrive_when_they_are_to() {
    let of = |arrive: &str, start: &str| -> Vec<u64> {
        let s = read(&format!(
            "duration = '1h'\n[[host]]\nname = 'e'\nkind = 'echo'\n[[host]]\nname = 'c'\ncount = 4\n\
            kind = 'steady'\nto = 'e'\narrive = {arrive}\n{start}"
        ));
        let callers = s.hosts.iter().filter(|h| h.population() == Some("c"));
        callers
            .map(|h| h.options.start.as_micros() as u64)
            .collect()
    };
    let secs = |all: [u64; 4]| all.map(|s| s * 1_000_000).to_vec();
    assert_eq!(of("'evenly over 40s'", ""), secs([0, 10, 20, 30]));
    assert_eq!(of("['1s', '5s', '2s', '0s']", ""), secs([1, 5, 2, 0]));
    assert_eq!(
        of("'evenly over 40s'", "start = '5s'\n"),
        secs([5, 15, 25, 35])
    );
    let random = of("'poisson 6/min'", "");
    assert!(random.is_sorted() && random[0] > 0, "{random:?}");
}

/// Pairs behind NATs of two kinds, of which symmetric ones do not connect to each other.
const PAIRS: &str = "duration = '15s'\n\
    [[host]]\nname = 'meet'\nkind = 'rendezvous'\ncount = 10\n\
    [[router]]\nname = 'left'\ncount = 10\nnat = ['70% port-restricted', '30% symmetric']\n\
    [[router]]\nname = 'right'\ncount = 10\nnat = 'port-restricted'\n\
    [[host]]\nname = 'a'\nbehind = 'left'\nkind = 'udp-punch'\nto = 'b'\nvia = 'meet'\n\
    [[host]]\nname = 'b'\nbehind = 'right'\nkind = 'udp-punch'\nto = 'a'\nvia = 'meet'\n";

#[test]
fn pairs_of_two_populations_connect_in_their_share() {
    for (quota, held) in [
        ("share = '70%'", true),
        ("share = '71%'", false),
        ("exactly = 7", true),
        ("at-least = 8", false),
        ("at-most = 6", false),
        ("", false),
    ] {
        let r = ran(
            &format!("{PAIRS}[[expect]]\nconnected = ['a', 'b']\n{quota}\n"),
            1,
        );
        let o = &r.outcomes[0];
        assert_eq!(o.held, held, "{quota}: {o:?}");
        assert!(o.why.starts_with("7 of 10, 70.0 %; not that a-"), "{o:?}");
    }
}

#[test]
fn all_of_a_group_or_enough_of_them_complete_in_time() {
    let text = "duration = '10min'\n[torrent]\nsize = '256 KiB'\n\
        [[host]]\nname = 'seed'\nkind = 'engine-seed'\n\
        [[host]]\nname = 'quick'\ncount = 3\nkind = 'engine-leech'\npeers = 'seed'\ngroup = 'all'\n\
        [[host]]\nname = 'slow'\nkind = 'engine-leech'\npeers = ['seed', 'quick']\n\
        start = '60s'\ngroup = 'all'\n";
    for (expect, held) in [
        ("completed = 'all'", true),
        ("completed = 'all'\nwithin = '30s'", false),
        ("completed = 'all'\nwithin = '30s'\nat-least = 3", true),
        ("completed = 'all'\nwithin = '30s'\nshare = '75%'", true),
        ("completed = 'all'\nwithin = '30s'\nat-least = 4", false),
        (
            "completed = ['quick', 'slow']\nwithin = '30s'\nexactly = 3",
            true,
        ),
    ] {
        let r = ran(&format!("{text}[[expect]]\n{expect}\n"), 1);
        assert_eq!(r.outcomes[0].held, held, "{expect}: {:?}", r.outcomes);
    }
    let s = read(text);
    let peers = &s.hosts.last().expect("hosts").options.peers;
    assert_eq!(peers[..], ["seed", "quick-1", "quick-2", "quick-3"]);
}

#[test]
fn what_is_wrong_with_a_population_is_told_once() {
    let of = |keys: &str| format!("[[router]]\nname = 'r'\ncount = 50\n{keys}\n");
    for (text, place, help) in [
        (of("nat = ['60% linux', '30% none']"), "4:7", "make 100 %"),
        (of("nat = ['60% linux', 'none']"), "4:21", "60% linux"),
        (of("nat = ['50% lunix', '50% none']"), "4:7", "did you mean `linux`?"),
        (of("delay = '20ms to 10ms'"), "4:9", "lower end first"),
        ("[[router]]\nname = 'r'\ncount = 0\n".into(), "3:9", "from 1 to 20000"),
        ("[[router]]\nname = 'r'\ncount = 20001\n".into(), "3:9", "from 1 to 20000"),
        (
            format!("{}[[router]]\nname = 'h'\nbehind = 'r'\ncount = 401\n", of("")),
            "8:9",
            "at most 20000",
        ),
        ("[[router]]\nname = 'r'\nnat = ['50% linux', '50% none']\n".into(), "3:7", "add `count"),
        (
            format!("{}[[host]]\nname = 'r-7'\nkind = 'echo'\n", of("")),
            "6:8",
            "a name of its own",
        ),
        (
            format!("{}[[host]]\nname = 'r'\nkind = 'echo'\n", of("")),
            "2:8",
            "a name of its own",
        ),
        (format!("{}[[event]]\nat = 1\nreboot = 'r'\n", of("")), "7:10", "name one, such as `r-1`"),
        (
            format!("{PAIRS}[[expect]]\nconnected = ['a', 'meet']\n"),
            "27:13",
            "this takes udp-punch",
        ),
        (
            format!("{PAIRS}[[expect]]\nconnected = ['a', 'b']\nat-least = 11\n"),
            "28:12",
            "no more than there are",
        ),
        (PAIRS.replacen("count = 10\nnat = 'port", "count = 9\nnat = 'port", 1), "18:6", "as many of both"),
        (
            "[[host]]\nname = 'e'\nkind = 'echo'\n[[host]]\nname = 's'\nkind = 'steady'\nto = 'e'\n\
             count = 3\narrive = ['1s']\n".into(),
            "9:10",
            "as many of both",
        ),
    ] {
        let error = wrong(&text);
        let head = format!("f:{place}: ");
        assert!(error.starts_with(&head), "wanted {head} of\n{text}\n\ngot {error}");
        assert!(error.contains(help), "wanted {help} of\n{text}\n\ngot {error}");
        assert!(error.lines().count() < 10, "{error}");
    }
}

#[test]
fn shrinking_leaves_out_the_members_that_are_not_needed() {
    let text = format!("{PAIRS}[[expect]]\nconnected = ['a', 'b']\n");
    let doc = Document::parse(&text, "f").expect("valid");
    let small = shrink(&doc, 1).expect("a scenario").expect("it fails");
    let toml = small.document.to_toml();
    let left = read(&toml);
    assert_eq!((left.hosts.len(), left.routers.len()), (3, 2), "{toml}");
    assert_eq!(left.routers[0].nat_name, "symmetric");
    assert!(!run(&left, left.seed, &RunOptions::default()).held());
    assert_eq!(small.failed, ["all of the pairs of a and b connect"]);
}

#[test]
fn a_large_population_makes_a_small_report() {
    let text = "duration = '60s'\n[torrent]\nsize = '64 KiB'\n\
        [[host]]\nname = 'tracker'\nkind = 'tracker'\n\
        [[host]]\nname = 'seed'\nkind = 'engine-seed'\ntrackers = 'tracker'\n\
        [[router]]\nname = 'home'\ncount = 200\nnat = 'linux'\n\
        [[host]]\nname = 'peer'\nbehind = 'home'\nkind = 'engine-leech'\ntrackers = 'tracker'\n\
        arrive = 'evenly over 20s'\n[[expect]]\ncompleted = 'peer'\nshare = '80%'\n";
    let s = read(text);
    let options = RunOptions {
        journeys: true,
        curves: true,
        ..RunOptions::default()
    };
    let r = run(&s, 1, &options);
    assert!(r.held(), "{:?}", r.outcomes);
    assert!(r.counters.len() < 40, "{}", r.counters.len());
    let series: usize = r.charts.iter().map(|c| c.series.len()).sum();
    assert!(series < 10, "{series}");
    let html = r.report(&s, "dunlin-sim run").html();
    assert!(html.len() < 300_000, "{}", html.len());
    let last = r.hosts.iter().filter_map(|h| h.torrent.as_ref()?.completed);
    assert!(last.max().is_some_and(|t| t < Duration::from_secs(60)));
}

/// A file that asks for as much as is possible is read or refused soon.
#[test]
fn the_largest_populations_are_read_or_refused() {
    let most = "[[host]]\nname='m'\nkind='rendezvous'\ncount=10000\n\
        [[host]]\nname='a'\ncount=10000\nkind='steady'\nto='e'\n[[host]]\nname='e'\nkind='echo'\n";
    let e = Scenario::parse(most, "f")
        .map(drop)
        .expect_err("one too many");
    assert!(e.to_string().contains("too much"), "{e}");
    let fits = most.replace("'a'\ncount=10000", "'a'\ncount=9999");
    let s = Scenario::parse(&fits, "f").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.hosts.len(), MAX_NODES);
    let names = vec!["'e'"; 20_000].join(", ");
    let wide = format!("[[host]]\nname='a'\ncount=9999\nkind='steady'\nto='e'\ngroup=[{names}]\n");
    let e = Scenario::parse(&wide, "f")
        .map(drop)
        .expect_err("much to write out");
    assert!(e.to_string().contains("too much"), "{e}");
    let all = "[[host]]\nname='p'\ncount=2000\nkind='engine-leech'\npeers='p'\n";
    let e = Scenario::parse(all, "f")
        .map(drop)
        .expect_err("too many peers");
    assert!(e.to_string().contains("give a tracker instead"), "{e}");
}
