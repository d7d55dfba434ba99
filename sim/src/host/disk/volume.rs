//! The files of a torrent on a simulated disk: what reads see, what survives a power cut, and what
//! is between the two.

use std::{collections::BTreeSet, sync::Arc};

use dunlin_core::{
    metainfo::{FileKind, Info},
    op::FileStat,
};
use rand_core::Rng;

use super::image::{Image, PAGE, Page, SECTOR};

/// A file's entry in the directory.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    exists: bool,
    /// The end of what was written.
    len: u64,
    mtime_ns: i64,
}

impl Entry {
    fn stat(self) -> Option<FileStat> {
        let (len, mtime_ns) = (self.len, self.mtime_ns);
        self.exists.then_some(FileStat {
            len,
            mtime_ns,
            // A volume belongs to one torrent, so nothing else can be in its place.
            id: None,
        })
    }
}

/// One state of the files.
#[derive(Clone, Debug)]
struct State {
    image: Image,
    files: Vec<Entry>,
}

/// The files of a torrent.
#[derive(Debug)]
pub(super) struct Volume {
    info: Arc<Info>,
    /// The state that reads see, as in the system's cache.
    seen: State,
    /// The state that survives a power cut.
    durable: State,
    /// The pages written since the last flush, or since a flush has begun.
    dirty: BTreeSet<u32>,
    /// The state that a flush in progress covers, and the pages that it has to write.
    flushing: Option<(State, BTreeSet<u32>)>,
}

impl Volume {
    pub(super) fn new(info: Arc<Info>, content: Arc<[u8]>) -> Self {
        let state = State {
            image: Image::new(info.total_len() as usize, content),
            files: vec![Entry::default(); info.files().len()],
        };
        Self {
            info,
            durable: state.clone(),
            seen: state,
            dirty: BTreeSet::new(),
            flushing: None,
        }
    }

    /// Makes everything complete and durable, as a seed has it.
    pub(super) fn fill(&mut self) {
        self.seen.image.fill();
        let info = self.info.clone();
        for (entry, file) in self.seen.files.iter_mut().zip(info.files()) {
            entry.exists = true;
            entry.len = file.len;
        }
        self.flush();
    }

    pub(super) fn stats(&self) -> Vec<Option<FileStat>> {
        self.seen.files.iter().map(|f| f.stat()).collect()
    }

    /// Reads bytes; returns `false` when a file ends before the range does.
    #[must_use]
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> bool {
        self.reaches(at, into.len() as u64) && {
            self.seen.image.read(at as usize, into);
            true
        }
    }

    /// Passes bytes to `feed` like [`Volume::read`], without a copy where possible.
    #[must_use]
    pub(super) fn feed(&self, at: u64, len: u64, feed: impl FnMut(&[u8])) -> bool {
        self.reaches(at, len) && {
            self.seen.image.feed(at as usize, len as usize, feed);
            true
        }
    }

    fn reaches(&self, at: u64, len: u64) -> bool {
        at + len <= self.seen.image.len() as u64
            && self.info.extents(at, len).all(|extent| {
                let file = &self.info.files()[extent.file];
                file.kind == FileKind::Padding
                    || extent.offset + extent.len <= self.seen.files[extent.file].len
            })
    }

    /// Writes one block, within the torrent.
    pub(super) fn write(&mut self, now_ns: i64, at: u64, data: &[u8]) {
        let dirty = &mut self.dirty;
        let image = &mut self.seen.image;
        image.write(at as usize, data, |page| {
            dirty.insert(page);
        });
        for extent in self.info.extents(at, data.len() as u64) {
            let entry = &mut self.seen.files[extent.file];
            entry.exists = true;
            entry.len = entry.len.max(extent.offset + extent.len);
            entry.mtime_ns = now_ns;
        }
    }

    /// The bytes that all files take up.
    pub(super) fn used(&self) -> u64 {
        self.seen.files.iter().map(|f| f.len).sum()
    }

    /// The additional space that the files would take after writing `len` bytes at `at`.
    pub(super) fn growth(&self, at: u64, len: u64) -> u64 {
        self.info
            .extents(at, len)
            .map(|x| (x.offset + x.len).saturating_sub(self.seen.files[x.file].len))
            .sum()
    }

    /// Begins a flush, which [`Volume::flush`] ends. Writes in between are not covered.
    pub(super) fn begin_flush(&mut self) {
        let mut pages = std::mem::take(&mut self.dirty);
        pages.extend(
            self.flushing
                .take()
                .into_iter()
                .flat_map(|(_, pages)| pages),
        );
        self.flushing = Some((self.seen.clone(), pages));
    }

    /// Makes everything durable that was written before the flush began, or until now if none did.
    pub(super) fn flush(&mut self) {
        if let Some((covered, _)) = self.flushing.take() {
            self.durable = covered;
            return;
        }
        self.dirty.clear();
        self.durable = self.seen.clone();
    }

    /// Cuts the power: each page that was not flushed is kept, lost or torn at a sector, in no
    /// order.
    pub(super) fn power_cut(&mut self, rng: &mut dyn Rng) {
        let mut left = self.durable.clone();
        let mut reached = vec![0; left.files.len()];
        let mut pages = std::mem::take(&mut self.dirty);
        pages.extend(
            self.flushing
                .take()
                .into_iter()
                .flat_map(|(_, pages)| pages),
        );
        for page in pages {
            let kept = match rng.next_u32() % 4 {
                0 => 0,
                1 => (rng.next_u32() as usize % (PAGE / SECTOR)) * SECTOR,
                _ => PAGE,
            };
            if kept == 0 {
                continue;
            }
            let at = u64::from(page) * PAGE as u64;
            let new = self.seen.image.bytes(page);
            let kept = kept.min(new.len());
            if kept == new.len() {
                left.image.set(page, self.seen.image.page(page));
            } else {
                let mut torn = left.image.bytes(page);
                torn[..kept].copy_from_slice(&new[..kept]);
                left.image.set(page, Page::Own(torn));
            }
            for extent in self.info.extents(at, kept as u64) {
                let end: &mut u64 = &mut reached[extent.file];
                *end = (*end).max(extent.offset + extent.len);
            }
        }
        // A file with new bytes has its new entry, too, because journals keep that order.
        for (n, end) in reached.into_iter().enumerate().filter(|(_, end)| *end > 0) {
            let seen = self.seen.files[n];
            let len = end.min(seen.len).max(left.files[n].len);
            left.files[n] = Entry { len, ..seen };
        }
        self.seen = left.clone();
        self.durable = left;
    }

    /// Deletes the files.
    pub(super) fn delete(&mut self) {
        for page in 0..self.seen.image.pages() {
            self.seen.image.set(page, Page::Hole);
        }
        self.seen.files.fill(Entry::default());
        self.flushing = None;
        self.flush();
    }

    /// Returns `true` when the content is complete and equals the shared content.
    pub(super) fn is_true(&self) -> bool {
        (0..self.seen.image.pages()).all(|page| self.seen.image.page(page) == Page::Same)
    }

    /// Returns `true` when `len` bytes at `at`, the beginning of a page, equal the shared content.
    pub(super) fn is_true_at(&self, at: u64, len: u64) -> bool {
        let pages = at as usize / PAGE..(at + len).div_ceil(PAGE as u64) as usize;
        self.reaches(at, len)
            && pages
                .into_iter()
                .all(|page| self.seen.image.page(page as u32) == Page::Same)
    }

    /// The bytes of memory that content of its own takes.
    pub(super) fn own_bytes(&self) -> usize {
        self.seen.image.own_bytes() + self.durable.image.own_bytes()
    }
}
