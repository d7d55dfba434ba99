//! The `dunlin` command.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Crypto, Job, Peer, Role};
use crate::lab::{Lab, Proc};

/// The command under test: `DUNLIN_BIN`, else the release build of the target folder this program lies in.
///
/// # Panics
/// When there is none.
pub fn command() -> PathBuf {
    super::built("DUNLIN_BIN", "release/dunlin")
        .expect("the command: cargo build --release first, or DUNLIN_BIN")
}

#[derive(Debug)]
pub(super) struct Dunlin {
    process: Proc,
}

impl Dunlin {
    /// `get` to download, `seed` for a job whose folder holds the payload.
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        Self {
            process: spawn(lab, job, &lab.folder("session"), &[]),
        }
    }
}

impl Peer for Dunlin {
    fn complete(&mut self, _lab: &Lab) -> bool {
        events(&self.process)
            .iter()
            .any(|event| event["type"] == "complete")
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}

/// Starts the command on a job, with more options at the end.
pub fn spawn(lab: &Lab, job: &Job, session: &Path, options: &[&str]) -> Proc {
    let (dir, session) = (job.dir.to_string_lossy(), session.to_string_lossy());
    let (source, ip, port) = (
        job.source.argument(),
        job.listen.ip().to_string(),
        job.listen.port().to_string(),
    );
    let crypto = match job.crypto {
        Crypto::Off => "off",
        Crypto::Required => "required",
    };
    let mut args = match job.role {
        Role::Seed => vec!["seed", &source, "--dir", &dir],
        Role::Download => vec!["get", &source, "--output", &dir],
    };
    args.extend([
        "--json",
        "--bind",
        &ip,
        "--port",
        &port,
        "--encryption",
        crypto,
        "--session",
        &session,
    ]);
    args.extend(options);
    lab.spawn(command(), &args)
}

/// The lines of `--json` so far.
pub fn events(process: &Proc) -> Vec<Value> {
    process
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
