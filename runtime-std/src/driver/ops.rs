//! Starts the engine's ops, and returns their outcomes.

use std::net::SocketAddr;

use dunlin_core::{
    ConnId, Instant, Op, OpError, OpErrorKind, OpId, Outcome,
    engine::{Command, Event, What},
};

use super::{
    EngineLoop, Reactor, Requests,
    conns::Dial,
    own_ops::{FollowUp, OwnOps},
};
use crate::net::socket;

/// The most ops taken from the engine in one round.
const OPS_PER_ROUND: usize = 256;

impl<R: Reactor, Q: Requests> EngineLoop<R, Q> {
    /// Passes outcomes to the engine; an outcome of the driver's own op is acted on here.
    pub(super) fn take_outcomes(&mut self, reactor: &R, now: Instant) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.stats.progress |= !outcomes.is_empty();
        for (op, outcome) in outcomes.drain(..) {
            if OwnOps::includes(op) {
                let follow_up = self.own_ops.end(op);
                self.follow_up(reactor, now, follow_up, outcome);
            } else {
                self.engine.handle_op(now, op, outcome);
            }
        }
        // Reuses the memory in the next round.
        self.outcomes = outcomes;
    }

    fn follow_up(&mut self, reactor: &R, now: Instant, follow_up: FollowUp, outcome: Outcome) {
        let found = |port: u16| -> Vec<SocketAddr> {
            let ips = match &outcome {
                Outcome::Resolved(ips) => ips.as_slice(),
                _ => &[],
            };
            ips.iter().map(|ip| (*ip, port).into()).collect()
        };
        match follow_up {
            FollowUp::Report => self.report(outcome),
            FollowUp::Tell(event) => {
                self.report(outcome);
                self.told.push_back(event);
            }
            FollowUp::Peer(torrent, port) => {
                let peers = found(port);
                // The torrent may have been removed since.
                let _ = self
                    .engine
                    .command(now, Command::AddPeers { torrent, peers });
            }
            FollowUp::Proxy(conn) => {
                if let (Outcome::Failed { error, .. }, Some(watch)) = (&outcome, &self.watch) {
                    watch.fails(&error.detail);
                }
                let port = self.proxy.as_ref().map_or(0, |proxy| proxy.port);
                let found = self.conns.proxy_found(reactor, conn, found(port));
                if let Err(why) = found {
                    self.engine.handle_closed(now, conn, why);
                }
            }
        }
    }

    fn report(&mut self, outcome: Outcome) {
        if let Outcome::Failed { error, .. } = outcome {
            let message = error.detail;
            self.told.push_back(Event::warning(What::Disk { message }));
        }
    }

    /// Starts the engine's ops. Returns whether the budget was too small for all of them.
    pub(super) fn start_ops(&mut self, reactor: &R, now: Instant) -> bool {
        for _ in 0..OPS_PER_ROUND {
            let Some(op) = self.engine.poll_op() else {
                return false;
            };
            self.stats.progress = true;
            // Copying from the page cache costs less than waking a thread.
            match self.disk.read_cached(op) {
                Ok((id, outcome)) => {
                    self.stats.disk_ops += 1;
                    self.engine.handle_op(now, id, outcome);
                }
                Err(op) => match self.disk.submit(op) {
                    None => self.stats.disk_ops += 1,
                    Some(op) => {
                        if let Some((op, outcome)) = self.start_op(reactor, now, op) {
                            self.engine.handle_op(now, op, outcome);
                        }
                    }
                },
            }
        }
        true
    }

    /// Starts an op that is not for the disk, or returns its outcome if it can be answered at once.
    fn start_op(&mut self, reactor: &R, now: Instant, op: Op) -> Option<(OpId, Outcome)> {
        let unsupported = |why: String| Outcome::failed(OpErrorKind::Unsupported, why);
        match op {
            Op::Bind { op, local, .. } if self.proxy.is_some() => {
                let why = format!("{local}: with a proxy nothing is bound beside it");
                Some((op, unsupported(why)))
            }
            Op::Bind {
                op,
                socket,
                kind,
                local,
            } => {
                let outcome = match self.sockets.bind(reactor, socket, kind, local) {
                    Ok(bound) => Outcome::Bound(bound),
                    Err(error) => socket::bind_failure(local, &error),
                };
                Some((op, outcome))
            }
            Op::Unbind { op, socket } => {
                self.sockets.unbind(socket);
                Some((op, Outcome::Done))
            }
            Op::TcpConnect { conn, remote } => {
                self.dial(reactor, now, conn, remote);
                None
            }
            Op::TcpClose { conn, how } => {
                self.conns.close(conn, how);
                None
            }
            Op::Resolve { op, host } if self.proxy.is_some() => {
                let why = format!("{host}: with a proxy names are not looked up here");
                Some((op, unsupported(why)))
            }
            Op::Resolve { op, host } => {
                self.names.submit(op, host);
                None
            }
            Op::Http { op, request } => {
                self.requests.start(op, request);
                None
            }
            // Until there are web seeds.
            Op::Fetch(job) => {
                let error = OpError {
                    kind: OpErrorKind::Unsupported,
                    detail: format!("{}: ranges are not fetched yet", job.request.url),
                };
                Some((job.op, job.fail(error)))
            }
            Op::Save {
                op,
                torrent,
                record,
            } => {
                let saved = self.torrents.save(&self.disk, op, torrent, record);
                saved.map(|outcome| (op, outcome))
            }
            Op::SaveDht { op, saved } => {
                let saved = self.torrents.save_dht(&self.disk, op, saved);
                saved.map(|outcome| (op, outcome))
            }
            Op::Cancel { op } => {
                self.requests.cancel(op);
                self.names.cancel(op);
                None
            }
            // Law 1 also holds for ops that this version of the driver does not know.
            other => other.id().map(|op| {
                let error = OpError {
                    kind: OpErrorKind::Unsupported,
                    detail: "this driver does not know the op".into(),
                };
                (op, other.fail(error))
            }),
        }
    }

    fn dial(&mut self, reactor: &R, now: Instant, conn: ConnId, remote: SocketAddr) {
        match self.conns.connect(reactor, conn, remote) {
            Dial::Begun => {}
            Dial::Failed(why) => self.engine.handle_closed(now, conn, why),
            Dial::FindProxy => {
                if let Some(proxy) = &self.proxy {
                    // The user named the proxy, so its name may be resolved locally.
                    let op = self.own_ops.begin(FollowUp::Proxy(conn));
                    self.names.submit(op, proxy.host.clone());
                }
            }
        }
    }
}
