//! What must be so between calls, computed the slow way: for tests.

use alloc::{format, string::String};

use super::Engine;
use super::conns::Conn;
use super::torrent::Torrent;
use crate::peer::Peer;
use crate::torrent::picker::Picker;

impl Engine {
    /// Compares every counter and index with what it stands for. O(everything).
    ///
    /// # Errors
    /// Says what is not as it should be.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<(), String> {
        let outgoing = |c: &&Conn| !c.incoming && c.established.is_none();
        let half_open = self.conns.iter().filter(outgoing).count();
        if half_open != self.half_open as usize {
            return Err(format!("{half_open} half-open, not {}", self.half_open));
        }
        for conn in self.conns.iter() {
            let id = conn.id;
            if let Some(torrent) = conn.torrent {
                let t = self.torrents.get(&torrent);
                let known = t.is_some_and(|t| t.conns.contains(&id.index));
                if !known {
                    return Err(format!("{id:?} is not in its torrent"));
                }
            }
        }
        if !self.conns.is_counted_right() {
            return Err("the counters of connections are wrong".into());
        }
        for t in self.torrents.values() {
            self.audit_torrent(t)
                .map_err(|e| format!("{:?} {:?}: {e}", t.id, t.state()))?;
        }
        Ok(())
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
        let conns = || t.conns.iter().filter_map(|i| self.conns.at(*i));
        if conns().count() != t.conns.len() || conns().any(|c| c.torrent != Some(t.id)) {
            return Err("its list of connections is wrong".into());
        }
        let connecting = conns().filter(|c| c.established.is_none()).count();
        if connecting != t.connecting as usize {
            return Err(format!("{connecting} connecting, not {}", t.connecting));
        }
        for (addr, known) in t.swarm.iter() {
            let used = conns().any(|c| c.listen == Some(addr));
            if known.busy != used {
                return Err(format!("{addr} is busy: {}, used: {used}", known.busy));
            }
        }
        let Some(picker) = &t.picker else {
            return Ok(());
        };
        for piece in 0..picker.have().len() {
            let has = |c: &&Conn| c.peer.as_ref().is_some_and(|p: &Peer| p.has().get(piece));
            let copies = conns().filter(has).count();
            if copies != picker.availability(piece) as usize {
                let counted = picker.availability(piece);
                return Err(format!("piece {piece}: {copies} copies, not {counted}"));
            }
        }
        Ok(())
    }
}
