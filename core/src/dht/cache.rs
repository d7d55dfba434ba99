//! The table between sessions, in the format of rTorrent's `rtorrent.dht_cache`.
//!
//! ```text
//! { contacts: [[host, port], …], nodes: { id: { i: IPv4, p: port, t: last heard }, … }, self_id: id }
//! ```
//!
//! `i` is the IPv4 address as a number, `t` in seconds since 1970. IPv6 nodes are kept under keys
//! that rTorrent ignores: `nodes6`, where `i` is a string of 16 bytes, and `self_id6`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bendy::encoding::{Encoder, Error as EmitError, SingleItemEncoder};

use super::{Contact, Saved};
use crate::NodeId;
use crate::metainfo::HostPort;
use crate::wire::bencode::{self, Dict, Limits};
use crate::wire::tracker::dialable;

/// The longest file that is read, in bytes. Our choice: about 15 000 nodes.
pub(crate) const MAX_LEN: usize = 1 << 20;
/// The most nodes of each family that are read. Our choice: more than any table holds.
#[doc(hidden)]
pub const MAX_NODES: usize = 4096;
/// Most contacts that are read (S15).
#[doc(hidden)]
pub const MAX_CONTACTS: usize = 64;

/// Limits of the parser: a node takes a key, a dictionary and three pairs.
const LIMITS: Limits = Limits {
    depth: 8,
    items: 1 << 17,
};

/// Why a cache cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheError {
    /// Longer than 1 MiB.
    TooLong,
    /// The file is not one bencoded dictionary: it is cut off, or was never a cache.
    Bencode(bencode::Error),
    /// Something follows the dictionary, at this offset.
    Trailing(usize),
    /// The value of this key is invalid.
    Field(&'static str),
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the DHT cache is longer than {MAX_LEN} bytes"),
            Self::Bencode(error) => write!(f, "the DHT cache is damaged: {error}"),
            Self::Trailing(at) => {
                write!(
                    f,
                    "the DHT cache is damaged: it goes on after its end (byte {at})"
                )
            }
            Self::Field(key) => write!(f, "the DHT cache is damaged: `{key}` makes no sense"),
        }
    }
}

impl core::error::Error for CacheError {}

/// Returns the content of the file. `unix_now` is in seconds since 1970.
#[must_use]
pub fn encode(saved: &Saved, unix_now: u64) -> Vec<u8> {
    // Sorted, and the last of several entries with one id, because a dictionary has each key once.
    let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
    for (contact, age) in &saved.nodes {
        let heard = unix_now.saturating_sub(u64::from(*age));
        let port = contact.addr.port();
        match contact.addr.ip().to_canonical() {
            IpAddr::V4(ip) => _ = v4.insert(contact.id.0, (ip.to_bits(), port, heard)),
            IpAddr::V6(ip) => _ = v6.insert(contact.id.0, (ip.octets(), port, heard)),
        }
    }
    let mut out = Encoder::new().with_max_depth(4);
    let written = out.emit_dict(|mut d| {
        d.emit_pair_with(b"contacts", |e| emit_contacts(e, &saved.contacts))?;
        d.emit_pair_with(b"nodes", |e| {
            e.emit_dict(|mut nodes| {
                for (id, (ip, port, heard)) in &v4 {
                    nodes.emit_pair_with(id, |e| {
                        e.emit_dict(|mut node| {
                            node.emit_pair(b"i", ip)?;
                            node.emit_pair(b"p", port)?;
                            node.emit_pair(b"t", heard)
                        })
                    })?;
                }
                Ok(())
            })
        })?;
        if !v6.is_empty() {
            d.emit_pair_with(b"nodes6", |e| {
                e.emit_dict(|mut nodes| {
                    for (id, (ip, port, heard)) in &v6 {
                        nodes.emit_pair_with(id, |e| {
                            e.emit_dict(|mut node| {
                                node.emit_pair_with(b"i", |e| e.emit_bytes(ip))?;
                                node.emit_pair(b"p", port)?;
                                node.emit_pair(b"t", heard)
                            })
                        })?;
                    }
                    Ok(())
                })
            })?;
        }
        if let Some(id) = saved.id {
            d.emit_pair_with(b"self_id", |e| e.emit_bytes(&id.0))?;
        }
        if let Some(id) = saved.id6 {
            d.emit_pair_with(b"self_id6", |e| e.emit_bytes(&id.0))?;
        }
        Ok(())
    });
    // Keys are sorted above and the depth is fixed, so encoding cannot fail.
    written.and_then(|()| out.get_output()).unwrap_or_default()
}

fn emit_contacts(e: SingleItemEncoder<'_>, contacts: &[HostPort]) -> Result<(), EmitError> {
    e.emit_list(|list| {
        for contact in contacts {
            list.emit_list(|pair| {
                pair.emit_str(&contact.host)?;
                pair.emit_int(contact.port)
            })?;
        }
        Ok(())
    })
}

/// Reads the content of the file. `unix_now` is in seconds since 1970. Malformed entries are skipped, and so are
/// those beyond the limits.
///
/// # Errors
/// [`CacheError`] if the file as a whole is damaged; the node then starts without it.
pub fn decode(data: &[u8], unix_now: u64) -> Result<Saved, CacheError> {
    if data.len() > MAX_LEN {
        return Err(CacheError::TooLong);
    }
    let (dict, rest) = Dict::parse(data, LIMITS).map_err(CacheError::Bencode)?;
    if !rest.is_empty() {
        return Err(CacheError::Trailing(data.len() - rest.len()));
    }
    let mut saved = Saved {
        id: own_id(dict, "self_id")?,
        id6: own_id(dict, "self_id6")?,
        ..Saved::default()
    };
    for (key, v6) in [("nodes", false), ("nodes6", true)] {
        let Some(nodes) = dict.get(key.as_bytes()) else {
            continue;
        };
        let nodes = nodes.dict().ok_or(CacheError::Field(key))?;
        let nodes = nodes.iter().filter_map(|(id, node)| {
            let node = node.dict()?;
            let id = NodeId(id.try_into().ok()?);
            let ip = if v6 {
                IpAddr::V6(Ipv6Addr::from(
                    <[u8; 16]>::try_from(node.bytes(b"i")?).ok()?,
                ))
            } else {
                let ip = node.uint(b"i")?;
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(ip).ok()?))
            };
            let port = u16::try_from(node.uint(b"p")?).ok()?;
            let addr = SocketAddr::new(ip, port);
            // If the clock was set back since, the age is 0.
            let age = unix_now.saturating_sub(node.uint(b"t")?);
            let age = u32::try_from(age).unwrap_or(u32::MAX);
            dialable(&addr).then_some((Contact { id, addr }, age))
        });
        saved.nodes.extend(nodes.take(MAX_NODES));
    }
    if let Some(contacts) = dict.get(b"contacts") {
        let contacts = contacts.list().ok_or(CacheError::Field("contacts"))?;
        let contacts = contacts.iter().filter_map(|pair| {
            let mut pair = pair.list()?.iter();
            let (host, port) = (pair.next()?.str()?, pair.next()?.uint()?);
            HostPort::new(host, u16::try_from(port).ok()?)
        });
        saved.contacts.extend(contacts.take(MAX_CONTACTS));
    }
    Ok(saved)
}

fn own_id(dict: Dict<'_>, key: &'static str) -> Result<Option<NodeId>, CacheError> {
    let Some(id) = dict.get(key.as_bytes()) else {
        return Ok(None);
    };
    let id = id.bytes().and_then(|id| id.try_into().ok());
    id.map(|id| Some(NodeId(id))).ok_or(CacheError::Field(key))
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use quickcheck::quickcheck;

    use super::*;

    /// Written by rTorrent 0.9.8 in a private DHT on loopback addresses.
    const SAMPLE: &[u8] = include_bytes!("../../tests/data/rtorrent.dht_cache");
    const NOW: u64 = 1_795_166_337 + 100;

    #[test]
    fn a_real_cache_is_read_and_written_back_byte_for_byte() {
        let saved = decode(SAMPLE, NOW).unwrap();
        assert_eq!(saved.nodes.len(), 29);
        let (first, age) = saved.nodes[0];
        assert_eq!(first.addr, "127.0.100.17:20000".parse().unwrap());
        assert_eq!(
            first.id.to_string(),
            "071e9ac1cc52bec5f65510bb0c678db56f8e76cb"
        );
        assert_eq!(age, 100);
        assert_eq!(
            saved.id.unwrap().to_string(),
            "8669ee202b468b4f91165733e113cc9c9faf2a18"
        );
        assert_eq!((saved.id6, saved.contacts.len()), (None, 0));
        assert_eq!(encode(&saved, NOW), SAMPLE);
    }

    #[test]
    fn both_families_and_contacts_come_back() {
        let contact = |n: u8, addr: &str| Contact {
            id: NodeId([n; 20]),
            addr: addr.parse().unwrap(),
        };
        let saved = Saved {
            id: Some(NodeId([1; 20])),
            id6: Some(NodeId([2; 20])),
            nodes: Vec::from([
                (contact(3, "198.51.100.1:6881"), 0),
                (contact(9, "203.0.113.9:1"), 1_000_000),
                (contact(3, "[2001:db8::1]:6881"), 5),
            ]),
            contacts: Vec::from([
                HostPort::new("router.example", 6881).unwrap(),
                HostPort::new("2001:db8::7", 1).unwrap(),
            ]),
        };
        let bytes = encode(&saved, NOW);
        assert_eq!(decode(&bytes, NOW), Ok(saved));
        assert!(
            bytes.starts_with(b"d8:contactsll14:router.examplei6881eel11:2001:db8::7i1eee5:nodesd")
        );
    }

    #[test]
    fn a_damaged_cache_is_refused_and_damaged_entries_are_left_out() {
        for cut in 0..SAMPLE.len() {
            assert!(matches!(
                decode(&SAMPLE[..cut], NOW),
                Err(CacheError::Bencode(_))
            ));
        }
        let more = [SAMPLE, b"x"].concat();
        assert_eq!(decode(&more, NOW), Err(CacheError::Trailing(SAMPLE.len())));
        assert_eq!(decode(&[b'd'; MAX_LEN + 1], NOW), Err(CacheError::TooLong));
        assert_eq!(
            decode(b"d5:nodesle7:self_id2:abe", NOW),
            Err(CacheError::Field("self_id"))
        );
        assert_eq!(decode(b"d5:nodeslee", NOW), Err(CacheError::Field("nodes")));
        assert_eq!(
            decode(b"d8:contactsdee", NOW),
            Err(CacheError::Field("contacts"))
        );
        assert_eq!(decode(b"de", NOW), Ok(Saved::default()));
        let odd = format!(
            "d8:contactsl4:oopsli1ei2eel3:a/bi1eel1:ai0eel1:bi7eee5:nodesd\
             3:abcd1:ii1e1:pi1e1:ti1ee20:{0}1d1:ii4294967296e1:pi1e1:ti1ee\
             20:{0}2d1:ii16909060e1:pi0e1:ti1ee20:{0}3d1:ii16909060e1:pi1ee\
             20:{0}4le20:{0}5d1:ii16909060e1:pi1e1:ti99999999999eeee",
            "n".repeat(19)
        );
        let saved = decode(odd.as_bytes(), NOW).unwrap();
        assert_eq!(saved.contacts, [HostPort::new("b", 7).unwrap()]);
        let ages: Vec<_> = saved.nodes.iter().map(|(c, age)| (c.addr, *age)).collect();
        assert_eq!(ages, [("1.2.3.4:1".parse().unwrap(), 0)]);
    }

    quickcheck! {
        fn any_table_comes_back(nodes: Vec<(u128, u32, u32, u16)>, own: Option<u64>) -> bool {
            let nodes: BTreeMap<_, _> = nodes.into_iter().filter_map(|(id, ip, age, port)| {
                let mut full = [7; 20];
                full[..16].copy_from_slice(&id.to_be_bytes());
                let addr = SocketAddr::new(IpAddr::V4(ip.into()), port);
                dialable(&addr).then_some((full, (addr, age)))
            }).collect();
            let saved = Saved {
                id: own.map(|own| NodeId([own as u8; 20])),
                nodes: nodes.into_iter()
                    .map(|(id, (addr, age))| (Contact { id: NodeId(id), addr }, age))
                    .collect(),
                ..Saved::default()
            };
            decode(&encode(&saved, 1 << 33), 1 << 33) == Ok(saved)
        }

        fn wounds_are_survived(wounds: Vec<(usize, u8)>) -> bool {
            let mut data = SAMPLE.to_vec();
            for (at, byte) in wounds {
                let at = at % data.len();
                data[at] = if byte < 128 { b"0123456789:ilde-"[usize::from(byte % 16)] } else { byte };
            }
            decode(&data, NOW).map_or_else(|e| !e.to_string().is_empty(), |s| s.nodes.len() <= MAX_NODES)
        }
    }
}
