//! The platform of a node: carries out its ops.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::metainfo::{File, FileKind, Info};
use dunlin_core::op::{Claim, FileStat, SocketKind, Whose};
use dunlin_core::{BLOCK_LEN, Bitfield, Op, OpError, OpErrorKind, Outcome};

use super::{LATENCY, Later, Node, Store, World};

/// How long a request to a silent server takes.
const TIMEOUT: Duration = Duration::from_secs(30);

fn timed_out() -> Outcome {
    Outcome::failed(OpErrorKind::TimedOut, "no answer in time")
}

/// What is wrong with the file.
fn error(kind: OpErrorKind, what: &str) -> OpError {
    let detail = format!("payload.bin: {what}");
    OpError { kind, detail }
}

impl Node {
    fn is_silent(&self, text: &str) -> bool {
        self.silent.is_some_and(|name| text.contains(name))
    }
}

impl Store {
    /// Whether something is lost when the pieces that `have` lacks are written over it.
    fn loses_with(&self, have: &Bitfield, info: &Info) -> bool {
        let pieces = self.data.chunks(info.piece_len() as usize);
        let lacked = (0..).zip(pieces).filter(|(i, _)| !have.get(*i));
        lacked.flat_map(|(_, data)| data).any(|byte| *byte != 0)
    }
}

impl World {
    pub(super) fn op(&mut self, n: usize, op: Op) {
        let name = name(&op);
        self.fold(name.as_bytes());
        let node = &mut self.nodes[n];
        if let Some(id) = op.id() {
            assert!(
                node.open_ops.insert(id, name).is_none(),
                "{id:?} is used twice"
            );
            node.most_jobs = node.most_jobs.max(node.open_ops.len());
        }
        let delay = node.disk_delay;
        let (id, outcome) = match op {
            Op::TcpConnect { conn, remote } => {
                return self.at(
                    LATENCY,
                    Later::Connect {
                        from: n,
                        conn,
                        to: remote,
                    },
                );
            }
            Op::TcpClose { conn, .. } => {
                if let Some(s) = node.streams.remove(&conn) {
                    self.at(LATENCY, Later::Eof(s.peer.0, s.peer.1));
                }
                return;
            }
            Op::Bind {
                op,
                local,
                kind,
                socket,
            } => {
                if kind == SocketKind::TcpListener {
                    (op, Outcome::Bound(local))
                } else if node.taken.contains(&local.port()) {
                    let detail = format!("{local}: in use");
                    (op, Outcome::failed(OpErrorKind::Denied, detail))
                } else {
                    let ip = match local.ip() {
                        any if any.is_unspecified() => node.addr.ip(),
                        ip => ip,
                    };
                    node.udp.insert(socket, SocketAddr::new(ip, local.port()));
                    (op, Outcome::Bound(local))
                }
            }
            Op::Unbind { op, socket } => {
                node.udp.remove(&socket);
                (op, Outcome::Done)
            }
            Op::SaveDht { op, saved } => {
                node.dht_saved = Some(saved);
                node.dht_saves += 1;
                (op, Outcome::Done)
            }
            Op::Open { op, torrent, info } => {
                let len = info.total_len() as usize;
                let open = node.stores.remove(&torrent).filter(|store| !store.gone);
                let on_disk = || node.shelf.get(&info.info_hash().0).cloned();
                let mut store = open.or_else(on_disk).unwrap_or_default();
                let stat = store.stat();
                store.data.resize(len, 0);
                node.stores.insert(torrent, store);
                node.infos.insert(torrent, info);
                (
                    op,
                    Outcome::Opened(report(node.apart, stat, &node.infos[&torrent])),
                )
            }
            Op::Claim {
                op,
                torrent,
                whose,
                have,
                claim,
            } => {
                node.claims.push(claim);
                let store = node.stores.get_mut(&torrent).unwrap();
                let outcome = match claim {
                    Claim::Write
                        if store.foreign
                            && matches!(whose[0], Whose::Unknown | Whose::Partly)
                            && store.loses_with(&have, &node.infos[&torrent]) =>
                    {
                        Outcome::failed(OpErrorKind::Exists, "payload.bin: it exists")
                    }
                    _ => Outcome::Flushed(report(node.apart, store.stat(), &node.infos[&torrent])),
                };
                (op, outcome)
            }
            Op::Confirm { op, torrent, .. } => {
                node.confirms += 1;
                let stat = node.stores[&torrent].stat();
                (
                    op,
                    Outcome::Flushed(report(node.apart, stat, &node.infos[&torrent])),
                )
            }
            Op::Read(job) if node.stores[&job.torrent].gone => {
                (job.op, job.fail(error(OpErrorKind::NotFound, "gone")))
            }
            Op::Read(mut job) => {
                let data = &node.stores[&job.torrent].data[job.at as usize..];
                for (part, chunk) in job.parts().zip(data.chunks(BLOCK_LEN)) {
                    part.copy_from_slice(&chunk[..part.len()]);
                }
                (job.op, job.done())
            }
            Op::Write(mut job) => match node.disk_error.or(node.write_error) {
                Some(kind) => (job.op, job.fail(error(kind, "no room"))),
                None => {
                    let store = node.stores.get_mut(&job.torrent).unwrap();
                    store.exists = true;
                    store.mtime += 1;
                    node.bytes_written += u64::from(job.len);
                    let mut at = job.at as usize;
                    for part in job.parts() {
                        store.data[at..][..part.len()].copy_from_slice(part);
                        at += part.len();
                    }
                    assert_eq!(at as u64, job.at + u64::from(job.len));
                    job.feed();
                    (job.op, job.done())
                }
            },
            Op::Hash(mut job) => {
                node.hashes += 1;
                let op = job.op;
                if let Some(kind) = node.hash_error {
                    let failed = job.fail(error(kind, "cannot be read"));
                    return self.at(delay, Later::Outcome(n, op, failed));
                }
                let data = &node.stores[&job.torrent].data[job.at as usize..][..job.len as usize];
                job.hasher().update(data);
                (op, job.done())
            }
            Op::Fetch(mut job) => {
                job.parts().for_each(|part| part.fill(1));
                (job.op, job.done())
            }
            Op::Flush { op, .. } if node.disk_error.or(node.flush_error).is_some() => {
                node.flushes += 1;
                (op, Outcome::failed(OpErrorKind::Io, "the disk is gone"))
            }
            Op::Flush { op, torrent, .. } => {
                node.flushes += 1;
                let store = &node.stores[&torrent];
                let outcome =
                    Outcome::Flushed(report(node.apart, store.stat(), &node.infos[&torrent]));
                let delay = node.flush_delay.unwrap_or(delay);
                return self.at(delay, Later::Outcome(n, op, outcome));
            }
            Op::Save {
                op,
                torrent,
                record,
            } => {
                node.saves += 1;
                match node.save_error {
                    Some(kind) => (op, Outcome::failed(kind, "no room for the record")),
                    None => {
                        node.saved.insert(torrent, record);
                        (op, Outcome::Done)
                    }
                }
            }
            Op::Release { op, torrent, .. } => {
                if let (Some(store), Some(info)) =
                    (node.stores.remove(&torrent), node.infos.remove(&torrent))
                {
                    node.shelf.insert(info.info_hash().0, store);
                }
                (op, Outcome::Done)
            }
            Op::Select { op, .. } => {
                node.selects += 1;
                let outcome = match node.select_error {
                    Some(kind) => Outcome::failed(kind, "payload.bin: no room"),
                    None => Outcome::Done,
                };
                let delay = node.select_delay.unwrap_or(delay);
                return self.at(delay, Later::Outcome(n, op, outcome));
            }
            Op::Resolve { op, host } if node.is_silent(&host) => {
                node.asked.push(host);
                return self.at(TIMEOUT, Later::Outcome(n, op, timed_out()));
            }
            Op::Resolve { op, host } => {
                let outcome = match node.names.get(&host) {
                    Some(ip) => Outcome::Resolved(vec![*ip]),
                    None => Outcome::failed(OpErrorKind::NotFound, "no such host"),
                };
                node.asked.push(host);
                (op, outcome)
            }
            Op::Http { op, request } => {
                let silent = node.is_silent(&request.url);
                node.requested.push((self.now, request.url));
                if silent {
                    return self.at(TIMEOUT, Later::Outcome(n, op, timed_out()));
                }
                let outcome = match node.http.clone() {
                    Some(body) => Outcome::Http { status: 200, body },
                    None => Outcome::failed(OpErrorKind::Refused, "nobody listens"),
                };
                let delay = node.http_delay;
                return self.at(delay, Later::Outcome(n, op, outcome));
            }
            _ => return,
        };
        self.at(delay, Later::Outcome(n, id, outcome));
    }
}

/// The state of a torrent's files, all of which are where the first one is. Empty files never exist.
fn report(
    apart: Option<Option<FileStat>>,
    stat: Option<FileStat>,
    info: &Info,
) -> Vec<Option<FileStat>> {
    let one = |file: &File| {
        let there = stat.filter(|_| file.kind == FileKind::Regular && file.len > 0)?;
        let len = file.len;
        Some(FileStat { len, ..there })
    };
    match (apart, info.files()) {
        (Some(apart), _) => [None].into_iter().chain(apart.map(Some)).collect(),
        (None, [_]) => vec![stat],
        (None, files) => files.iter().map(one).collect(),
    }
}

impl Store {
    fn stat(&self) -> Option<FileStat> {
        (self.exists && !self.gone).then_some(FileStat {
            len: self.data.len() as u64,
            mtime_ns: self.mtime,
            id: (!self.no_ids).then_some(self.id),
        })
    }
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Bind { .. } => "bind",
        Op::Unbind { .. } => "unbind",
        Op::SaveDht { .. } => "save dht",
        Op::TcpConnect { .. } => "connect",
        Op::TcpClose { .. } => "close",
        Op::Resolve { .. } => "resolve",
        Op::Http { .. } => "http",
        Op::Fetch(_) => "fetch",
        Op::Open { .. } => "open",
        Op::Read(_) => "read",
        Op::Write(_) => "write",
        Op::Hash(_) => "hash",
        Op::Claim { .. } => "claim",
        Op::Confirm { .. } => "confirm",
        Op::Flush { .. } => "flush",
        Op::Select { .. } => "select",
        Op::Release { .. } => "release",
        Op::Save { .. } => "save",
        Op::Cancel { .. } => "cancel",
        _ => "?",
    }
}
