//! What a torrent wants from the engine, and what changed for the application.

use super::outbox::Outbox;
use super::outbox::event::Changes;
use crate::TorrentId;

/// What the engine has to do for a torrent before the current call ends, and the changes that the application has not been
/// told of. The [`Outbox`] lists the torrents that have any.
#[derive(Debug)]
pub(crate) struct Intents {
    torrent: TorrentId,
    changes: Changes,
    wants: Wants,
}

impl Intents {
    pub(crate) fn new(torrent: TorrentId) -> Self {
        Self {
            torrent,
            changes: Changes::default(),
            wants: Wants::default(),
        }
    }

    /// Asks the engine for something before the current call ends.
    pub(crate) fn want(&mut self, out: &mut Outbox, what: Wants) {
        if self.wants == Wants::default() {
            out.wanting.push_back(self.torrent);
        }
        self.wants = self.wants | what;
    }

    /// Records a change. The application is told once, however often it is recorded.
    pub(crate) fn change(&mut self, out: &mut Outbox, what: Changes) {
        if self.changes.is_empty() {
            out.changed.push_back(self.torrent);
        }
        self.changes |= what;
    }

    /// What the engine has to do; it is forgotten here.
    pub(crate) fn take_wants(&mut self) -> Wants {
        core::mem::take(&mut self.wants)
    }

    /// What changed; it is forgotten here.
    pub(crate) fn take_changes(&mut self) -> Changes {
        core::mem::take(&mut self.changes)
    }
}

/// What a torrent wants from the engine because it concerns other torrents, the DHT or the trackers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants(u8);

impl Wants {
    /// To be put into the queue of torrents that have addresses to connect to.
    pub(crate) const PLACES: Self = Self(1);
    /// Its tracker queries to be sent, and their results to be handled.
    pub(crate) const TRACKERS: Self = Self(2);
    /// [`Torrent::proceed`] to be called once none of its disk jobs is in flight.
    pub(crate) const PROCEED: Self = Self(4);
    /// The DHT to run if its mode is `auto`.
    pub(crate) const DHT: Self = Self(8);
    /// Its DHT search to be cancelled.
    pub(crate) const DHT_END: Self = Self(16);
    /// The DHT's pseudo-tracker to be added, or to be removed if the torrent is private.
    pub(crate) const DHT_TRACKER: Self = Self(32);
    /// To close a connection if another torrent needs its place.
    pub(crate) const TO_SHARE: Self = Self(64);
    /// Its DHT search to start.
    pub(crate) const DHT_SEARCH: Self = Self(128);

    /// All that the DHT does.
    pub(crate) const OF_DHT: Self =
        Self(Self::DHT.0 | Self::DHT_END.0 | Self::DHT_TRACKER.0 | Self::DHT_SEARCH.0);

    /// Whether this contains any of `other`.
    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether this contains all of `other`.
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for Wants {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
