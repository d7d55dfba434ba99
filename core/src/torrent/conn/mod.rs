//! Connections, from the address that is connected to, to the member of a torrent.

pub(crate) mod end;
pub(crate) mod link;
pub(crate) mod member;
pub(crate) mod members;
pub(crate) mod pex;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod stream;
pub(crate) mod table;

use alloc::boxed::Box;
use core::net::SocketAddr;

use self::link::Link;
use self::stream::Stream;
use crate::peer::crypto::CryptoOffer;
use crate::peer::{Local, Peer};
use crate::torrent::member_id::MemberId;
use crate::torrent::setup::Setup;
use crate::torrent::status::PeerSource;
use crate::{ConnId, Cx, EncryptionPolicy, TorrentId};

/// An address that a torrent connects to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialing {
    pub(crate) torrent: TorrentId,
    pub(crate) addr: SocketAddr,
    pub(crate) source: PeerSource,
    /// Whether the handshake is encrypted (MSE).
    pub(crate) encrypt: bool,
    /// Whether the last attempt ended with [`Released::TryAgain`](crate::torrent::peer_list::Released::TryAgain).
    pub(crate) again: bool,
}

impl Dialing {
    /// Its link is open: sends our handshake.
    pub(crate) fn greet(
        self,
        cx: &mut Cx<'_>,
        setup: &Setup,
        local: &Local<'_>,
        (id, link): (ConnId, Link),
    ) -> Greeting {
        let crypto = self.encrypt.then_some(CryptoOffer {
            plaintext: setup.config.encryption != EncryptionPolicy::Required,
            rc4: true,
        });
        let mut peer = Peer::outgoing(cx, &setup.peer_config, local, crypto);
        // Only once, as a peer that can choose the secret could make us connect again and again.
        if !self.again {
            peer.refuse_short_secret();
        }
        Greeting {
            stream: Stream::new(id, self.addr, peer, link),
            opened: Opened::ByUs(self),
        }
    }
}

/// Who opened a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opened {
    /// We opened it.
    ByUs(Dialing),
    /// The peer opened it. The torrent that it named, once that has accepted it.
    ByPeer(Option<TorrentId>),
}

/// A stream on which handshakes are exchanged.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) stream: Stream,
    pub(crate) opened: Opened,
}

impl Conn {
    /// The address that we connect to, and whether the link is open, until the handshakes are complete.
    pub(crate) const fn attempt(&self) -> Option<(&Dialing, bool)> {
        match self {
            Self::Dialing(dialing, _) => Some((dialing, false)),
            Self::Greeting(greeting) => match &greeting.opened {
                Opened::ByUs(dialing) => Some((dialing, true)),
                Opened::ByPeer(_) => None,
            },
            Self::Member(..) => None,
        }
    }

    /// The source of the address, until the handshakes are complete.
    pub(crate) const fn source(&self) -> Option<PeerSource> {
        match self {
            Self::Dialing(dialing, _) => Some(dialing.source),
            Self::Greeting(greeting) => match greeting.opened {
                Opened::ByUs(dialing) => Some(dialing.source),
                Opened::ByPeer(_) => Some(PeerSource::Incoming),
            },
            Self::Member(..) => None,
        }
    }

    /// Its link, until it is a member of a torrent.
    pub(crate) const fn link(&self) -> Option<Link> {
        match self {
            Self::Dialing(_, link) => Some(*link),
            Self::Greeting(greeting) => Some(greeting.stream.link),
            Self::Member(..) => None,
        }
    }

    /// The torrent, once known.
    pub(crate) const fn torrent(&self) -> Option<TorrentId> {
        match self {
            Self::Dialing(dialing, _) => Some(dialing.torrent),
            Self::Greeting(greeting) => greeting.torrent(),
            Self::Member(torrent, _) => Some(*torrent),
        }
    }
}

impl Greeting {
    /// Whether the peer opened the stream.
    pub(crate) const fn is_incoming(&self) -> bool {
        matches!(self.opened, Opened::ByPeer(_))
    }

    /// The torrent, once known.
    pub(crate) const fn torrent(&self) -> Option<TorrentId> {
        match self.opened {
            Opened::ByUs(dialing) => Some(dialing.torrent),
            Opened::ByPeer(torrent) => torrent,
        }
    }
}

/// The state of a connection.
#[derive(Debug)]
pub(crate) enum Conn {
    /// Its link is being opened.
    Dialing(Dialing, Link),
    /// Handshakes are being exchanged.
    Greeting(Box<Greeting>),
    /// It is a member of a torrent.
    Member(TorrentId, MemberId),
}

/// The upload blocks that a connection holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The number of blocks that are ready for it or being read.
    pub(crate) blocks: u32,
    /// Whether it requests blocks, or holds some.
    pub(crate) uploads: bool,
}
