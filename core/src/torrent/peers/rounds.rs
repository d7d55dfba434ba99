//! What a torrent does every ten seconds.

use core::time::Duration;

use crate::torrent::conn::end::End;
use crate::torrent::conn::member::Member;
use crate::torrent::content::assembly::Assembly;
use crate::torrent::content::{Content, Store};
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::standing::Standing;
use crate::torrent::{Torrent, Wants};

/// The time between choking rounds (BEP 3: ten seconds).
const ROUND: Duration = Duration::from_secs(10);
/// When the first round happens: early, so that the first peers are served soon.
pub(crate) const FIRST_ROUND: Duration = Duration::from_millis(500);
/// A peer that is useless for both sides makes way after this time if there are too many connections.
const USELESS: Duration = Duration::from_secs(300);
/// The same while the metadata is not known. A peer that has it answers within seconds, and peers without it must not keep
/// us from connecting to others.
const USELESS_FOR_METADATA: Duration = Duration::from_secs(60);
/// A connection is closed in favour of another torrent only after this time and, if that torrent has other connections, only
/// if it was useless for this time: six choking rounds.
const SETTLED: Duration = Duration::from_secs(60);
/// How many useful connections a torrent keeps in any case: enough for all upload slots of a slow line and for a choice of
/// pieces.
const KEPT: usize = 8;
impl Torrent {
    /// Does what is done every ten seconds.
    pub(crate) fn round(&mut self, io: &mut Io<'_>) {
        if let Standing::Failed(_) = self.standing {
            self.retry(io);
            return;
        }
        match self.content.store() {
            _ if !self.standing.is_up() => {}
            None => {
                self.request_metadata(io);
                self.make_places(io);
            }
            Some(Store::Open(_)) => {
                self.choke_round(io);
                self.flush_idle_pieces(io);
                self.refill_all(io);
                self.make_places(io);
                self.want(io, Wants::TO_SHARE);
            }
            Some(_) => {}
        }
        if !self.members.is_empty() {
            io.out.timers.set(
                Timer::Torrent(self.id, TorrentTimer::Round),
                Some(io.now + ROUND),
            );
        }
        let poor =
            !self.is_done() && self.members.is_empty() && self.peer_list.next_due().is_none();
        if poor {
            self.ask_for_peers(io);
        }
    }

    /// Tells the announcer whether the torrent needs more peers.
    pub(crate) fn ask_for_peers(&mut self, io: &mut Io<'_>) {
        self.sources.announcer.need_peers(&mut cx!(io));
        self.want(io, Wants::TRACKERS);
    }

    /// Writes blocks that have waited for a whole round, also in short runs.
    fn flush_idle_pieces(&mut self, io: &mut Io<'_>) {
        let assemblies = self.content.open().map(|(_, open)| &open.assemblies);
        let idle = |a: &Assembly| a.has_waiting() && !a.is_busy();
        if assemblies.is_some_and(|all| all.values().any(idle)) {
            self.flush_pieces(io);
        }
    }

    /// If there are too many connections, closes those that are useless for both sides.
    fn make_places(&mut self, io: &mut Io<'_>) {
        let short = self.is_full(&io.setup.config) || io.conns.len() >= io.max_conns();
        if !short || self.peer_list.next_due().is_none_or(|due| due > io.now) {
            return;
        }
        let (patience, end) = match self.content {
            // The peer may have the metadata later.
            Content::Unknown(_) => (USELESS_FOR_METADATA, End::Resting("it has no metadata yet")),
            _ => (USELESS, End::Finished("neither side gained from it")),
        };
        let useless = self.members.iter().filter(|m| m.useful + patience < io.now);
        let oldest = useless.min_by_key(|m| m.useful).map(|m| m.id);
        if let Some(member) = oldest {
            self.close_member(io, member, end);
        }
    }

    /// Closes a connection in favour of a torrent that has `theirs` connections: the one that was useful least recently. A
    /// useful connection is only closed in favour of a torrent without any. Returns whether one was closed.
    pub(crate) fn give_place(&mut self, io: &mut Io<'_>, theirs: usize) -> bool {
        let urgent = theirs == 0 && self.members.len() > KEPT;
        let settled = |m: &&Member| m.established + SETTLED < io.now;
        let settled = self.members.iter().filter(settled);
        let least = settled.min_by_key(|m| m.useful);
        let least = least.filter(|m| urgent || m.useful + SETTLED < io.now);
        let Some(member) = least.map(|m| m.id) else {
            return false;
        };
        let end = End::Resting("another torrent needs the place");
        self.close_member(io, member, end);
        true
    }
}
