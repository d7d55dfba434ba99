//! UDP tracker protocol (BEP 15), with the path of the URL as an option (BEP 41).

use core::time::Duration;

use super::{
    AnnounceAnswer, AnnounceEvent, AnnounceRequest, MAX_PEERS, ScrapeAnswer, ScrapeFile,
    compact_v4, compact_v6,
};
use crate::{id::InfoHash, net::Family};

/// The connection id of a connect request (BEP 15).
const PROTOCOL_ID: u64 = 0x0417_2710_1980;
/// Most torrents in one scrape (BEP 15: about 74 fit).
pub const MAX_SCRAPE: usize = 74;
/// URL data option (BEP 41).
const URL_DATA: u8 = 2;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Asks for a connection id.
    Connect,
    /// Announces one torrent.
    Announce {
        /// The connection id, from the tracker's answer to the connect.
        connection: u64,
        /// The parameters.
        request: &'a AnnounceRequest,
        /// Path and query of the tracker's URL; sent as an option if not empty (BEP 41).
        path: &'a str,
    },
    /// Scrapes torrents.
    Scrape {
        /// The connection id, from the tracker's answer to the connect.
        connection: u64,
        /// The info-hashes; at most [`MAX_SCRAPE`].
        hashes: &'a [InfoHash],
    },
}

impl Request<'_> {
    /// Writes the datagram and returns its length; `None` if `buf` is too short.
    pub fn emit(&self, transaction: u32, family: Family, buf: &mut [u8]) -> Option<usize> {
        let mut out = Writer { buf, len: 0 };
        let (connection, action) = match *self {
            Request::Connect => (PROTOCOL_ID, CONNECT),
            Request::Announce { connection, .. } => (connection, ANNOUNCE),
            Request::Scrape { connection, .. } => (connection, SCRAPE),
        };
        out.put(&connection.to_be_bytes())?;
        out.put(&action.to_be_bytes())?;
        out.put(&transaction.to_be_bytes())?;
        match *self {
            Request::Connect => {}
            Request::Announce { request, path, .. } => out.announce(request, family, path)?,
            Request::Scrape { hashes, .. } => {
                for hash in hashes.iter().take(MAX_SCRAPE) {
                    out.put(&hash.0)?;
                }
            }
        }
        Some(out.len)
    }
}

struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let room = self.buf.get_mut(self.len..)?.get_mut(..bytes.len())?;
        room.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn announce(&mut self, r: &AnnounceRequest, family: Family, path: &str) -> Option<()> {
        self.put(&r.info_hash.0)?;
        self.put(&r.peer_id.0)?;
        self.put(&r.downloaded.to_be_bytes())?;
        self.put(&r.left.to_be_bytes())?;
        self.put(&r.uploaded.to_be_bytes())?;
        // BEP 21 adds `paused` to HTTP alone, and trackers refuse an event that BEP 15 does not know.
        let event = match r.event {
            AnnounceEvent::Paused => AnnounceEvent::None,
            event => event,
        };
        self.put(&(event as u32).to_be_bytes())?;
        // BEP 15 § IPv6: the field is 32 bits wide there too, and has to be 0.
        let ip = match (family, r.ipv4) {
            (Family::V4, Some(ip)) => ip.octets(),
            _ => [0; 4],
        };
        self.put(&ip)?;
        self.put(&r.key.to_be_bytes())?;
        self.put(&r.numwant.unwrap_or(u32::MAX).to_be_bytes())?;
        self.put(&r.port.to_be_bytes())?;
        for chunk in path.as_bytes().chunks(255) {
            self.put(&[URL_DATA, chunk.len() as u8])?;
            self.put(chunk)?;
        }
        Some(())
    }
}

/// The transaction id of anything that may be a tracker's answer.
#[must_use]
pub fn transaction(data: &[u8]) -> Option<u32> {
    let &[_, _, _, _, a, b, c, d] = data.first_chunk::<8>()?;
    Some(u32::from_be_bytes([a, b, c, d]))
}

/// A response of a tracker, borrowed from the datagram. Its transaction id is read beforehand, with
/// [`transaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// The answer to a connect.
    Connect {
        /// The connection id, valid for a minute.
        connection: u64,
    },
    /// The answer to an announce.
    Announce(AnnounceResponse<'a>),
    /// The answer to a scrape: 12 bytes for each hash asked.
    Scrape(&'a [u8]),
    /// An error, the answer to any request: the tracker's message.
    Error(&'a [u8]),
}

/// The answer to an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceResponse<'a> {
    interval: u32,
    leechers: u32,
    seeders: u32,
    peers: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads a datagram; `None` if it is too short or of an unknown kind. Bytes beyond the
    /// fixed part are allowed everywhere, as BEP 15 asks.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (header, body) = data.split_first_chunk::<8>()?;
        match u32::from_be_bytes(*header.first_chunk()?) {
            CONNECT => Some(Self::Connect {
                connection: u64::from_be_bytes(*body.first_chunk()?),
            }),
            ANNOUNCE => {
                let (interval, body) = body.split_first_chunk::<4>()?;
                let (leechers, body) = body.split_first_chunk::<4>()?;
                let (seeders, peers) = body.split_first_chunk::<4>()?;
                Some(Self::Announce(AnnounceResponse {
                    interval: u32::from_be_bytes(*interval),
                    leechers: u32::from_be_bytes(*leechers),
                    seeders: u32::from_be_bytes(*seeders),
                    peers,
                }))
            }
            SCRAPE => Some(Self::Scrape(body)),
            ERROR => Some(Self::Error(body)),
            _ => None,
        }
    }
}

impl AnnounceResponse<'_> {
    /// The values; the peers are of the family the datagram came over (BEP 15 § IPv6).
    #[must_use]
    pub fn answer(&self, family: Family) -> AnnounceAnswer {
        AnnounceAnswer {
            interval: Some(Duration::from_secs(self.interval.into())),
            complete: Some(self.seeders),
            incomplete: Some(self.leechers),
            peers: match family {
                Family::V4 => compact_v4(self.peers).take(MAX_PEERS).collect(),
                Family::V6 => compact_v6(self.peers).take(MAX_PEERS).collect(),
            },
            ..AnnounceAnswer::default()
        }
    }
}

/// The figures in the body of a scrape answer to `asked` hashes; missing ones are `None`.
#[must_use]
pub fn scrape_answer(body: &[u8], asked: usize) -> ScrapeAnswer {
    let (entries, _) = body.as_chunks::<12>();
    let entry = |e: &[u8; 12]| {
        let &[a, b, c, d, e, f, g, h, i, j, k, l] = e;
        ScrapeFile {
            complete: u32::from_be_bytes([a, b, c, d]),
            downloaded: u32::from_be_bytes([e, f, g, h]),
            incomplete: u32::from_be_bytes([i, j, k, l]),
        }
    };
    ScrapeAnswer {
        files: (0..asked.min(MAX_SCRAPE))
            .map(|i| entries.get(i).map(entry))
            .collect(),
        min_interval: None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use quickcheck::quickcheck;

    use super::*;
    use crate::{
        id::PeerId,
        wire::tracker::{AnnounceEvent, Crypto},
    };

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash([0xaa; 20]),
            peer_id: PeerId([0xbb; 20]),
            downloaded: 1,
            uploaded: 0x0102_0304_0506_0708,
            left: 3,
            event: AnnounceEvent::Started,
            key: 0xcafe_babe,
            numwant: None,
            port: 6881,
            crypto: Crypto::Supported,
            ipv4: None,
            ipv6: None,
        }
    }

    fn emit(request: &Request<'_>, family: Family) -> Vec<u8> {
        let mut buf = [0xee; 1500];
        let len = request.emit(0x1122_3344, family, &mut buf).unwrap();
        buf[..len].to_vec()
    }

    #[test]
    fn connect_matches_bep_15() {
        assert_eq!(
            emit(&Request::Connect, Family::V4),
            [
                0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0x11, 0x22, 0x33, 0x44
            ]
        );
    }

    #[test]
    fn announce_matches_bep_15() {
        let mut expected = vec![9, 8, 7, 6, 5, 4, 3, 2, 0, 0, 0, 1, 0x11, 0x22, 0x33, 0x44];
        expected.extend([0xaa; 20]);
        expected.extend([0xbb; 20]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 1]); // downloaded
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3]); // left
        expected.extend([1, 2, 3, 4, 5, 6, 7, 8]); // uploaded
        expected.extend([0, 0, 0, 2]); // started
        expected.extend([0, 0, 0, 0]); // IP address
        expected.extend([0xca, 0xfe, 0xba, 0xbe]); // key
        expected.extend([0xff, 0xff, 0xff, 0xff]); // num_want
        expected.extend([0x1a, 0xe1]); // port
        assert_eq!(expected.len(), 98);
        let mut r = request();
        let announce = |request: &AnnounceRequest, family| {
            let announce = Request::Announce {
                connection: 0x0908_0706_0504_0302,
                request,
                path: "",
            };
            emit(&announce, family)
        };
        assert_eq!(announce(&r, Family::V4), expected);
        r.ipv4 = Some([1, 2, 3, 4].into());
        assert_eq!(announce(&r, Family::V6), expected, "no IPv4 over IPv6");
        expected[84..88].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(announce(&r, Family::V4), expected);
    }

    #[test]
    fn path_becomes_bep_41_options() {
        let path = "/".repeat(300);
        let sent = emit(
            &Request::Announce {
                connection: 1,
                request: &request(),
                path: &path,
            },
            Family::V4,
        );
        assert_eq!(sent.len(), 98 + 2 + 255 + 2 + 45);
        assert_eq!(sent[98..101], [2, 255, b'/']);
        assert_eq!(sent[98 + 257..98 + 260], [2, 45, b'/']);
    }

    #[test]
    fn scrape_matches_bep_15() {
        let hashes = [InfoHash([1; 20]), InfoHash([2; 20])];
        let sent = emit(
            &Request::Scrape {
                connection: 5,
                hashes: &hashes,
            },
            Family::V4,
        );
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0x11, 0x22, 0x33, 0x44];
        expected.extend([1; 20]);
        expected.extend([2; 20]);
        assert_eq!(sent, expected);
        let body = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        let answer = scrape_answer(&body, 2);
        let first = ScrapeFile {
            complete: 1,
            downloaded: 2,
            incomplete: 3,
        };
        assert_eq!(answer.files, [Some(first), None]);
    }

    #[test]
    fn nothing_is_written_beyond_a_short_buffer() {
        let r = request();
        let request = Request::Announce {
            connection: 1,
            request: &r,
            path: "/a",
        };
        for len in 0..102 {
            assert_eq!(request.emit(1, Family::V4, &mut vec![0; len]), None);
        }
        assert_eq!(request.emit(1, Family::V4, &mut [0; 102]), Some(102));
    }

    #[test]
    fn announce_answers_follow_the_family_of_the_socket() {
        let mut data = vec![0, 0, 0, 1, 0x11, 0x22, 0x33, 0x44];
        data.extend([0, 0, 7, 8, 0, 0, 0, 2, 0, 0, 0, 1]);
        data.extend([
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1a, 0xe1,
        ]);
        assert_eq!(transaction(&data), Some(0x1122_3344));
        let Some(Response::Announce(response)) = Response::parse(&data) else {
            panic!("an announce answer");
        };
        let v6 = response.answer(Family::V6);
        assert_eq!(v6.interval, Some(Duration::from_secs(1800)));
        assert_eq!((v6.complete, v6.incomplete), (Some(1), Some(2)));
        assert_eq!(v6.peers, ["[2001:db8::1]:6881".parse().unwrap()]);
        // The same 18 bytes over IPv4 are three peers, of which only the first can be dialled.
        let v4 = response.answer(Family::V4);
        assert_eq!(v4.peers.len(), 0, "port 0, unspecified, unspecified");
    }

    #[test]
    fn errors_carry_their_text() {
        let data = [0, 0, 0, 3, 0, 0, 0, 9, b'n', b'o'];
        assert_eq!(Response::parse(&data), Some(Response::Error(b"no")));
    }

    quickcheck! {
        /// Law 6: hostile bytes never panic, and never yield more peers than the bound.
        fn any_answer_is_survived(action: u8, body: Vec<u8>) -> bool {
            let mut data = vec![0, 0, 0, action % 5, 1, 2, 3, 4];
            data.extend(&body);
            match Response::parse(&data) {
                Some(Response::Announce(r)) => {
                    r.answer(Family::V4).peers.len() <= body.len() / 6
                        && r.answer(Family::V6).peers.len() <= body.len() / 18
                }
                Some(Response::Scrape(b)) => scrape_answer(b, body.len()).files.len() <= MAX_SCRAPE,
                Some(Response::Connect { .. }) => body.len() >= 8,
                Some(Response::Error(b)) => b == body,
                None => action % 5 == 4 || body.len() < 12,
            }
        }
    }
}
