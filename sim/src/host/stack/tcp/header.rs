//! The header of a segment with the options that hosts use: maximum segment size (RFC 9293
//! §3.7.1), window scale and timestamps (RFC 7323), selective acknowledgements (RFC 2018).

use super::receiver::MAX_BLOCKS;
use crate::packet::TcpFlags;

const FIXED: usize = 20;
/// The largest shift of a window (RFC 7323 §2.3).
const MAX_SHIFT: u8 = 14;
/// The most blocks that fit the options (RFC 2018 §3).
const MOST_BLOCKS: usize = 4;

/// A segment without its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: TcpFlags,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// The window field, not shifted.
    pub(crate) window: u16,
    pub(crate) mss: Option<u16>,
    pub(crate) shift: Option<u8>,
    pub(crate) sack_permitted: bool,
    /// The sender's time, and the time that it echoes.
    pub(crate) time: Option<(u32, u32)>,
    blocks: [(u32, u32); MOST_BLOCKS],
    count: usize,
}

impl Header {
    /// A header without options.
    pub(crate) fn new(flags: TcpFlags, seq: u32, ack: u32, window: u16) -> Self {
        Self {
            flags,
            seq,
            ack,
            window,
            ..Self::default()
        }
    }

    pub(crate) const fn has(&self, flags: TcpFlags) -> bool {
        self.flags.has(flags)
    }

    /// The reset that answers the segment when no connection wants it (RFC 9293 §3.10.7.1); `None`
    /// when it is a reset. `len` is the length of its data.
    pub(crate) fn reset(&self, len: usize) -> Option<Self> {
        if self.has(TcpFlags::RST) {
            return None;
        }
        if self.has(TcpFlags::ACK) {
            return Some(Self::new(TcpFlags::RST, self.ack, 0, 0));
        }
        let marks = u32::from(self.has(TcpFlags::SYN)) + u32::from(self.has(TcpFlags::FIN));
        let end = self.seq.wrapping_add(len as u32).wrapping_add(marks);
        let flags = TcpFlags::RST.with(TcpFlags::ACK);
        Some(Self::new(flags, 0, end, 0))
    }

    /// What has arrived beyond `ack`.
    pub(crate) fn blocks(&self) -> &[(u32, u32)] {
        &self.blocks[..self.count]
    }

    pub(super) fn add_block(&mut self, block: (u32, u32)) {
        if self.count < MAX_BLOCKS {
            self.blocks[self.count] = block;
            self.count += 1;
        }
    }

    /// Reads a segment. Returns its header and its data; `None` when the header is cut off.
    pub(crate) fn parse(segment: &[u8]) -> Option<(Self, &[u8])> {
        let head = segment.first_chunk::<FIXED>()?;
        let long = usize::from(head[12] >> 4) * 4;
        let mut options = segment.get(FIXED..long)?;
        let mut header = Self::new(
            TcpFlags(head[13]),
            word(&head[4..8]),
            word(&head[8..12]),
            u16::from_be_bytes([head[14], head[15]]),
        );
        while let Some(rest) = header.option(options) {
            options = rest;
        }
        Some((header, &segment[long..]))
    }

    /// Reads the first option and returns the options after it, if there are any.
    fn option<'a>(&mut self, options: &'a [u8]) -> Option<&'a [u8]> {
        let (kind, rest) = options.split_first()?;
        match kind {
            0 => return None,
            1 => return Some(rest),
            _ => {}
        }
        let long = usize::from(*rest.first()?);
        match (kind, options.get(2..long)?) {
            (2, [high, low]) => self.mss = Some(u16::from_be_bytes([*high, *low])),
            (3, [shift]) => self.shift = Some((*shift).min(MAX_SHIFT)),
            (4, []) => self.sack_permitted = true,
            (5, blocks) => {
                self.count = 0;
                for (slot, block) in self.blocks.iter_mut().zip(blocks.chunks_exact(8)) {
                    *slot = (word(&block[..4]), word(&block[4..]));
                    self.count += 1;
                }
            }
            (8, body) if body.len() == 8 => {
                self.time = Some((word(&body[..4]), word(&body[4..])));
            }
            _ => {}
        }
        options.get(long..)
    }

    /// Writes the options. Returns their length, which is a multiple of four.
    pub(crate) fn options(&self, out: &mut [u8; 40]) -> usize {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        if let Some(mss) = self.mss {
            put(&[2, 4]);
            put(&mss.to_be_bytes());
        }
        if self.sack_permitted {
            put(&[1, 1, 4, 2]);
        }
        if let Some((own, echo)) = self.time {
            put(&[1, 1, 8, 10]);
            put(&own.to_be_bytes());
            put(&echo.to_be_bytes());
        }
        if let Some(shift) = self.shift {
            put(&[1, 3, 3, shift]);
        }
        if self.count > 0 {
            put(&[1, 1, 5, 2 + 8 * self.count as u8]);
            for (start, end) in self.blocks() {
                put(&start.to_be_bytes());
                put(&end.to_be_bytes());
            }
        }
        at
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn bytes(header: &Header, data: &[u8]) -> Vec<u8> {
        let mut options = [0; 40];
        let len = header.options(&mut options);
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&header.seq.to_be_bytes());
        bytes.extend_from_slice(&header.ack.to_be_bytes());
        bytes.extend_from_slice(&[((5 + len / 4) << 4) as u8, header.flags.0]);
        bytes.extend_from_slice(&header.window.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&options[..len]);
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn every_option_is_read_as_it_was_written() {
        let mut header = Header::new(TcpFlags::SYN, 7, 9, 1_000);
        header.mss = Some(1_460);
        header.shift = Some(8);
        header.sack_permitted = true;
        header.time = Some((1, 2));
        assert_eq!(
            Header::parse(&bytes(&header, b"x")),
            Some((header, &b"x"[..]))
        );
        let mut header = Header::new(TcpFlags::ACK, 7, 9, 1_000);
        header.time = Some((3, u32::MAX));
        for block in [(20, 30), (40, 50), (u32::MAX, 2)] {
            header.add_block(block);
        }
        assert_eq!(Header::parse(&bytes(&header, &[])), Some((header, &[][..])));
    }

    quickcheck! {
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) -> bool {
            Header::parse(&bytes).is_none_or(|(_, data)| data.len() <= bytes.len())
        }
    }
}
