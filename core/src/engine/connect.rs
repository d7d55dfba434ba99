//! Connecting: which known address is next, and what our handshake says.

use core::net::SocketAddr;

use super::conns::MAX_CONNS;
use super::event::{Level, What};
use super::status::PeerSource;
use super::swarm::Released;
use super::timers::Timer;
use super::torrent::Torrent;
use super::{Config, Engine, Stop, cx};
use crate::peer::crypto::CryptoOffer;
use crate::peer::{Local, Peer};
use crate::{ConnId, EncryptionPolicy, Op, PeerId, TorrentId};

impl Engine {
    /// Opens connections of a torrent while it wants more and there is room.
    pub(super) fn connect_more(&mut self, id: TorrentId) {
        self.timers.set(Timer::Connect(id), None);
        if self.stop != Stop::Running || !self.caps.tcp_connect {
            return;
        }
        loop {
            let full = self.no_room();
            let Some(t) = self.torrents.get_mut(&id) else {
                return;
            };
            if !t.is_running() || t.is_full(&self.config) {
                return;
            }
            let Some(due) = t.swarm.next_due() else {
                return;
            };
            if due > self.now {
                self.timers.set(Timer::Connect(id), Some(due));
                return;
            }
            if full {
                if !self.connect_waiters.contains(&id) {
                    self.connect_waiters.push_back(id);
                }
                return;
            }
            let Some((addr, known)) = t.swarm.take_due(self.now) else {
                return;
            };
            let reachable = match addr {
                SocketAddr::V4(_) => self.caps.ipv4,
                SocketAddr::V6(_) => self.caps.ipv6,
            };
            if !reachable || (known.seed && t.is_done()) {
                t.swarm.released(self.now, addr, Released::Useless);
                continue;
            }
            let encrypt = match self.config.encryption {
                EncryptionPolicy::Off => false,
                EncryptionPolicy::Allowed => known.other_encryption,
                EncryptionPolicy::Preferred => !known.other_encryption,
                EncryptionPolicy::Required => true,
            };
            self.open(id, addr, known.source, encrypt);
        }
    }

    pub(super) fn open(
        &mut self,
        id: TorrentId,
        addr: SocketAddr,
        source: PeerSource,
        encrypt: bool,
    ) {
        let conn_id = self.conns.insert(self.now, addr, source);
        self.half_open += 1;
        if let Some(t) = self.torrents.get_mut(&id) {
            t.conns.push(conn_id.index);
            t.connecting += 1;
        }
        if let Some(conn) = self.conns.get_mut(conn_id) {
            // Whatever its source: it may have come to us before.
            conn.incoming = false;
            conn.torrent = Some(id);
            conn.listen = Some(addr);
            conn.encrypt = encrypt;
        }
        self.timers.set(
            Timer::Conn(conn_id.index),
            Some(self.now + self.config.connect_timeout),
        );
        self.ops.stream(Op::TcpConnect {
            conn: conn_id,
            remote: addr,
        });
        self.notice(Some(id), Some(addr), Level::Detail, What::Connecting);
    }

    /// An outgoing stream is open: our handshake goes first.
    pub(super) fn greet(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (Some(torrent), None) = (conn.torrent, &conn.peer) else {
            return;
        };
        let (encrypt, remote) = (conn.encrypt, conn.remote);
        let crypto = encrypt.then_some(CryptoOffer {
            plaintext: self.config.encryption != EncryptionPolicy::Required,
            rc4: true,
        });
        let (port, dht) = (self.port(), self.dht_is_active());
        let Some(t) = self.torrents.get(&torrent) else {
            return;
        };
        let local = local(t, &self.config, self.peer_id, port, dht, remote);
        let peer = Peer::outgoing(&mut cx!(self), &self.peer_config, &local, crypto);
        self.timers.set(Timer::Conn(id.index), None);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.peer = Some(peer);
        }
    }

    /// Whether nothing more can be connected to for now.
    pub(super) fn no_room(&self) -> bool {
        self.half_open >= self.config.max_half_open.max(1) || self.conns.len() >= self.max_conns()
    }

    /// Most connections in all.
    pub(super) fn max_conns(&self) -> usize {
        (self.config.max_connections as usize).min(MAX_CONNS)
    }

    /// The port that peers and trackers are told.
    pub(super) fn port(&self) -> Option<u16> {
        self.listening.values().next().map(SocketAddr::port)
    }
}

/// What our handshakes say.
pub(super) fn local<'a>(
    t: &Torrent,
    config: &'a Config,
    peer_id: PeerId,
    port: Option<u16>,
    dht: bool,
    remote: SocketAddr,
) -> Local<'a> {
    Local {
        info_hash: t.info_hash,
        peer_id,
        dht: dht && !t.is_private(),
        pex: config.pex && !t.is_private(),
        listen_port: port,
        version: &config.user_agent,
        remote_ip: remote.ip(),
        metadata_size: t.info.as_ref().map(|i| i.raw().len() as u32),
        upload_only: t.is_done(),
    }
}
