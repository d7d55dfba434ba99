//! How fast a whole file is checked against its hashes.

use std::time::{Duration, Instant};

use dunlin_tests::lab::{Family, Lab};
use dunlin_tests::payload::Payload;
use dunlin_tests::peers::{Crypto, Job, Source, libtorrent};
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
        source: Source::File(torrent),
        dir: root.path().to_owned(),
        marker: None,
    };
    println!("| checker | seconds | CPU s | peak RSS MiB |");
    println!("|---|---|---|---|");
    for threads in [1, 2] {
        let mut runs: Vec<_> = (0..options.runs)
            .map(|_| {
                let mut description = libtorrent::description(&job);
                description["check"] = true.into();
                description["settings"] = serde_json::json!({ "hashing_threads": threads });
                machine::settle();
                let began = Instant::now();
                let mut process = libtorrent::spawn(&lab, &python(), &description);
                until("the check to end", LIMIT, || process.exited().then_some(()));
                let wall = began.elapsed();
                let log = libtorrent::events(&process).last().expect("a report");
                assert_eq!(log["progress"], 1.0, "the check found something missing");
                (wall, process.reap())
            })
            .collect();
        runs.sort_by_key(|run| run.0);
        let (wall, used) = runs[runs.len() / 2];
        println!(
            "| libtorrent, {threads} hashing threads | {:.2} | {:.2} | {} |",
            wall.as_secs_f64(),
            (used.user + used.sys).as_secs_f64(),
            used.peak_rss >> 20
        );
    }
    println!();
}
