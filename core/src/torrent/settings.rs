//! Changes that an application makes to a running torrent.

use super::io::Io;
use super::outbox::event::Changes;
use super::status::FilePriority;
use super::{Torrent, Wants};
use crate::Instant;
use alloc::string::String;

impl Torrent {
    /// Sets the priority of each file. Files beyond the end of the list have normal priority.
    pub(crate) fn set_priorities(&mut self, io: &mut Io<'_>, priorities: &[FilePriority]) {
        let info = self.content.info();
        let files = info.map_or(usize::MAX, |i| i.files().len());
        self.wanted.priorities = priorities.iter().copied().take(files).collect();
        if self.wanted.priorities.is_empty() {
            // An empty list would leave the old priorities in the picker.
            self.wanted.priorities.push(FilePriority::Normal);
        }
        self.durability.unsaved = true;
        // Files that become wanted may have bytes in the parts file.
        self.durability.files_changed();
        let read_only = self.files.is_read_only();
        if let Some(info) = self.content.info() {
            self.wanted
                .select(&mut io.out.ops, self.id, info, read_only);
        }
        if let Some((info, open)) = self.content.open_mut() {
            open.wanted_bytes = self.wanted.prioritise(&mut open.picker, info, read_only);
        }
        let done = self.is_done();
        if let Some((_, open)) = self.content.open_mut()
            && open.finished
            && !done
        {
            open.finished = false;
            // Peers that a seed could not use are useful now.
            self.peer_list.hurry(io.now);
        }
        if done && !self.is_confirmed() && self.is_exchanging() {
            self.confirm(io, None);
        }
        self.claim_more(io);
        self.reconsider(io);
        self.change(io, Changes::STATE | Changes::PROGRESS);
        self.want(io, Wants::PROCEED);
        self.save_early(io);
    }

    /// Updates our interest in each peer after the wanted pieces changed.
    fn reconsider(&mut self, io: &mut Io<'_>) {
        for id in self.members.ids() {
            let picker = self.content.picker();
            if let (Some(member), Some(picker)) = (self.members.get_mut(id), picker) {
                let peer = &mut member.stream.peer;
                peer.set_interested(picker.is_interesting(peer.has()));
            }
            self.refill(io, id);
            self.refresh(io, id);
        }
        self.want(io, Wants::PLACES);
    }

    /// Sets whether pieces are requested in order, or rarest first.
    pub(crate) fn set_sequential(&mut self, on: bool) {
        self.wanted.sequential = on;
        if let Some(picker) = self.content.picker_mut() {
            picker.set_sequential(self.wanted.order());
        }
    }

    /// Sets or, with `None`, removes the time by which a piece is wanted. It may be set before the files are known or checked.
    pub(crate) fn set_deadline(&mut self, io: &mut Io<'_>, piece: u32, by: Option<Instant>) {
        match self.content.picker_mut() {
            Some(picker) => picker.set_deadline(piece, by),
            None => self.wanted.deadlines.set(piece, by),
        }
        self.refill_all(io);
    }

    /// Adds trackers, see [`Sources::add`](super::sources::Sources::add).
    pub(crate) fn add_trackers(&mut self, io: &mut Io<'_>, urls: &[String]) {
        self.sources.add(io, urls);
        self.trackers_changed(io);
    }

    /// Enables or disables a tracker or the DHT's pseudo-tracker. Returns whether there is such a tracker.
    pub(crate) fn set_tracker_enabled(
        &mut self,
        io: &mut Io<'_>,
        url: &str,
        enabled: bool,
    ) -> bool {
        let Some(tracker) = self.sources.find(url) else {
            return false;
        };
        self.sources
            .set_enabled(io, &mut self.intents, tracker, enabled);
        self.trackers_changed(io);
        true
    }

    fn trackers_changed(&mut self, io: &mut Io<'_>) {
        self.durability.unsaved = true;
        self.want(io, Wants::TRACKERS | Wants::PROCEED);
        self.save_early(io);
    }

    /// Continues transfers after rate limits changed: a limit of 0 may have been lifted.
    pub(crate) fn limits_changed(&mut self, io: &mut Io<'_>) {
        for id in self.members.ids() {
            if let Some(member) = self.members.get_mut(id) {
                member.stream.limits_changed();
            }
            self.refill(io, id);
            if let Some(mut uploads) = self.uploads(id) {
                uploads.pump(io);
                uploads.refresh(io);
            }
        }
    }
}
