//! The engine's ops, and what came of them.

use std::net::SocketAddr;

use dunlin_core::{
    ConnId, Instant, Op, OpId,
    op::{OpErrorKind, Outcome},
};
use dunlin_std::net::{http::shown, socket};

use super::{
    Core,
    asides::{Aside, Asides},
    conns::Dial,
};
use crate::http::GRACE;

/// Ops taken from the engine in one round.
const OPS_PER_ROUND: usize = 256;

impl Core {
    /// Hands outcomes to the engine, or does what an errand was for.
    pub(super) fn take_outcomes(&mut self, now: Instant) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.stats.progress |= !outcomes.is_empty();
        for (op, outcome) in outcomes.drain(..) {
            if Asides::are(op) {
                let aside = self.asides.done(op);
                self.errand(aside, outcome, now);
            } else {
                self.engine.handle_op(now, op, outcome);
            }
        }
        // Its memory serves the next round.
        self.outcomes = outcomes;
    }

    fn errand(&mut self, aside: Aside, outcome: Outcome, now: Instant) {
        let found = |port: u16| -> Vec<SocketAddr> {
            let ips = match &outcome {
                Outcome::Resolved(ips) => ips.as_slice(),
                _ => &[],
            };
            ips.iter().map(|ip| (*ip, port).into()).collect()
        };
        match aside {
            Aside::Nothing => {}
            Aside::Tell(event) => self.told.push_back(event),
            Aside::Peer(torrent, port) => {
                self.engine.add_peers(now, torrent, &found(port));
            }
            Aside::Proxy(conn) => {
                if let (Outcome::Failed { error, .. }, Some(watch)) = (&outcome, &self.watch) {
                    watch.fails(&error.detail);
                }
                let port = self.proxy.as_ref().map_or(0, |proxy| proxy.port);
                let found = self.conns.proxy_found(&self.poller, conn, found(port));
                if let Err(why) = found {
                    self.engine.handle_closed(now, conn, why);
                }
            }
        }
    }

    /// Starts what the engine wants done; whether the budget was too small for all of it.
    pub(super) fn start_ops(&mut self, now: Instant) -> bool {
        for _ in 0..OPS_PER_ROUND {
            let Some(op) = self.engine.poll_op() else {
                return false;
            };
            self.stats.progress = true;
            // What the system has in memory costs less to copy than to hand to a thread.
            match self.disk.read_cached(op) {
                Ok((id, outcome)) => {
                    self.stats.disk_ops += 1;
                    self.engine.handle_op(now, id, outcome);
                }
                Err(op) => match self.disk.submit(op) {
                    None => self.stats.disk_ops += 1,
                    Some(op) => {
                        if let Some((op, outcome)) = self.start_op(op, now) {
                            self.engine.handle_op(now, op, outcome);
                        }
                    }
                },
            }
        }
        true
    }

    /// Starts an op that is not for the disk; what can be answered at once is.
    fn start_op(&mut self, op: Op, now: Instant) -> Option<(OpId, Outcome)> {
        match op {
            Op::Bind {
                op,
                socket,
                kind,
                local,
            } => {
                if self.proxy.is_some() {
                    let why = format!("{local}: with a proxy nothing is bound beside it");
                    return Some((op, Outcome::failed(OpErrorKind::Unsupported, why)));
                }
                let outcome = match self.sockets.bind(&self.poller, socket, kind, local) {
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
                self.dial(conn, remote, now);
                None
            }
            Op::TcpClose { conn, how } => {
                self.conns.close(conn, how);
                None
            }
            Op::Resolve { op, host } if self.proxy.is_some() => {
                let why = format!("{host}: with a proxy names are not looked up here");
                Some((op, Outcome::failed(OpErrorKind::Unsupported, why)))
            }
            Op::Resolve { op, host } => {
                self.names.submit(op, host);
                None
            }
            Op::Http { op, request } => {
                let (what, limit) = (shown(&request.url).to_owned(), request.timeout + GRACE);
                let http = self.shared.http.clone();
                self.requests
                    .submit(op, what, limit, move || http.answer(&request));
                None
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
            other => {
                // Law 1 holds for ops that are newer than this driver, too.
                let why = "this driver does not know the op";
                let outcome = || Outcome::failed(OpErrorKind::Unsupported, why);
                other.id().map(|op| (op, outcome()))
            }
        }
    }

    fn dial(&mut self, conn: ConnId, remote: SocketAddr, now: Instant) {
        match self.conns.connect(&self.poller, conn, remote) {
            Dial::Begun => {}
            Dial::Failed(why) => self.engine.handle_closed(now, conn, why),
            Dial::FindProxy => {
                if let Some(proxy) = &self.proxy {
                    // Named by the user, so it may be looked up here.
                    let op = self.asides.open(Aside::Proxy(conn));
                    self.names.submit(op, proxy.host.clone());
                }
            }
        }
    }
}
