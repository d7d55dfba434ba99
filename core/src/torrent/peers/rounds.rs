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

/// Time between choking rounds (BEP 3: every ten seconds).
const ROUND: Duration = Duration::from_secs(10);
/// The first round comes early, so that the first peers are served soon.
pub(crate) const FIRST_ROUND: Duration = Duration::from_millis(500);
/// A peer neither side gains from makes way after this, if places are short.
const USELESS: Duration = Duration::from_secs(300);
/// The same while the metadata is missing: a peer that has it answers within seconds, and peers
/// that all lack it must not keep each other from those that have it.
const USELESS_FOR_METADATA: Duration = Duration::from_secs(60);
/// A connection that is given up for another torrent's sake was there for so long, and, if that
/// torrent has others, of no use for so long: six choking rounds.
const SETTLED: Duration = Duration::from_secs(60);
/// Connections in use that a torrent keeps in any case: enough for all upload slots of a slow
/// line and for a choice of pieces.
const KEPT: usize = 8;
impl Torrent {
    /// The ten-second chores of a torrent.
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

    /// Tells the trackers of a torrent that more peers would be welcome.
    pub(crate) fn ask_for_peers(&mut self, io: &mut Io<'_>) {
        self.announcer.need_peers(&mut cx!(io));
        self.want(io, Wants::TRACKERS);
    }

    /// Blocks that have waited for a whole round are written, however short the run.
    fn flush_idle_pieces(&mut self, io: &mut Io<'_>) {
        let assemblies = self.content.open().map(|(_, open)| &open.assemblies);
        let idle = |a: &Assembly| a.has_waiting() && !a.is_busy();
        if assemblies.is_some_and(|all| all.values().any(idle)) {
            self.flush_pieces(io);
        }
    }

    /// Where places are short, peers that neither side gains from make way.
    fn make_places(&mut self, io: &mut Io<'_>) {
        let short = self.is_full(&io.setup.config) || io.conns.len() >= io.max_conns();
        if !short || self.peer_list.next_due().is_none_or(|due| due > io.now) {
            return;
        }
        let (patience, end) = match self.content {
            // It may have the metadata later.
            Content::Unknown(_) => (USELESS_FOR_METADATA, End::Resting("it has no metadata yet")),
            _ => (USELESS, End::Finished("neither side gained from it")),
        };
        let useless = self.members.iter().filter(|m| m.useful + patience < io.now);
        let oldest = useless.min_by_key(|m| m.useful).map(|m| m.id);
        if let Some(member) = oldest {
            self.close_member(io, member, end);
        }
    }

    /// Gives a connection up for a torrent that has `theirs` and waits for a place: the one that was
    /// of use least recently, and one that is of use only to a torrent that has none at all. Returns
    /// whether there was one.
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
