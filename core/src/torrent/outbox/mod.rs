//! What the parts of the engine have to say: ops for the driver, deadlines, events for the
//! application.

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
use crate::torrent::{Config, Event};
use crate::{ConnId, OpError, TorrentId};

/// Where a torrent, a connection or the DHT puts what concerns others. Nothing in it calls back.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) ops: Ops,
    pub(crate) timers: Timers,
    /// Torrents that want something of the engine.
    pub(crate) wanting: VecDeque<TorrentId>,
    /// Places for connections are free, or more torrents want some.
    pub(crate) places: bool,
    /// Torrents whose pieces are to be hashed; it is the turn of the first one.
    pub(crate) checks: VecDeque<TorrentId>,
    /// The first of [`Outbox::checks`] may go on, or it is another one's turn.
    pub(crate) next_check: bool,
    /// Connections that were welcomed, whose events wait.
    pub(crate) welcomed: VecDeque<ConnId>,
    /// Streams the driver should hear of.
    pub(crate) streams: VecDeque<ConnId>,
    /// Connections that wait for blocks of the pool, oldest first, and how many have to be free.
    pub(crate) starving: VecDeque<(ConnId, usize)>,
    /// [`BlockPool::given`](crate::BlockPool) when they were woken last.
    pub(crate) fed: u64,
    /// Whose turn it is to send a datagram.
    pub(crate) turns: Turns,
    /// Nodes of the DHT that peers told of.
    pub(crate) dht_nodes: VecDeque<SocketAddr>,
    /// Datagrams that nobody expected.
    pub(crate) stray_datagrams: u64,
    /// Outcomes of ops that were not in flight.
    pub(crate) stray_outcomes: u64,
    /// Peers that broke the protocol.
    pub(crate) hostile_peers: u64,
    /// Faults of peers that were passed over.
    pub(crate) forgiven: u64,
    /// Addresses that were not believed.
    pub(crate) refused_addresses: u64,
    /// What came of the last fetch of a range.
    pub(crate) fetched: Option<Result<usize, OpError>>,
    /// Torrents with changes the application has not heard of.
    pub(crate) changed: VecDeque<TorrentId>,
    pub(crate) removed: VecDeque<TorrentId>,
    notices: VecDeque<Notice>,
    /// Most notices that wait.
    max_notices: usize,
    /// Notices and events that made way for later ones.
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
            fed: 0,
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

    /// Tells the application, within bounds: the oldest notices make way.
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

    /// The oldest notice.
    pub(crate) fn poll_notice(&mut self) -> Option<Event> {
        self.notices.pop_front().map(Event::Notice)
    }

    /// Whether nothing waits for the engine itself.
    pub(crate) fn is_settled(&self) -> bool {
        self.wanting.is_empty()
            && self.welcomed.is_empty()
            && self.dht_nodes.is_empty()
            && !self.next_check
            && !self.places
    }

    /// Whether the driver or the application has something to fetch here.
    pub(crate) fn is_pending(&self) -> bool {
        self.ops.is_pending()
            || !self.streams.is_empty()
            || !self.notices.is_empty()
            || !self.changed.is_empty()
            || !self.removed.is_empty()
    }
}
