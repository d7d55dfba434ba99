//! How peers and content affect each other: requests, blocks that are received, pieces that pass or fail their check, and the
//! bans that follow.

use alloc::{format, vec::Vec};
use core::net::SocketAddr;

use super::blame::Verdict;
use super::conn::end::End;
use super::content::download::Refill;
use super::content::fetch::Accepted;
use super::content::upload::Uploads;
use super::content::{Content, metadata};
use super::cx;
use super::io::Io;
use super::member_id::MemberId;
use super::outbox::event::{Changes, Level, What};
use super::picker::{PeerKey, Picker, Received};
use super::{Torrent, Wants};
use crate::metainfo::{Error, Info, Problem};
use crate::peer::PeerEvent;
use crate::sync::Arc;
use crate::{Block, BlockRef, OpError, OpErrorKind, Outcome};

/// The maximum number of `have` messages to a peer that connected before the metadata was known. With more pieces, connecting
/// again is cheaper for both sides.
const MAX_LATE_HAVES: u32 = 1000;

/// The maximum number of peers at which the requests for one block are cancelled.
const MAX_CANCELS: usize = 8;

impl Torrent {
    /// Requests as many blocks from a peer as its pipeline has room for.
    pub(crate) fn refill(&mut self, io: &mut Io<'_>, id: MemberId) {
        if !self.is_exchanging() {
            return;
        }
        let downloads = self.content.downloads(self.id);
        if let Some(mut downloads) = downloads
            && let Some(member) = self.members.get_mut(id)
            && downloads.refill(io, member) == Refill::Scarce
        {
            // Blocks are needed more than longer runs of writes.
            self.flush_pieces(io);
        }
    }

    /// Requests blocks from all peers after requests were freed or blocks returned to the pool.
    pub(crate) fn refill_all(&mut self, io: &mut Io<'_>) {
        for id in self.members.ids() {
            self.refill(io, id);
            self.refresh(io, id);
        }
    }

    /// The uploads to a peer, if it still exists.
    pub(crate) fn uploads(&mut self, id: MemberId) -> Option<Uploads<'_>> {
        let exchanging = self.is_exchanging();
        let member = self.members.get_mut(id)?;
        Some(self.content.uploads(self.id, exchanging, member))
    }

    /// A block was received from a peer.
    pub(crate) fn on_block(&mut self, io: &mut Io<'_>, id: MemberId, at: BlockRef, block: Block) {
        self.traffic.received(io.now, u64::from(at.len));
        let downloads = self.content.downloads(self.id);
        let Some(mut downloads) = downloads.filter(|_| self.standing.is_up()) else {
            io.pool.give(block);
            return;
        };
        let Received::Fresh { piece_complete } = downloads.received(io, id.key(), at, block) else {
            self.traffic.wasted += u64::from(at.len);
            return;
        };
        self.durability.unsaved = true;
        self.cancel_elsewhere(io, id, at);
        self.advance_piece(io, at.piece, false);
        if piece_complete {
            self.change(io, Changes::PROGRESS);
        }
    }

    /// Endgame: cancels the requests for this block at other peers, as far as there are [`MAX_CANCELS`].
    fn cancel_elsewhere(&mut self, io: &mut Io<'_>, from: MemberId, at: BlockRef) {
        let Some(picker) = self.content.picker() else {
            return;
        };
        let others = picker.also_requested(at).filter(|k| *k != from.key());
        let others: heapless::Vec<PeerKey, MAX_CANCELS> = others.take(MAX_CANCELS).collect();
        for asked in others {
            let Some(other) = self.members.by_key(asked).map(|member| member.id) else {
                continue;
            };
            if let Some(member) = self.members.get_mut(other) {
                member.stream.peer.cancel(&mut cx!(io), at);
            }
            if let Some(picker) = self.content.picker_mut() {
                picker.aborted(at, asked);
            }
            self.refill(io, other);
            self.refresh(io, other);
        }
    }

    /// Takes the next step of a piece, and judges it if that was the last one. `force` writes short runs too.
    pub(crate) fn advance_piece(&mut self, io: &mut Io<'_>, piece: u32, force: bool) {
        let downloads = self.content.downloads(self.id);
        if let Some(digest) = downloads.and_then(|mut d| d.advance(io, piece, force)) {
            self.judge(io, piece, digest);
        }
    }

    /// Writes all blocks that wait, also in short runs: before a save, at a stop, or when blocks are scarce.
    pub(crate) fn flush_pieces(&mut self, io: &mut Io<'_>) {
        let downloads = self.content.downloads(self.id);
        let waiting = downloads.map(|downloads| downloads.waiting());
        for piece in waiting.unwrap_or_default() {
            self.advance_piece(io, piece, true);
        }
    }

    /// Verifies a piece whose bytes are all on disk and hashed. All peers are told of it if it passed.
    pub(crate) fn judge(&mut self, io: &mut Io<'_>, piece: u32, digest: [u8; 20]) {
        let Some(mut downloads) = self.content.downloads(self.id) else {
            return;
        };
        if !downloads.judge(piece, digest) {
            self.piece_failed(io, piece);
            return;
        }
        let done = downloads.open().picker.is_done();
        self.durability.unsaved = true;
        self.durability.files_changed();
        if self.smart_ban.is_suspect(piece) {
            self.read_for_blame(io, piece, true);
        }
        self.change(io, Changes::PROGRESS);
        for member in self.members.iter_mut() {
            member.stream.peer.have(piece);
            io.refresh(member);
        }
        if done {
            self.confirm(io, None);
        }
    }

    fn piece_failed(&mut self, io: &mut Io<'_>, piece: u32) {
        let Some(mut downloads) = self.content.downloads(self.id) else {
            return;
        };
        self.traffic.wasted += u64::from(downloads.info().piece_size(piece));
        let senders = downloads.senders(piece);
        let verdict = self.smart_ban.failed(piece, senders, &self.members);
        if !matches!(verdict, Verdict::Guilty(_)) {
            // Otherwise, a peer that sends bad data could spoil it again together with others.
            downloads.open().picker.doubt(piece);
        }
        let what = What::PieceFailed(piece);
        io.out.notice(Some(self.id), None, Level::Warning, what);
        match verdict {
            Verdict::Guilty(sender) => {
                self.fetch_again(io, piece);
                self.convict(io, sender);
            }
            Verdict::Remember => self.read_for_blame(io, piece, false),
            Verdict::Unknown => self.fetch_again(io, piece),
        }
    }

    /// Lets a failed piece be requested again.
    fn fetch_again(&mut self, io: &mut Io<'_>, piece: u32) {
        if let Some(picker) = self.content.picker_mut() {
            picker.failed(piece);
        }
        self.refill_all(io);
    }

    /// Bans the sender of bad blocks.
    fn convict(&mut self, io: &mut Io<'_>, sender: PeerKey) {
        if let Some(addr) = self.smart_ban.convict(sender) {
            self.ban(io, addr);
        }
    }

    /// Reads a piece that passed or failed back, so that its blocks can be compared.
    fn read_for_blame(&mut self, io: &mut Io<'_>, piece: u32, passed: bool) {
        let Some(downloads) = self.content.downloads(self.id) else {
            return;
        };
        if !downloads.read_back(io, piece, passed) {
            self.smart_ban.forget(piece);
            if !passed {
                self.fetch_again(io, piece);
            }
        }
    }

    /// Handles a piece that was read back. The peers that sent bad blocks of it are banned.
    pub(crate) fn read_back(
        &mut self,
        io: &mut Io<'_>,
        piece: u32,
        passed: bool,
        outcome: Outcome,
    ) {
        let mut guilty = Default::default();
        if let Outcome::Read(blocks) = &outcome {
            let Some(downloads) = self.content.downloads(self.id) else {
                return io.take_home(outcome);
            };
            let info = downloads.info();
            match passed {
                true => guilty = self.smart_ban.compare(info, piece, blocks),
                false => {
                    let senders = downloads.senders(piece);
                    self.smart_ban.note(info, piece, senders, blocks);
                }
            }
        }
        io.take_home(outcome);
        if !passed {
            self.fetch_again(io, piece);
        }
        for sender in guilty {
            self.convict(io, sender);
        }
    }

    /// Every wanted piece is verified, and its files were confirmed.
    pub(crate) fn finished(&mut self, io: &mut Io<'_>) {
        // A wanted file may still be in the parts file.
        let Some((_, open)) = self.content.open_mut() else {
            return;
        };
        if open.finished || !self.wanted.selection.is_applied() {
            return;
        }
        open.finished = true;
        if !self.is_seed() {
            // Tells the trackers soon that this is a partial seed (BEP 21).
            self.sources.announcer.need_peers(&mut cx!(io));
        } else if self.traffic.downloaded > 0 {
            self.sources.announcer.completed(&mut cx!(io));
        }
        io.out
            .notice(Some(self.id), None, Level::Info, What::Finished);
        self.change(io, Changes::FINISHED | Changes::STATE | Changes::PROGRESS);
        for id in self.members.ids() {
            if let Some(member) = self.members.get_mut(id) {
                member.stream.peer.set_interested(false);
                self.check_usefulness(io, id);
                self.refresh(io, id);
            }
        }
        self.want(io, Wants::TRACKERS);
        self.save(io);
    }

    // ---- metadata ----

    /// Requests pieces of the metadata from the peers that can be asked.
    pub(crate) fn request_metadata(&mut self, io: &mut Io<'_>) {
        if let Content::Unknown(fetch) = &mut self.content
            && !self.paused
            && self.standing.is_up()
        {
            metadata::request(io, fetch, &mut self.members);
        }
    }

    /// A peer sent a piece of the metadata.
    pub(crate) fn on_metadata(&mut self, io: &mut Io<'_>, id: MemberId, index: u32, data: Vec<u8>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let asked = metadata::answered(member, io.now, index);
        let Content::Unknown(fetch) = &mut self.content else {
            return;
        };
        if !self.standing.is_up() {
            return;
        }
        match metadata::accept(io, fetch, member, asked, (index, data)) {
            None => return,
            Some(Accepted::Wrong | Accepted::Taken) => {}
            Some(Accepted::Whole(raw, sender)) => self.judge_metadata(io, raw, sender),
        }
        self.request_metadata(io);
    }

    /// Checks assembled metadata. `sender` is the only peer that it came from, if there was only one.
    fn judge_metadata(&mut self, io: &mut Io<'_>, raw: Vec<u8>, sender: Option<SocketAddr>) {
        match Info::from_metadata(raw, self.info_hash) {
            Ok(info) => {
                io.out
                    .notice(Some(self.id), None, Level::Info, What::Metadata);
                self.change(io, Changes::METADATA);
                self.open_files(io, Arc::new(info));
            }
            Err(Error {
                problem: Problem::WrongHash(_),
                ..
            }) => match sender {
                Some(sender) => self.ban(io, sender),
                None => {
                    if let Content::Unknown(fetch) = &mut self.content {
                        fetch.part();
                    }
                }
            },
            // The hash matches and the content is unusable, so no peer has better metadata.
            Err(error) => {
                let kind = OpErrorKind::Unsupported;
                let detail = format!("the metadata of this magnet is not usable: {error}");
                let what = What::UnusableMetadata {
                    message: format!("{error}"),
                };
                self.fail(
                    io,
                    OpError { kind, detail },
                    what,
                    "its metadata is unusable",
                );
            }
        }
    }

    /// Starts to exchange pieces with the peers that connected before the metadata was known.
    pub(crate) fn meet_peers(&mut self, io: &mut Io<'_>) {
        let Some(pieces) = self.content.info().map(|i| i.piece_count()) else {
            return;
        };
        for id in self.members.ids() {
            let Some(remote) = self.members.get(id).map(|member| member.stream.remote) else {
                continue;
            };
            let local = self.local(io, remote);
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            let peer = &mut member.stream.peer;
            peer.set_pieces(pieces);
            let have = self.content.picker().map(Picker::have);
            if have.is_some_and(|have| have.count() > MAX_LATE_HAVES) {
                let end = End::Resting("it has to hear what we have anew");
                self.close_member(io, id, end);
                continue;
            }
            // A bitfield may only be sent first, so pieces of an earlier session are announced one by one.
            if let Some(have) = have {
                have.iter().for_each(|piece| peer.have(piece));
            }
            // We can serve the metadata now.
            peer.send_extended(&local);
            // It may have told its pieces while the files were being opened.
            self.on_pieces(io, id, &PeerEvent::HasChanged);
            self.handle_peer(io, id);
        }
    }
}
