//! Searches in an emulated wide-area DHT of 60 000 nodes: their speed, their cost and whom they
//! reach. The example `dht_farm` prints the same of any number of searches.

#[path = "../examples/dht_farm/farm.rs"]
mod farm;

use farm::{Farm, Nature, Score, Searcher, mean_milli, quantile};

const SEARCHES: usize = 500;
/// Networks they are done in: each has its own luck.
const FARMS: u64 = 4;

fn searches(nature: Nature, searcher: Searcher, count: usize) -> Vec<Score> {
    let farms = (1..=FARMS).map(|seed| Farm::new(nature, seed));
    farms
        .flat_map(|mut farm| farm.searches(&searcher, count / FARMS as usize))
        .collect()
}

/// Asserts that half and 99 % of those times that `pick` finds, in milliseconds, are within a bar.
#[track_caller]
fn within(scores: &[Score], what: &str, pick: fn(&Score) -> Option<u64>, p50: u64, p99: u64) {
    let times = scores.iter().filter_map(pick);
    let (half, most) = (quantile(times.clone(), 500), quantile(times, 990));
    assert!(
        half <= p50 && most <= p99,
        "{what}: p50 {half}, p99 {most} ms"
    );
}

/// All found peers; half of them and 99 % by then.
#[track_caller]
fn found_within(scores: &[Score], p50: u64, p99: u64) {
    assert!(scores.iter().all(|s| s.values.is_some()), "success");
    within(scores, "first values", |s| s.values, p50, p99);
}

#[track_caller]
fn done_within(scores: &[Score], p99: u64) {
    within(scores, "done", |s| Some(s.done), p99, p99);
}

fn mean(scores: &[Score], pick: fn(&Score) -> u32) -> u64 {
    mean_milli(scores.iter().map(pick))
}

/// Half of the nodes are dead, but still returned by others. The node's own table has 290 live nodes, like
/// that of the nodes it is compared with.
#[test]
fn g1_half_of_the_nodes_dead() {
    let searcher = Searcher {
        wide: true,
        ..Searcher::default()
    };
    let scores = searches(Nature::default(), searcher, SEARCHES);
    found_within(&scores, 200, 600);
    within(&scores, "closest 8", |s| s.all_closest, 450, 1_200);
    done_within(&scores, 1_500);
    let reached = mean(&scores, |s| s.reached);
    assert!(reached >= 7_800, "{reached}");
    let queries = mean(&scores, |s| s.queries);
    assert!(queries <= 60_000, "{queries}");
    assert!(scores.iter().all(|s| s.stores == 8));
}

/// The same with eight nodes a bucket in its table, as dead as everywhere: a cache a day old.
#[test]
fn g1_half_of_the_nodes_dead_and_of_the_table_too() {
    let searcher = Searcher {
        warm: false,
        ..Searcher::default()
    };
    let scores = searches(Nature::default(), searcher, SEARCHES);
    found_within(&scores, 270, 600);
    done_within(&scores, 1_500);
    let queries = mean(&scores, |s| s.queries);
    assert!(queries <= 65_000, "{queries}");
}

/// Two of three nodes are dead.
#[test]
fn g2_two_of_three_nodes_dead() {
    let nature = Nature {
        dead: 0.67,
        ..Nature::default()
    };
    let scores = searches(nature, Searcher::default(), SEARCHES);
    found_within(&scores, 300, 1_000);
}

/// The search gets around 30 % of Sybils, which answer but name only Sybils.
#[test]
fn g9_thirty_percent_sybils() {
    let nature = Nature {
        dead: 0.0,
        sybils: 0.3,
        ..Nature::default()
    };
    let scores = searches(nature, Searcher::default(), 2 * SEARCHES);
    let captured = scores.iter().filter(|s| s.honest == 0).count();
    assert_eq!(captured, 0);
}

/// A search does not depend on the size of the network being known.
#[test]
fn without_an_estimate_a_search_still_ends_well() {
    let searcher = Searcher {
        sized: false,
        ..Searcher::default()
    };
    let scores = searches(Nature::default(), searcher, SEARCHES / 2);
    assert!(scores.iter().all(|s| s.values.is_some()));
    let reached = mean(&scores, |s| s.reached);
    assert!(reached >= 7_600, "{reached}");
}

/// One packet in twenty lost, each way: slower, not worse.
#[test]
fn loss_is_survived() {
    let nature = Nature {
        dead: 0.2,
        loss: 0.05,
        ..Nature::default()
    };
    let scores = searches(nature, Searcher::default(), SEARCHES / 2);
    assert!(scores.iter().all(|s| s.values.is_some()));
    done_within(&scores, 1_500);
}

/// A small network is searched to its end.
#[test]
fn of_six_nodes_all_are_asked() {
    let nature = Nature {
        nodes: 6,
        dead: 0.0,
        ..Nature::default()
    };
    let scores = searches(nature, Searcher::default(), 20);
    assert!(scores.iter().all(|s| s.queries == 6 && s.reached == 6));
}
