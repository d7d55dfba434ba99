//! rTorrent 0.9.8: configured by a file, asked over SCGI on a unix socket.

use std::fs;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::{Crypto, Job, Peer};
use crate::lab::{Lab, Proc};

#[derive(Debug)]
pub(super) struct Rtorrent {
    process: Proc,
    socket: PathBuf,
    hash: String,
}

impl Rtorrent {
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        let home = lab.folder("rt");
        let (session, socket, rc) = (home.join("session"), home.join("scgi"), home.join("rc"));
        fs::create_dir(&session).expect("own folder");
        let crypto = match job.crypto {
            Crypto::Off => "none",
            Crypto::Required => "require,require_RC4,allow_incoming,try_outgoing",
        };
        // It binds to IPv4 addresses alone; unbound it listens on all of both families.
        let bind = match job.listen.ip() {
            IpAddr::V4(ip) => format!("network.bind_address.set={ip}"),
            IpAddr::V6(_) => String::new(),
        };
        let marker = job.marker.as_ref().map_or_else(String::new, |marker| {
            format!(
                "method.set_key=event.download.finished,mark,\"execute2=touch,{}\"",
                marker.display()
            )
        });
        let config = format!(
            "system.daemon.set=true\n\
             network.scgi.open_local={socket}\n\
             session.path.set={session}\n\
             directory.default.set={dir}\n\
             {bind}\n\
             network.port_range.set={port}-{port}\n\
             protocol.encryption.set={crypto}\n\
             dht.mode.set=disable\n\
             protocol.pex.set=no\n\
             trackers.use_udp.set=yes\n\
             trackers.numwant.set=50\n\
             network.http.dns_cache_timeout.set=0\n\
             pieces.memory.max.set=6144M\n\
             pieces.hash.on_completion.set=no\n\
             {marker}\n\
             schedule2=add,0,0,\"load.start=\\\"{source}\\\"\"\n",
            socket = socket.display(),
            session = session.display(),
            dir = job.dir.display(),
            port = job.listen.port(),
            source = job.source.argument(),
        );
        fs::write(&rc, config).expect("own file");
        let process = lab.spawn(
            "rtorrent",
            &["-n", "-o", &format!("import={}", rc.display())],
        );
        Self {
            process,
            socket,
            hash: job.source.torrent().hex().to_uppercase(),
        }
    }

    /// One XML-RPC call with the torrent's hash as argument, and the integer it answers.
    fn call(&self, method: &str) -> io::Result<Option<i64>> {
        let body = format!(
            "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params>\
             <param><value><string>{}</string></value></param></params></methodCall>",
            self.hash
        );
        let head = format!("CONTENT_LENGTH\0{}\0SCGI\x001\0", body.len());
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "{}:{head},{body}", head.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(integer(&answer))
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
        let ask = |method: &str| self.call(method).ok().flatten();
        ask("d.complete") == Some(1) && ask("d.is_meta") == Some(0)
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
