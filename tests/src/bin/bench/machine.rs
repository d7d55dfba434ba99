//! The machine the figures come from.

use std::fs;
use std::time::{Duration, Instant};

use dunlin_tests::usage::busy;
use dunlin_tests::wait::until;

/// Waits for a quiet half second, but not for long: the table shows how much noise there was.
pub(crate) fn settle() {
    const WINDOW: Duration = Duration::from_millis(500);
    const PATIENCE: Duration = Duration::from_secs(20);
    let began = Instant::now();
    until("the machine to settle", PATIENCE * 2, || {
        let (from, at) = (busy(), Instant::now());
        until("half a second", PATIENCE, || {
            (at.elapsed() > WINDOW).then_some(())
        });
        (busy().saturating_sub(from) < WINDOW / 5 || began.elapsed() > PATIENCE).then_some(())
    });
}

/// The machine in a line.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("?", |m| m.1.trim());
    let sha = if cpuinfo.contains("sha_ni") {
        "with"
    } else {
        "without"
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores, {model}, {sha} SHA instructions, Linux {}",
        kernel.trim()
    )
}
