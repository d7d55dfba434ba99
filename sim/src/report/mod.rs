//! What a run comes to, as one HTML file that stands alone: styles and drawings inside, nothing
//! fetched, no scripts, light and dark.
//!
//! The data below are plain; [`Report::html`] draws them. Text in them may come from anywhere:
//! all of it is escaped.

mod chart;
mod html;
mod matrix;
mod sequence;
mod svg;
#[cfg(test)]
mod tests;
pub mod units;

use std::time::Duration;

/// Most arrows that a sequence chart draws; what comes after is said to be left out.
pub const MAX_STEPS: usize = 150;
/// Most lines of one chart.
pub const MAX_SERIES: usize = 1_000;
/// Most points of one line; more are thinned out.
pub const MAX_POINTS: usize = 600;

/// Everything that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// A sentence or two below it.
    pub about: String,
    /// The command that makes the same again.
    pub command: String,
    /// What is worth knowing at a glance: name and value.
    pub facts: Vec<(String, String)>,
    /// What was expected, and what came of it.
    pub outcomes: Vec<Outcome>,
    /// Who connects to whom.
    pub matrices: Vec<Matrix>,
    /// Packets between two hosts.
    pub sequence: Option<Sequence>,
    /// Curves.
    pub charts: Vec<Chart>,
    /// How often which rule was met where.
    pub counters: Vec<Counter>,
    /// Why the run ended before its time, if it did: then nothing held.
    pub stuck: Option<String>,
}

/// An expectation and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Where it stands, in words: `line 12`.
    pub place: String,
    /// What was expected.
    pub what: String,
    /// Whether it came true.
    pub held: bool,
    /// What was seen.
    pub why: String,
}

/// Who connects to whom, by kind of NAT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// `UDP: who connects to whom`.
    pub title: String,
    /// Columns, and rows unless those have names of their own.
    pub names: Vec<String>,
    /// The rows; empty if they are the columns.
    pub rows: Vec<String>,
    /// A sentence about each of `names`, for its tooltip; as many as those.
    pub about: Vec<String>,
    /// Row by row.
    pub cells: Vec<Vec<Cell>>,
}

/// One pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// In how many of the runs it connected.
    pub connected: u64,
    /// How many runs.
    pub runs: u64,
    /// What the oracle says.
    pub expected: bool,
    /// Median time to connect.
    pub median: Option<Duration>,
    /// More for the tooltip.
    pub note: String,
}

impl Cell {
    /// Whether every run did as the oracle says.
    #[must_use]
    pub const fn agrees(&self) -> bool {
        self.connected == if self.expected { self.runs } else { 0 }
    }
}

/// Packets between two hosts, over what stands between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Hosts and boxes from left to right.
    pub lifelines: Vec<Lifeline>,
    /// In the order of time.
    pub steps: Vec<Step>,
    /// How many more there were.
    pub left_out: u64,
}

/// A host, box or the core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifeline {
    /// Its name.
    pub name: String,
    /// What it is: `linux`, `udp-punch`.
    pub what: String,
}

/// One packet's way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// When it set out.
    pub at: Duration,
    /// `UDP, 64 bytes`.
    pub what: String,
    /// From lifeline to lifeline.
    pub hops: Vec<Hop>,
}

/// A packet between two lifelines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The lifeline that it leaves.
    pub from: usize,
    /// The one that it is for.
    pub to: usize,
    /// Its endpoints as they are here.
    pub label: String,
    /// The rule that it met where it arrived, or on the way if it was dropped there.
    pub rule: String,
    /// What the rule means.
    pub explain: String,
    /// Whether it ended here.
    pub dropped: bool,
}

/// Curves over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// What the values are.
    pub unit: Unit,
    /// The lines.
    pub series: Vec<Series>,
    /// The time at the right edge; that of the last point if it is less.
    pub end: Duration,
}

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a whole; drawn from 0 to 100 %.
    #[default]
    PerMille,
    /// Bytes per second.
    BytesPerSecond,
    /// A number.
    Count,
}

/// One line of a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Drawn thick, before all others.
    pub strong: bool,
    /// Time and value, in the order of time.
    pub points: Vec<(Duration, u64)>,
}

/// How often a rule was met at a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The router, host or link.
    pub node: String,
    /// `nat.filtered`.
    pub rule: String,
    /// What that means.
    pub explain: String,
    /// So many packets.
    pub packets: u64,
    /// Whether they ended there.
    pub drops: bool,
}
