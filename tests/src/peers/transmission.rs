//! transmission-daemon 3.00, driven over its RPC.
//!
//! A torrent is added by RPC, never by a file in its folder: those seed, but refuse metadata
//! requests. µTP is off: with it on, this version never falls back to TCP.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Crypto, Job, Peer};
use crate::http;
use crate::lab::{Lab, Proc};
use crate::wait::until;

const RPC_PORT: u16 = 9091;

#[derive(Debug)]
pub(super) struct Transmission {
    process: Proc,
    rpc: SocketAddr,
    hash: String,
}

impl Transmission {
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        let config = lab.folder("tr");
        let (v4, v6) = match job.listen.ip() {
            IpAddr::V4(ip) => (ip.to_string(), "::1".to_owned()),
            // A bound IPv4 address would be the one trackers are asked from.
            IpAddr::V6(ip) => ("0.0.0.0".to_owned(), ip.to_string()),
        };
        // Its RPC knows only IPv4.
        let rpc = SocketAddr::new(lab.address(crate::lab::Family::V4), RPC_PORT);
        let mut settings = json!({
            "bind-address-ipv4": v4,
            "bind-address-ipv6": v6,
            "peer-port": job.listen.port(),
            "rpc-bind-address": rpc.ip().to_string(),
            "rpc-port": rpc.port(),
            "rpc-whitelist-enabled": false,
            "rpc-host-whitelist-enabled": false,
            "rpc-authentication-required": false,
            "dht-enabled": false,
            "lpd-enabled": false,
            "pex-enabled": false,
            "utp-enabled": false,
            "port-forwarding-enabled": false,
            "encryption": match job.crypto { Crypto::Off => 0, Crypto::Required => 2 },
            "speed-limit-up-enabled": false,
            "speed-limit-down-enabled": false,
            "preallocation": 0,
            "ratio-limit-enabled": false,
            "download-dir": job.dir,
        });
        if let Some(marker) = &job.marker {
            let script = config.join("done");
            fs::write(
                &script,
                format!("#!/bin/sh\ntouch '{}'\n", marker.display()),
            )
            .expect("own file");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("own file");
            settings["script-torrent-done-enabled"] = true.into();
            settings["script-torrent-done-filename"] = script.to_string_lossy().into();
        }
        fs::write(config.join("settings.json"), settings.to_string()).expect("own file");
        let folder = config.to_string_lossy();
        let process = lab.spawn("transmission-daemon", &["-f", "-g", &folder]);
        let this = Self {
            process,
            rpc,
            hash: job.source.torrent().hex(),
        };
        let add =
            json!({ "filename": job.source.argument(), "download-dir": job.dir, "paused": false });
        until("transmission's RPC", Duration::from_secs(20), || {
            this.call(lab, "torrent-add", &add)
        });
        this
    }

    /// One RPC call, with the session id it demands first; its arguments when it succeeds.
    fn call(&self, lab: &Lab, method: &str, arguments: &Value) -> Option<Value> {
        let body = json!({ "method": method, "arguments": arguments }).to_string();
        let post = |id: &str| {
            let headers = [("X-Transmission-Session-Id", id)];
            http::request(
                self.rpc,
                "POST",
                "/transmission/rpc",
                &headers,
                body.as_bytes(),
            )
            .ok()
        };
        let answer = lab.inside(|| {
            let first = post("")?;
            if first.status != 409 {
                Some(first)
            } else {
                post(first.header("X-Transmission-Session-Id")?)
            }
        })?;
        let mut value: Value = serde_json::from_slice(&answer.body).ok()?;
        (value["result"] == "success").then(|| value["arguments"].take())
    }
}

impl Peer for Transmission {
    fn complete(&mut self, lab: &Lab) -> bool {
        let fields = [
            "percentDone",
            "metadataPercentComplete",
            "status",
            "leftUntilDone",
        ];
        let ask = json!({ "ids": [self.hash], "fields": fields });
        let Some(answer) = self.call(lab, "torrent-get", &ask) else {
            return false;
        };
        let torrent = &answer["torrents"][0];
        // Status 6 is seeding: checked and complete.
        torrent["metadataPercentComplete"] == 1
            && torrent["leftUntilDone"] == 0
            && torrent["status"] == 6
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}
