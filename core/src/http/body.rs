//! Bodies: finding their end, and the chunked transfer coding (RFC 9112 §6, §7.1).

use alloc::{format, vec::Vec};

use super::{Fault, MAX_CHUNK_LINE, MAX_HEAD};
use crate::outcome::OpErrorKind;

/// A body that is being received.
#[derive(Debug)]
pub(super) enum Body {
    /// The number of bytes still to come.
    Length(u64),
    /// The body ends with the stream.
    Close,
    Chunked(Chunked),
}

/// The state between two bytes of the chunked coding.
#[derive(Debug)]
pub(super) enum Chunked {
    /// In a chunk-size line, after `line` bytes.
    Size {
        line: usize,
        size: Option<u64>,
    },
    /// In blanks after the size.
    Blank {
        line: usize,
        size: u64,
    },
    /// In extensions after a semicolon.
    Extension {
        line: usize,
        size: u64,
    },
    /// After the CR of a chunk-size line.
    SizeLf {
        size: u64,
    },
    /// The number of bytes of the chunk still to come.
    Data(u64),
    /// After the data of a chunk.
    DataCr,
    DataLf,
    /// In the trailer section, after `len` bytes; `fresh` at the start of a line.
    Trailer {
        len: usize,
        fresh: bool,
    },
}

impl Chunked {
    pub(super) const START: Self = Self::Size {
        line: 0,
        size: None,
    };
}

impl Body {
    /// Appends the part of `data` that belongs to the body to `out`; returns `true` at its end. Bytes after
    /// the end are ignored.
    pub(super) fn read(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
        max: usize,
    ) -> Result<bool, Fault> {
        match self {
            Self::Length(left) => {
                let n = take(data, *left);
                append(out, &data[..n], max)?;
                *left -= n as u64;
                Ok(*left == 0)
            }
            Self::Close => append(out, data, max).map(|()| false),
            Self::Chunked(state) => state.read(data, out, max),
        }
    }

    /// Whether the body may end with the stream after `got` bytes. Trackers send wrong lengths, and bencode
    /// shows whether anything is missing, so only an empty body is refused.
    pub(super) fn eof(&self, got: usize) -> Result<(), Fault> {
        match self {
            Self::Close => Ok(()),
            _ if got > 0 => Ok(()),
            // The zero-sized chunk has arrived, so nothing of the body is missing (RFC 9112 §8).
            Self::Chunked(Chunked::Trailer { .. }) => Ok(()),
            Self::Length(left) => {
                let reason = format!("the server closed the connection {left} bytes too early");
                Err(Fault::new(OpErrorKind::Truncated, reason))
            }
            Self::Chunked(_) => {
                let reason = "the server closed the connection in the middle of a chunked answer";
                Err(Fault::new(OpErrorKind::Truncated, reason))
            }
        }
    }
}

impl Chunked {
    fn read(&mut self, mut data: &[u8], out: &mut Vec<u8>, max: usize) -> Result<bool, Fault> {
        while let Some((&byte, rest)) = data.split_first() {
            if let Self::Data(left) = self {
                let n = take(data, *left);
                append(out, &data[..n], max)?;
                data = &data[n..];
                *left -= n as u64;
                if *left == 0 {
                    *self = Self::DataCr;
                }
                continue;
            }
            data = rest;
            *self = match (&*self, byte) {
                (&Self::Size { line, size }, digit) if digit.is_ascii_hexdigit() => {
                    let digit = (digit as char).to_digit(16).unwrap_or(0);
                    let size = size.unwrap_or(0).checked_mul(16);
                    let Some(size) = size.and_then(|n| n.checked_add(digit.into())) else {
                        return Err(too_large(max));
                    };
                    Self::Size {
                        line: longer(line)?,
                        size: Some(size),
                    }
                }
                (
                    &(Self::Size {
                        size: Some(size), ..
                    }
                    | Self::Blank { size, .. }
                    | Self::Extension { size, .. }),
                    b'\r',
                ) => Self::SizeLf { size },
                (
                    &(Self::Size {
                        line,
                        size: Some(size),
                    }
                    | Self::Blank { line, size }),
                    b';',
                ) => Self::Extension {
                    line: longer(line)?,
                    size,
                },
                // Bad whitespace, to be skipped: some servers pad every size (RFC 9112 §7.1.1).
                (
                    &(Self::Size {
                        line,
                        size: Some(size),
                    }
                    | Self::Blank { line, size }),
                    b' ' | b'\t',
                ) => Self::Blank {
                    line: longer(line)?,
                    size,
                },
                (&Self::Extension { line, size }, byte) if byte != b'\n' => Self::Extension {
                    line: longer(line)?,
                    size,
                },
                (
                    &(Self::SizeLf { size: 0 }
                    | Self::Size { size: Some(0), .. }
                    | Self::Blank { size: 0, .. }
                    | Self::Extension { size: 0, .. }),
                    b'\n',
                ) => Self::Trailer {
                    len: 0,
                    fresh: true,
                },
                (
                    &(Self::SizeLf { size }
                    | Self::Size {
                        size: Some(size), ..
                    }
                    | Self::Blank { size, .. }
                    | Self::Extension { size, .. }),
                    b'\n',
                ) => {
                    if size > (max - out.len().min(max)) as u64 {
                        return Err(too_large(max));
                    }
                    Self::Data(size)
                }
                (Self::DataCr, b'\r') => Self::DataLf,
                // Some servers leave the CR out.
                (Self::DataCr | Self::DataLf, b'\n') => Self::START,
                (Self::Trailer { fresh: true, .. }, b'\n') => return Ok(true),
                (&Self::Trailer { len: MAX_HEAD, .. }, _) => {
                    let reason = format!("trailers of more than {MAX_HEAD} bytes");
                    return Err(Fault::protocol(reason));
                }
                (&Self::Trailer { len, fresh }, byte) => Self::Trailer {
                    len: len + 1,
                    fresh: byte == b'\n' || (fresh && byte == b'\r'),
                },
                _ => return Err(Fault::protocol("malformed chunk in the answer")),
            };
        }
        Ok(false)
    }
}

/// How much of `data` belongs to the next `left` bytes.
fn take(data: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(data.len(), |left| left.min(data.len()))
}

fn longer(line: usize) -> Result<usize, Fault> {
    if line == MAX_CHUNK_LINE {
        let reason = format!("a chunk-size line of more than {MAX_CHUNK_LINE} bytes");
        return Err(Fault::protocol(reason));
    }
    Ok(line + 1)
}

fn append(out: &mut Vec<u8>, data: &[u8], max: usize) -> Result<(), Fault> {
    if data.len() > max - out.len().min(max) {
        return Err(too_large(max));
    }
    out.extend_from_slice(data);
    Ok(())
}

pub(super) fn too_large(max: usize) -> Fault {
    let reason = format!("the answer is longer than {max} bytes");
    Fault::new(OpErrorKind::TooLarge, reason)
}
