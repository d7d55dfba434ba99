//! Which torrent may open the next connection.

use super::Torrents;
use crate::TorrentId;
use crate::torrent::io::Io;
use crate::torrent::outbox::timers::{Timer, TorrentTimer};

/// How many torrents are examined to find one that waits for a connection.
const MAX_ASKED: usize = 16;

impl Torrents {
    /// Lets the torrents in the queue open connections, one each in turn, as long as more are allowed.
    pub(in super::super) fn deal_places(&mut self, io: &mut Io<'_>) {
        if !io.setup.caps.tcp_connect || io.endpoints.lost {
            return;
        }
        // Each turn opens a connection or shortens the queue.
        while io.has_place()
            && let Some(id) = self.diallers.pop_front()
        {
            let Some(t) = self.get_mut(&id) else {
                continue;
            };
            if t.connect_one(io) {
                self.diallers.push_back(id);
            } else {
                t.peer_list.dialling = false;
            }
        }
    }

    /// Adds a torrent to the end of the queue of those that have addresses to connect to.
    pub(in super::super) fn queue_dialler(&mut self, io: &mut Io<'_>, id: TorrentId) {
        io.out
            .timers
            .set(Timer::Torrent(id, TorrentTimer::Connect), None);
        if let Some(t) = self.get_mut(&id)
            && t.is_running()
            && !core::mem::replace(&mut t.peer_list.dialling, true)
        {
            self.diallers.push_back(id);
        }
        io.out.places = true;
    }

    /// Lets a torrent close a connection if no more are allowed, and another torrent with fewer connections waits.
    pub(in super::super) fn share_places(&mut self, io: &mut Io<'_>, id: TorrentId) {
        if io.conns.len() < io.max_conns() {
            return;
        }
        let Some(here) = self.get(&id).map(|t| t.members.len()) else {
            return;
        };
        let others = self.diallers.iter().filter(|other| **other != id);
        let mut waiting = others.take(MAX_ASKED).filter_map(|other| {
            let other = self.get(other)?;
            let due = other.peer_list.next_due()?;
            (other.is_running() && due <= io.now).then_some(other.members.len())
        });
        let Some(theirs) = waiting.find(|theirs| theirs + 1 < here) else {
            return;
        };
        let at = self.diallers.iter().position(|other| *other == id);
        if let Some(t) = self.get_mut(&id)
            && t.give_place(io, theirs)
            && let Some(at) = at
        {
            self.diallers.remove(at);
            self.diallers.push_back(id);
        }
    }

    /// The torrents in the queue.
    pub(in super::super) fn diallers(&self) -> impl Iterator<Item = TorrentId> {
        self.diallers.iter().copied()
    }
}
