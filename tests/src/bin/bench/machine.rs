//! What the machine and its processes have used.

use std::fs;
use std::time::{Duration, Instant};

use dunlin_tests::wait::until;

/// Clock ticks of /proc/stat and /proc/PID/stat in a second: fixed for user space.
const TICK: Duration = Duration::from_millis(10);

/// CPU a process has used so far, user and system.
pub(crate) fn cpu(pid: u32) -> (Duration, Duration) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_ascii_whitespace()
        .collect();
    let ticks = |n: usize| TICK * fields.get(n).and_then(|f| f.parse().ok()).unwrap_or(0);
    (ticks(11), ticks(12))
}

/// A size from /proc/PID/status, in bytes.
pub(crate) fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|l| l.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        << 10
}

/// CPU all processes have used.
pub(crate) fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u32> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_ascii_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    // user, nice, system, irq, softirq
    [0, 1, 2, 5, 6]
        .iter()
        .map(|n| TICK * fields.get(*n).copied().unwrap_or(0))
        .sum()
}

/// Bytes that went over the loopback of a process's namespace.
pub(crate) fn loopback(pid: u32) -> u64 {
    let dev = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let line = dev
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("lo:"));
    line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Waits for a quiet half second, but not for long: what noise there was stands in the table.
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
