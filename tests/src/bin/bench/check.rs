//! How fast a whole file is checked against its hashes.

use std::time::{Duration, Instant};

use dunlin_tests::lab::{Family, Lab, Proc, Used};
use dunlin_tests::payload::Payload;
use dunlin_tests::peers::{Crypto, Job, Role, Source, libtorrent};
use dunlin_tests::wait::until;

use crate::contest::python;
use crate::{Options, machine};

const LIMIT: Duration = Duration::from_secs(120);

/// Four times the size of the contests, page-cached, each checker after the other.
pub(crate) fn run(options: &Options) {
    let lab = Lab::new();
    let root = tempfile::Builder::new()
        .prefix("dunlin-bench-")
        .tempdir_in(&options.dest)
        .expect("room");
    let payload = Payload::single(root.path(), "payload.bin", 6, options.size * 4);
    let torrent = payload.torrent(options.piece_log, &[]);
    let listen = (lab.address(Family::V4), 6881).into();
    let job = Job {
        listen,
        crypto: Crypto::Off,
        role: Role::Seed,
        source: Source::File(torrent),
        dir: root.path().to_owned(),
        marker: None,
        dht: None,
    };
    println!("| checker | seconds | CPU s | peak RSS MiB |");
    println!("|---|---|---|---|");
    for threads in [1, 2] {
        let mut description = libtorrent::description(&job);
        description["check"] = true.into();
        description["settings"] = serde_json::json!({ "hashing_threads": threads });
        row(
            options,
            &format!("libtorrent, {threads} hashing threads"),
            || {
                let process = libtorrent::spawn(&lab, &python(), &description);
                until("the check to end", LIMIT, || process.exited().then_some(()));
                let last = libtorrent::events(&process).last().expect("a report");
                assert_eq!(last["progress"], 1.0, "the check found something missing");
                process
            },
        );
    }
    let (torrent, dir) = (job.source.argument(), root.path().to_string_lossy());
    for (name, program) in options.builds() {
        row(options, name, || {
            let process = lab.spawn(&program, &["check", &torrent, "--dir", &dir]);
            until("the check to end", LIMIT, || process.exited().then_some(()));
            process
        });
    }
    println!();
}

/// Checks as often as asked, and prints the median run.
fn row(options: &Options, name: &str, check: impl Fn() -> Proc) {
    let mut runs: Vec<(Duration, Used)> = (0..options.runs)
        .map(|_| {
            machine::settle();
            let began = Instant::now();
            let mut process = check();
            let wall = began.elapsed();
            let used = process.reap();
            assert!(used.status.success(), "{name}: {}", used.status);
            (wall, used)
        })
        .collect();
    runs.sort_by_key(|run| run.0);
    let (wall, used) = runs[runs.len() / 2];
    println!(
        "| {name} | {:.2} | {:.2} | {} |",
        wall.as_secs_f64(),
        (used.user + used.sys).as_secs_f64(),
        used.peak_rss >> 20
    );
}
