//! The example scenarios, one test each: their expectations hold, and the runs can be repeated.

use std::path::{Path, PathBuf};

use dunlin_sim::scenario::{Document, RunOptions, Scenario, run, shrink};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn read(file: &str) -> (Document, Scenario) {
    let text = std::fs::read_to_string(folder().join(file)).expect("the file is there");
    let doc = Document::parse(&text, file).unwrap_or_else(|e| panic!("{e}"));
    let scenario = Scenario::from_document(&doc).unwrap_or_else(|e| panic!("{e}"));
    (doc, scenario)
}

/// Runs a scenario twice, once with everything recorded.
fn holds(file: &str) {
    let (_, s) = read(file);
    let plain = run(&s, s.seed, &RunOptions::default());
    let failed: Vec<_> = plain.outcomes.iter().filter(|o| !o.held).collect();
    assert!(failed.is_empty() && plain.stuck.is_none(), "{failed:#?}");
    assert_eq!(plain.outcomes.len(), s.expects.len());
    assert!(!s.expects.is_empty() && !s.about.is_empty());
    let everything = RunOptions {
        capture: true,
        journeys: true,
        curves: true,
        pair: None,
    };
    let again = run(&s, s.seed, &everything);
    assert_eq!(plain.trace, again.trace, "what is kept changes the run");
    assert_eq!(plain.outcomes, again.outcomes);
    assert_eq!(again.captures.len(), s.hosts.len() + s.routers.len());
    let sequence = again.sequence.as_ref().expect("asked for");
    assert!(!sequence.steps.is_empty(), "nothing to draw");
    let html = again.report(&s, "dunlin-sim run").html();
    assert!(html.contains("all expectations hold"));
    assert!(!html.contains("NaN") && !html.contains("inf\""));
}

macro_rules! scenarios {
    ($($name:ident = $file:literal;)+) => {
        $(#[test]
        fn $name() {
            holds($file);
        })+

        /// Every file has a test above.
        #[test]
        fn every_scenario_is_run() {
            let mut files: Vec<String> = std::fs::read_dir(folder())
                .expect("the folder is there")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter(|name| name.ends_with(".toml"))
                .collect();
            files.sort();
            assert_eq!(files, [$($file),+]);
        }
    };
}

scenarios! {
    outbound_only = "01-outbound-only.toml";
    two_homes_punch = "02-two-homes.toml";
    symmetric_fails = "03-symmetric.toml";
    inbound_first_collides = "04-inbound-first.toml";
    double_nat = "05-double-nat.toml";
    udp_blocked_tcp_works = "06-udp-blocked.toml";
    a_tiny_table_and_a_bystander = "07-tiny-table.toml";
    a_router_reboots = "08-reboot.toml";
    outbound_only_torrent = "09-outbound-only-torrent.toml";
    a_swarm_completes = "10-swarm.toml";
    a_free_rider_does_not_stop_the_others = "11-free-rider.toml";
    a_slow_disk_stalls_nobody_else = "12-slow-disk.toml";
    the_planted_fault_is_not_seen_by_every_seed = "13-planted-fault.toml";
    the_peers_of_halkes_and_pouwelse = "14-halkes-pouwelse.toml";
    the_peers_of_dcutr = "15-dcutr.toml";
    port_mappings_let_strangers_in_until_a_restart = "16-gateway.toml";
    a_port_mapping_carries_a_torrent = "17-gateway-torrent.toml";
}

/// Another seed gives another hash, so the hash depends on what happens.
#[test]
fn another_seed_is_another_run() {
    let (_, s) = read("10-swarm.toml");
    let trace = |seed| run(&s, seed, &RunOptions::default()).trace;
    assert_ne!(trace(1), trace(2));
}

#[test]
fn a_sweep_finds_the_planted_fault_and_it_shrinks() {
    let (doc, s) = read("13-planted-fault.toml");
    let fails = |seed: &u64| !run(&s, *seed, &RunOptions::default()).held();
    let seed = (0..40).find(fails).expect("some seed notices");
    let small = shrink(&doc, seed).expect("a scenario").expect("it fails");
    assert_eq!(small.events_before, 100);
    assert!(small.events <= 10, "{}", small.document.to_toml());
    // The reduced scenario can be read, and fails in the same way because of the planted fault.
    let text = small.document.to_toml();
    let again = Scenario::parse(&text, "small.toml").unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.seed, seed);
    let result = run(&again, again.seed, &RunOptions::default());
    assert!(!result.held(), "{text}");
    let met = |rule: &str| result.counters.iter().any(|c| c.rule == rule);
    assert!(met("fault.planted"), "{:#?}", result.counters);
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    let (doc, s) = read("02-two-homes.toml");
    assert_eq!(shrink(&doc, s.seed), Ok(None));
}

/// The files in the page are valid, and what they expect holds.
#[test]
fn the_page_shows_valid_scenarios() {
    let page = include_str!("../SCENARIOS.md");
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        let text = block.split("```").next().expect("an end");
        let s = Scenario::parse(text, "page").unwrap_or_else(|e| panic!("{e}\n{text}"));
        let failed = run(&s, s.seed, &RunOptions::default()).outcomes;
        assert!(failed.iter().all(|o| o.held), "{failed:#?}\n{text}");
    }
}
