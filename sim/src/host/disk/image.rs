//! A range of bytes, stored as its difference from shared content.
//!
//! A swarm of fifty hosts with one torrent would hold fifty copies of it. Here each host stores one
//! bit for every page that equals the true content, and only pages that differ as bytes of its own.

use std::{collections::BTreeMap, sync::Arc};

use dunlin_core::Bitfield;

/// The bytes of a page: the unit in which a disk writes at best.
pub(super) const PAGE: usize = 4_096;
/// The bytes of a sector: the unit that a disk writes completely or not at all.
pub(super) const SECTOR: usize = 512;

/// The content of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// The page was never written and reads as zeros.
    Hole,
    /// The page equals the shared content.
    Same,
    /// The page has content of its own.
    Own(Box<[u8]>),
}

/// A sparse range of bytes.
#[derive(Clone, Debug)]
pub(super) struct Image {
    content: Arc<[u8]>,
    len: usize,
    same: Bitfield,
    own: BTreeMap<u32, Box<[u8]>>,
}

impl Image {
    /// Creates `len` bytes of holes. Most of them are expected to become `content`, which may be
    /// empty.
    pub(super) fn new(len: usize, content: Arc<[u8]>) -> Self {
        let pages = len.div_ceil(PAGE);
        Self {
            same: Bitfield::new(pages as u32),
            own: BTreeMap::new(),
            content,
            len,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn pages(&self) -> u32 {
        self.len.div_ceil(PAGE) as u32
    }

    /// Sets everything to the shared content.
    pub(super) fn fill(&mut self) {
        self.own.clear();
        for page in 0..self.pages() {
            self.set(page, Page::Same);
        }
    }

    pub(super) fn page(&self, page: u32) -> Page {
        if self.same.get(page) {
            return Page::Same;
        }
        self.own
            .get(&page)
            .map_or(Page::Hole, |own| Page::Own(own.clone()))
    }

    /// Sets a page. Bytes that equal the shared content are stored as [`Page::Same`].
    pub(super) fn set(&mut self, page: u32, to: Page) {
        self.same.clear(page);
        self.own.remove(&page);
        match to {
            Page::Hole => {}
            Page::Same => {
                self.same.set(page);
            }
            // The torn halves of two writes can add up to the shared content.
            Page::Own(bytes) if self.content.get(self.span(page)) == Some(&bytes[..]) => {
                self.same.set(page);
            }
            Page::Own(bytes) => {
                self.own.insert(page, bytes);
            }
        }
    }

    /// The bytes of a page.
    pub(super) fn bytes(&self, page: u32) -> Box<[u8]> {
        let mut bytes = vec![0; self.span(page).len()].into_boxed_slice();
        let at = page as usize * PAGE;
        self.read(at, &mut bytes);
        bytes
    }

    fn span(&self, page: u32) -> std::ops::Range<usize> {
        let at = page as usize * PAGE;
        at..(at + PAGE).min(self.len)
    }

    /// Reads `into.len()` bytes at `at`. The range must lie within the image.
    pub(super) fn read(&self, at: usize, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let (page, offset, take) = self.step(at + done, into.len() - done);
            let part = &mut into[done..done + take];
            if self.same.get(page) {
                part.copy_from_slice(&self.content[at + done..][..take]);
            } else if let Some(own) = self.own.get(&page) {
                part.copy_from_slice(&own[offset..][..take]);
            } else {
                part.fill(0);
            }
            done += take;
        }
    }

    /// Passes `len` bytes at `at` to `feed` in pieces, without a copy where possible.
    pub(super) fn feed(&self, at: usize, len: usize, mut feed: impl FnMut(&[u8])) {
        const ZEROS: [u8; PAGE] = [0; PAGE];
        let mut done = 0;
        while done < len {
            let (page, offset, mut take) = self.step(at + done, len - done);
            if self.same.get(page) {
                let mut next = page + 1;
                while take < len - done && self.same.get(next) {
                    take += PAGE.min(len - done - take);
                    next += 1;
                }
                feed(&self.content[at + done..][..take]);
            } else if let Some(own) = self.own.get(&page) {
                feed(&own[offset..][..take]);
            } else {
                feed(&ZEROS[..take]);
            }
            done += take;
        }
    }

    /// Writes `data` at `at`, within the image, and calls `touched` for each page that is affected.
    pub(super) fn write(&mut self, at: usize, data: &[u8], mut touched: impl FnMut(u32)) {
        let mut done = 0;
        while done < data.len() {
            let (page, offset, take) = self.step(at + done, data.len() - done);
            let part = &data[done..done + take];
            let truth = self.content.get(at + done..at + done + take);
            let whole = take == self.span(page).len();
            if whole && truth == Some(part) {
                self.set(page, Page::Same);
            } else if !(self.same.get(page) && truth == Some(part)) {
                let mut bytes = self.bytes(page);
                bytes[offset..offset + take].copy_from_slice(part);
                self.set(page, Page::Own(bytes));
            }
            touched(page);
            done += take;
        }
    }

    /// The page at `at`, the offset in it, and how many of `left` bytes lie in it.
    fn step(&self, at: usize, left: usize) -> (u32, usize, usize) {
        let offset = at % PAGE;
        ((at / PAGE) as u32, offset, (PAGE - offset).min(left))
    }

    /// The bytes of memory that pages with content of their own take.
    pub(super) fn own_bytes(&self) -> usize {
        self.own.values().map(|own| own.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::*;

    #[test]
    fn a_page_put_together_from_torn_halves_is_the_shared_one() {
        let content: Arc<[u8]> = (0..PAGE + 77).map(|i| (i / 300) as u8).collect();
        let mut image = Image::new(content.len(), content.clone());
        for (page, bytes) in (0..).zip(content.chunks(PAGE)) {
            image.set(page, Page::Own(bytes.into()));
            assert_eq!(image.page(page), Page::Same);
        }
    }

    const LEN: usize = 5 * PAGE + 77;

    /// A write within an image of [`LEN`] bytes.
    #[derive(Clone, Debug)]
    struct Write {
        at: usize,
        len: usize,
        /// The byte that is written; `None` for the true content.
        byte: Option<u8>,
    }

    impl Arbitrary for Write {
        fn arbitrary(g: &mut Gen) -> Self {
            let at = usize::arbitrary(g) % LEN;
            Self {
                at,
                len: (usize::arbitrary(g) % (2 * PAGE)).min(LEN - at),
                byte: Option::arbitrary(g),
            }
        }

        fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
            let parts = (self.at, self.len, self.byte).shrink();
            Box::new(parts.map(|(at, len, byte)| Self { at, len, byte }))
        }
    }

    quickcheck! {
        fn it_reads_back_what_was_written(writes: Vec<Write>, shared: bool) -> bool {
            let content: Arc<[u8]> = (0..LEN).map(|i| (i / 300) as u8).collect();
            let mut image = Image::new(LEN, if shared { content.clone() } else { Arc::default() });
            let mut model = vec![0; LEN];
            for Write { at, len, byte } in writes {
                let data = match byte {
                    Some(byte) => vec![byte; len],
                    None => content[at..at + len].to_vec(),
                };
                image.write(at, &data, |_| {});
                model[at..at + len].copy_from_slice(&data);
            }
            let mut read = vec![1; LEN];
            image.read(0, &mut read);
            let mut fed = Vec::new();
            image.feed(3, LEN - 3, |part| fed.extend_from_slice(part));
            read == model && fed == model[3..]
        }
    }

    #[test]
    fn the_true_content_takes_no_room() {
        let content: Arc<[u8]> = (0..3 * PAGE + 5).map(|i| i as u8 | 1).collect();
        let mut image = Image::new(content.len(), content.clone());
        for (n, part) in content.chunks(1_000).enumerate() {
            image.write(n * 1_000, part, |_| {});
        }
        assert_eq!(image.own_bytes(), 0);
        assert_eq!(image.page(3), Page::Same);
    }
}
