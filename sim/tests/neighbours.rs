//! A swarm of 30 whose seeds leave after they sent the torrent a few times over, when its peers are
//! strangers and when they are neighbours. Neighbours have the same allowed fast set (BEP 6).

use std::fmt::Write as _;

use dunlin_sim::scenario::{RunOptions, Scenario, run};

const LINE: &str = "down = \"10 Mbit/s\"\nup = \"1 Mbit/s\"\ndelay = \"15ms\"\nloss = \"1%\"\n";
const NATS: [&str; 6] = [
    "fritzbox",
    "port-restricted",
    "linux",
    "symmetric",
    "cgnat-bad",
    "full-cone",
];

/// Two seeds and 28 leechers, of which 23 are behind NATs and come one after the other. The seeds
/// leave after these seconds. In one network, all public addresses are from one /24.
fn swarm(one_network: bool, leave: [u32; 2]) -> String {
    let mut text = "duration = \"30min\"\n[torrent]\nsize = \"16 MiB\"\npiece = \"256 KiB\"\n\
                    [[host]]\nname = \"tracker\"\nkind = \"tracker\"\n"
        .to_owned();
    let mut given = 0;
    let mut public = |key: &str| {
        given += 1;
        match one_network {
            true => format!("{key} = \"60.1.7.{given}\"\n"),
            false => String::new(),
        }
    };
    for n in 0..30 {
        let (kind, name) = match n {
            0 | 1 => ("engine-seed", format!("seed{n}")),
            _ => ("engine-leech", format!("l{}", n - 2)),
        };
        let host =
            format!("[[host]]\nname = \"{name}\"\nkind = \"{kind}\"\ntrackers = [\"tracker\"]\n");
        if n < 7 {
            let _ = write!(text, "{host}{}{LINE}", public("address"));
        } else {
            let (nat, start) = (NATS[(n - 7) % NATS.len()], n - 2);
            let _ = write!(
                text,
                "[[router]]\nname = \"r{n}\"\nnat = \"{nat}\"\n{}{LINE}\
                 {host}behind = \"r{n}\"\nstart = \"{start}s\"\n",
                public("wan")
            );
        }
    }
    for (n, at) in leave.iter().enumerate() {
        let _ = write!(text, "[[event]]\nat = \"{at}s\"\noff = \"seed{n}\"\n");
    }
    let leechers: Vec<String> = (0..28).map(|n| format!("\"l{n}\"")).collect();
    let _ = write!(text, "[[expect]]\ncompleted = [{}]\n", leechers.join(", "));
    text
}

fn completes(text: &str) {
    let s = Scenario::parse(text, "swarm.toml").unwrap_or_else(|e| panic!("{e}\n{text}"));
    let result = run(&s, s.seed, &RunOptions::default());
    assert!(result.held(), "{:#?}", result.outcomes);
}

#[test]
fn a_swarm_of_strangers_completes() {
    completes(&swarm(false, [240, 400]));
}

#[test]
fn a_swarm_in_one_network_completes() {
    completes(&swarm(true, [140, 220]));
}
