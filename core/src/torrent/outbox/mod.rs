//! What torrents and connections leave for others: ops for the driver, timers, events for the application.

pub(crate) mod event;
pub(crate) mod ops;
pub(crate) mod queries;
pub(crate) mod timers;

use alloc::collections::VecDeque;
use core::net::SocketAddr;

use self::event::{Level, Notice, What};
use self::ops::Ops;
use self::timers::Timers;
use crate::mux::Turns;
use crate::torrent::Event;
use crate::{Config, ConnId, OpError, TorrentId};

/// Where a torrent, a connection or the DHT leaves what concerns others. Nothing in it calls back.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) ops: Ops,
    pub(crate) timers: Timers,
    /// Torrents that want something from the engine.
    pub(crate) wanting: VecDeque<TorrentId>,
    /// Whether connections were closed, or more torrents want to connect.
    pub(crate) places: bool,
    /// Torrents that wait for a check. The first one is being checked.
    pub(crate) checks: VecDeque<TorrentId>,
    /// Whether the first of [`Outbox::checks`] may continue, or the next one may start.
    pub(crate) next_check: bool,
    /// Connections that a torrent has accepted, whose events have to be handled.
    pub(crate) welcomed: VecDeque<ConnId>,
    /// Streams whose readiness changed.
    pub(crate) streams: VecDeque<ConnId>,
    /// Connections that wait for blocks of the pool, oldest first, with the number of blocks that have to be free.
    pub(crate) starving: VecDeque<(ConnId, usize)>,
    /// The pool's count of returned blocks when these connections were last woken.
    pub(crate) returned_seen: u64,
    /// Whose turn it is to send a datagram.
    pub(crate) turns: Turns,
    /// DHT nodes that peers told of (BEP 5 `port`).
    pub(crate) dht_nodes: VecDeque<SocketAddr>,
    /// The number of datagrams that belonged to no protocol or query.
    pub(crate) stray_datagrams: u64,
    /// The number of outcomes for ops that were not in flight.
    pub(crate) stray_outcomes: u64,
    /// The number of peers that broke the protocol.
    pub(crate) hostile_peers: u64,
    /// The number of peers' mistakes that were tolerated.
    pub(crate) forgiven: u64,
    /// The number of peer addresses that were refused.
    pub(crate) refused_addresses: u64,
    /// The result of the last fetch of a range.
    pub(crate) fetched: Option<Result<usize, OpError>>,
    /// Torrents with changes that the application has not been told of.
    pub(crate) changed: VecDeque<TorrentId>,
    pub(crate) removed: VecDeque<TorrentId>,
    notices: VecDeque<Notice>,
    /// The maximum number of pending notices.
    max_notices: usize,
    /// The number of notices that were dropped.
    pub(crate) lost: u64,
}

impl Outbox {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            ops: Ops::new(config),
            timers: Timers::default(),
            wanting: VecDeque::new(),
            places: false,
            checks: VecDeque::new(),
            next_check: false,
            welcomed: VecDeque::new(),
            streams: VecDeque::new(),
            starving: VecDeque::new(),
            returned_seen: 0,
            turns: Turns::new(),
            dht_nodes: VecDeque::new(),
            stray_datagrams: 0,
            stray_outcomes: 0,
            hostile_peers: 0,
            forgiven: 0,
            refused_addresses: 0,
            fetched: None,
            changed: VecDeque::new(),
            removed: VecDeque::new(),
            notices: VecDeque::new(),
            max_notices: config.max_notices.max(1) as usize,
            lost: 0,
        }
    }

    /// Adds a notice. If too many are pending, the oldest is dropped.
    pub(crate) fn notice(
        &mut self,
        torrent: Option<TorrentId>,
        peer: Option<SocketAddr>,
        level: Level,
        what: What,
    ) {
        while self.notices.len() >= self.max_notices {
            self.notices.pop_front();
            self.lost += 1;
        }
        self.notices.push_back(Notice {
            torrent,
            peer,
            level,
            what,
        });
    }

    /// Removes and returns the oldest notice.
    pub(crate) fn poll_notice(&mut self) -> Option<Event> {
        self.notices.pop_front().map(Event::Notice)
    }

    /// Whether nothing is left for the engine itself.
    pub(crate) fn is_settled(&self) -> bool {
        self.wanting.is_empty()
            && self.welcomed.is_empty()
            && self.dht_nodes.is_empty()
            && !self.next_check
            && !self.places
    }

    /// Whether there is anything for the driver or the application.
    pub(crate) fn is_pending(&self) -> bool {
        self.ops.is_pending()
            || !self.streams.is_empty()
            || !self.notices.is_empty()
            || !self.changed.is_empty()
            || !self.removed.is_empty()
    }
}
