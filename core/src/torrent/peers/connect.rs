//! Connecting: choosing the next address, and the contents of our handshake.

use core::net::{IpAddr, SocketAddr};

use crate::op::Close;
use crate::peer::crypto::CryptoOffer;
use crate::peer::{Local, Peer};
use crate::torrent::Torrent;
use crate::torrent::conn::link::Link;
use crate::torrent::conn::stream::Stream;
use crate::torrent::conn::{Conn, Dialing, Greeting, Opened};
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::outbox::event::{Level, What};
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::peer_list::{Known, Released};
use crate::torrent::prefix::Prefix;
use crate::torrent::status::PeerSource;
use crate::{ConnId, EncryptionPolicy};

impl Torrent {
    /// Opens one connection. Returns `false` if none is to be opened now.
    pub(crate) fn connect_one(&mut self, io: &mut Io<'_>) -> bool {
        loop {
            if !self.is_running() || self.is_full(&io.setup.config) {
                return false;
            }
            let Some(due) = self.peer_list.next_due() else {
                return false;
            };
            if due > io.now {
                io.out
                    .timers
                    .set(Timer::Torrent(self.id, TorrentTimer::Connect), Some(due));
                return false;
            }
            let Some((addr, known)) = self.peer_list.take_due(io.now) else {
                return false;
            };
            if known.seed && self.is_done() {
                self.peer_list.released(io.now, addr, Released::Useless);
                continue;
            }
            let encrypt = match io.setup.config.encryption {
                EncryptionPolicy::Off => false,
                EncryptionPolicy::Allowed => known.other_encryption,
                EncryptionPolicy::Preferred => !known.other_encryption,
                EncryptionPolicy::Required => true,
            };
            // If the application names several peers at one address, it wants all of them.
            let from_there = io.conns.count_from(Prefix::of(addr.ip()));
            let crowded =
                from_there >= io.setup.config.max_per_ip_in_all() || self.is_crowded(io, addr.ip());
            if crowded && known.source != PeerSource::Manual {
                self.peer_list.released(io.now, addr, Released::Crowded);
                continue;
            }
            self.open(io, addr, &known, encrypt);
            return true;
        }
    }

    fn open(&mut self, io: &mut Io<'_>, addr: SocketAddr, known: &Known, encrypt: bool) {
        if io.conns.len() >= io.max_conns() {
            let silent = io.conns.unclaimed().next();
            silent.inspect(|id| io.dismiss(*id, Close::Abort));
        }
        let dialing = Dialing {
            torrent: self.id,
            addr,
            source: known.source,
            encrypt,
            again: known.again,
        };
        let out = &mut *io.out;
        let id = io
            .conns
            .insert(addr, |id| Conn::Dialing(dialing, Link::open(out, id, addr)));
        self.members.connecting(id, addr, Some(addr));
        let patience = io.now + io.setup.config.connect_timeout;
        io.out.timers.set(Timer::Conn(id), Some(patience));
        io.out
            .notice(Some(self.id), Some(addr), Level::Detail, What::Connecting);
    }

    /// A link that we opened is established: sends our handshake.
    pub(crate) fn greet(&self, io: &mut Io<'_>, id: ConnId, dialing: Dialing, link: Link) {
        let crypto = dialing.encrypt.then_some(CryptoOffer {
            plaintext: io.setup.config.encryption != EncryptionPolicy::Required,
            rc4: true,
        });
        let local = self.local(io, dialing.addr);
        let mut peer = Peer::outgoing(&mut cx!(io), &io.setup.peer_config, &local, crypto);
        // Only once, as a peer that can choose the secret could make us connect again and again.
        if !dialing.again {
            peer.refuse_short_secret();
        }
        io.out.timers.set(Timer::Conn(id), None);
        let stream = Stream::new(id, dialing.addr, peer, link);
        let opened = Opened::ByUs(dialing);
        io.conns.opened(id, Greeting { stream, opened });
    }

    /// Whether there are as many connections with an IP address as are allowed.
    pub(crate) fn is_crowded(&self, io: &Io<'_>, ip: IpAddr) -> bool {
        self.members.count_with(Prefix::of(ip)) >= io.setup.config.max_connections_per_ip
    }

    /// The contents of our handshakes with `remote`.
    pub(crate) fn local<'a>(&self, io: &Io<'a>, remote: SocketAddr) -> Local<'a> {
        Local {
            info_hash: self.info_hash,
            peer_id: io.setup.peer_id,
            dht: io.dht.active && !self.is_private(),
            pex: io.setup.config.pex && !self.is_private(),
            listen_port: io.endpoints.ports().towards(remote.ip()),
            version: &io.setup.config.user_agent,
            remote_ip: remote.ip(),
            metadata_size: self.content.info().map(|i| i.raw().len() as u32),
            upload_only: self.is_done(),
        }
    }
}
