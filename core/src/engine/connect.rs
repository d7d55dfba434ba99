//! Connecting: which known address is next, who has a place, and what our handshake says.

use core::net::{IpAddr, SocketAddr};

use super::conn::{Conn, Dialing, Greeting, Opened};
use super::conns::max_conns;
use super::event::{Level, What};
use super::io::Io;
use super::prefix::Prefix;
use super::status::PeerSource;
use super::stream::Stream;
use super::swarm::{Known, Released};
use super::timers::{Timer, TorrentTimer};
use super::torrent::Torrent;
use super::{Engine, Stop, cx};
use crate::op::Close;
use crate::peer::crypto::CryptoOffer;
use crate::peer::{Local, Peer};
use crate::{ConnId, EncryptionPolicy, Op, TorrentId};

/// Torrents looked at for one that waits for a place.
const MAX_ASKED: usize = 16;

impl Torrent {
    /// Opens one connection; `false` if none is wanted now.
    pub(super) fn connect_one(&mut self, io: &mut Io<'_>) -> bool {
        loop {
            if !self.is_running() || self.is_full(&io.setup.config) {
                return false;
            }
            let Some(due) = self.swarm.next_due() else {
                return false;
            };
            if due > io.now {
                io.out
                    .timers
                    .set(Timer::Torrent(self.id, TorrentTimer::Connect), Some(due));
                return false;
            }
            let Some((addr, known)) = self.swarm.take_due(io.now) else {
                return false;
            };
            if known.seed && self.is_done() {
                self.swarm.released(io.now, addr, Released::Useless);
                continue;
            }
            let encrypt = match io.setup.config.encryption {
                EncryptionPolicy::Off => false,
                EncryptionPolicy::Allowed => known.other_encryption,
                EncryptionPolicy::Preferred => !known.other_encryption,
                EncryptionPolicy::Required => true,
            };
            // An application that names several peers at one address wants them all.
            let from_there = io.conns.count_from(Prefix::of(addr.ip()));
            let crowded =
                from_there >= io.setup.config.max_per_ip_in_all() || self.is_crowded(io, addr.ip());
            if crowded && known.source != PeerSource::Manual {
                self.swarm.released(io.now, addr, Released::Crowded);
                continue;
            }
            self.open(io, addr, &known, encrypt);
            return true;
        }
    }

    fn open(&mut self, io: &mut Io<'_>, addr: SocketAddr, known: &Known, encrypt: bool) {
        if io.conns.len() >= io.max_conns() {
            let silent = io.conns.silent().next();
            silent.inspect(|id| io.dismiss(*id, Close::Abort));
        }
        let dialing = Dialing {
            torrent: self.id,
            addr,
            source: known.source,
            encrypt,
            again: known.again,
        };
        let id = io.conns.insert(addr, |_| Conn::Dialing(dialing));
        self.members.connecting(id, addr, Some(addr));
        let patience = io.now + io.setup.config.connect_timeout;
        io.out.timers.set(Timer::Conn(id), Some(patience));
        io.out.ops.stream(Op::TcpConnect {
            conn: id,
            remote: addr,
        });
        io.out
            .notice(Some(self.id), Some(addr), Level::Detail, What::Connecting);
    }

    /// A stream that we opened is open: our handshake goes first.
    pub(super) fn greet(&self, io: &mut Io<'_>, id: ConnId, dialing: Dialing) {
        let crypto = dialing.encrypt.then_some(CryptoOffer {
            plaintext: io.setup.config.encryption != EncryptionPolicy::Required,
            rc4: true,
        });
        let local = self.local(io, dialing.addr);
        let mut peer = Peer::outgoing(&mut cx!(io), &io.setup.peer_config, &local, crypto);
        // Only once: a peer that can choose the secret would have us connect without end.
        if !dialing.again {
            peer.refuse_short_secret();
        }
        io.out.timers.set(Timer::Conn(id), None);
        let stream = Stream::new(id, dialing.addr, peer);
        let opened = Opened::ByUs(dialing);
        io.conns.opened(id, Greeting { stream, opened });
    }

    /// Whether there are enough connections with an IP address.
    pub(super) fn is_crowded(&self, io: &Io<'_>, ip: IpAddr) -> bool {
        self.members.count_with(Prefix::of(ip)) >= io.setup.config.max_connections_per_ip
    }

    /// What our handshakes say to `remote`.
    pub(super) fn local<'a>(&self, io: &Io<'a>, remote: SocketAddr) -> Local<'a> {
        Local {
            info_hash: self.info_hash,
            peer_id: io.setup.peer_id,
            dht: io.dht.active && !self.is_private(),
            pex: io.setup.config.pex && !self.is_private(),
            listen_port: io.endpoints.ports().towards(remote.ip()),
            version: &io.setup.config.user_agent,
            remote_ip: remote.ip(),
            metadata_size: self.info.as_ref().map(|i| i.raw().len() as u32),
            upload_only: self.is_done(),
        }
    }
}

impl Engine {
    /// Gives free places to the torrents that want them: one each, in turn.
    pub(super) fn deal_places(&mut self) {
        let may = self.setup.caps.tcp_connect && !self.endpoints.lost;
        if self.stop != Stop::Running || !may {
            return;
        }
        // Each turn fills a place or shortens the queue.
        while self.has_place()
            && let Some(id) = self.torrents.diallers.pop_front()
        {
            let Some((t, mut io)) = self.at(id) else {
                continue;
            };
            if t.connect_one(&mut io) {
                self.torrents.diallers.push_back(id);
            } else {
                t.dialling = false;
            }
        }
    }

    /// Puts a torrent behind the others that have addresses to connect to.
    pub(super) fn queue_dialler(&mut self, id: TorrentId) {
        self.out
            .timers
            .set(Timer::Torrent(id, TorrentTimer::Connect), None);
        if let Some(t) = self.torrents.get_mut(&id)
            && t.is_running()
            && !core::mem::replace(&mut t.dialling, true)
        {
            self.torrents.diallers.push_back(id);
        }
        self.out.places = true;
    }

    /// Lets a torrent give a connection up if all places are taken and another one, which has
    /// fewer, waits for a place.
    pub(super) fn share_places(&mut self, id: TorrentId) {
        if self.conns.len() < max_conns(&self.setup.config) {
            return;
        }
        let Some(here) = self.torrents.get(&id).map(|t| t.members.len()) else {
            return;
        };
        let now = self.now;
        let others = self.torrents.diallers.iter().filter(|other| **other != id);
        let mut waiting = others.take(MAX_ASKED).filter_map(|other| {
            let other = self.torrents.get(other)?;
            let due = other.swarm.next_due()?;
            (other.is_running() && due <= now).then_some(other.members.len())
        });
        let Some(theirs) = waiting.find(|theirs| theirs + 1 < here) else {
            return;
        };
        let at = self.torrents.diallers.iter().position(|other| *other == id);
        if let Some((t, mut io)) = self.at(id)
            && t.give_place(&mut io, theirs)
            && let Some(at) = at
        {
            self.torrents.diallers.remove(at);
            self.torrents.diallers.push_back(id);
        }
    }

    /// Whether one more connection may be opened. Those that came and say nothing make way.
    fn has_place(&self) -> bool {
        let free = self.conns.len() < max_conns(&self.setup.config);
        let place = free || self.conns.silent().len() > 0;
        place && self.conns.half_open() < self.setup.config.max_half_open.max(1)
    }

    /// Makes room for one more incoming connection; `false` if there is none. Of those that have
    /// not said yet what they want, the oldest makes way: one of the same address if that has
    /// its share, else any.
    pub(super) fn make_room_for(&mut self, ip: IpAddr) -> bool {
        let prefix = Prefix::of(ip);
        let mut own = self.conns.silent_from(prefix);
        let oldest = own.next();
        let silent = own.count() + usize::from(oldest.is_some());
        let silent_is_enough = silent >= self.setup.config.max_connections_per_ip.max(1) as usize;
        let silent_room = self.setup.config.max_handshaking.max(1) as usize;
        let leaver = if silent_is_enough
            || self.conns.count_from(prefix) >= self.setup.config.max_per_ip_in_all()
        {
            oldest
        } else if self.conns.silent().len() >= silent_room
            || self.conns.len() >= max_conns(&self.setup.config)
        {
            self.conns.silent().next()
        } else {
            return true;
        };
        let Some(leaver) = leaver else {
            return false;
        };
        self.parts().1.dismiss(leaver, Close::Abort);
        true
    }
}
