//! Adding a torrent.

use alloc::format;

use super::event::{Changes, Level, What};
use super::io::Io;
use super::resume::Record;
use super::status::PeerSource;
use super::torrent::Torrent;
use super::torrents::Torrents;
use super::{AddError, AddTorrent, Source};
use crate::{InfoHash, TorrentId};

impl Torrents {
    /// Takes a torrent into the table; [`Torrent::begin`] is what comes next.
    pub(super) fn add(
        &mut self,
        io: &mut Io<'_>,
        add: &mut AddTorrent,
    ) -> Result<TorrentId, AddError> {
        let (info_hash, name) = match &mut add.source {
            Source::Info(info) => (info.info_hash(), None),
            Source::Hash { info_hash, name } => (*info_hash, name.take()),
        };
        if let Some(id) = self.find(&info_hash) {
            return Err(AddError::Duplicate(id));
        }
        if self.len() >= io.setup.config.max_torrents as usize {
            return Err(AddError::Full);
        }
        let id = self.next_id();
        let resume = add.resume.take();
        let resume = resume.and_then(|bytes| read_record(io, id, &bytes, info_hash));
        self.insert(Torrent::new(io, id, (info_hash, name), resume, add));
        Ok(id)
    }
}

fn read_record(
    io: &mut Io<'_>,
    id: TorrentId,
    bytes: &[u8],
    info_hash: InfoHash,
) -> Option<Record> {
    let problem = match Record::decode(bytes) {
        Ok(record) if record.info_hash == info_hash => return Some(record),
        Ok(_) => "it belongs to another torrent",
        Err(problem) => problem,
    };
    let message =
        format!("the resume record is not used: {problem}; the files are checked instead");
    io.out
        .notice(Some(id), None, Level::Warning, What::Disk { message });
    None
}

impl Torrent {
    /// It was added, as the application asked: opens its files, and looks for peers.
    pub(super) fn begin(&mut self, io: &mut Io<'_>, add: AddTorrent) {
        let remembered = self.resume.as_ref().map(|record| record.peers.clone());
        self.change(io, Changes::STATE);
        if let Source::Info(info) = add.source {
            self.open_files(io, info);
        }
        self.start(io);
        self.learn(io, add.peers, PeerSource::Manual);
        self.learn(io, remembered.unwrap_or_default(), PeerSource::Resume);
    }
}
