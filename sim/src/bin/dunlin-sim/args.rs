//! The command line.

use std::{ops::Range, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum, ValueHint};
use dunlin_sim::{Rule, experiment::sweep::Shard};

use crate::exit;

/// The examples at the end of every help page.
const EXAMPLES: &str = "\
Examples:
  dunlin-sim run sim/scenarios/02-two-homes.toml --report /tmp/two-homes.html
  dunlin-sim matrix --udp --types linux,cgnat-bad,full-cone --report /tmp/matrix.html
  dunlin-sim sweep home.toml --seeds 0..1000 --shard 3/10 > part-3.jsonl
  dunlin-sim merge part-*.jsonl
  dunlin-sim shrink home.toml --seed 17 --out small.toml
  dunlin-sim explain home.toml --rule nat.filtered";

/// Simulate networks of NATs and firewalls, the same on every run.
#[derive(Debug, Parser)]
#[command(name = "dunlin-sim", version, after_help = format!("{EXAMPLES}\n\n{}", exit::HELP), propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a scenario and check its expectations
    #[command(after_help = exit::HELP)]
    Run(Run),
    /// Try every type of NAT against every other, and compare with the oracle
    #[command(after_help = exit::HELP)]
    Matrix(Matrix),
    /// Run a scenario with many seeds; prints one line of JSON for each
    #[command(after_help = exit::HELP, long_about = crate::sweep::ABOUT)]
    Sweep(Sweep),
    /// Join the output of a sweep's shards
    #[command(after_help = exit::HELP)]
    Merge(Merge),
    /// Find the smallest scenario that still fails
    #[command(after_help = exit::HELP)]
    Shrink(Shrink),
    /// Show the paths of packets: which rule passed, rewrote or dropped them where
    #[command(after_help = exit::HELP)]
    Explain(Explain),
    /// List the presets of NATs, firewalls and links, or describe one
    #[command(after_help = exit::HELP)]
    Presets(Presets),
    /// Simulate the DHT: searches in a synthetic one, or a DHT of real nodes
    #[command(subcommand)]
    Dht(crate::dht::args::Command),
    /// Print the reference of scenario files: every table, key and rule
    Reference,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The scenario file
    #[arg(value_name = "SCENARIO.toml", value_hint = ValueHint::FilePath)]
    pub(crate) scenario: PathBuf,
    /// The seed of everything random [default: the scenario's]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Write the packets on each router's and host's interfaces to NAME.pcapng in this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pcap: Option<PathBuf>,
    /// Write a report with charts to this HTML file
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    pub(crate) report: Option<PathBuf>,
    /// Draw the packets between these two hosts in the report
    #[arg(long, value_name = "A,B", value_parser = pair, requires = "report")]
    pub(crate) pair: Option<(String, String)>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    /// IPv4
    V4,
    /// IPv6, where only firewalls matter
    V6,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Matrix {
    /// Only these types, named as in the matrix or like presets [default: all of the matrix]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) types: Vec<String>,
    /// The number of seeds for each attempt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) seeds: u64,
    /// Only UDP
    #[arg(long, conflicts_with = "tcp")]
    pub(crate) udp: bool,
    /// Only TCP
    #[arg(long)]
    pub(crate) tcp: bool,
    /// The version of IP
    #[arg(long, value_name = "FAMILY", default_value = "v4")]
    pub(crate) ip: Family,
    /// The number of threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub(crate) jobs: Option<u16>,
    /// Write a report with heat maps to this HTML file
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    pub(crate) report: Option<PathBuf>,
    /// Print one JSON object for each cell, and a summary
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sweep {
    /// The scenario file
    #[arg(value_name = "SCENARIO.toml", value_hint = ValueHint::FilePath)]
    pub(crate) scenario: PathBuf,
    /// The seeds, from the first to the one before the second: 0..1000
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub(crate) seeds: Range<u64>,
    /// Only this share of the seeds: 3/10 is the third of ten
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    /// The number of threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub(crate) jobs: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Merge {
    /// The files with the output of the sweeps
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Shrink {
    /// The scenario file
    #[arg(value_name = "SCENARIO.toml", value_hint = ValueHint::FilePath)]
    pub(crate) scenario: PathBuf,
    /// The seed with which it fails [default: the scenario's]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Write the reduced scenario to this file [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The scenario file
    #[arg(value_name = "SCENARIO.toml", value_hint = ValueHint::FilePath)]
    pub(crate) scenario: PathBuf,
    /// The seed [default: the scenario's]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Packets that this host or router made
    #[arg(long, value_name = "NODE")]
    pub(crate) from: Option<String>,
    /// Packets that passed this host or router
    #[arg(long, value_name = "NODE", visible_alias = "to")]
    pub(crate) at: Option<String>,
    /// Packets about which this rule decided
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub(crate) rule: Option<Rule>,
    /// Packets with this endpoint, before or after a translation; port 0 matches any. Give it twice
    /// for a flow
    #[arg(long = "flow", value_name = "ADDR:PORT")]
    pub(crate) endpoints: Vec<std::net::SocketAddr>,
    /// The packet with this number among those that --from made
    #[arg(long, value_name = "N", requires = "from")]
    pub(crate) packet: Option<u32>,
    /// The most packets to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) most: usize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Presets {
    /// Describe this preset
    pub(crate) name: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once(',') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok((a.into(), b.into())),
        _ => Err("two hosts, such as alice,bob".into()),
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(a, b)| {
        let (a, b) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
        (a < b).then_some(a..b)
    });
    range.ok_or_else(|| "a range such as 0..1000, its end not included".into())
}

fn rule(text: &str) -> Result<Rule, String> {
    let found = Rule::ALL.iter().find(|r| r.name() == text);
    found.copied().ok_or_else(|| {
        "the name of a rule, such as nat.filtered; `dunlin-sim reference` lists them".into()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn ranges_of_seeds() {
        assert_eq!(seeds("3..7"), Ok(3..7));
        assert!(seeds("7..3").is_err() && seeds("5").is_err() && seeds("-1..3").is_err());
    }
}
