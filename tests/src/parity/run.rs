//! Many scripts: dealt to routers that work side by side, counted, and what diverged written down.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::compare::{Divergence, Seen, divergences};
use super::kernel::{self, Run};
use super::model::Model;
use super::script::{Place, Script};
use super::{Fate, generate, shrink, simulated};

/// Scripts of one router.
const BATCH: usize = 32;
/// Routers at one time. They sleep most of theirs.
const ROUTERS: usize = 14;
/// How often a script may be late and be tried again.
const TRIES: u32 = 8;
/// Scripts of one model that are shrunk; the others are written down as they are.
const SHRUNK: usize = 2;

/// A script, and what came of it in both worlds.
#[derive(Clone, Debug)]
pub struct Case {
    /// What was sent.
    pub script: Script,
    /// When each packet was sent to the kernel.
    pub times: Vec<Duration>,
    /// What the kernel did.
    pub kernel: Vec<Fate>,
    /// What the simulator did.
    pub simulated: Vec<Fate>,
    /// Where they differ.
    pub found: Vec<Divergence>,
}

impl Case {
    fn new(kernel: &Model, simulated: &Model, script: Script, run: Run, place: Place) -> Self {
        let (fates, tables) = simulated::run(simulated, place, &script, &run.times, &run.looked);
        let in_kernel = Seen {
            fates: &run.fates,
            tables: &run.tables,
        };
        let in_simulator = Seen {
            fates: &fates,
            tables: &tables,
        };
        let found = divergences(kernel, &script, &run.times, in_kernel, in_simulator);
        Self {
            times: run.times,
            kernel: run.fates,
            simulated: fates,
            found,
            script,
        }
    }

    /// Packets that were sent, in either world.
    pub fn packets(&self) -> usize {
        let both = self.kernel.iter().zip(&self.simulated);
        both.filter(|both| *both != (&Fate::Unsent, &Fate::Unsent))
            .count()
    }
}

impl fmt::Display for Case {
    /// The script, which can be read back, with comments on what came of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model {}\nseed {}", self.script.model, self.script.seed)?;
        for (i, event) in self.script.events.iter().enumerate() {
            writeln!(f, "{event}")?;
            writeln!(f, "#   {i} kernel:    {}", self.kernel[i])?;
            if self.kernel[i] != self.simulated[i] {
                writeln!(f, "#   {i} simulator: {}", self.simulated[i])?;
            }
            for bad in self.found.iter().filter(|bad| bad.event == i) {
                writeln!(f, "#   {i} DIVERGES:  {}", bad.why)?;
            }
        }
        Ok(())
    }
}

/// What came of a model's scripts.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The model's name.
    pub model: &'static str,
    /// Scripts.
    pub scripts: usize,
    /// Packets that were sent.
    pub packets: usize,
    /// Of those that the kernel let through, by number.
    pub passed: usize,
    /// Packets whose fate differed.
    pub diverged: usize,
    /// Scripts in which one did.
    pub cases: Vec<Case>,
}

impl Tally {
    /// Packets whose fate was the same, of a million.
    pub fn same_per_million(&self) -> usize {
        (self.packets - self.diverged) * 1_000_000 / self.packets.max(1)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = self.same_per_million();
        write!(
            f,
            "{:16} {:5} scripts {:6} packets {:6} passed {:5} diverged {:3}.{:04} % identical",
            self.model,
            self.scripts,
            self.packets,
            self.passed,
            self.diverged,
            same / 10_000,
            same % 10_000
        )
    }
}

/// Puts scripts through the kernel as `kernel` has it and through the simulator as `simulated`
/// has it. They come back in the order given.
///
/// # Panics
/// When there can be no router, or this machine is too busy to keep time.
pub fn compare(kernel: &Model, simulated: &Model, scripts: Vec<Script>) -> Vec<Case> {
    let mut cases: Vec<Option<Case>> = scripts.iter().map(|_| None).collect();
    let mut todo: Vec<usize> = (0..scripts.len()).collect();
    for _ in 0..TRIES {
        let batch: Vec<Script> = todo.iter().map(|i| scripts[*i].clone()).collect();
        let runs = kernel::run(kernel, &batch);
        let mut late = Vec::new();
        for (place, ((i, script), run)) in todo.iter().zip(batch).zip(runs).enumerate() {
            if run.late {
                late.push(*i);
            } else {
                let place = Place {
                    number: place as u16,
                    v6: kernel.v6,
                };
                cases[*i] = Some(Case::new(kernel, simulated, script, run, place));
            }
        }
        todo = late;
        if todo.is_empty() {
            break;
        }
    }
    assert!(
        todo.is_empty(),
        "this machine is too busy: {} scripts were late {TRIES} times",
        todo.len()
    );
    cases.into_iter().flatten().collect()
}

/// Compares `count` scripts for each model, seeds from `first`, and writes what diverged to
/// `folder`, one file a script.
///
/// # Panics
/// As [`compare`]; or when the folder cannot be written.
pub fn all(models: &[Model], first: u64, count: usize, folder: &Path) -> Vec<Tally> {
    let jobs: VecDeque<(usize, Vec<u64>)> = (0..models.len())
        .flat_map(|m| {
            let seeds: Vec<u64> = (first..).take(count).collect();
            seeds
                .chunks(BATCH)
                .map(|seeds| (m, seeds.to_vec()))
                .collect::<Vec<_>>()
        })
        .collect();
    let (jobs, results) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..ROUTERS {
            scope.spawn(|| {
                loop {
                    let job = jobs.lock().expect("no panic holds it").pop_front();
                    let Some((m, seeds)) = job else { break };
                    let model = &models[m];
                    let scripts = seeds.iter().map(|seed| generate::script(model, *seed));
                    let cases = compare(model, model, scripts.collect());
                    results.lock().expect("no panic holds it").push((m, cases));
                }
            });
        }
    });
    let mut tallies: Vec<Tally> = models.iter().map(Tally::empty).collect();
    for (m, cases) in results.into_inner().expect("no panic holds it") {
        for case in cases {
            tallies[m].add(case);
        }
    }
    // Shrinking waits for the same timeouts again and again, so all of it at once.
    thread::scope(|scope| {
        for (tally, model) in tallies.iter_mut().zip(models) {
            println!("{tally}");
            tally.cases.sort_by_key(|case| case.script.seed);
            for (n, case) in tally.cases.iter().enumerate() {
                let name = format!("{}-{}", model.name, case.script.seed);
                write(folder, &name, case);
                if n < SHRUNK {
                    scope.spawn(move || {
                        let small = shrink::shrink(model, model, case);
                        let path = write(folder, &format!("{name}-small"), &small);
                        println!("--- {}\n{small}", path.display());
                    });
                }
            }
        }
    });
    tallies
}

fn write(folder: &Path, name: &str, case: &Case) -> PathBuf {
    std::fs::create_dir_all(folder).expect("the results folder");
    let path = folder.join(format!("{name}.script"));
    std::fs::write(&path, case.to_string()).expect("the results folder");
    path
}

impl Tally {
    fn empty(model: &Model) -> Self {
        Self {
            model: model.name,
            scripts: 0,
            packets: 0,
            passed: 0,
            diverged: 0,
            cases: Vec::new(),
        }
    }

    fn add(&mut self, case: Case) {
        self.scripts += 1;
        self.packets += case.packets();
        self.passed += case.kernel.iter().filter(|fate| fate.passed()).count();
        self.diverged += case.found.len();
        if !case.found.is_empty() {
            self.cases.push(case);
        }
    }
}
