//! For tests: invariants that hold between calls, and fetches of ranges, which nothing else requests until there are web seeds.

use alloc::{format, string::String, vec::Vec};

use crate::http::HttpRequest;
use crate::op::FetchJob;
use crate::{BLOCK_LEN, Block, ConnId, Instant, Op, OpError, Outcome, TorrentId};

use super::Engine;
use crate::torrent::Torrent;
use crate::torrent::conn::Conn;
use crate::torrent::conn::member::Member;
use crate::torrent::io::Io;
use crate::torrent::outbox::ops::Purpose;
use crate::torrent::picker::Picker;

impl Engine {
    /// Compares every counter and index with what it counts. O(everything).
    ///
    /// # Errors
    /// Says what is wrong.
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
        if !self.torrents.diallers().all(|id| known(&id)) {
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
        let greetings = self.conns.iter().filter_map(|(_, _, conn)| match conn {
            Conn::Greeting(greeting) => Some(&greeting.stream),
            _ => None,
        });
        let mut streams = members().map(|m| &m.stream).chain(greetings);
        if let Some(stream) = streams.find(|stream| !stream.is_told_or_listed()) {
            let id = stream.id;
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

    /// How many pieces and peers the handling of messages has examined so far, where it examines more than those of the
    /// message.
    #[doc(hidden)]
    #[must_use]
    pub fn work(&self) -> u64 {
        let of = |t: &Torrent| {
            let picker = t.content.picker().map_or(0, Picker::availability_work);
            picker + t.upload_slots.choker.work()
        };
        self.torrents.values().map(of).sum()
    }

    /// Fetches a range and drops the result, for tests of drivers. Returns `false` if there are not enough blocks.
    #[doc(hidden)]
    pub fn fetch(&mut self, now: Instant, request: HttpRequest, at: u64, len: u32) -> bool {
        self.tick(now);
        let count = (len as usize).div_ceil(BLOCK_LEN);
        if self.pool.available() < count {
            return false;
        }
        let blocks: Vec<Block> = (0..count).map_while(|_| self.pool.take()).collect();
        let ops = &mut self.out.ops;
        ops.job(Purpose::Fetch, |op| {
            Op::Fetch(FetchJob::new(op, request, at, len, blocks))
        });
        self.settle();
        true
    }

    /// Returns the result of the last fetch, for tests of drivers: the number of bytes in the blocks that it filled.
    #[doc(hidden)]
    pub const fn poll_fetched(&mut self) -> Option<Result<usize, OpError>> {
        self.out.fetched.take()
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
        for (addr, known) in t.peer_list.iter() {
            let used = t.members.uses(addr);
            if known.busy != used {
                return Err(format!("{addr} is busy: {}, used: {used}", known.busy));
            }
        }
        let Some(picker) = t.content.picker() else {
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

impl Io<'_> {
    /// Handles the outcome of a fetch.
    pub(super) fn fetched(&mut self, outcome: Outcome) {
        self.out.fetched = match &outcome {
            Outcome::Fetched(blocks) => Some(Ok(blocks.len() * BLOCK_LEN)),
            Outcome::Failed { error, .. } => Some(Err(error.clone())),
            _ => None,
        };
        self.take_home(outcome);
    }
}
