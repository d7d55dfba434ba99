//! One torrent's files, as a job reaches them.

use std::{
    fs::File,
    io::{self, ErrorKind},
    sync::Arc,
};

use dunlin_core::{OpError, OpErrorKind, metainfo::Extent};

use super::{common::Common, files::Files, handles::Handle, selection::Selection};

/// One torrent's files and what all torrents share.
pub(super) struct Disk<'a> {
    pub(super) shared: &'a Common,
    pub(super) files: &'a Files,
}

impl Disk<'_> {
    pub(super) const fn selection(&self) -> Selection<'_> {
        Selection {
            files: self.files,
            handles: &self.shared.handles,
        }
    }

    /// Calls `act` with each extent of a range, and how far into the range it starts.
    pub(super) fn each(
        &self,
        at: u64,
        len: u64,
        mut act: impl FnMut(&Extent, usize) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let end = at.checked_add(len);
        if end.is_none_or(|end| end > self.files.info.total_len()) {
            return Err(OpError {
                kind: OpErrorKind::Io,
                detail: "a range beyond the end of the torrent".into(),
            });
        }
        self.selection().settle()?;
        let mut from = 0;
        for extent in self.files.info.extents(at, len) {
            act(&extent, from)?;
            from += extent.len as usize;
        }
        Ok(())
    }

    /// Runs `act` on an open file. One that failed is closed, so that the next attempt starts
    /// from the path again: the cause may be gone by then.
    pub(super) fn with<T>(
        &self,
        file: u32,
        handle: io::Result<Arc<Handle>>,
        act: impl FnOnce(&File) -> io::Result<T>,
    ) -> Result<T, OpError> {
        handle
            .and_then(|handle| {
                #[cfg(test)]
                self.shared.faults.error_if_armed()?;
                act(&handle.file)
            })
            .map_err(|e| {
                if e.kind() != ErrorKind::UnexpectedEof {
                    self.shared.handles.close((self.files.torrent, file));
                }
                self.files.error(file, &e)
            })
    }
}
