//! transmission-daemon 3.00, driven over its RPC.
//!
//! A torrent is added by RPC, never by a file in its folder: those seed, but refuse metadata
//! requests. µTP is off: with it on, this version never falls back to TCP. Its DHT asks nobody until
//! it knows 9 nodes, 4 of which have answered.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::{Crypto, Job, Peer, Source};
use crate::http;
use crate::lab::{Lab, Proc};
use crate::payload::Torrent;
use crate::wait::until;

const RPC_PORT: u16 = 9091;

/// A running transmission-daemon.
#[derive(Debug)]
pub struct Transmission {
    process: Proc,
    rpc: SocketAddr,
    torrent: Torrent,
}

/// A peer that it is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its address; of one that connected to it, the port is not the one it listens on.
    pub address: SocketAddr,
    /// It connected to Transmission, not the other way round.
    pub incoming: bool,
}

impl Transmission {
    /// Starts it on a job.
    ///
    /// # Panics
    /// When it does not take it.
    pub fn start(lab: &Lab, job: &Job) -> Self {
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
            "dht-enabled": job.dht.is_some(),
            "lpd-enabled": false,
            "pex-enabled": false,
            "utp-enabled": false,
            "port-forwarding-enabled": false,
            "encryption": match job.crypto { Crypto::Off => 0, Crypto::Preferred => 1, Crypto::Required => 2 },
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
        if let Some(nodes) = &job.dht {
            fs::write(config.join("dht.dat"), dht_dat(nodes)).expect("own file");
        }
        let folder = config.to_string_lossy();
        let process = lab.spawn("transmission-daemon", &["-f", "-g", &folder]);
        let this = Self {
            process,
            rpc,
            torrent: job.source.torrent().clone(),
        };
        this.add(lab, &job.source, &job.dir);
        this
    }

    /// Adds a torrent.
    ///
    /// # Panics
    /// If it does not take it.
    pub fn add(&self, lab: &Lab, source: &Source, dir: &Path) {
        let add = json!({ "filename": source.argument(), "download-dir": dir, "paused": false });
        until("transmission's RPC", Duration::from_secs(20), || {
            self.call(lab, "torrent-add", &add)
        });
    }

    /// The peers that it is connected to for a torrent.
    pub fn connected(&self, lab: &Lab, torrent: &Torrent) -> Vec<Connected> {
        let ask = json!({ "ids": [torrent.hex()], "fields": ["peers"] });
        let answer = self.call(lab, "torrent-get", &ask).unwrap_or_default();
        let peers = answer["torrents"][0]["peers"].as_array();
        let connected = |peer: &Value| {
            let ip = peer["address"].as_str()?.parse().ok()?;
            let port = u16::try_from(peer["port"].as_u64()?).ok()?;
            let address = SocketAddr::new(ip, port);
            let incoming = peer["isIncoming"].as_bool()?;
            Some(Connected { address, incoming })
        };
        peers.map_or_else(Vec::new, |peers| {
            peers.iter().filter_map(connected).collect()
        })
    }

    /// Whether it has, and has verified, all of a torrent.
    pub fn has(&self, lab: &Lab, torrent: &Torrent) -> bool {
        let fields = [
            "percentDone",
            "metadataPercentComplete",
            "status",
            "leftUntilDone",
        ];
        let ask = json!({ "ids": [torrent.hex()], "fields": fields });
        let Some(answer) = self.call(lab, "torrent-get", &ask) else {
            return false;
        };
        let torrent = &answer["torrents"][0];
        // Status 6 is seeding: checked and complete.
        torrent["metadataPercentComplete"] == 1
            && torrent["leftUntilDone"] == 0
            && torrent["status"] == 6
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
        self.has(lab, &self.torrent)
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}

/// The file that its DHT begins with: an id and compact IPv4 nodes (the file has no other family).
fn dht_dat(nodes: &[SocketAddr]) -> Vec<u8> {
    let mut compact = Vec::new();
    for node in nodes {
        if let IpAddr::V4(ip) = node.ip() {
            compact.extend(ip.octets());
            compact.extend(node.port().to_be_bytes());
        }
    }
    let id: [u8; 20] = Sha1::digest(&compact).into();
    let mut dat = b"d2:id20:".to_vec();
    dat.extend(id);
    dat.extend(format!("5:nodes{}:", compact.len()).bytes());
    dat.extend(compact);
    dat.push(b'e');
    dat
}
