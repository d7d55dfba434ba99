//! The bytes that are not acknowledged yet.

use std::collections::VecDeque;

/// Capacity beyond this is given back when the buffer is empty.
const KEPT: usize = 64 << 10;

/// Bytes from the offset `start` on.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    start: u64,
    bytes: VecDeque<u8>,
    end: u64,
}

impl Buffer {
    pub(super) const fn new(start: u64) -> Self {
        Self {
            start,
            bytes: VecDeque::new(),
            end: start,
        }
    }

    pub(super) const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The offset behind the last byte.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.end += bytes.len() as u64;
    }

    /// Removes everything before `offset`.
    pub(super) fn remove_before(&mut self, offset: u64) {
        let gone = offset.min(self.end).saturating_sub(self.start);
        self.bytes.drain(..gone as usize);
        self.start += gone;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = VecDeque::new();
        }
    }

    /// `len` bytes from `offset` on, in two parts.
    pub(super) fn range(&self, offset: u64, len: usize) -> [&[u8]; 2] {
        let from = (offset.max(self.start) - self.start) as usize;
        let to = (from + len).min(self.bytes.len());
        let (a, b) = self.bytes.as_slices();
        let cut = |part: &'_ [u8], before: usize| {
            from.saturating_sub(before).min(part.len())..to.saturating_sub(before).min(part.len())
        };
        [&a[cut(a, 0)], &b[cut(b, a.len())]]
    }
}
