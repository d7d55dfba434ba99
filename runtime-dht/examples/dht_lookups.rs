//! Searches for peers of random torrents, one after the other, and how long each took.
//!
//! `dht_lookups FILE COUNT GAP WARM`: begins with the addresses in FILE (one a line, port 6881),
//! waits WARM seconds for the table, then begins a search every GAP seconds. For an emulated DHT
//! on loopback addresses: see `tests/bench-dht-farm`.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use dunlin_core::InfoHash;
use dunlin_core::dht::{DhtConfig, Goal, parse_node};
use dunlin_dht::{Answer, Node, NodeConfig};

/// A search that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [file, count, gap, warm] = &arguments[..] else {
        return Err("usage: dht_lookups FILE COUNT GAP WARM".into());
    };
    let count: usize = count.parse()?;
    let gap = Duration::try_from_secs_f64(gap.parse()?)?;
    let contacts = std::fs::read_to_string(file)?;
    let bootstrap: Result<Vec<_>, _> = contacts.lines().map(parse_node).collect();
    let config = NodeConfig {
        bootstrap: bootstrap?,
        routers: Vec::new(),
        dht: DhtConfig {
            local: true,
            ..DhtConfig::default()
        },
        ..NodeConfig::default()
    };
    let node = Node::start(config, Box::new(|_| ()))?;
    std::thread::sleep(Duration::from_secs_f64(warm.parse()?));

    let (mut first, mut done) = (Vec::new(), Vec::new());
    let (mut contacted, mut replied) = (0, 0);
    for n in 0..count {
        let begun = Instant::now();
        let (sender, answers) = mpsc::channel();
        let goal = Goal::Peers {
            hash: hash(n),
            announce: None,
            scrape: false,
        };
        let sink = move |answer| drop(sender.send((Instant::now(), answer)));
        let id = node.search(goal, Box::new(sink));
        let mut found = None;
        loop {
            match answers.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                Ok((at, Answer::Peers(_))) => found = found.or(Some(at - begun)),
                Ok((at, Answer::Done(report))) => {
                    done.push(at - begun);
                    contacted += report.contacted;
                    replied += report.replied;
                    break;
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    node.cancel(id);
                    break;
                }
            }
        }
        first.extend(found);
        std::thread::sleep(gap.saturating_sub(begun.elapsed()));
    }
    let (sender, status) = mpsc::channel();
    node.status(move |status| drop(sender.send(status)));
    let stats = status.recv_timeout(PATIENCE)?.stats;
    node.stop();
    print("first values", &mut first, count);
    print("done", &mut done, count);
    let mean = |sum: u32| f64::from(sum) / done.len().max(1) as f64;
    println!(
        "asked {:.1} nodes, {:.1} replied; {} nodes in the table, {} in the network",
        mean(contacted),
        mean(replied),
        stats.nodes,
        stats.size_by_lookups,
    );
    Ok(())
}

/// The `n`-th info-hash: spread evenly, the same in each run.
fn hash(n: usize) -> InfoHash {
    let mut state = n as u64 ^ 0x0064_756e_6c69_6e00;
    let mut hash = [0; 20];
    for part in hash.chunks_mut(8) {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        part.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes()[..part.len()]);
    }
    InfoHash(hash)
}

fn print(what: &str, times: &mut [Duration], count: usize) {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).map_or(0, Duration::as_millis)
    };
    println!(
        "{what:13} p50 {:5} p95 {:5} p99 {:5} ms, {} of {count}",
        at(50),
        at(95),
        at(99),
        times.len(),
    );
}
