//! What the parts of the engine have to say: ops for the driver, deadlines, events for the
//! application.

use alloc::collections::VecDeque;
use core::net::SocketAddr;

use super::event::{Level, Notice, What};
use super::ops::Ops;
use super::timers::Timers;
use super::{Config, Event};
use crate::TorrentId;

/// Where a torrent, a connection or the DHT puts what concerns others. Nothing in it calls back.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) ops: Ops,
    pub(super) timers: Timers,
    /// Torrents with changes the application has not heard of.
    pub(super) changed: VecDeque<TorrentId>,
    pub(super) removed: VecDeque<TorrentId>,
    notices: VecDeque<Notice>,
    /// Most notices that wait.
    max_notices: usize,
    /// Notices and events that made way for later ones.
    pub(super) lost: u64,
}

impl Outbox {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            ops: Ops::new(config),
            timers: Timers::default(),
            changed: VecDeque::new(),
            removed: VecDeque::new(),
            notices: VecDeque::new(),
            max_notices: config.max_notices.max(1) as usize,
            lost: 0,
        }
    }

    /// Tells the application, within bounds: the oldest notices make way.
    pub(super) fn notice(
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
    pub(super) fn poll_notice(&mut self) -> Option<Event> {
        self.notices.pop_front().map(Event::Notice)
    }

    /// Whether the driver or the application has something to fetch here.
    pub(super) fn is_pending(&self) -> bool {
        self.ops.is_pending()
            || !self.notices.is_empty()
            || !self.changed.is_empty()
            || !self.removed.is_empty()
    }
}
