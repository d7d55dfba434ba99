//! Which files are wanted, and moving bytes out of the parts file when a file becomes wanted.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use dunlin_core::{OpError, OpErrorKind, metainfo::FileKind};

use super::{
    errors::{self, found},
    files::{Files, flag},
    handles::{Handles, PARTS},
    ledger::Owned,
    transfer,
};
use crate::platform::{self, Access, Root};

/// Bytes copied at a time.
const CHUNK: u64 = 256 * 1024;

/// A selection among the files of one torrent.
pub(super) struct Selection<'a> {
    pub(super) files: &'a Files,
    pub(super) handles: &'a Handles,
}

impl Selection<'_> {
    /// Selects all files if there is a parts file of an earlier opening and no selection was made since. To be called
    /// before the files are touched.
    pub(super) fn settle(&self) -> Result<(), OpError> {
        self.files.parts.settle(|| self.select(&[]))
    }

    /// Applies a selection; files beyond the end of `wanted` count as wanted.
    pub(super) fn select(&self, wanted: &[bool]) -> Result<(), OpError> {
        let (files, handles) = (self.files, self.handles);
        let root = match Root::open(&files.dir) {
            Ok(root) => Some(root),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(errors::error(&files.dir, &e)),
        };
        {
            // Empty files and links may be wanted now that were not before.
            let mut ledger = files.ledger();
            (ledger.empty_made, ledger.links_made) = (false, false);
        }
        let mut in_parts = false;
        for (i, file) in files.info.files().iter().enumerate() {
            let wanted = wanted.get(i).is_none_or(|w| *w);
            files.set(i, flag::WANTED, wanted);
            if file.kind != FileKind::Regular || file.len == 0 {
                continue;
            }
            if wanted && files.has(i, flag::IN_PARTS) {
                if let Some(root) = &root {
                    let fetched = self.fetch(root, i);
                    fetched.map_err(|e| match e.kind() {
                        ErrorKind::AlreadyExists => OpError {
                            kind: OpErrorKind::Exists,
                            detail: format!(
                                "{}: a file that the torrent did not write is in the way",
                                files.dir.join(&files.paths[i]).display()
                            ),
                        },
                        _ => files.error(i as u32, &e),
                    })?;
                }
                files.set(i, flag::IN_PARTS, false);
            } else if !wanted && !files.has(i, flag::IN_PARTS) {
                let there = match &root {
                    Some(root) => found(root.stat(&files.paths[i])),
                    None => Ok(None),
                };
                let there = there.map_err(|e| files.error(i as u32, &e))?;
                files.set(i, flag::IN_PARTS, there.is_none());
            }
            in_parts |= files.has(i, flag::IN_PARTS);
        }
        if let (false, Some(root)) = (in_parts, &root) {
            handles.close((files.torrent, PARTS));
            files.ledger().dirty.retain(|file| *file != PARTS);
            files.parts.clean();
            files.ledger().parts = None;
            // New names are made durable first: after a crash the bytes are in at least one place.
            let synced = files.sync_folders(files.take_folders(), |f| root.sync_folder(f));
            synced.map_err(|e| errors::error(&files.dir, &e))?;
            match root.remove_file(files.parts.path()) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(files.error(PARTS, &e)),
                _ => {}
            }
        }
        files.parts.set_settled();
        Ok(())
    }

    /// Assembles file `index` from the parts file, unless that ends before the first byte of it. Fails with
    /// `AlreadyExists`, and leaves it alone, if something is at the file's path.
    fn fetch(&self, root: &Root, index: usize) -> io::Result<()> {
        let temporary = self.temporary(index);
        let fetched = self.fetch_to(&temporary, root, index);
        if fetched.is_err() {
            // If it cannot be removed now, the next attempt overwrites it.
            let _ = root.remove_file(&temporary);
        }
        fetched
    }

    fn fetch_to(&self, temporary: &Path, root: &Root, index: usize) -> io::Result<()> {
        let files = self.files;
        let parts = match files.readable(self.handles, PARTS) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            parts => parts?,
        };
        let end_of_parts = parts.file.metadata()?.len();
        let entry = &files.info.files()[index];
        let (mut buf, zeros) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
        let mut made = None;
        let piece_len = u64::from(files.info.piece_len());
        let mut at = entry.offset;
        while at < entry.offset + entry.len {
            let rest_of_piece = piece_len - at % piece_len;
            let len = (entry.offset + entry.len - at)
                .min(rest_of_piece)
                .min(CHUNK);
            let from = files.parts.offset(&files.info, at);
            let there = end_of_parts.saturating_sub(from).min(len) as usize;
            transfer::read_exact(&parts.file, &mut buf[..there], from)?;
            // Zeros may have been downloaded or may be a hole: a new file reads as zeros in both cases.
            if there > 0 && made.is_none() {
                made = Some(self.make_temporary(root, index, temporary)?);
            }
            if let Some(file) = made.as_ref().filter(|_| buf[..there] != zeros[..there]) {
                transfer::write_all(file, &buf[..there], at - entry.offset)?;
            }
            at += len;
            // The second part of the layout seldom exists at all.
            if there == 0 && at - entry.offset < entry.len {
                let tail = files.info.pieces_of(index).end.saturating_sub(1);
                at = at.max(u64::from(tail) * piece_len);
            }
        }
        let Some(file) = made else {
            return Ok(());
        };
        platform::sync_file(&file)?;
        root.rename_new(temporary, &files.paths[index])?;
        // It belongs to the torrent whether or not it was claimed: it was created here.
        files.own(index as u32, Some(Owned(files.stat_of(&file)?.id)));
        files.soil(index as u32);
        Ok(())
    }

    fn make_temporary(&self, root: &Root, index: usize, path: &Path) -> io::Result<std::fs::File> {
        let files = self.files;
        files.make_parents(root, &files.paths[index])?;
        let executable = files.info.files()[index].executable;
        let file = root.file(path, Access::Create { executable })?;
        platform::set_len(&file, 0)?;
        platform::set_len(&file, files.info.files()[index].len)?;
        Ok(file)
    }

    /// The name under which file `index` is assembled.
    fn temporary(&self, index: usize) -> PathBuf {
        let files = self.files;
        let name = format!(".{}.{index}.tmp", files.info.info_hash());
        files.paths[index].with_file_name(name)
    }
}
