//! A name server of the simulated internet (RFC 1035). It is authoritative for everything: names
//! that it was not given do not exist.

use std::{collections::BTreeMap, net::IpAddr};

use dunlin_core::Instant;

use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
};

const PORT: u16 = 53;
/// The seconds for which an answer may be cached.
const TTL: u32 = 300;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const HEADER: usize = 12;

/// What a name server says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// Its addresses, of both versions.
    Addresses(Vec<IpAddr>),
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// The server failed (SERVFAIL).
    Failure,
    /// Nothing.
    Silence,
}

/// A name server.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    names: BTreeMap<String, DnsAnswer>,
    /// The number of questions answered, including those for names that do not exist.
    pub asked: u64,
}

impl Dns {
    /// Creates a server that knows `names`, which are matched regardless of case.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = (String, Vec<IpAddr>)>) -> Self {
        let server = Self::default();
        names.into_iter().fold(server, |server, (name, addrs)| {
            server.with(&name, DnsAnswer::Addresses(addrs))
        })
    }

    /// The same server with this answer about a name, which is matched regardless of case.
    #[must_use]
    pub fn with(mut self, name: &str, answer: DnsAnswer) -> Self {
        self.names.insert(name.to_ascii_lowercase(), answer);
        self
    }

    /// The answer to a query with one question; `None` for anything else.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let head = query.get(..HEADER)?;
        // A query (QR 0, opcode 0) with one question.
        if head[2] & 0xf8 != 0 || head[4..6] != [0, 1] {
            return None;
        }
        let (name, end) = read_name(query, HEADER)?;
        let question = query.get(HEADER..end + 4)?;
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        let (code, addrs) = match self.names.get(&name) {
            Some(DnsAnswer::Addresses(addrs)) => (0, addrs.as_slice()),
            Some(DnsAnswer::Failure) => (2, &[][..]),
            Some(DnsAnswer::NoSuchName) | None => (3, &[][..]),
            Some(DnsAnswer::Silence) => return None,
        };
        let found: Vec<IpAddr> = (addrs.iter())
            .filter(|ip| kind == if ip.is_ipv4() { TYPE_A } else { TYPE_AAAA })
            .copied()
            .collect();
        let mut answer = head[..2].to_vec();
        // An authoritative response; recursion is available, and desired if the query said so.
        answer.extend_from_slice(&[0x84 | (head[2] & 1), 0x80 | code, 0, 1]);
        answer.extend_from_slice(&(found.len() as u16).to_be_bytes());
        answer.extend_from_slice(&[0; 4]);
        answer.extend_from_slice(question);
        for ip in found {
            // The name, as a pointer to that of the question (RFC 1035 §4.1.4).
            answer.extend_from_slice(&[0xc0, HEADER as u8]);
            answer.extend_from_slice(&kind.to_be_bytes());
            answer.extend_from_slice(&[0, 1]);
            answer.extend_from_slice(&TTL.to_be_bytes());
            match ip {
                IpAddr::V4(ip) => {
                    answer.extend_from_slice(&[0, 4]);
                    answer.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    answer.extend_from_slice(&[0, 16]);
                    answer.extend_from_slice(&ip.octets());
                }
            }
        }
        Some(answer)
    }
}

/// The name at `at` in lower case, and where it ends. Names in questions contain no pointers.
fn read_name(data: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    loop {
        let len = usize::from(*data.get(at)?);
        at += 1;
        match len {
            0 => return Some((name, at)),
            1..64 => {
                let label = std::str::from_utf8(data.get(at..at + len)?).ok()?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&label.to_ascii_lowercase());
                at += len;
            }
            _ => return None,
        }
    }
}

impl Host for Dns {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        let asked = flow.proto == Proto::Udp && flow.dst.port() == PORT;
        if asked
            && packet.checksums_hold()
            && let Some(answer) = self.answer(packet.payload())
        {
            self.asked += 1;
            cx.send_udp(flow.dst, flow.src, &answer);
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, _: &mut HostCx<'_>) {}

    fn next_wake(&self) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData};

    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, kind, 0, 1]);
        query
    }

    #[test]
    fn another_implementation_reads_the_answers() {
        let ip = IpAddr::from([5, 5, 5, 7]);
        let dns = Dns::new([("Tracker.Example".into(), vec![ip])]);
        let answer = dns.answer(&query("tracker.EXAMPLE", 1)).unwrap();
        let packet = DnsPacket::new_checked(&answer[..]).unwrap();
        assert_eq!(
            (packet.transaction_id(), packet.answer_record_count()),
            (0x0709, 1)
        );
        let (rest, question) = DnsQuestion::parse(packet.payload()).unwrap();
        assert_eq!(question.type_, DnsQueryType::A);
        let (_, record) = DnsRecord::parse(rest).unwrap();
        assert_eq!(record.data, DnsRecordData::A([5, 5, 5, 7].into()));

        let none = dns.answer(&query("tracker.example", 28)).unwrap();
        let none = DnsPacket::new_checked(&none[..]).unwrap();
        assert_eq!(
            (none.rcode(), none.answer_record_count()),
            (DnsRcode::NoError, 0)
        );
        let unknown = dns.answer(&query("other.example", 1)).unwrap();
        let unknown = DnsPacket::new_checked(&unknown[..]).unwrap();
        assert_eq!(unknown.rcode(), DnsRcode::NXDomain);
    }

    #[test]
    fn names_fail_as_they_are_told_to() {
        let dns = Dns::default()
            .with("broken.example", DnsAnswer::Failure)
            .with("Mute.example", DnsAnswer::Silence)
            .with("gone.example", DnsAnswer::NoSuchName);
        let code = |name| {
            let answer = dns.answer(&query(name, 1))?;
            Some(DnsPacket::new_checked(&answer[..]).unwrap().rcode())
        };
        assert_eq!(code("broken.example"), Some(DnsRcode::ServFail));
        assert_eq!(code("mute.example"), None);
        assert_eq!(code("gone.example"), Some(DnsRcode::NXDomain));
    }

    quickcheck::quickcheck! {
        fn no_bytes_panic(bytes: Vec<u8>) -> bool {
            let _ = Dns::default().answer(&bytes);
            true
        }
    }
}
