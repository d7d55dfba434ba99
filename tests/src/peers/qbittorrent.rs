//! qBittorrent 4.5 without a window: configured by a file, given the torrent on its command line, asked over its web API.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;

use super::{Crypto, Job, Peer};
use crate::http;
use crate::lab::{Family, Lab, Proc};

const WEB_PORT: u16 = 8080;

#[derive(Debug)]
pub(super) struct Qbittorrent {
    process: Proc,
    web: SocketAddr,
}

impl Qbittorrent {
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        let profile = lab.folder("qb");
        let web = SocketAddr::new(lab.address(Family::V4), WEB_PORT);
        let config = profile.join("qBittorrent/config");
        fs::create_dir_all(&config).expect("own folder");
        fs::write(config.join("qBittorrent.conf"), settings(job, web)).expect("own file");
        let args = [
            format!("--profile={}", profile.display()),
            format!("--save-path={}", job.dir.display()),
            "--add-paused=false".to_owned(),
            "--skip-dialog=true".to_owned(),
            job.source.argument(),
        ];
        Self {
            process: lab.spawn("qbittorrent-nox", &args),
            web,
        }
    }

    /// Its torrents, as the web API tells.
    fn torrents(&self, lab: &Lab) -> Option<Vec<Value>> {
        let answer = lab
            .inside(|| http::request(self.web, "GET", "/api/v2/torrents/info", &[], b""))
            .ok()?;
        serde_json::from_slice(&answer.body).ok()
    }
}

/// Its configuration file.
fn settings(job: &Job, web: SocketAddr) -> String {
    // 0 allows encryption and tries it first, 1 requires it, 2 is without.
    let encryption = match job.crypto {
        Crypto::Off => 2,
        Crypto::Preferred => 0,
        Crypto::Required => 1,
    };
    let ip = job.listen.ip();
    let session = [
        ("Port", job.listen.port().to_string()),
        ("Interface", "lo".to_owned()),
        ("InterfaceAddress", ip.to_string()),
        ("Encryption", encryption.to_string()),
        ("BTProtocol", "TCP".to_owned()),
        ("DHTEnabled", "false".to_owned()),
        ("LSDEnabled", "false".to_owned()),
        ("PeXEnabled", "false".to_owned()),
        ("QueueingSystemEnabled", "false".to_owned()),
        ("MultiConnectionsPerIp", "true".to_owned()),
        // Trackers on private addresses are the lab's trackers.
        ("SSRFMitigation", "false".to_owned()),
        ("DefaultSavePath", job.dir.display().to_string()),
    ];
    let preferences = [
        ("Connection\\UPnP", "false".to_owned()),
        ("WebUI\\Address", web.ip().to_string()),
        ("WebUI\\Port", web.port().to_string()),
        ("WebUI\\UseUPnP", "false".to_owned()),
        ("WebUI\\LocalHostAuth", "false".to_owned()),
        ("WebUI\\AuthSubnetWhitelistEnabled", "true".to_owned()),
        ("WebUI\\AuthSubnetWhitelist", "10.77.0.0/24".to_owned()),
        ("WebUI\\HostHeaderValidation", "false".to_owned()),
        ("WebUI\\CSRFProtection", "false".to_owned()),
    ];
    let mut text = "[LegalNotice]\nAccepted=true\n\n[BitTorrent]\n".to_owned();
    for (key, value) in session {
        text.push_str(&format!("Session\\{key}={value}\n"));
    }
    text.push_str("\n[Preferences]\n");
    for (key, value) in preferences {
        text.push_str(&format!("{key}={value}\n"));
    }
    text
}

impl Peer for Qbittorrent {
    fn complete(&mut self, lab: &Lab) -> bool {
        let torrents = self.torrents(lab).unwrap_or_default();
        // Uploading in one of its forms: checked and complete.
        torrents.iter().any(|torrent| {
            torrent["progress"] == 1.0
                && torrent["state"]
                    .as_str()
                    .is_some_and(|state| state.ends_with("UP") || state == "uploading")
                && torrent["state"] != "checkingUP"
        })
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}
