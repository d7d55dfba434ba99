//! What the machine and its processes have used, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Clock ticks of /proc/stat and /proc/PID/stat in a second: fixed for user space.
const TICK: Duration = Duration::from_millis(10);

/// CPU a process has used so far, user and system.
pub fn cpu(pid: u32) -> (Duration, Duration) {
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
pub fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|l| l.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        << 10
}

/// CPU all processes have used.
pub fn busy() -> Duration {
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
pub fn loopback(pid: u32) -> u64 {
    let dev = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let line = dev
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("lo:"));
    line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// How often each thread of a process has gone to sleep of its own accord: its wakeups.
pub fn wakeups(pid: u32) -> BTreeMap<String, u64> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return BTreeMap::new();
    };
    let count = |status: String| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    threads
        .flatten()
        .filter_map(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            Some((
                thread.file_name().to_string_lossy().into_owned(),
                count(status)?,
            ))
        })
        .collect()
}

/// Wakeups since `before`, of the threads that live now: those that have ended need no more.
pub fn wakeups_since(before: &BTreeMap<String, u64>, pid: u32) -> u64 {
    let now = wakeups(pid);
    now.iter()
        .map(|(thread, count)| count - before.get(thread).unwrap_or(&0))
        .sum()
}
