//! The published mixes really punch, and what connects is what the kinds of NATs allow.

#[path = "../examples/mixes.rs"]
#[allow(dead_code)]
mod mixes;

use dunlin_sim::scenario::Scenario;
use mixes::measure;

fn nats(text: &str, seed: u64) -> Vec<[String; 2]> {
    let s = Scenario::parse(text, "f").unwrap_or_else(|e| panic!("{e}"));
    let s = s.drawn(seed).unwrap_or_else(|e| panic!("{e}"));
    let of = |side: &str| -> Vec<String> {
        let all = s.routers.iter().filter(|r| r.population() == Some(side));
        all.map(|r| r.nat_name.clone()).collect()
    };
    let pairs = of("left").into_iter().zip(of("right"));
    pairs.map(|(a, b)| [a, b]).collect()
}

#[test]
fn what_connects_is_what_the_kinds_allow() {
    let halkes = include_str!("../scenarios/14-halkes-pouwelse.toml");
    let dcutr = include_str!("../scenarios/15-dcutr.toml");
    let tcp = dcutr.replace("udp-punch", "tcp-punch");
    for (name, text) in [("halkes", halkes), ("dcutr", dcutr), ("tcp", &*tcp)] {
        for seed in [1, 2] {
            let pairs = nats(text, seed);
            let shares = measure(text, seed);
            assert_eq!((shares.pairs, pairs.len()), (300, 300));
            let open = |p: &&[String; 2]| p.iter().any(String::is_empty);
            assert_eq!(shares.direct, pairs.iter().filter(open).count());
            // A symmetric NAT is punched if the other one admits any port of its address.
            let admits = |nat: &str| ["", "full-cone", "restricted-cone"].contains(&nat);
            let works = |p: &&[String; 2]| {
                let symmetric = |nat: &String| nat == "symmetric";
                match [symmetric(&p[0]), symmetric(&p[1])] {
                    [false, false] => true,
                    [true, false] => admits(&p[1]),
                    [false, true] => admits(&p[0]),
                    [true, true] => false,
                }
            };
            let punchable = pairs.iter().filter(|p| !open(p)).filter(works).count();
            assert_eq!(shares.punched, punchable, "{name} {seed}");
            assert_eq!(shares.succeeded, shares.punchable);
        }
    }
}

#[test]
fn the_shares_are_those_that_are_written() {
    for seed in [1, 7] {
        let pairs = nats(include_str!("../scenarios/14-halkes-pouwelse.toml"), seed);
        let punchable = |nat: &&String| nat.ends_with("cone") || *nat == "port-restricted";
        let left = pairs.iter().map(|p| &p[0]).filter(punchable).count();
        // 64 % of 300.
        assert_eq!(left, 192);
    }
}
