//! Files that no block belongs to: empty files, and links within the torrent.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use dunlin_core::metainfo::FileKind;

use super::{
    common::Common,
    files::{Files, flag},
};
use crate::platform::Root;

/// The empty files and the links of one torrent.
pub(super) struct Extras<'a> {
    pub(super) shared: &'a Common,
    pub(super) files: &'a Files,
}

impl Extras<'_> {
    /// Creates the empty files, and then the links within the torrent, whose targets have to exist first.
    pub(super) fn make(&self) {
        self.make_empty_files();
        if !std::mem::replace(&mut self.files.ledger().links_made, true) {
            self.make_wanted(|i, kind| match kind {
                FileKind::Symlink(target) => self.make_link(i, target),
                _ => Ok(()),
            });
        }
    }

    pub(super) fn make_empty_files(&self) {
        if !std::mem::replace(&mut self.files.ledger().empty_made, true) {
            let files = self.files.info.files();
            self.make_wanted(|i, kind| match kind {
                FileKind::Regular if files[i].len == 0 => self.make_empty(i),
                _ => Ok(()),
            });
        }
    }

    fn make_wanted(&self, make: impl Fn(usize, &FileKind) -> io::Result<()>) {
        let files = self.files;
        for (i, entry) in files.info.files().iter().enumerate() {
            if files.has(i, flag::WANTED)
                && let Err(e) = make(i, &entry.kind)
            {
                let error = files.error(i as u32, &e);
                self.shared.note(format!("left out: {}", error.detail));
            }
        }
    }

    fn make_empty(&self, index: usize) -> io::Result<()> {
        let made = self.files.make(index as u32)?;
        let stat = self.files.stat_of(&made)?;
        self.files.ledger().stats[index] = Some(stat);
        Ok(())
    }

    /// Creates a link (BEP 47). It may only point at another entry of the same torrent, and is relative,
    /// between the paths as they are on this disk.
    fn make_link(&self, index: usize, target: &[String]) -> io::Result<()> {
        let Some(to) = self.link_target(target) else {
            return Err(io::Error::other(
                "the link points at nothing in the torrent",
            ));
        };
        let from = &self.files.paths[index];
        let root = Root::open(&self.files.dir)?;
        self.files.make_parents(&root, from)?;
        match root.symlink(&self.link(index, to), from) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    /// The number of the file that a link points at.
    pub(super) fn link_target(&self, target: &[String]) -> Option<usize> {
        let mut entries = self.files.info.files().iter();
        entries.position(|f| f.path == target && f.kind == FileKind::Regular)
    }

    /// The content of the link `index` to the file `to`.
    pub(super) fn link(&self, index: usize, to: usize) -> PathBuf {
        relative(&self.files.paths[index], &self.files.paths[to])
    }
}

/// `to` relative to the folder of `from`. Both are relative to the same folder and have no `..`.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let folder = from.parent().unwrap_or(Path::new(""));
    let common = folder
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = folder.components().count() - common;
    let mut path: PathBuf = (0..up).map(|_| "..").collect();
    path.extend(to.components().skip(common));
    path
}
