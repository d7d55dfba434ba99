//! Moving bytes between blocks and one open file: whole runs of blocks in one system call.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice, IoSliceMut},
};

use dunlin_core::{BLOCK_LEN, Block};

use crate::platform::{read_vectored_at, read_vectored_cached, write_vectored_at};

/// The most buffers in one call. 1 MiB of blocks makes the cost of a system call negligible, fits on the
/// stack, and is below every `IOV_MAX` (1024 on Linux).
const MAX_RUN: usize = 64;

/// Writes the bytes `from .. from + len` of the concatenated `blocks` at `offset`.
pub(super) fn write(
    file: &File,
    blocks: &[Block],
    mut from: usize,
    mut len: usize,
    mut offset: u64,
) -> io::Result<()> {
    while len > 0 {
        let mut run: heapless::Vec<IoSlice<'_>, MAX_RUN> = heapless::Vec::new();
        let (mut skip, mut left) = (from % BLOCK_LEN, len);
        for block in blocks.iter().skip(from / BLOCK_LEN) {
            let part = left.min(BLOCK_LEN - skip);
            if part == 0 || run.push(IoSlice::new(&block[skip..skip + part])).is_err() {
                break;
            }
            (skip, left) = (0, left - part);
        }
        match write_vectored_at(file, &run, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => (from, len, offset) = (from + n, len - n, offset + n as u64),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Fills the bytes `from .. from + len` of the concatenated `blocks` from `offset`.
///
/// # Errors
/// `UnexpectedEof` if the file ends early.
pub(super) fn read(
    file: &File,
    blocks: &mut [Block],
    from: usize,
    len: usize,
    offset: u64,
) -> io::Result<()> {
    read_with(read_vectored_at, file, blocks, from, len, offset)
}

/// Like [`read`], from the page cache only.
///
/// # Errors
/// `WouldBlock` if the device is needed; `Unsupported` if the platform cannot tell.
pub(super) fn read_cached(
    file: &File,
    blocks: &mut [Block],
    from: usize,
    len: usize,
    offset: u64,
) -> io::Result<()> {
    read_with(read_vectored_cached, file, blocks, from, len, offset)
}

type ReadVectored = fn(&File, &mut [IoSliceMut<'_>], u64) -> io::Result<usize>;

fn read_with(
    call: ReadVectored,
    file: &File,
    blocks: &mut [Block],
    mut from: usize,
    mut len: usize,
    mut offset: u64,
) -> io::Result<()> {
    while len > 0 {
        let mut run: heapless::Vec<IoSliceMut<'_>, MAX_RUN> = heapless::Vec::new();
        let (mut skip, mut left) = (from % BLOCK_LEN, len);
        for block in blocks.iter_mut().skip(from / BLOCK_LEN) {
            let part = left.min(BLOCK_LEN - skip);
            let buf = IoSliceMut::new(&mut block[skip..skip + part]);
            if part == 0 || run.push(buf).is_err() {
                break;
            }
            (skip, left) = (0, left - part);
        }
        match call(file, &mut run, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => (from, len, offset) = (from + n, len - n, offset + n as u64),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Zeroes the bytes `from .. from + len` of `blocks`.
pub(super) fn zero(blocks: &mut [Block], from: usize, mut len: usize) {
    let mut skip = from % BLOCK_LEN;
    for block in blocks.iter_mut().skip(from / BLOCK_LEN) {
        let part = len.min(BLOCK_LEN - skip);
        block[skip..skip + part].fill(0);
        (skip, len) = (0, len - part);
    }
}

/// Fills `buf` from `offset`.
///
/// # Errors
/// `UnexpectedEof` if the file ends early.
pub(crate) fn read_exact(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match read_vectored_at(file, &mut [IoSliceMut::new(buf)], offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => (buf, offset) = (&mut buf[n..], offset + n as u64),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes all of `buf` at `offset`.
pub(crate) fn write_all(file: &File, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match write_vectored_at(file, &[IoSlice::new(buf)], offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => (buf, offset) = (&buf[n..], offset + n as u64),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
