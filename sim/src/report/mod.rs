//! Reports of runs: one self-contained HTML file with styles and drawings, for light and dark,
//! without scripts and external resources.
//!
//! The types here are plain data, and [`Report::html`] draws them. Any text in them is escaped.
//! [`units`] formats times, sizes and rates, here and in messages.

mod chart;
mod html;
mod matrix;
mod sequence;
mod svg;
#[cfg(test)]
mod tests;
pub mod units;

use std::time::Duration;

/// The most arrows of a sequence chart. The chart says how many were left out.
pub const MAX_STEPS: usize = 150;
/// The most lines of one chart.
pub const MAX_SERIES: usize = 1_000;
/// The most points of one line. Longer lines are thinned out.
pub const MAX_POINTS: usize = 600;

/// The content of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// A sentence or two below the heading.
    pub about: String,
    /// The command that reproduces the run.
    pub command: String,
    /// The main results: names and values.
    pub facts: Vec<(String, String)>,
    /// What a reader has to know about the model, in sentences.
    pub notes: Vec<String>,
    /// The expectations and their outcomes.
    pub outcomes: Vec<Outcome>,
    /// The matrices of connections.
    pub matrices: Vec<Matrix>,
    /// The packets between two hosts.
    pub sequence: Option<Sequence>,
    /// The curves.
    pub charts: Vec<Chart>,
    /// How often each rule decided at each device.
    pub counters: Vec<Counter>,
    /// Why the run ended early, if it did. No expectation holds then.
    pub stuck: Option<String>,
}

/// An expectation and its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The place of the expectation in the scenario: `line 12`.
    pub place: String,
    /// The expectation.
    pub what: String,
    /// The expectation holds.
    pub held: bool,
    /// What was observed.
    pub why: String,
}

/// Which kinds of ends connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// The title: `UDP: who connects to whom`.
    pub title: String,
    /// The names of the columns, and of the rows unless those have names of their own.
    pub names: Vec<String>,
    /// The names of the rows; empty when they are those of the columns.
    pub rows: Vec<String>,
    /// A sentence about each of `names`, for its tooltip.
    pub about: Vec<String>,
    /// The cells, row by row.
    pub cells: Vec<Vec<Cell>>,
}

/// One pair of ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The number of runs that connected.
    pub connected: u64,
    /// The number of runs.
    pub runs: u64,
    /// The prediction of the oracle.
    pub expected: bool,
    /// The median time to connect.
    pub median: Option<Duration>,
    /// Additional text for the tooltip.
    pub note: String,
}

impl Cell {
    /// Returns `true` when every run agrees with the prediction.
    #[must_use]
    pub const fn agrees(&self) -> bool {
        self.connected == if self.expected { self.runs } else { 0 }
    }
}

/// The packets between two hosts, and the devices between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Hosts and boxes, from left to right.
    pub lifelines: Vec<Lifeline>,
    /// The packets, in order of time.
    pub steps: Vec<Step>,
    /// The number of packets that were left out.
    pub left_out: u64,
}

/// A host, a box or the core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifeline {
    /// Its name.
    pub name: String,
    /// Its kind: `linux`, `udp-punch`.
    pub what: String,
}

/// The path of one packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// When the packet was sent.
    pub at: Duration,
    /// A description: `UDP, 64 bytes`.
    pub what: String,
    /// The hops from lifeline to lifeline.
    pub hops: Vec<Hop>,
}

/// A packet between two lifelines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The lifeline that it leaves.
    pub from: usize,
    /// The lifeline to which it goes.
    pub to: usize,
    /// Its endpoints on this hop.
    pub label: String,
    /// The rule that decided at the end of the hop, or on the way if the packet was dropped there.
    pub rule: String,
    /// The meaning of the rule.
    pub explain: String,
    /// The packet was dropped here.
    pub dropped: bool,
}

/// Curves over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// The unit of the values.
    pub unit: Unit,
    /// The lines.
    pub series: Vec<Series>,
    /// The time at the right edge, or that of the last point if that is later.
    pub end: Duration,
}

/// The unit of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a whole, drawn from 0 to 100 %.
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
    /// Drawn thick, on top of all others.
    pub strong: bool,
    /// Times and values, in order of time.
    pub points: Vec<(Duration, u64)>,
}

/// How often a rule decided at a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The name of the router or host; a link is named by its lower end.
    pub node: String,
    /// The name of the rule: `nat.filtered`.
    pub rule: String,
    /// The meaning of the rule.
    pub explain: String,
    /// The number of packets.
    pub packets: u64,
    /// The rule drops packets.
    pub drops: bool,
}
