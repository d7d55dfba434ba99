//! Compressed bodies: gzip (RFC 1952) and deflate (RFC 1950, RFC 1951).

use alloc::{format, vec::Vec};

use miniz_oxide::inflate::{
    DecompressError, TINFLStatus, decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit,
};

use super::{Fault, body::too_large};

/// A content coding that is decoded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950; some servers leave its frame out.
    Deflate,
}

impl Coding {
    /// The coding of this name in the `Content-Encoding` field (RFC 9110 §8.4.1).
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("gzip") || is("x-gzip") {
            return Some(Self::Gzip);
        }
        is("deflate").then_some(Self::Deflate)
    }

    /// Decodes a body to at most `max` bytes. What follows the compressed data, including checksums, is
    /// ignored: bencode shows whether anything is wrong.
    pub(super) fn decode(self, packed: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
        let unpacked = match self {
            Self::Gzip => {
                let Some(data) = gzip_data(packed) else {
                    return Err(Fault::protocol(
                        "the answer is not the gzip it is said to be",
                    ));
                };
                decompress_to_vec_with_limit(data, max)
            }
            Self::Deflate => {
                decompress_to_vec_zlib_with_limit(packed, max).or_else(|error| match error.status {
                    TINFLStatus::HasMoreOutput => Err(error),
                    _ => decompress_to_vec_with_limit(packed, max),
                })
            }
        };
        unpacked.map_err(|DecompressError { status, .. }| match status {
            TINFLStatus::HasMoreOutput => too_large(max),
            other => Fault::protocol(format!("the compressed answer is damaged: {other:?}")),
        })
    }
}

/// What follows the header of a gzip member (RFC 1952 §2.3).
fn gzip_data(packed: &[u8]) -> Option<&[u8]> {
    const CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let (&[0x1f, 0x8b, 8, flags, ..], mut rest) = packed.split_first_chunk::<10>()? else {
        return None;
    };
    if flags & EXTRA != 0 {
        let (len, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&b| b == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::outcome::OpErrorKind;

    /// `data` as gzip, with every optional field or none.
    pub(crate) fn gzip(data: &[u8], fields: bool) -> Vec<u8> {
        let mut packed = Vec::from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        if fields {
            packed[3] = 2 | 4 | 8 | 16;
            packed.extend(b"\x03\0abcname\0comment\0\x12\x34");
        }
        packed.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
        packed.extend([0; 8]);
        packed
    }

    #[test]
    fn nothing_larger_than_asked_for_comes_out() {
        let packed = gzip(&[b'x'; 5000], false);
        let swollen = Coding::Gzip.decode(&packed, 4999).unwrap_err();
        assert_eq!(swollen.kind, OpErrorKind::TooLarge);
        assert_eq!(Coding::Gzip.decode(&packed, 5000).unwrap().len(), 5000);
        let cut = Coding::Gzip.decode(&packed[..packed.len() - 10], 5000);
        assert!(cut.is_err());
    }

    quickcheck! {
        fn what_was_packed_comes_out(data: Vec<u8>, fields: bool) -> bool {
            let unpack = |coding: Coding, packed: &[u8]| coding.decode(packed, data.len()).ok();
            let raw = miniz_oxide::deflate::compress_to_vec(&data, 6);
            let framed = miniz_oxide::deflate::compress_to_vec_zlib(&data, 6);
            unpack(Coding::Gzip, &gzip(&data, fields)).as_ref() == Some(&data)
                && unpack(Coding::Deflate, &framed).as_ref() == Some(&data)
                && unpack(Coding::Deflate, &raw).is_some_and(|out| out == data)
        }

        /// Laws 6 and 8.
        fn any_packed_bytes_are_survived(data: Vec<u8>, flags: u8) -> bool {
            let mut packed = Vec::from([0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255]);
            packed.extend(&data);
            [Coding::Gzip, Coding::Deflate].into_iter().all(|coding| {
                [&data, &packed]
                    .into_iter()
                    .all(|bytes| coding.decode(bytes, 100).map_or(true, |out| out.len() <= 100))
            })
        }
    }
}
