//! The command line of `dunlin-sim dht`.

use std::time::Duration;

use clap::Subcommand;

use crate::exit;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let one real node search in a synthetic DHT of the wide area
    #[command(after_help = exit::HELP)]
    Farm(Farm),
    /// Let many real nodes form a DHT, and search in it
    #[command(after_help = exit::HELP)]
    Swarm(Swarm),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Farm {
    /// The number of synthetic nodes
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub(crate) nodes: u32,
    /// The share of nodes that are dead, but still returned by others
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = ppm)]
    pub(crate) dead: u32,
    /// The share of packets that are lost, in each direction
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = ppm)]
    pub(crate) loss: u32,
    /// The share of nodes that are Sybils, which return only other Sybils
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = ppm)]
    pub(crate) sybils: u32,
    /// The share of nodes whose ids are derived from their addresses (BEP 42)
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = ppm)]
    pub(crate) secure: u32,
    /// The median of the nodes' round trips, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 90)]
    pub(crate) rtt: u64,
    /// The number of searches
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) lookups: u32,
    /// The time from the beginning of one search to that of the next, in seconds
    #[arg(long, value_name = "S", default_value = "4", value_parser = seconds)]
    pub(crate) gap: Duration,
    /// The number of live nodes that are known at first
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) contacts: usize,
    /// The time before the first search, in seconds
    #[arg(long, value_name = "S", default_value = "120", value_parser = seconds)]
    pub(crate) warm: Duration,
    /// Announce as well
    #[arg(long)]
    pub(crate) announce: bool,
    /// The seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Swarm {
    /// The number of nodes
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(crate) nodes: u32,
    /// The simulated minutes, including the time of joining
    #[arg(long, value_name = "M", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) minutes: u32,
    /// The nodes join one after another within this time, in seconds
    #[arg(long, value_name = "S", default_value = "120", value_parser = seconds)]
    pub(crate) joins: Duration,
    /// No node leaves [default: half of them leave within half an hour and come back]
    #[arg(long)]
    pub(crate) steady: bool,
    /// No node is behind a NAT or a firewall [default: 42 of 100 are]
    #[arg(long)]
    pub(crate) open: bool,
    /// The number of torrents that are announced and searched for at the end
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) searches: u32,
    /// The seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses a share, in parts per million.
fn ppm(text: &str) -> Result<u32, String> {
    let share: Option<f64> = text.parse().ok();
    let share = share.filter(|s| (0.0..=1.0).contains(s));
    let ppm = share.map(|s| (s * 1e6).round() as u32);
    ppm.ok_or_else(|| "a share from 0 to 1, such as 0.5".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().map(Duration::try_from_secs_f64);
    let time = time.and_then(Result::ok);
    time.ok_or_else(|| "a number of seconds, such as 2.5".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_from_nothing_to_all() {
        assert_eq!((ppm("0.67"), ppm("1")), (Ok(670_000), Ok(1_000_000)));
        assert!(ppm("1.1").is_err() && ppm("-0.1").is_err() && ppm("NaN").is_err());
        assert!(seconds("-1").is_err() && seconds("NaN").is_err());
    }
}
