//! Adding a torrent.

use alloc::format;

use super::event::{Changes, Level, What};
use super::resume::Record;
use super::status::PeerSource;
use super::torrent::Torrent;
use super::{AddError, AddTorrent, Engine, Source, Stop};
use crate::{InfoHash, Instant, TorrentId};

impl Engine {
    /// Adds a torrent.
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add(&mut self, now: Instant, add: AddTorrent) -> Result<TorrentId, AddError> {
        self.tick(now);
        if self.stop != Stop::Running {
            return Err(AddError::Stopping);
        }
        let mut add = add;
        let (info, info_hash, name) = match &mut add.source {
            Source::Info(info) => (Some(info.clone()), info.info_hash(), None),
            Source::Hash { info_hash, name } => (None, *info_hash, name.take()),
        };
        if let Some(id) = self.torrents.find(&info_hash) {
            return Err(AddError::Duplicate(id));
        }
        if self.torrents.len() >= self.setup.config.max_torrents as usize {
            return Err(AddError::Full);
        }
        let id = self.torrents.next_id();
        let resume = add.resume.take();
        let resume = resume.and_then(|bytes| self.read_record(id, &bytes, info_hash));
        let remembered = resume.as_ref().map(|r| r.peers.clone());
        let named = (info_hash, name);
        let t = Torrent::new(&mut self.parts().1, id, named, resume, &mut add);
        self.torrents.insert(t);
        self.limit_torrent(id, add.limit_down, add.limit_up);
        let private = info.as_ref().is_some_and(|i| i.private());
        if let Some((t, mut io)) = self.at(id) {
            let io = &mut io;
            t.change(io, Changes::STATE);
            if let Some(info) = info {
                t.open_files(io, info);
            }
            t.start(io);
            t.learn(io, add.peers, PeerSource::Manual);
            t.learn(io, remembered.unwrap_or_default(), PeerSource::Resume);
        }
        self.settle();
        if !private {
            self.dht_contacts(add.nodes);
        }
        if let Some((t, mut io)) = self.at(id) {
            t.note_no_trackers(&mut io);
        }
        self.settle();
        Ok(id)
    }

    fn read_record(&mut self, id: TorrentId, bytes: &[u8], info_hash: InfoHash) -> Option<Record> {
        let problem = match Record::decode(bytes) {
            Ok(record) if record.info_hash == info_hash => return Some(record),
            Ok(_) => "it belongs to another torrent",
            Err(problem) => problem,
        };
        let message =
            format!("the resume record is not used: {problem}; the files are checked instead");
        self.out
            .notice(Some(id), None, Level::Warning, What::Disk { message });
        None
    }
}
