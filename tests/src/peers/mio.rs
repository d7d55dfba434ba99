//! The blocking driver, by its example `exchange`.

use std::path::PathBuf;

use super::{Job, Peer, Role};
use crate::lab::{Lab, Proc};

/// The example under test: `DUNLIN_MIO_BIN`, else the release build of the target folder this
/// program lies in.
///
/// # Panics
/// When there is none.
pub fn command() -> PathBuf {
    super::built("DUNLIN_MIO_BIN", "release/examples/exchange").expect(
        "the example: cargo build --release -p dunlin-mio --example exchange first, or DUNLIN_MIO_BIN",
    )
}

#[derive(Debug)]
pub(super) struct Mio {
    process: Proc,
}

impl Mio {
    /// Downloads and ends, or seeds.
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        let (dir, session) = (job.dir.to_string_lossy(), lab.folder("session"));
        let (session, listen) = (session.to_string_lossy(), job.listen.to_string());
        let source = job.source.argument();
        let mut args = vec![
            "--listen",
            &listen,
            "--encryption",
            job.crypto.option(),
            "--session",
            &session,
        ];
        if job.role == Role::Seed {
            args.push("--seed");
        }
        args.extend([dir.as_ref(), source.as_str()]);
        Self {
            process: lab.spawn(command(), &args),
        }
    }
}

impl Peer for Mio {
    fn complete(&mut self, _lab: &Lab) -> bool {
        self.process
            .log()
            .lines()
            .any(|line| line.starts_with("complete: "))
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}
