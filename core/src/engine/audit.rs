//! What must be so between calls, computed the slow way: for tests.

use alloc::{format, string::String};

use crate::{ConnId, TorrentId};

use super::Engine;
use super::conn::Conn;
use super::member::Member;
use super::torrent::Torrent;
use crate::torrent::picker::Picker;

impl Engine {
    /// Compares every counter and index with what it stands for. O(everything).
    ///
    /// # Errors
    /// Says what is not as it should be.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<(), String> {
        if !self.out.is_settled() {
            return Err("something waits for the engine itself".into());
        }
        let known = |(id, _): &(ConnId, usize)| self.conns.get(*id).is_some();
        if !self.out.starving.iter().all(known) {
            return Err("a connection that is gone waits for blocks".into());
        }
        let known = |id: &TorrentId| self.torrents.get(id).is_some();
        if !self.torrents.diallers.iter().all(known) {
            return Err("a torrent that is gone waits for places".into());
        }
        for (id, _, conn) in self.conns.iter() {
            let t = conn
                .torrent()
                .and_then(|torrent| self.torrents.get(&torrent));
            let known = match conn {
                Conn::Member(_, member) => t.is_some_and(|t| {
                    let member = t.members.get(*member);
                    member.is_some_and(|m| m.stream.id == id)
                }),
                _ if conn.torrent().is_none() => true,
                _ => t.is_some_and(|t| t.members.unfinished().any(|c| c == id)),
            };
            if !known {
                return Err(format!("{id:?} is not in its torrent"));
            }
        }
        let members = || self.torrents.values().flat_map(|t| t.members.iter());
        if let Some(member) = members().find(|m| !m.stream.is_told_or_listed()) {
            let id = member.stream.id;
            return Err(format!("{id:?} has news that the driver will not hear"));
        }
        let members = members().map(|m| (m.stream.remote, m.holding()));
        if !self.conns.is_counted_right(members) {
            return Err("the counters of connections are wrong".into());
        }
        for t in self.torrents.values() {
            self.audit_torrent(t)
                .map_err(|e| format!("{:?} {:?}: {e}", t.id, t.state()))?;
        }
        Ok(())
    }

    /// Whether a connection waits for blocks of the pool.
    #[doc(hidden)]
    #[must_use]
    pub fn waits_for_blocks(&self) -> bool {
        !self.out.starving.is_empty()
    }

    /// How many pieces and peers the handling of messages has looked at so far, where it looks at
    /// more than the one at hand.
    #[doc(hidden)]
    #[must_use]
    pub fn work(&self) -> u64 {
        let of = |t: &Torrent| {
            let picker = t.picker.as_ref().map_or(0, Picker::availability_work);
            picker + t.choker.work()
        };
        self.torrents.values().map(of).sum()
    }

    fn audit_torrent(&self, t: &Torrent) -> Result<(), String> {
        let conn = |id| self.conns.get(id).and_then(Conn::torrent) == Some(t.id);
        let mut all = t.members.iter().map(|m| m.stream.id);
        if !all.all(conn) || !t.members.unfinished().all(conn) {
            return Err("its list of connections is wrong".into());
        }
        if !t.members.is_counted_right(|id| self.conns.remote(id)) {
            return Err("the counters of its connections are wrong".into());
        }
        for (addr, known) in t.swarm.iter() {
            let used = t.members.uses(addr);
            if known.busy != used {
                return Err(format!("{addr} is busy: {}, used: {used}", known.busy));
            }
        }
        let Some(picker) = &t.picker else {
            return Ok(());
        };
        for piece in 0..picker.have().len() {
            let has = |m: &&Member| m.stream.peer.has().get(piece);
            let copies = t.members.iter().filter(has).count();
            if copies != picker.availability(piece) as usize {
                let counted = picker.availability(piece);
                return Err(format!("piece {piece}: {copies} copies, not {counted}"));
            }
        }
        Ok(())
    }
}
