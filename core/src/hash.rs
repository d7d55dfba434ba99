//! Piece hashing as a value: ops carry it to where the bytes are in the cache.

use alloc::boxed::Box;

use sha1::{Digest, Sha1};

/// A SHA-1 in progress over a piece. The SHA-256 of v2 torrents would be a second kind.
#[derive(Clone)]
pub struct Hasher(Box<Sha1>);

impl Hasher {
    /// A hasher of no bytes.
    #[must_use]
    pub fn sha1() -> Self {
        Self(Box::new(Sha1::new()))
    }

    /// Adds bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all bytes added.
    #[must_use]
    pub fn finish(self) -> [u8; 20] {
        self.0.finalize().into()
    }
}

impl core::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Hasher(SHA-1)")
    }
}

/// SHA-1 of `data`.
#[must_use]
pub fn sha1(data: &[u8]) -> [u8; 20] {
    Sha1::digest(data).into()
}
