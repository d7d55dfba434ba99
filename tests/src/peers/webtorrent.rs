//! webtorrent (Node.js), in a small script; `need_webtorrent` of `tests/provision.sh` installs both.

use serde_json::json;

use super::{Crypto, Job, Peer};
use crate::lab::{Lab, Proc};

#[derive(Debug)]
pub(super) struct Webtorrent {
    process: Proc,
}

impl Webtorrent {
    /// It listens on all addresses, and seeds what its folder holds.
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        // Its encrypted handshake throws an exception.
        assert_eq!(job.crypto, Crypto::Off, "webtorrent speaks plaintext alone");
        let client = super::built("WEBTORRENT_CLIENT", "tools/webtorrent/client.mjs")
            .expect("webtorrent: tests/run interop installs it");
        let description = json!({
            "port": job.listen.port(),
            "source": job.source.argument(),
            "dir": job.dir,
        });
        let args = [client.into_os_string(), description.to_string().into()];
        Self {
            process: lab.spawn("node", &args),
        }
    }
}

impl Peer for Webtorrent {
    fn complete(&mut self, _lab: &Lab) -> bool {
        self.process.log().lines().any(|line| line == "complete")
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}
