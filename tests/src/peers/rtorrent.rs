//! rTorrent 0.9.8: configured by a file, asked over SCGI on a unix socket.
//!
//! In the DHT it can be found but does not find: this version takes the `6:` of each of a reply's
//! `values` for the first bytes of the address. Of the peers that announced themselves to it, it tells with the bytes
//! of the port swapped (6991 becomes 20251).
//!
//! Encrypted, it hashes the secret as OpenSSL's `DH_compute_key` leaves it, without the zeros at its beginning: one in 256
//! of its handshakes fails with who does not avoid such secrets, as Dunlin does where it accepts.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Crypto, Job, Peer};
use crate::lab::{Lab, Proc};
use crate::wait::until;

/// How long it takes to start, and to meet the first nodes of a DHT.
const START: Duration = Duration::from_secs(30);

/// A running rTorrent.
#[derive(Debug)]
pub struct Rtorrent {
    process: Proc,
    socket: PathBuf,
    session: PathBuf,
    hash: String,
}

impl Rtorrent {
    /// Starts it on a job.
    ///
    /// # Panics
    /// When it does not take it.
    pub fn start(lab: &Lab, job: &Job) -> Self {
        let mut lines = vec![
            format!("directory.default.set={}", job.dir.display()),
            match job.crypto {
                Crypto::Off => "protocol.encryption.set=none".to_owned(),
                Crypto::Preferred => {
                    "protocol.encryption.set=allow_incoming,try_outgoing,enable_retry".to_owned()
                }
                Crypto::Required => {
                    "protocol.encryption.set=require,require_RC4,allow_incoming,try_outgoing"
                        .to_owned()
                }
            },
        ];
        if let Some(marker) = &job.marker {
            let marker = marker.display();
            lines.push(format!(
                "method.set_key=event.download.finished,mark,\"execute2=touch,{marker}\""
            ));
        }
        let session = lab.folder("rt-session");
        let mut this = Self::launch(lab, job.listen, &session, job.dht.as_deref(), &lines);
        this.hash = job.source.torrent().hex().to_uppercase();
        if job.dht.as_ref().is_some_and(|nodes| !nodes.is_empty()) {
            // With nobody to announce to it would announce to nobody.
            until("rTorrent to meet a node", START, || {
                (this.dht("nodes")? > 0).then_some(())
            });
        }
        until("rTorrent to take the torrent", START, || {
            let answer = this.request("load.start", &["", &job.source.argument()]);
            answer.ok().filter(|answer| !answer.contains("<fault>"))
        });
        this
    }

    /// A DHT node without torrents, that begins with what lies in its session folder and the nodes given.
    ///
    /// # Panics
    /// When it does not start.
    pub fn node(lab: &Lab, listen: SocketAddr, session: &Path, nodes: &[SocketAddr]) -> Self {
        let this = Self::launch(lab, listen, session, Some(nodes), &[]);
        until("rTorrent's DHT", START, || this.dht("nodes"));
        this
    }

    fn launch(
        lab: &Lab,
        listen: SocketAddr,
        session: &Path,
        dht: Option<&[SocketAddr]>,
        lines: &[String],
    ) -> Self {
        let home = lab.folder("rt");
        let (socket, rc) = (home.join("scgi"), home.join("rc"));
        let port = listen.port();
        let mut config = vec![
            "system.daemon.set=true".to_owned(),
            format!("network.scgi.open_local={}", socket.display()),
            format!("session.path.set={}", session.display()),
            format!("network.port_range.set={port}-{port}"),
            "protocol.pex.set=no".to_owned(),
            "trackers.use_udp.set=yes".to_owned(),
            "trackers.numwant.set=50".to_owned(),
            "network.http.dns_cache_timeout.set=0".to_owned(),
            "pieces.memory.max.set=6144M".to_owned(),
            "pieces.hash.on_completion.set=no".to_owned(),
        ];
        // It binds to IPv4 addresses alone; unbound it listens on all of both families.
        if let IpAddr::V4(ip) = listen.ip() {
            config.push(format!("network.bind_address.set={ip}"));
        }
        if let Some(nodes) = dht {
            config.push(format!("dht.port.set={port}"));
            config.push("dht.mode.set=on".to_owned());
            let nodes = nodes.iter().enumerate();
            config.extend(
                nodes.map(|(n, node)| format!("schedule2=node{n},0,0,\"dht.add_node={node}\"")),
            );
        } else {
            config.push("dht.mode.set=disable".to_owned());
        }
        config.extend_from_slice(lines);
        fs::write(&rc, config.join("\n") + "\n").expect("own file");
        let process = lab.spawn(
            "rtorrent",
            &["-n", "-o", &format!("import={}", rc.display())],
        );
        Self {
            process,
            socket,
            session: session.to_owned(),
            hash: String::new(),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A number of its `dht.statistics`; `None` while its DHT does not run or nothing answers.
    pub fn dht(&self, key: &str) -> Option<i64> {
        let answer = self.request("dht.statistics", &[]).ok()?;
        integer(answer.split_once(&format!("<name>{key}</name>"))?.1)
    }

    /// The file in its session folder that its DHT's table is kept in.
    pub fn dht_cache(&self) -> PathBuf {
        self.session.join("rtorrent.dht_cache")
    }

    /// A node that it asks for a sign of life.
    pub fn add_node(&self, node: SocketAddr) {
        self.request("dht.add_node", &["", &node.to_string()])
            .expect("rTorrent's answer");
    }

    /// Ends it as a user does: it saves its session.
    pub fn shut_down(mut self) {
        // The answer may not come any more.
        let _ = self.request("system.shutdown.quick", &[]);
        self.process.wait(START);
    }

    /// A method of the torrent's that answers a number.
    fn ask(&self, method: &str) -> Option<i64> {
        integer(&self.request(method, &[&self.hash]).ok()?)
    }

    /// One XML-RPC call with texts as arguments, and what it answers.
    fn request(&self, method: &str, arguments: &[&str]) -> io::Result<String> {
        let text = |argument: &&str| {
            let argument = argument.replace('&', "&amp;").replace('<', "&lt;");
            format!("<param><value><string>{argument}</string></value></param>")
        };
        let body = format!(
            "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params>{}</params></methodCall>",
            arguments.iter().map(text).collect::<String>()
        );
        let head = format!("CONTENT_LENGTH\0{}\0SCGI\x001\0", body.len());
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "{}:{head},{body}", head.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// The number in `<value><i8>…</i8></value>`.
fn integer(answer: &str) -> Option<i64> {
    let (_, rest) = answer
        .split_once("<i8>")
        .or_else(|| answer.split_once("<i4>"))?;
    rest.split_once('<')?.0.parse().ok()
}

impl Peer for Rtorrent {
    fn complete(&mut self, _lab: &Lab) -> bool {
        // A magnet's stand-in torrent is complete too once it has the metadata: it has no name yet.
        self.ask("d.complete") == Some(1) && self.ask("d.is_meta") == Some(0)
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn integers_are_found_and_faults_are_not() {
        assert_eq!(integer("<value><i8>1</i8></value>"), Some(1));
        assert_eq!(
            integer("<fault><value><string>no</string></value></fault>"),
            None
        );
    }
}
