//! The simulator does what the oracle predicts, whichever boxes two hosts are behind.

use dunlin_sim::{
    BoxConfig,
    experiment::{
        matrix::{self, Connects, Kind, Matrix},
        oracle::{Attempt, End, Family, Meet, Transport},
    },
    middlebox::nat::{self, Filtering, Hairpin, NatConfig, WanInput},
};

/// Kinds of every sort, few enough for each test run.
const FEW: &[&str] = &[
    "open",
    "linux",
    "linux-accept",
    "openwrt",
    "full-cone",
    "adm",
    "symmetric",
    "pf-static",
    "hairpin-external",
    "udp-blocked",
    "linux>cgnat-good",
    "linux+mapped",
];

fn few() -> Vec<Kind> {
    let all = matrix::kinds();
    let find = |name: &&str| all.iter().find(|k| k.name == **name).cloned();
    let few: Vec<Kind> = FEW.iter().filter_map(find).collect();
    assert_eq!(few.len(), FEW.len(), "every name is that of a kind");
    few
}

fn agrees(matrix: &Matrix) {
    let odd: Vec<_> = matrix.disagreements().take(20).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(!matrix.cells.is_empty());
}

#[test]
fn some_of_all_kinds_agree_with_the_oracle() {
    let kinds = few();
    let mut told = 0;
    let matrix = matrix::run(&kinds, &[1, 2], |progress| {
        told += 1;
        assert_eq!(progress.done, told);
    });
    assert_eq!(told, matrix.cells.len());
    agrees(&matrix);
    // Both outcomes are common, so a simulator or an oracle that always gives the same one fails
    // here.
    let counts = matrix::summary(&matrix);
    for transport in Transport::ALL {
        for attempt in Attempt::ALL {
            let count = |verdict| counts.get(&(transport, attempt, verdict)).copied();
            assert!(count(Connects::Always) > Some(10) && count(Connects::Never) > Some(10));
            assert_eq!(count(Connects::Sometimes), None);
        }
    }
}

#[test]
#[ignore = "18 222 cells; `tests/run sim` runs it, and `dunlin-sim matrix` does the same"]
fn all_kinds_agree_with_the_oracle() {
    let kinds = matrix::kinds();
    assert!(kinds.len() >= 80);
    agrees(&matrix::run_on(2, &kinds, Family::V4, &[1, 2, 3], |_| {}));
}

#[test]
fn all_kinds_agree_with_the_oracle_over_ipv6() {
    let kinds = matrix::kinds_v6();
    assert!(kinds.len() >= 10);
    agrees(&matrix::run_on(1, &kinds, Family::V6, &[1], |_| {}));
}

#[test]
fn a_matrix_is_the_same_twice_and_on_any_number_of_threads() {
    let kinds = &few()[..4];
    let once = matrix::run(kinds, &[7], |_| {});
    let again = matrix::run_on(3, kinds, Family::V4, &[7], |_| {});
    assert_eq!(once, again);
    assert_ne!(once.hash(), matrix::run(kinds, &[8], |_| {}).hash());
}

#[test]
fn punching_takes_a_round_trip_and_few_packets() {
    let kinds = few();
    let linux = kinds.iter().position(|k| k.name == "linux").expect("there");
    let kinds = &kinds[linux..=linux];
    let matrix = matrix::run(kinds, &[1], |_| {});
    // 21 ms until they are introduced, and 22 ms from one to the other. UDP needs a probe, its
    // answer, and one more probe to confirm it. TCP needs a SYN and a SYN with ACK, and then the
    // same exchange, at most one after the other.
    for (transport, ms, packets) in [(Transport::Udp, 65, 6), (Transport::Tcp, 109, 18)] {
        let cell = matrix.cell(0, 0, Meet::Core, transport).expect("there");
        let run = &cell.of(Attempt::Together).expect("tried").runs[0];
        assert_eq!(run.after.map(|t| t.as_millis()), Some(ms));
        assert!(run.packets <= packets, "{} packets", run.packets);
    }
}

/// One host has one box of its own, and the other has three, the outermost of which remembers
/// packets that come too early. Packets of one tick cross all the same.
#[test]
fn packets_of_one_tick_cross_before_a_box_that_both_are_behind() {
    let nat = |config| BoxConfig {
        nat: Some(config),
        ..BoxConfig::default()
    };
    let mut shared = nat::presets::linux();
    shared.hairpin = Hairpin::ExternalSource;
    // It filters nothing; otherwise an early packet would be dropped there.
    shared.udp.filtering = Filtering::EndpointIndependent;
    let shared = nat(shared);
    let strict = nat(nat::presets::linux());
    let remembers = nat(NatConfig {
        wan_input: WanInput::Accept,
        ..nat::presets::linux()
    });
    let end = |path: &[&BoxConfig]| End {
        path: path.iter().map(|one| (*one).clone()).collect(),
        port: 6_881,
        forwarded: false,
    };
    let near = end(&[&strict, &shared]);
    let far = end(&[&strict, &strict, &remembers, &shared]);
    for (a, b) in [(&near, &far), (&far, &near)] {
        let (_, tried) = matrix::cell((a, b), Meet::Box, Family::V4, Transport::Udp, &[1, 2, 3]);
        let together = &tried[1];
        assert_eq!(together.attempt, Attempt::Together);
        assert_eq!(together.expected, Ok(()));
        assert_eq!(together.connects(), Connects::Always);
    }
}
