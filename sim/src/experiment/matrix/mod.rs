//! Every kind of NAT against every other: what the simulator does, beside what the oracle predicts.
//!
//! A *kind* is an [`End`] with a name. A *cell* is an ordered pair of kinds and a transport. In a
//! cell each [`Attempt`] is made once for each seed, in a world of its own with five or more
//! devices, and compared with [`oracle::ask`].
//!
//! A port that a NAT draws can be right by luck, one time in 64512 for each packet. The seeds are
//! part of the input and a world depends only on its seed, so a matrix that agrees once agrees
//! always. Where luck makes the runs of an attempt differ, the result is [`Connects::Sometimes`].

mod kinds;
mod scene;

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

pub use self::{
    kinds::{Kind, about, kinds, kinds_v6},
    scene::{Scene, TIME, scene},
};
use crate::experiment::{
    oracle::{self, Attempt, End, Family, Meet, Pair, Reason, Transport, Way},
    sweep::{self, Shard},
};

/// One attempt in one world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The seed of the world.
    pub seed: u64,
    /// Both ends know that they are connected.
    pub connected: bool,
    /// How long that took from the tick at which the rendezvous introduced them.
    pub after: Option<Duration>,
    /// The packets that the two sent to each other from then on, including lost ones.
    pub packets: u64,
    /// The hash of the world's trace.
    pub hash: u64,
}

/// How many of an attempt's runs connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connects {
    /// All of them.
    Always,
    /// None of them.
    Never,
    /// Some of them.
    Sometimes,
}

/// An attempt: its prediction and its runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// What the two ends did.
    pub attempt: Attempt,
    /// The prediction: that it connects, or the reason why it does not.
    pub expected: Result<(), Reason>,
    /// One run for each seed.
    pub runs: Vec<Run>,
}

impl Tried {
    /// How many of the runs connected; [`Connects::Never`] when there are no runs.
    #[must_use]
    pub fn connects(&self) -> Connects {
        match self.runs.iter().filter(|r| r.connected).count() {
            0 => Connects::Never,
            n if n == self.runs.len() => Connects::Always,
            _ => Connects::Sometimes,
        }
    }

    /// Returns `true` when every run agrees with the prediction.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.runs
            .iter()
            .all(|r| r.connected == self.expected.is_ok())
    }

    /// The time of the slowest run, if all connected.
    #[must_use]
    pub fn slowest(&self) -> Option<Duration> {
        let times = self.runs.iter().map(|r| r.after);
        times.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// Two kinds and a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The index of the first kind.
    pub a: usize,
    /// The index of the second kind.
    pub b: usize,
    /// Whether both are behind one box.
    pub meet: Meet,
    /// The transport over which they tried.
    pub transport: Transport,
    /// How they can connect, according to the oracle.
    pub way: Way,
    /// The attempts, in the order of [`Attempt::ALL`]. The first kind is the one that dials.
    pub tried: Vec<Tried>,
}

impl Cell {
    /// Returns `true` when every run agrees with the predictions.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.tried.iter().all(Tried::agrees)
    }

    /// The runs of an attempt.
    #[must_use]
    pub fn of(&self, attempt: Attempt) -> Option<&Tried> {
        self.tried.iter().find(|t| t.attempt == attempt)
    }
}

/// A run that does not agree with the prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The name of the first kind.
    pub a: String,
    /// The name of the second kind.
    pub b: String,
    /// Whether both are behind one box.
    pub meet: Meet,
    /// The transport over which they tried.
    pub transport: Transport,
    /// What the two ends did.
    pub attempt: Attempt,
    /// The seed of the world.
    pub seed: u64,
    /// What the oracle predicted.
    pub expected: Result<(), Reason>,
    /// Whether the two connected.
    pub connected: bool,
}

/// The cells of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The names of the kinds, in order.
    pub kinds: Vec<String>,
    /// The seeds with which each attempt was made.
    pub seeds: Vec<u64>,
    /// IPv4 or IPv6.
    pub family: Family,
    /// The cells whose ends meet in the core, by first kind, second kind and transport, followed by
    /// those whose ends are behind one box.
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// The cell of two kinds.
    #[must_use]
    pub fn cell(&self, a: usize, b: usize, meet: Meet, transport: Transport) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|c| (c.a, c.b, c.meet, c.transport) == (a, b, meet, transport))
    }

    /// Every run that does not agree with its prediction.
    pub fn disagreements(&self) -> impl Iterator<Item = Disagreement> + '_ {
        self.cells.iter().flat_map(move |cell| {
            cell.tried.iter().flat_map(move |tried| {
                let odd = |run: &&Run| run.connected != tried.expected.is_ok();
                tried.runs.iter().filter(odd).map(move |run| Disagreement {
                    a: self.kinds[cell.a].clone(),
                    b: self.kinds[cell.b].clone(),
                    meet: cell.meet,
                    transport: cell.transport,
                    attempt: tried.attempt,
                    seed: run.seed,
                    expected: tried.expected,
                    connected: run.connected,
                })
            })
        })
    }

    /// The number of worlds that were run.
    #[must_use]
    pub fn runs(&self) -> usize {
        let tried = self.cells.iter().flat_map(|c| &c.tried);
        tried.map(|t| t.runs.len()).sum()
    }

    /// A hash of all traces.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let runs = self
            .cells
            .iter()
            .flat_map(|c| &c.tried)
            .flat_map(|t| &t.runs);
        runs.fold(0, |sum: u64, run| {
            (sum.rotate_left(5) ^ run.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    }
}

/// The progress of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Cells that are done.
    pub done: usize,
    /// The number of cells in total.
    pub of: usize,
    /// Cells that are done and do not agree.
    pub disagreeing: usize,
}

/// Runs all cells of these kinds over IPv4 on this thread.
pub fn run(kinds: &[Kind], seeds: &[u64], progress: impl FnMut(Progress)) -> Matrix {
    run_on(1, kinds, Family::V4, seeds, progress)
}

/// Runs all cells on several threads. The outcome is the same as on one.
pub fn run_on(
    threads: usize,
    kinds: &[Kind],
    family: Family,
    seeds: &[u64],
    mut progress: impl FnMut(Progress),
) -> Matrix {
    let places = places(kinds, family);
    let of = places.len();
    let mut cells = Vec::with_capacity(of);
    let mut disagreeing = 0;
    let one = |n: u64| {
        let (a, b, meet, transport) = places[n as usize];
        let ends = (&kinds[a].end, &kinds[b].end);
        let (way, tried) = cell(ends, meet, family, transport, seeds);
        Cell {
            a,
            b,
            meet,
            transport,
            way,
            tried,
        }
    };
    sweep::run_on(threads, &one, 0..of as u64, Shard::WHOLE, |_, cell| {
        disagreeing += usize::from(!cell.agrees());
        cells.push(cell);
        progress(Progress {
            done: cells.len(),
            of,
            disagreeing,
        });
        ControlFlow::Continue(())
    });
    Matrix {
        kinds: kinds.iter().map(|k| k.name.clone()).collect(),
        seeds: seeds.to_vec(),
        family,
        cells,
    }
}

/// The cells of these kinds.
fn places(kinds: &[Kind], family: Family) -> Vec<(usize, usize, Meet, Transport)> {
    let mut all = Vec::new();
    for a in 0..kinds.len() {
        for b in 0..kinds.len() {
            all.extend(Transport::ALL.map(|t| (a, b, Meet::Core, t)));
        }
    }
    for (n, kind) in kinds.iter().enumerate() {
        let shared = kind.end.path.last().is_some_and(|b| b.nat.is_some());
        if shared && family == Family::V4 {
            all.extend(Transport::ALL.map(|t| (n, n, Meet::Box, t)));
        }
    }
    all
}

/// Makes every attempt between two ends. Ends behind one box use different ports: the second one
/// uses the next port.
#[must_use]
pub fn cell(
    (a, b): (&End, &End),
    meet: Meet,
    family: Family,
    transport: Transport,
    seeds: &[u64],
) -> (Way, Vec<Tried>) {
    let mut b = b.clone();
    if meet == Meet::Box && a.port == b.port {
        b.port = b.port.wrapping_add(1).max(1);
    }
    let pair = Pair {
        a,
        b: &b,
        meet,
        family,
    };
    let tried = Attempt::ALL.map(|attempt| Tried {
        attempt,
        expected: oracle::ask(transport, attempt, pair),
        runs: (seeds.iter())
            .map(|seed| scene(pair, transport, attempt, *seed).run())
            .collect(),
    });
    (oracle::way(transport, pair), tried.into())
}

/// The number of cells for each transport, attempt and result.
#[must_use]
pub fn summary(matrix: &Matrix) -> BTreeMap<(Transport, Attempt, Connects), usize> {
    let mut counts = BTreeMap::new();
    for cell in &matrix.cells {
        for tried in &cell.tried {
            let key = (cell.transport, tried.attempt, tried.connects());
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
}
