//! The simulator's NATs behave as Linux does. Scripts that diverge are left in `parity/` of the
//! target directory's `tmp`, whole and shrunk, and can be run again:
//!
//! ```text
//! DUNLIN_PARITY_SCRIPT=…/eim-eif-17-small.script \
//!     cargo test -p dunlin-tests --features lab --test parity -- --ignored --nocapture replay
//! ```

use std::path::Path;
use std::time::Duration;

use dunlin_sim::middlebox::nat::presets;
use dunlin_tests::parity::kernel::conntrack_timeouts;
use dunlin_tests::parity::model::{self, Model};
use dunlin_tests::parity::script::Script;
use dunlin_tests::parity::{generate, run, shrink};

/// Packets of a million whose fate must be the same.
const BAR: usize = 999_000;
/// Scripts of each model, in brief and in full.
const BRIEF: usize = 40;
const FULL: usize = 512;

fn model(name: &str) -> Model {
    let mut all = model::all().into_iter();
    all.find(|model| model.name == name)
        .unwrap_or_else(|| panic!("no model {name}"))
}

fn every_model(first: u64, count: usize) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("parity");
    let tallies = run::all(&model::all(), first, count, &folder);
    for tally in &tallies {
        assert_eq!(tally.scripts, count, "{}: scripts are missing", tally.model);
        assert!(
            tally.passed * 3 > tally.packets,
            "{}: nearly nothing passes, so nearly nothing is compared",
            tally.model
        );
        assert!(
            tally.same_per_million() >= BAR,
            "{}: scripts that diverge are in {}",
            tally.model,
            folder.display()
        );
    }
}

#[test]
fn the_simulator_does_as_the_kernel_does() {
    every_model(1, BRIEF);
}

#[test]
#[ignore = "some minutes; tests/run parity-full"]
fn the_simulator_does_as_the_kernel_does_in_full() {
    every_model(seed(100_000), FULL);
}

/// The preset `linux` has the timers of a kernel whose administrator has changed nothing.
#[test]
fn the_timers_of_linux_are_the_kernels() {
    let t = presets::linux().timeouts;
    let expected = [
        ("generic_timeout", t.generic),
        ("gre_timeout", t.gre_first),
        ("gre_timeout_stream", t.gre_stream),
        ("icmp_timeout", t.icmp),
        ("icmpv6_timeout", t.icmp),
        ("sctp_timeout_closed", t.sctp_closed),
        ("sctp_timeout_cookie_echoed", t.sctp_opening),
        ("sctp_timeout_cookie_wait", t.sctp_opening),
        ("sctp_timeout_established", t.sctp_established),
        ("sctp_timeout_heartbeat_sent", t.sctp_heartbeat),
        ("sctp_timeout_shutdown_ack_sent", t.sctp_closing),
        ("sctp_timeout_shutdown_recd", t.sctp_closing),
        ("sctp_timeout_shutdown_sent", t.sctp_closing),
        ("tcp_timeout_close", t.tcp_reset),
        ("tcp_timeout_close_wait", t.tcp_close_wait),
        ("tcp_timeout_established", t.tcp_established),
        ("tcp_timeout_fin_wait", t.tcp_fin),
        ("tcp_timeout_last_ack", t.tcp_last_ack),
        ("tcp_timeout_max_retrans", t.tcp_stalled),
        ("tcp_timeout_syn_recv", t.tcp_syn_received),
        ("tcp_timeout_syn_sent", t.tcp_syn),
        ("tcp_timeout_time_wait", t.tcp_time_wait),
        ("tcp_timeout_unacknowledged", t.tcp_stalled),
        ("udp_timeout", t.udp_first),
        ("udp_timeout_stream", t.udp_stream),
    ];
    // Every timer that the kernel has, so that a new one is noticed.
    let kernel = conntrack_timeouts();
    let named = |(name, secs): &(String, u64)| (name.clone(), Duration::from_secs(*secs));
    let kernel: Vec<_> = kernel.iter().map(named).collect();
    let expected = expected.map(|(name, life)| (name.to_owned(), life));
    assert_eq!(kernel, expected);
}

fn seed(default: u64) -> u64 {
    std::env::var("DUNLIN_PARITY_SEED").map_or(default, |seed| seed.parse().expect("a number"))
}

/// What one of these diverges in must be seen, or agreement means nothing.
#[test]
fn another_nat_is_told_apart() {
    let pairs = [
        ("linux-short", "eim-eif"),
        ("linux-preserve", "apdm-random"),
        ("linux-preserve", "linux-accept"),
        ("linux-accept", "linux-reject"),
        ("eim-eif", "hairpin"),
        ("eim-hash", "adm-hash"),
        ("adm-hash", "apdm-hash"),
        ("apdm-hash", "apdm-random"),
        ("apdm-sequential", "apdm-random"),
        ("cgn-block", "apdm-random"),
        ("eim-eif", "eim-adf"),
        ("eim-adf", "linux-short"),
    ];
    std::thread::scope(|scope| {
        for (kernel, simulated) in pairs {
            scope.spawn(move || {
                let (kernel, simulated) = (model(kernel), model(simulated));
                let scripts = (1..=24).map(|seed| generate::script(&kernel, seed));
                let cases = run::compare(&kernel, &simulated, scripts.collect());
                // By what becomes of packets: that their timers differ would not count for much.
                let told = |why: &str| !why.starts_with("the tables");
                let found = |case: &&run::Case| case.found.iter().any(|d| told(&d.why));
                let diverged = cases.iter().filter(found).count();
                println!("{} as {}: {diverged} of 24", kernel.name, simulated.name);
                assert!(
                    diverged >= 3,
                    "{} is taken for {}",
                    simulated.name,
                    kernel.name
                );
            });
        }
    });
}

#[test]
fn a_divergence_shrinks_to_what_matters() {
    let (kernel, simulated) = (model("eim-eif"), model("eim-adf"));
    let scripts = (1..=24).map(|seed| generate::script(&kernel, seed));
    let cases = run::compare(&kernel, &simulated, scripts.collect());
    let case = cases.iter().find(|case| !case.found.is_empty());
    let small = shrink::shrink(
        &kernel,
        &simulated,
        case.expect("a full cone lets strangers in"),
    );
    println!("{small}");
    // One that goes out and a stranger that comes in.
    assert_eq!(small.script.events.len(), 2, "{small}");
}

#[test]
#[ignore = "needs DUNLIN_PARITY_SCRIPT"]
fn replay() {
    let path = std::env::var("DUNLIN_PARITY_SCRIPT").expect("DUNLIN_PARITY_SCRIPT");
    let text = std::fs::read_to_string(&path).expect(&path);
    let script: Script = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
    let model = model(&script.model);
    for case in run::compare(&model, &model, vec![script]) {
        println!("{case}");
        assert!(case.found.is_empty(), "it diverges");
    }
}
