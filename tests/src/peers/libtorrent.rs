//! libtorrent (rasterbar), through its Python binding and a small script.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Job, Peer, Source};
use crate::dht;
use crate::lab::{Lab, Proc};
use crate::wait::until;

const SCRIPT: &str = include_str!("libtorrent.py");
/// The interpreter that Debian's python3-libtorrent belongs to.
pub const DEBIAN_PYTHON: &str = "/usr/bin/python3";

#[derive(Debug)]
pub(super) struct Libtorrent {
    process: Proc,
}

impl Libtorrent {
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        Self {
            process: spawn(lab, DEBIAN_PYTHON, &description(job)),
        }
    }
}

impl Peer for Libtorrent {
    fn complete(&mut self, _lab: &Lab) -> bool {
        events(&self.process).any(|event| event["event"] == "seeding")
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}

/// The script's job, to which more may be added.
pub fn description(job: &Job) -> Value {
    let mut description = json!({
        "listen": job.listen.to_string(),
        "source": job.source.argument(),
        "dir": job.dir,
        "crypto": job.crypto.option(),
        "magnet": matches!(job.source, Source::Magnet(_)),
    });
    if let Some(nodes) = &job.dht {
        description["dht"] = dht::texts(nodes).into();
    }
    description
}

/// Starts the script with an interpreter that can import libtorrent.
pub fn spawn(lab: &Lab, python: &str, job: &Value) -> Proc {
    let script = lab.folder("lt").join("lt.py");
    fs::write(&script, SCRIPT).expect("own file");
    lab.spawn(
        python,
        &[script.to_string_lossy().as_ref(), &job.to_string()],
    )
}

/// What the script has said so far.
pub fn events(process: &Proc) -> impl Iterator<Item = Value> {
    let lines: Vec<Value> = process
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    lines.into_iter()
}

/// Bytes of payload the script's client has sent, asked now.
///
/// # Panics
/// When it does not answer.
pub fn uploaded(process: &Proc) -> u64 {
    let reports = || {
        events(process)
            .filter(|event| event["event"] == "report")
            .collect::<Vec<_>>()
    };
    let before = reports().len();
    process.signal(Signal::USR1);
    until("libtorrent's report", Duration::from_secs(10), || {
        reports()
            .get(before)
            .and_then(|report| report["uploaded"].as_u64())
    })
}
