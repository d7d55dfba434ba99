//! Peers of one family and one info-hash: compact addresses, oldest first, and a byte for each.

use alloc::{boxed::Box, vec};

/// Places by which a full pack grows. Our choice: it wastes two peers on average.
const STEP: u16 = 4;

/// Addresses of `A` bytes (IP and port, as they are sent) beside bytes that belong to them, both in
/// order of arrival. One allocation: the addresses lie together, to be copied out at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Pack<const A: usize> {
    /// `cap` addresses, then `cap` bytes.
    bytes: Box<[u8]>,
    len: u16,
    cap: u16,
}

impl<const A: usize> Pack<A> {
    pub(super) fn len(&self) -> usize {
        self.len.into()
    }

    /// The addresses, one after the other.
    pub(super) fn addrs(&self) -> &[u8] {
        &self.bytes[..self.len() * A]
    }

    /// The bytes beside them.
    pub(super) fn marks(&self) -> &[u8] {
        let start = usize::from(self.cap) * A;
        &self.bytes[start..start + self.len()]
    }

    /// Where the peer with the IP address of `addr` is.
    pub(super) fn find(&self, addr: &[u8; A]) -> Option<usize> {
        let (all, _) = self.addrs().as_chunks::<A>();
        all.iter().position(|a| a[..A - 2] == addr[..A - 2])
    }

    /// Adds the newest; `false` if there is no place for more than 2^16.
    pub(super) fn push(&mut self, addr: &[u8; A], mark: u8) -> bool {
        if self.len == self.cap {
            let Some(cap) = self.cap.checked_add(STEP) else {
                return false;
            };
            self.resize(cap);
        }
        let (at, marks) = (self.len() * A, usize::from(self.cap) * A);
        self.bytes[at..at + A].copy_from_slice(addr);
        self.bytes[marks + self.len()] = mark;
        self.len += 1;
        true
    }

    /// Removes `count` peers, the first at `at`.
    pub(super) fn remove(&mut self, at: usize, count: usize) {
        let (len, marks) = (self.len(), usize::from(self.cap) * A);
        self.bytes.copy_within((at + count) * A..len * A, at * A);
        self.bytes
            .copy_within(marks + at + count..marks + len, marks + at);
        self.len -= count as u16;
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        let fit = self.len.next_multiple_of(STEP);
        if fit < self.cap {
            self.resize(fit);
        }
    }

    fn resize(&mut self, cap: u16) {
        let mut bytes = vec![0; usize::from(cap) * (A + 1)].into_boxed_slice();
        let marks = usize::from(cap) * A;
        bytes[..self.len() * A].copy_from_slice(self.addrs());
        bytes[marks..marks + self.len()].copy_from_slice(self.marks());
        (self.bytes, self.cap) = (bytes, cap);
    }
}
