//! Samples, their medians, and the markdown they end in.

use std::time::Duration;

/// One run of one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Start of the downloader to complete.
    pub(crate) wall: Duration,
    /// First payload byte to last, on the wire.
    pub(crate) line: Duration,
    pub(crate) user: Duration,
    pub(crate) sys: Duration,
    /// CPU of the other end.
    pub(crate) other: Duration,
    /// Peak resident bytes, and those that are not a file mapping.
    pub(crate) rss: u64,
    pub(crate) anon: u64,
    /// CPU of everything else on the machine, per second of wall time.
    pub(crate) noise: Duration,
}

/// Rows in the order they were first seen.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(String, Vec<Sample>)>,
}

impl Table {
    pub(crate) fn add(&mut self, name: &str, sample: Sample) {
        match self.rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.1.push(sample),
            None => self.rows.push((name.to_owned(), vec![sample])),
        }
    }

    /// Prints it; `role` names whose CPU is measured, `other` the far end. Ratios are to the row named floor.
    pub(crate) fn print(&self, role: &str, other: &str) {
        let floor = self
            .rows
            .iter()
            .find(|row| row.0 == "floor")
            .map(|row| cpu(&row.1));
        println!(
            "| {role} | CPU s (user + sys) | × floor | wall s | line s | peak RSS MiB (anon) | CPU s of the {other} | noise, cores | runs |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (name, samples) in &self.rows {
            let seconds = |of: fn(&Sample) -> Duration| median(samples, of).as_secs_f64();
            let mib = |of: fn(&Sample) -> u64| median(samples, of) >> 20;
            let ratio = floor.map_or("–".to_owned(), |floor| {
                format!("{:.2}", cpu(samples).as_secs_f64() / floor.as_secs_f64())
            });
            println!(
                "| {name} | {:.2} ({:.2} + {:.2}) | {ratio} | {:.2} | {:.2} | {} ({}) | {:.2} | {:.2} | {} |",
                cpu(samples).as_secs_f64(),
                seconds(|s| s.user),
                seconds(|s| s.sys),
                seconds(|s| s.wall),
                seconds(|s| s.line),
                mib(|s| s.rss),
                mib(|s| s.anon),
                seconds(|s| s.other),
                seconds(|s| s.noise),
                samples.len(),
            );
        }
        println!();
    }
}

fn cpu(samples: &[Sample]) -> Duration {
    median(samples, |s| s.user + s.sys)
}

fn median<T: Ord + Copy>(samples: &[Sample], of: impl Fn(&Sample) -> T) -> T {
    let mut values: Vec<T> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}
