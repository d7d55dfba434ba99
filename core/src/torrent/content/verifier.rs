//! Verification of pieces.
//!
//! A v1 torrent (BEP 3) has one hash for each piece: a piece is good or bad as a whole. A v2 torrent (BEP 52) has a tree of
//! hashes over the blocks of each file, which can identify bad blocks, and of which a magnet has only the roots at first. A
//! [`Judgement`] covers both.

use alloc::vec::Vec;

use crate::metainfo::Info;

/// The result of verifying a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The piece is good.
    Passed,
    /// The piece is bad. The indices of the blocks that are known to be bad; empty if any of them may be.
    Failed(Vec<u32>),
    /// The hashes to compare with are not known.
    NeedHashes,
}

/// Verifies the pieces of a torrent by the hashes in its info dictionary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verifier<'a> {
    info: &'a Info,
}

impl<'a> Verifier<'a> {
    /// A verifier of the pieces of a torrent.
    #[must_use]
    pub(crate) const fn new(info: &'a Info) -> Self {
        Self { info }
    }

    /// Judges a piece by the digest of its bytes.
    #[must_use]
    pub(crate) fn judge(&self, piece: u32, digest: [u8; 20]) -> Judgement {
        match self.info.piece_hash(piece) {
            Some(hash) if hash == digest => Judgement::Passed,
            Some(_) => Judgement::Failed(Vec::new()),
            None => Judgement::NeedHashes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Builder;

    #[test]
    fn a_piece_is_judged_by_its_own_hash() {
        let mut builder = Builder::file("two pieces", 20_000);
        builder.piece_len = Some(16 << 10);
        let info = builder.draft().unwrap().finish(&[[1; 20], [2; 20]]);
        let info = info.unwrap().info;
        let verifier = Verifier::new(&info);
        assert_eq!(verifier.judge(0, [1; 20]), Judgement::Passed);
        assert_eq!(verifier.judge(1, [2; 20]), Judgement::Passed);
        assert_eq!(verifier.judge(1, [1; 20]), Judgement::Failed(Vec::new()));
        assert_eq!(verifier.judge(2, [2; 20]), Judgement::NeedHashes);
    }
}
