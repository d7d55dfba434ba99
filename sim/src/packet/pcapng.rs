//! Captures that Wireshark reads: pcapng (draft-ietf-opsawg-pcapng) with raw IP packets
//! (LINKTYPE_RAW).
//!
//! Packets are kept until the capture is written, and then sorted by time: a world may know what
//! happens on a link before it handles an earlier event elsewhere.

use dunlin_core::Instant;

/// LINKTYPE_RAW of the pcapng registry: the packet begins with an IPv4 or IPv6 header.
const LINKTYPE_RAW: u16 = 101;
/// The bytes of packets and comments that one capture keeps. Later packets are left out and
/// counted.
pub const MAX_CAPTURE: usize = 256 << 20;

/// The direction in which a packet crossed an interface (`epb_flags`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into the device.
    In = 1,
    /// Out of the device.
    Out = 2,
}

struct Record {
    at: Instant,
    interface: u32,
    way: Way,
    /// Where the packet and its comment end in `bytes`. They begin where those of the previous
    /// record end.
    begin: usize,
    data_end: usize,
    end: usize,
}

/// The interfaces of one device, and the packets that crossed them.
pub struct Capture {
    interfaces: Vec<String>,
    records: Vec<Record>,
    bytes: Vec<u8>,
    left_out: u64,
}

impl Capture {
    /// Creates a capture with interfaces of these names.
    #[must_use]
    pub const fn new(interfaces: Vec<String>) -> Self {
        Self {
            interfaces,
            records: Vec::new(),
            bytes: Vec::new(),
            left_out: 0,
        }
    }

    /// Keeps a packet. `interface` is an index into the names given to [`Capture::new`].
    pub fn record(
        &mut self,
        at: Instant,
        interface: u32,
        way: Way,
        packet: &[u8],
        comment: Option<&str>,
    ) {
        let comment = comment.unwrap_or_default();
        let begin = self.bytes.len();
        if begin + packet.len() + comment.len() > MAX_CAPTURE {
            self.left_out += 1;
            return;
        }
        self.bytes.extend_from_slice(packet);
        let data_end = self.bytes.len();
        self.bytes.extend_from_slice(comment.as_bytes());
        self.records.push(Record {
            at,
            interface,
            way,
            begin,
            data_end,
            end: self.bytes.len(),
        });
    }

    /// Adds a comment to the packet that was kept last.
    pub fn comment(&mut self, text: &str) {
        if let Some(last) = self.records.last_mut()
            && last.data_end == last.end
            && last.end + text.len() <= MAX_CAPTURE
        {
            self.bytes.extend_from_slice(text.as_bytes());
            last.end = self.bytes.len();
        }
    }

    /// The number of packets that did not fit into [`MAX_CAPTURE`].
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The content of the capture file.
    #[must_use]
    pub fn to_pcapng(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + self.records.len() * 64 + 256);
        block(&mut out, 0x0a0d_0d0a, |out| {
            // Byte-order magic, version 1.0, a section of unknown length.
            out.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
            out.extend_from_slice(&[1, 0, 0, 0]);
            out.extend_from_slice(&u64::MAX.to_le_bytes());
            option(out, 4, b"dunlin-sim"); // shb_userappl
            end_of_options(out);
        });
        for name in &self.interfaces {
            block(&mut out, 1, |out| {
                out.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&0_u32.to_le_bytes()); // no snap length
                option(out, 2, name.as_bytes()); // if_name
                option(out, 9, &[6]); // if_tsresol: microseconds
                end_of_options(out);
            });
        }
        let mut order: Vec<&Record> = self.records.iter().collect();
        order.sort_by_key(|record| record.at);
        for record in order {
            let data = &self.bytes[record.begin..record.data_end];
            let comment = &self.bytes[record.data_end..record.end];
            let at = record.at.as_micros();
            block(&mut out, 6, |out| {
                out.extend_from_slice(&record.interface.to_le_bytes());
                out.extend_from_slice(&((at >> 32) as u32).to_le_bytes());
                out.extend_from_slice(&(at as u32).to_le_bytes());
                out.extend_from_slice(&(data.len() as u32).to_le_bytes());
                out.extend_from_slice(&(data.len() as u32).to_le_bytes());
                padded(out, data);
                option(out, 2, &(record.way as u32).to_le_bytes()); // epb_flags
                if !comment.is_empty() {
                    option(out, 1, comment); // opt_comment
                }
                end_of_options(out);
            });
        }
        out
    }
}

/// Writes a block: its length, what `body` writes, and its length again.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = ((out.len() - begin + 4) as u32).to_le_bytes();
    out[begin + 4..begin + 8].copy_from_slice(&len);
    out.extend_from_slice(&len);
}

/// Writes bytes, padded to a multiple of four.
fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    // Every block begins at a multiple of four in the file, so padding relative to the file is
    // padding relative to the block.
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    padded(out, value);
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> usize {
        let w = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        u32::from_le_bytes(w) as usize
    }

    #[test]
    fn blocks_follow_one_another_in_the_order_of_time() {
        let mut capture = Capture::new(vec!["wan".into(), "lan".into()]);
        let at = Instant::from_micros;
        capture.record(at(1 << 33), 1, Way::Out, &[0x45; 21], Some("dropped"));
        capture.record(at(5), 0, Way::In, &[0x60; 40], None);
        let file = capture.to_pcapng();
        let (mut here, mut kinds, mut times) = (0, Vec::new(), Vec::new());
        while here < file.len() {
            let len = word(&file, here + 4);
            assert_eq!(len % 4, 0);
            assert_eq!(word(&file, here + len - 4), len);
            kinds.push(word(&file, here));
            if kinds.last() == Some(&6) {
                times.push((word(&file, here + 12), word(&file, here + 16)));
            }
            here += len;
        }
        assert_eq!(kinds, [0x0a0d_0d0a, 1, 1, 6, 6]);
        assert_eq!(times, [(0, 5), (2, 0)]);
        assert!(file.windows(7).any(|w| w == b"dropped"));
    }
}
