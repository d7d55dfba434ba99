//! Tables of what a few workloads reach under delay and loss, kept as text in `tests/snapshots`.
//!
//! The simulator is deterministic, so a table changes only when the code does: a regression is a
//! diff, and so is an improvement. `UPDATE_SNAPSHOTS=1 cargo test -p dunlin-sim --test snapshots`
//! writes the tables anew; the commit that changes one says why.

use std::{env, fmt::Write as _, fs, path::Path, time::Duration};

use dunlin_core::dht::DhtConfig;
use dunlin_sim::{
    BoxConfig, LinkConfig, TcpConfig,
    dht::{Summary, SyntheticConfig, Trial},
    experiment::swarm::{Home, Role, Swarm, SwarmConfig},
    link::{Direction, Loss, Rate},
    middlebox::nat::presets,
};

/// The seeds of a cell, which shows the median over them.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Packets lost in a million, one column each.
const LOSSES: [u32; 4] = [0, 1_000, 10_000, 30_000];

/// Compares a table with the one that is kept.
fn check(name: &str, table: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&file, table).expect("the table can be written");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == table,
        "{} is out of date; UPDATE_SNAPSHOTS=1 writes\n{table}\nin place of\n{kept}",
        file.display()
    );
}

/// A table with a row for each of `rows`, and a column for each of [`LOSSES`].
fn by_loss<R>(
    about: &str,
    rows: impl IntoIterator<Item = (String, R)>,
    cell: impl Fn(&R, u32, u64) -> u64,
) -> String {
    let mut table = format!("{about}\n\n{:>16}", "loss");
    for ppm in LOSSES {
        let _ = write!(table, "{:>8} %", f64::from(ppm) / 10_000.0);
    }
    table.push('\n');
    for (name, row) in rows {
        let _ = write!(table, "{name:>16}");
        for ppm in LOSSES {
            let mut of_seeds = SEEDS.map(|seed| cell(&row, ppm, seed));
            of_seeds.sort_unstable();
            let _ = write!(table, "{:>10}", of_seeds[SEEDS.len() / 2]);
        }
        table.push('\n');
    }
    table
}

/// A line of 20 Mbit/s with a queue of 100 ms.
fn line(one_way: Duration, loss_ppm: u32) -> LinkConfig {
    let mut direction = Direction::delayed(one_way);
    direction.rate = Some(Rate::buffered(20_000_000, Duration::from_millis(100)));
    direction.mtu = 1_500;
    if loss_ppm > 0 {
        direction.loss = Loss::Random(loss_ppm);
    }
    LinkConfig::both(direction)
}

const LEN: usize = 1 << 20;

fn swarm(seed: u64, tcp: Option<TcpConfig>, homes: Vec<Home>) -> Vec<Duration> {
    let mut config = SwarmConfig::new(LEN);
    config.tcp = tcp;
    config.piece_len = 64 << 10;
    config.homes = homes;
    let joins: Vec<Duration> = config.homes.iter().map(|home| home.joins).collect();
    let result = Swarm::new(seed, config).run(Duration::from_secs(1_800));
    assert!(result.all_exact(), "{:?}", result.completed);
    let took = joins.into_iter().zip(result.completed);
    took.map(|(joins, done)| done.expect("complete") - joins)
        .collect()
}

fn leech(link: LinkConfig, n: usize) -> Home {
    Home {
        joins: Duration::from_millis(1_000 + 100 * n as u64),
        ..Home::new(Role::Leech, link)
    }
}

/// From a seed to one leecher over a single TCP connection. Each packet crosses two lines, so that
/// the round trip has four delays, and the loss of a packet is about twice that of a line.
fn download(tcp: Option<TcpConfig>, title: &str) -> String {
    let rows = [5, 20, 80, 300].map(|ms| (format!("{ms} ms"), Duration::from_millis(ms) / 4));
    by_loss(title, rows, |delay, loss, seed| {
        let link = line(*delay, loss);
        let homes = vec![Home::new(Role::Seed, link.clone()), leech(link, 0)];
        let took = swarm(seed, tcp, homes);
        LEN as u64 * 1_000 / 1_024 / took[1].as_millis() as u64
    })
}

#[test]
fn a_download_by_round_trip_and_loss() {
    let title =
        "One connection, 20 Mbit/s, 1 MiB: KiB/s by round trip and loss on each of the two lines.";
    check("download.txt", &download(Some(TcpConfig::default()), title));
}

/// The same between two machines with the TCP of the firmware.
#[test]
fn a_download_with_the_tcp_of_the_firmware() {
    let title =
        "As in `download.txt`, with smoltcp's TCP and buffers of 64 KiB at both ends: KiB/s.";
    check("download-firmware.txt", &download(None, title));
}

/// A swarm in homes, of which only the seed's can be reached.
#[test]
fn a_swarm_behind_nats_by_size_and_loss() {
    let rows = [2, 6].map(|leechers| (format!("{leechers} leechers"), leechers));
    let table = by_loss(
        "A seed and leechers behind NATs, 20 Mbit/s, 40 ms, 1 MiB: ms until the last is complete.",
        rows,
        |leechers, loss, seed| {
            let nat = BoxConfig {
                nat: Some(presets::linux()),
                ..BoxConfig::default()
            };
            let link = line(Duration::from_millis(10), loss);
            let mut seeder = Home::new(Role::Seed, link.clone()).behind(nat.clone());
            seeder.forwarded = true;
            let others = (0..*leechers).map(|n| leech(link.clone(), n).behind(nat.clone()));
            let homes = std::iter::once(seeder).chain(others).collect();
            let took = swarm(seed, Some(TcpConfig::default()), homes);
            took[1..].iter().max().expect("leechers").as_millis() as u64
        },
    );
    check("swarm.txt", &table);
}

/// Searches of one node in a synthetic DHT.
#[test]
fn searches_by_dead_nodes_and_loss() {
    let rows = [0, 300_000, 600_000].map(|ppm| (format!("{} % dead", ppm / 10_000), ppm));
    let table = by_loss(
        "40 searches among 2 000 nodes, round trips of 100 ms: ms until 95 % have their first peers.",
        rows,
        |dead_ppm, loss_ppm, seed| {
            let synthetic = SyntheticConfig {
                nodes: 2_000,
                dead_ppm: *dead_ppm,
                loss_ppm,
                rtt: Duration::from_millis(100),
                ..SyntheticConfig::default()
            };
            let mut trial = Trial::new(seed, synthetic, DhtConfig::default());
            trial.warm(8, Duration::from_secs(60), 32);
            let searches = trial.searches(40, Duration::from_secs(10), false, |_| {});
            Summary::of(&searches).first_values.p95.as_millis() as u64
        },
    );
    check("searches.txt", &table);
}
