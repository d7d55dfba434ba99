//! The packets between drivers and the guest under virtual time, and their name server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use dunlin_core::Instant;

/// The time that a packet takes.
const DELAY: Duration = Duration::from_micros(500);
/// The one name that exists.
pub(super) const NAME: &str = "guest.example";
/// RFC 1035 §3.2.2, RFC 3596 §2.1.
const AAAA: u16 = 28;

/// Packets under way, in the order in which they arrive.
#[derive(Debug, Default)]
pub(super) struct Link {
    air: BTreeMap<(Instant, u64), Vec<u8>>,
    sent: u64,
    /// A hash of all packets and their times.
    pub(super) trace: u64,
}

impl Link {
    /// Sends a packet.
    pub(super) fn send(&mut self, now: Instant, packet: Vec<u8>) {
        let bytes = now.as_micros().to_be_bytes();
        for byte in bytes.iter().chain(&packet) {
            // FNV-1a.
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.sent += 1;
        self.air.insert((now + DELAY, self.sent), packet);
    }

    /// The next packet that has arrived, and its destination.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<(IpAddr, Vec<u8>)> {
        let first = self.air.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let packet = first.remove();
        Some((destination(&packet), packet))
    }

    /// When the next packet arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        self.air.first_key_value().map(|((at, _), _)| *at)
    }
}

/// The destination of an IP packet.
fn destination(packet: &[u8]) -> IpAddr {
    match packet[0] >> 4 {
        4 => IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).unwrap()),
    }
}

/// Answers the query of a resolver (RFC 1035 §4): [`NAME`] is `ips`, and no other name exists.
pub(super) fn resolve(question: &[u8], ips: [IpAddr; 2]) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let len = usize::from(*question.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(std::str::from_utf8(question.get(at..at + len)?).ok()?);
        at += len;
    }
    let v6 = question.get(at..at + 2)? == AAAA.to_be_bytes();
    let mut answer = question.get(..at + 4)?.to_vec();
    let exists = labels.join(".") == NAME;
    // An answer; NXDOMAIN; one question, no or one record, nothing more.
    answer[2] = 0x81;
    answer[3] = if exists { 0x80 } else { 0x83 };
    answer[6..12].fill(0);
    if exists {
        answer[7] = 1;
        // The question's name, class IN, a minute.
        answer.extend([0xc0, 12, 0, if v6 { 28 } else { 1 }, 0, 1, 0, 0, 0, 60, 0]);
        match ips[usize::from(v6)] {
            IpAddr::V4(ip) => {
                answer.push(4);
                answer.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                answer.push(16);
                answer.extend(ip.octets());
            }
        }
    }
    Some(answer)
}
