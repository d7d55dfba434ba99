//! Snapshots of watched torrents: sent at once when the state of a torrent changes, and twice a second
//! otherwise.

use std::{collections::BTreeMap, future::Future, pin::Pin, task::Context, time::Duration};

use dunlin_core::{
    Instant, TorrentId,
    engine::{Changes, Engine, Event, TorrentStatus},
};
use tokio::{
    sync::watch,
    time::{Sleep, sleep},
};

use super::ready::{Bell, List, Source};

/// The interval in which rates and progress are refreshed.
const PERIOD: Duration = Duration::from_millis(500);

/// Receives the snapshots of one torrent; the channel is closed when the torrent is gone.
pub(crate) type Receiver = watch::Receiver<TorrentStatus>;

/// The watched torrents.
#[derive(Debug)]
pub(super) struct Watches {
    senders: BTreeMap<TorrentId, watch::Sender<TorrentStatus>>,
    tick: Option<Pin<Box<Sleep>>>,
    bell: Bell,
    rang: bool,
}

impl Watches {
    pub(super) fn new(list: &List) -> Self {
        Self {
            senders: BTreeMap::new(),
            tick: None,
            bell: Bell::new(Source::Watch, list),
            rang: false,
        }
    }

    /// Watches a torrent; `None` if it does not exist. The channel is closed when the torrent is gone.
    pub(super) fn add(&mut self, engine: &Engine, now: Instant, id: TorrentId) -> Option<Receiver> {
        let status = engine.torrent(id)?.status(now);
        let sender = self
            .senders
            .entry(id)
            .or_insert_with(|| watch::Sender::new(status.clone()));
        sender.send_if_modified(|old| replace(old, status));
        let receiver = sender.subscribe();
        self.start();
        Some(receiver)
    }

    fn start(&mut self) {
        if self.tick.is_none() {
            self.tick = Some(Box::pin(sleep(PERIOD)));
            self.bell.own.ring();
        }
    }

    pub(super) fn rang(&mut self) {
        self.bell.own.clear();
        self.rang = true;
    }

    pub(super) fn event(&mut self, event: &Event, engine: &Engine, now: Instant) {
        match event {
            Event::Changed { torrent, what } => {
                let urgent = [Changes::STATE, Changes::FINISHED, Changes::METADATA];
                if urgent.iter().any(|&change| what.contains(change))
                    && let Some(sender) = self.senders.get(torrent)
                    && let Some(status) = engine.torrent(*torrent).map(|t| t.status(now))
                {
                    sender.send_if_modified(|old| replace(old, status));
                }
            }
            Event::Removed(torrent) => {
                self.senders.remove(torrent);
            }
            _ => {}
        }
    }

    /// Refreshes all snapshots if the period is over; returns whether it was.
    pub(super) fn poll(&mut self, engine: &Engine, now: Instant) -> bool {
        if !std::mem::take(&mut self.rang) {
            return false;
        }
        let Some(tick) = &mut self.tick else {
            return false;
        };
        let mut cx = Context::from_waker(&self.bell.waker);
        if tick.as_mut().poll(&mut cx).is_pending() {
            return false;
        }
        self.senders.retain(|&id, sender| {
            // A torrent that is gone is handled with its last event.
            if let Some(status) = engine.torrent(id).map(|t| t.status(now)) {
                sender.send_if_modified(|old| replace(old, status));
            }
            sender.receiver_count() > 0
        });
        self.tick = None;
        if !self.senders.is_empty() {
            self.start();
        }
        true
    }

    /// Closes all channels.
    pub(super) fn clear(&mut self) {
        self.senders.clear();
        self.tick = None;
    }
}

fn replace(old: &mut TorrentStatus, new: TorrentStatus) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}
