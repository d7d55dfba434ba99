//! aria2 1.36 as a downloader; it ends by itself once complete.

use super::{Crypto, Job, Peer, Source};
use crate::lab::{Lab, Proc};

#[derive(Debug)]
pub(super) struct Aria2 {
    process: Proc,
}

impl Aria2 {
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        let mut args = vec![
            "--no-conf".to_owned(),
            "--seed-time=0".to_owned(),
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
            Crypto::Off => vec!["--bt-min-crypto-level=plain".to_owned()],
            Crypto::Required => vec!["--bt-force-encryption=true".to_owned()],
        });
        if matches!(job.source, Source::Magnet(_)) {
            args.push("--bt-save-metadata=false".to_owned());
        }
        args.push(job.source.argument());
        Self {
            process: lab.spawn("aria2c", &args),
        }
    }
}

impl Peer for Aria2 {
    fn complete(&mut self, _lab: &Lab) -> bool {
        !self.process.running() && self.process.log().contains("(OK):download completed")
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}
