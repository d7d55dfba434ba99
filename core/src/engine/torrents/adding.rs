//! Adding a torrent.

use alloc::format;

use super::Torrents;
use crate::torrent::content::resume::Record;
use crate::torrent::io::Io;
use crate::torrent::outbox::event::{Level, What};
use crate::torrent::{AddError, AddTorrent, Source, Torrent};
use crate::{InfoHash, TorrentId};

impl Torrents {
    /// Adds a torrent to the table. [`Torrent::begin`] has to be called next.
    pub(in super::super) fn add(
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
