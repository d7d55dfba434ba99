//! aria2 1.36. As a downloader it ends by itself once it is complete.

use super::{Crypto, Job, Peer, Role, Source};
use crate::lab::{Lab, Proc};

#[derive(Debug)]
pub(super) struct Aria2 {
    process: Proc,
    role: Role,
}

impl Aria2 {
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        let mut args = vec![
            "--no-conf".to_owned(),
            "--enable-dht=false".to_owned(),
            "--enable-dht6=false".to_owned(),
            "--bt-enable-lpd=false".to_owned(),
            "--enable-peer-exchange=false".to_owned(),
            "--file-allocation=none".to_owned(),
            "--summary-interval=0".to_owned(),
            format!("--disable-ipv6={}", job.listen.is_ipv4()),
            format!("--interface={}", job.listen.ip()),
            format!("--listen-port={}", job.listen.port()),
            format!("--dir={}", job.dir.display()),
        ];
        args.extend(match job.crypto {
            Crypto::Off | Crypto::Preferred => vec!["--bt-min-crypto-level=plain".to_owned()],
            Crypto::Required => vec!["--bt-force-encryption=true".to_owned()],
        });
        args.extend(match job.role {
            Role::Download => vec!["--seed-time=0".to_owned()],
            // It looks at what is there, and seeds without an end.
            Role::Seed => vec![
                "--check-integrity=true".to_owned(),
                "--seed-ratio=0.0".to_owned(),
            ],
        });
        if matches!(job.source, Source::Magnet(_)) {
            args.push("--bt-save-metadata=false".to_owned());
        }
        args.push(job.source.argument());
        Self {
            process: lab.spawn("aria2c", &args),
            role: job.role,
        }
    }
}

impl Peer for Aria2 {
    fn complete(&mut self, _lab: &Lab) -> bool {
        match self.role {
            Role::Seed => self
                .process
                .log()
                .contains("Verification finished successfully"),
            Role::Download => {
                !self.process.running() && self.process.log().contains("(OK):download completed")
            }
        }
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}
