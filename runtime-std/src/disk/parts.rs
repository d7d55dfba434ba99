//! The parts file: bytes of unwanted files that came along with pieces of wanted ones.
//!
//! `.<info-hash>.parts` lies beside the content and needs no index, since its layout follows
//! from the torrent: the pieces that hold bytes of two files or more, in order, one
//! `piece_len` each, then the whole torrent's byte space (almost always absent: only for
//! blocks that were under way when a file was deselected). It is sparse.
//!
//! A file that exists on the disk never has bytes here; a file gets here only while unwanted
//! and missing. When it becomes wanted it is put together under a temporary name and renamed
//! into place, so a crash leaves the one state or the other.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dunlin_core::{
    OpError, OpErrorKind,
    metainfo::{FileKind, Info},
    op::FileStat,
};

use super::{
    errors::{self, found},
    files::{Files, flag},
    handles::{Handles, PARTS},
    ledger::Owned,
    transfer,
};
use crate::platform::{self, Access, Root};

/// Copied in pieces of this size.
const CHUNK: u64 = 256 * 1024;

/// The parts file of one torrent.
#[derive(Debug)]
pub(super) struct Parts {
    path: PathBuf,
    /// Pieces with bytes of at least two files, ascending.
    shared: Vec<u32>,
    dirty: AtomicBool,
    /// There was a parts file when the torrent was opened, and nobody has said since which
    /// files are wanted: the first to touch the files takes all as wanted.
    unsettled: AtomicBool,
    settling: Mutex<()>,
}

impl Parts {
    pub(super) fn new(info: &Info) -> Self {
        let mut shared = Vec::new();
        let mut last = None;
        let holds_data = |i: &usize| info.files()[*i].kind == FileKind::Regular;
        for file in (0..info.files().len()).filter(holds_data) {
            let pieces = info.pieces_of(file);
            if pieces.is_empty() {
                continue;
            }
            if last == Some(pieces.start) && shared.last() != last.as_ref() {
                shared.push(pieces.start);
            }
            last = Some(pieces.end - 1);
        }
        Self {
            path: format!(".{}.parts", info.info_hash()).into(),
            shared,
            dirty: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
            settling: Mutex::new(()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where byte `at` of the torrent is kept.
    pub(super) fn offset(&self, info: &Info, at: u64) -> u64 {
        let piece_len = u64::from(info.piece_len());
        let slot = |n: usize| n as u64 * piece_len;
        match self.shared.binary_search(&((at / piece_len) as u32)) {
            Ok(n) => slot(n) + at % piece_len,
            Err(_) => slot(self.shared.len()) + at,
        }
    }

    /// Whether an earlier opening left one, as far as it has been looked at.
    pub(super) fn were_there(&self) -> bool {
        self.unsettled.load(Ordering::Acquire)
    }

    /// Whether it was clean before.
    pub(super) fn soil(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    pub(super) fn clean(&self) {
        self.dirty.store(false, Ordering::Release);
    }
}

impl Files {
    /// At the opening: missing files may have their bytes in a parts file of an earlier run, if
    /// there is one.
    pub(super) fn remember_parts(&self, stats: &[Option<FileStat>], parts: Option<FileStat>) {
        if parts.is_none() {
            return;
        }
        for (i, file) in self.info.files().iter().enumerate() {
            let missing = file.kind == FileKind::Regular && file.len > 0 && stats[i].is_none();
            self.set(i, flag::IN_PARTS, missing);
        }
        self.parts.unsettled.store(true, Ordering::Release);
    }

    /// To be called before the files are touched.
    pub(super) fn settle(&self, handles: &Handles) -> Result<(), OpError> {
        if !self.parts.unsettled.load(Ordering::Acquire) {
            return Ok(());
        }
        let settling = &self.parts.settling;
        let _one_at_a_time = settling.lock().unwrap_or_else(PoisonError::into_inner);
        if self.parts.unsettled.load(Ordering::Acquire) {
            self.select(handles, &[])?;
        }
        Ok(())
    }

    /// Follows a selection; files beyond the end of `wanted` are wanted.
    pub(super) fn select(&self, handles: &Handles, wanted: &[bool]) -> Result<(), OpError> {
        let root = match Root::open(&self.dir) {
            Ok(root) => Some(root),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(errors::error(&self.dir, &e)),
        };
        {
            // Others may be wanted now.
            let mut ledger = self.ledger();
            (ledger.empty_made, ledger.links_made) = (false, false);
        }
        let mut in_parts = false;
        for (i, file) in self.info.files().iter().enumerate() {
            let wanted = wanted.get(i).is_none_or(|w| *w);
            self.set(i, flag::WANTED, wanted);
            if file.kind != FileKind::Regular || file.len == 0 {
                continue;
            }
            if wanted && self.has(i, flag::IN_PARTS) {
                if let Some(root) = &root {
                    let fetched = self.fetch(handles, root, i);
                    fetched.map_err(|e| match e.kind() {
                        ErrorKind::AlreadyExists => OpError {
                            kind: OpErrorKind::Exists,
                            detail: format!(
                                "{}: a file that the torrent did not write is in the way",
                                self.dir.join(&self.paths[i]).display()
                            ),
                        },
                        _ => self.error(i as u32, &e),
                    })?;
                }
                self.set(i, flag::IN_PARTS, false);
            } else if !wanted && !self.has(i, flag::IN_PARTS) {
                let there = match &root {
                    Some(root) => found(root.stat(&self.paths[i])),
                    None => Ok(None),
                };
                let there = there.map_err(|e| self.error(i as u32, &e))?;
                self.set(i, flag::IN_PARTS, there.is_none());
            }
            in_parts |= self.has(i, flag::IN_PARTS);
        }
        if let (false, Some(root)) = (in_parts, &root) {
            handles.close((self.torrent, PARTS));
            self.ledger().dirty.retain(|file| *file != PARTS);
            self.parts.clean();
            self.ledger().parts = None;
            // What was fetched has its names first: after a crash it is in one place at least.
            let synced = self.sync_folders(self.take_folders(), |f| root.sync_folder(f));
            synced.map_err(|e| errors::error(&self.dir, &e))?;
            match root.remove_file(self.parts.path()) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(self.error(PARTS, &e)),
                _ => {}
            }
        }
        self.parts.unsettled.store(false, Ordering::Release);
        Ok(())
    }

    /// Puts file `index` together from the parts file, unless that ends before any byte of it.
    /// What is at the file's place is left alone: `AlreadyExists`.
    fn fetch(&self, handles: &Handles, root: &Root, index: usize) -> io::Result<()> {
        let temporary = self.temporary(index);
        let fetched = self.fetch_to(&temporary, handles, root, index);
        if fetched.is_err() {
            // It is overwritten by the next attempt if it cannot be removed now.
            let _ = root.remove_file(&temporary);
        }
        fetched
    }

    fn fetch_to(
        &self,
        temporary: &Path,
        handles: &Handles,
        root: &Root,
        index: usize,
    ) -> io::Result<()> {
        let parts = match self.readable(handles, PARTS) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            parts => parts?,
        };
        let end_of_parts = parts.file.metadata()?.len();
        let entry = &self.info.files()[index];
        let (mut buf, zeros) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
        let mut made = None;
        let piece_len = u64::from(self.info.piece_len());
        let mut at = entry.offset;
        while at < entry.offset + entry.len {
            let rest_of_piece = piece_len - at % piece_len;
            let len = (entry.offset + entry.len - at)
                .min(rest_of_piece)
                .min(CHUNK);
            let from = self.parts.offset(&self.info, at);
            let there = end_of_parts.saturating_sub(from).min(len) as usize;
            transfer::read_exact(&parts.file, &mut buf[..there], from)?;
            // Zeros may be what was downloaded as well as a hole: they are in the file either way.
            if there > 0 && made.is_none() {
                made = Some(self.make_temporary(root, index, temporary)?);
            }
            if let Some(file) = made.as_ref().filter(|_| buf[..there] != zeros[..there]) {
                transfer::write_all(file, &buf[..there], at - entry.offset)?;
            }
            at += len;
            // The second part of the layout is seldom there at all.
            if there == 0 && at - entry.offset < entry.len {
                let tail = self.info.pieces_of(index).end.saturating_sub(1);
                at = at.max(u64::from(tail) * piece_len);
            }
        }
        let Some(file) = made else {
            return Ok(());
        };
        platform::sync_file(&file)?;
        root.rename_new(temporary, &self.paths[index])?;
        // Claimed or not: it was made here.
        self.own(index as u32, Some(Owned(self.stat_of(&file)?.id)));
        self.soil(index as u32);
        Ok(())
    }

    fn make_temporary(&self, root: &Root, index: usize, path: &Path) -> io::Result<std::fs::File> {
        self.make_parents(root, &self.paths[index])?;
        let executable = self.info.files()[index].executable;
        let file = root.file(path, Access::Create { executable })?;
        platform::set_len(&file, 0)?;
        platform::set_len(&file, self.info.files()[index].len)?;
        Ok(file)
    }

    fn temporary(&self, index: usize) -> PathBuf {
        let name = format!(".{}.{index}.tmp", self.info.info_hash());
        self.paths[index].with_file_name(name)
    }
}
