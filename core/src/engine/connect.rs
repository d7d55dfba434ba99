//! Connecting: which known address is next, who has a place, and what our handshake says.

use core::net::{IpAddr, SocketAddr};

use super::conns::MAX_CONNS;
use super::event::{Level, What};
use super::prefix::Prefix;
use super::status::PeerSource;
use super::swarm::{Limits, Released};
use super::timers::Timer;
use super::torrent::Torrent;
use super::{Config, Engine, Stop, cx};
use crate::net::Ports;
use crate::op::Close;
use crate::peer::crypto::CryptoOffer;
use crate::peer::{Local, Peer};
use crate::{ConnId, EncryptionPolicy, Op, PeerId, TorrentId};

impl Engine {
    /// Opens connections of a torrent while it wants more and there is room.
    pub(super) fn connect_more(&mut self, id: TorrentId) {
        self.out.timers.set(Timer::Connect(id), None);
        self.queue_dialler(id);
        self.deal_places();
    }

    /// Puts a torrent behind the others that have addresses to connect to.
    pub(super) fn queue_dialler(&mut self, id: TorrentId) {
        if let Some(t) = self.torrents.get_mut(&id)
            && t.is_running()
            && !core::mem::replace(&mut t.dialling, true)
        {
            self.diallers.push_back(id);
        }
    }

    /// Gives free places to the torrents that want them: one each, in turn.
    pub(super) fn deal_places(&mut self) {
        if self.stop != Stop::Running || !self.caps.tcp_connect {
            return;
        }
        // Each turn fills a place or shortens the queue.
        while self.has_place()
            && let Some(id) = self.diallers.pop_front()
        {
            if self.connect_one(id) {
                self.diallers.push_back(id);
            } else if let Some(t) = self.torrents.get_mut(&id) {
                t.dialling = false;
            }
        }
    }

    /// Opens one connection of a torrent; `false` if it wants none now.
    fn connect_one(&mut self, id: TorrentId) -> bool {
        loop {
            let Some(t) = self.torrents.get_mut(&id) else {
                return false;
            };
            if !t.is_running() || t.is_full(&self.config) {
                return false;
            }
            let Some(due) = t.swarm.next_due() else {
                return false;
            };
            if due > self.now {
                self.out.timers.set(Timer::Connect(id), Some(due));
                return false;
            }
            let Some((addr, known)) = t.swarm.take_due(self.now) else {
                return false;
            };
            if known.seed && t.is_done() {
                t.swarm.released(self.now, addr, Released::Useless);
                continue;
            }
            let encrypt = match self.config.encryption {
                EncryptionPolicy::Off => false,
                EncryptionPolicy::Allowed => known.other_encryption,
                EncryptionPolicy::Preferred => !known.other_encryption,
                EncryptionPolicy::Required => true,
            };
            // An application that names several peers at one address wants them all.
            let from_there = self.conns.count_from(Prefix::of(addr.ip()));
            let crowded =
                from_there >= self.config.max_per_ip_in_all() || self.is_crowded(id, addr.ip());
            if crowded && known.source != PeerSource::Manual {
                if let Some(t) = self.torrents.get_mut(&id) {
                    t.swarm.released(self.now, addr, Released::Crowded);
                }
                continue;
            }
            self.open(id, addr, known.source, encrypt);
            return true;
        }
    }

    fn open(&mut self, id: TorrentId, addr: SocketAddr, source: PeerSource, encrypt: bool) {
        if self.conns.len() >= self.max_conns() {
            let silent = self.conns.greeting().next();
            silent.inspect(|id| self.dismiss(*id));
        }
        let conn_id = self.conns.insert(self.now, addr, source);
        self.half_open += 1;
        if let Some(t) = self.torrents.get_mut(&id) {
            t.conns.push(conn_id.index);
            t.connecting += 1;
        }
        if let Some(conn) = self.conns.join(conn_id, id) {
            // Whatever its source: it may have come to us before.
            conn.incoming = false;
            conn.listen = Some(addr);
            conn.encrypt = encrypt;
        }
        self.out.timers.set(
            Timer::Conn(conn_id.index),
            Some(self.now + self.config.connect_timeout),
        );
        self.out.ops.stream(Op::TcpConnect {
            conn: conn_id,
            remote: addr,
        });
        self.out
            .notice(Some(id), Some(addr), Level::Detail, What::Connecting);
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
        let (port, dht) = (self.ports().towards(remote.ip()), self.dht_is_active());
        let Some(t) = self.torrents.get(&torrent) else {
            return;
        };
        let local = local(t, &self.config, self.peer_id, port, dht, remote);
        let peer = Peer::outgoing(&mut cx!(self), &self.peer_config, &local, crypto);
        self.out.timers.set(Timer::Conn(id.index), None);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.peer = Some(peer);
        }
    }

    /// Whether one more connection may be opened. Those that came and say nothing make way.
    fn has_place(&self) -> bool {
        let place = self.conns.len() < self.max_conns() || self.conns.greeting().len() > 0;
        place && self.half_open < self.config.max_half_open.max(1)
    }

    /// Whether a torrent has enough connections with an IP address.
    pub(super) fn is_crowded(&self, id: TorrentId, ip: IpAddr) -> bool {
        self.conns.count_with(id, Prefix::of(ip)) >= self.config.max_connections_per_ip
    }

    /// Makes room for one more incoming connection; `false` if there is none. Of those that have
    /// not said yet what they want, the oldest makes way: one of the same address if that has
    /// its share, else any.
    pub(super) fn make_room_for(&mut self, ip: IpAddr) -> bool {
        let prefix = Prefix::of(ip);
        let mut own = self.conns.greeting_from(prefix);
        let oldest = own.next();
        let silent = own.count() + usize::from(oldest.is_some());
        let silent_is_enough = silent >= self.config.max_connections_per_ip.max(1) as usize;
        let silent_room = self.config.max_handshaking.max(1) as usize;
        let leaver = if silent_is_enough
            || self.conns.count_from(prefix) >= self.config.max_per_ip_in_all()
        {
            oldest
        } else if self.conns.greeting().len() >= silent_room || self.conns.len() >= self.max_conns()
        {
            self.conns.greeting().next()
        } else {
            return true;
        };
        leaver.inspect(|id| self.dismiss(*id)).is_some()
    }

    /// Closes an incoming connection whose handshake has not come.
    fn dismiss(&mut self, id: ConnId) {
        let how = Close::Abort;
        self.out.ops.stream(Op::TcpClose { conn: id, how });
        self.out.timers.set(Timer::Conn(id.index), None);
        if let Some(peer) = self.conns.remove(id).and_then(|conn| conn.peer) {
            { peer }.close(&mut self.pool);
        }
    }

    /// Bounds of each torrent's table of known peers.
    pub(super) const fn peer_limits(&self) -> Limits {
        Limits {
            known: self.config.max_known_peers as usize,
            per_ip: self.config.max_connections_per_ip as usize,
            families: (self.caps.ipv4, self.caps.ipv6),
        }
    }

    /// Most connections in all.
    pub(super) fn max_conns(&self) -> usize {
        (self.config.max_connections as usize).min(MAX_CONNS)
    }

    /// The ports that peers, trackers and the DHT are told: where streams are accepted, over each
    /// family.
    pub(super) fn ports(&self) -> Ports {
        Ports::bound(self.listening.values())
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
