//! The command `dunlin-sim run`.

use std::{collections::BTreeSet, fs};

use dunlin_sim::{
    report::units,
    scenario::{self, HostResult, RunOptions, RunResult},
};
use serde_json::{Value, json};

use crate::{args, exit::Exit, load, say::say, shell, write};

pub(crate) fn run(args: &args::Run) -> Result<Exit, String> {
    let (_, s) = load(&args.scenario)?;
    let seed = args.seed.unwrap_or(s.seed);
    if let Some((a, b)) = &args.pair {
        for name in [a, b] {
            if !s.hosts.iter().any(|h| h.name == *name) {
                return Err(format!("there is no host `{name}` in this scenario"));
            }
        }
    }
    let options = RunOptions {
        capture: args.pcap.is_some(),
        journeys: args.report.is_some(),
        curves: args.report.is_some(),
        pair: args.pair.clone(),
    };
    let result = scenario::run(&s, seed, &options);
    if let Some(dir) = &args.pcap {
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let mut taken = BTreeSet::new();
        for (name, bytes) in &result.captures {
            write(&dir.join(file_name(name, &mut taken)), bytes)?;
        }
    }
    let command = format!(
        "dunlin-sim run {} --seed {seed}",
        shell(&args.scenario.display().to_string())
    );
    if let Some(path) = &args.report {
        write(path, result.report(&s, &command).html().as_bytes())?;
    }
    if args.json {
        say(&json(&result).to_string());
    } else {
        say(&text(&result));
    }
    Ok(Exit::of(result.held()))
}

/// The most bytes of a device's name in a file name; file systems accept 255 in total.
const MAX_FILE_NAME: usize = 200;

/// A file name for a device: without folders or unusual characters, and different from those that
/// are taken, also where the file system ignores case.
fn file_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_".contains(c);
    let mut plain: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    while plain.len() > MAX_FILE_NAME {
        plain.pop();
    }
    let mut file = format!("{plain}.pcapng");
    let mut n = 1u32;
    while !taken.insert(file.to_lowercase()) {
        n += 1;
        file = format!("{plain}-{n}.pcapng");
    }
    file
}

fn text(r: &RunResult) -> String {
    let mut lines = vec![format!(
        "{}: seed {}, {} simulated, {} packets, trace {:016x}",
        r.name,
        r.seed,
        units::time(r.ended),
        units::count(r.packets),
        r.trace
    )];
    for o in &r.outcomes {
        let mark = if o.held { "holds" } else { "FAILS" };
        lines.push(format!("  {mark}  {} ({}; {})", o.what, o.why, o.place));
    }
    if let Some(stuck) = &r.stuck {
        lines.push(format!("  FAILS  the run ended early: {stuck}"));
    }
    lines.extend(r.notes.iter().map(|note| format!("  note   {note}")));
    if r.outcomes.is_empty() {
        lines.push("  nothing was expected: the scenario has no [[expect]]".into());
    }
    lines.join("\n")
}

pub(crate) fn json(r: &RunResult) -> Value {
    let outcomes = r.outcomes.iter();
    json!({
        "scenario": r.name,
        "seed": r.seed,
        "trace": format!("{:016x}", r.trace),
        "packets": r.packets,
        "simulated_us": micros(r.ended),
        "held": r.held(),
        "expectations": outcomes
            .map(|o| json!({ "where": o.place, "what": o.what, "held": o.held, "why": o.why }))
            .collect::<Vec<_>>(),
        "notes": r.notes,
        "hosts": r.hosts.iter().filter(|h| h.population.is_none()).map(host).collect::<Vec<_>>(),
        "populations": populations(&r.hosts),
        "counters": r.counters
            .iter()
            .map(|c| json!({ "node": c.node, "rule": c.rule, "packets": c.packets }))
            .collect::<Vec<_>>(),
        "stuck": r.stuck,
    })
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A host, and the curve of its torrent as pairs of microseconds and bytes.
fn host(h: &HostResult) -> Value {
    let torrent = h.torrent.as_ref().map(|t| {
        let curve = t.curve.iter().map(|(at, done)| (micros(*at), *done));
        json!({
            "completed_us": t.completed.map(micros),
            "downloaded": t.downloaded,
            "uploaded": t.uploaded,
            "curve": curve.collect::<Vec<_>>(),
        })
    });
    json!({
        "name": h.name,
        "kind": h.kind,
        "sent_packets": h.traffic.sent_packets,
        "sent_bytes": h.traffic.sent_bytes,
        "received_packets": h.traffic.received_packets,
        "received_bytes": h.traffic.received_bytes,
        "torrent": torrent,
    })
}

/// The hosts of each population together.
fn populations(hosts: &[HostResult]) -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for name in hosts.iter().filter_map(|h| h.population.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let population = |name: &str| {
        let members = || {
            hosts
                .iter()
                .filter(|h| h.population.as_deref() == Some(name))
        };
        let sum = |of: fn(&HostResult) -> u64| members().map(of).sum::<u64>();
        let torrents = || members().filter_map(|h| h.torrent.as_ref());
        let mut completed: Vec<u64> = torrents().filter_map(|t| t.completed.map(micros)).collect();
        completed.sort_unstable();
        let torrent = torrents().next().is_some().then(|| {
            json!({
                "completed": completed.len(),
                "completed_us": completed,
                "downloaded": torrents().map(|t| t.downloaded).sum::<u64>(),
                "uploaded": torrents().map(|t| t.uploaded).sum::<u64>(),
            })
        });
        json!({
            "name": name,
            "kind": members().next().map(|h| h.kind),
            "members": members().count(),
            "sent_packets": sum(|h| h.traffic.sent_packets),
            "sent_bytes": sum(|h| h.traffic.sent_bytes),
            "received_packets": sum(|h| h.traffic.received_packets),
            "received_bytes": sum(|h| h.traffic.received_bytes),
            "torrent": torrent,
        })
    };
    names.into_iter().map(population).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_lead_nowhere_else() {
        let taken = &mut BTreeSet::new();
        assert_eq!(file_name("../a b/é", taken), "___a_b_é.pcapng");
        // Two names may not give the same file.
        assert_eq!(file_name("a/b", taken), "a_b.pcapng");
        assert_eq!(file_name("A_b", taken), "A_b-2.pcapng");
        assert!(file_name(&"𝔞".repeat(64), taken).len() < 255);
    }
}
