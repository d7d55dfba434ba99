//! Magnet links (BEP 9 "magnet URI format", BEP 46, BEP 53).

use alloc::{string::String, vec::Vec};
use core::{fmt, ops::RangeInclusive, str::FromStr};

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{HostPort, Info, MAX_ADDRESSES, Torrent};
use crate::{InfoHash, sync::Arc, wire::krpc::MAX_SALT};

/// The longest link that is parsed, in bytes; links with a hundred trackers have some 8 KiB.
const MAX_LEN: usize = 64 << 10;
/// The most ranges of files (`so`).
const MAX_RANGES: usize = 4096;

/// Characters that are not escaped (RFC 3986 §2.3, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// In `x.pe` the characters of addresses are not escaped either: some clients do not decode them.
const ESCAPED_IN_ADDRESS: &AsciiSet = &ESCAPED.remove(b':').remove(b'[').remove(b']');

/// The key of a mutable item in the DHT that holds the info-hash (BEP 46).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutableKey {
    /// The Ed25519 public key.
    pub key: [u8; 32],
    /// At most 64 bytes; often empty.
    pub salt: Vec<u8>,
}

/// A magnet link: the identity of a torrent and where to ask for it. A link that was parsed has an
/// info-hash, a key, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// `xt`: the info-hash. `None` if [`Magnet::key`] has to be looked up first.
    pub info_hash: Option<InfoHash>,
    /// `xs=urn:btpk:` and `s`: the key under which the DHT holds the current info-hash (BEP 46).
    pub key: Option<MutableKey>,
    /// `dn`: a name to show until the metadata is known.
    pub name: Option<String>,
    /// `tr`: trackers, one tier each.
    pub trackers: Vec<String>,
    /// `x.pe`: peers to try.
    pub peers: Vec<HostPort>,
    /// `ws`: web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// `xs` other than [`Magnet::key`]: sources of the torrent file. They are kept, but not used.
    pub sources: Vec<String>,
    /// `so`: indices of the wanted files (BEP 53); empty means all.
    pub select: Vec<RangeInclusive<u32>>,
}

/// The reason why a text is not a usable magnet link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MagnetError {
    /// It does not start with `magnet:?`, or with `magnet:`, slashes and `?`.
    NotMagnet,
    /// It is longer than 64 KiB.
    TooLong,
    /// It has neither `xt=urn:btih:` nor `xs=urn:btpk:`.
    NoHash,
    /// It has only `xs=urn:btpk:` where an info-hash is needed: the DHT has to be asked first (BEP 46).
    KeyOnly,
    /// The key is not 64 hex digits, or the salt not an even number of them up to 128.
    BadKey,
    /// It has only `xt=urn:btmh:` (BEP 52).
    V2Only,
    /// The hash is neither 40 hex digits nor 32 of base32.
    BadHash,
}

/// A part of a magnet link that was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MagnetWarning {
    /// `so` is not a list of file numbers and ranges (BEP 53), and is ignored.
    BadSelection,
}

impl fmt::Display for MagnetWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadSelection => {
                "the file selection `so=` in the magnet link is not like `0,2,4-7` and is ignored: all files are meant"
            }
        })
    }
}

impl fmt::Display for MagnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMagnet => "this is not a magnet link: it does not begin with `magnet:?`",
            Self::TooLong => "the magnet link is longer than 64 KiB; remove some of its trackers",
            Self::NoHash => {
                "the magnet link names no torrent: `xt=urn:btih:` and a hash is missing; copy the whole link, in quotes"
            }
            Self::KeyOnly => {
                "the magnet link names a key (`xs=urn:btpk:`), and the DHT has to be asked first which torrent that is"
            }
            Self::BadKey => {
                "the key after `xs=urn:btpk:` has not 64 hexadecimal digits, or the salt after `s=` not an even number of up to 128; copy the whole link"
            }
            Self::V2Only => {
                "the magnet link names a BitTorrent v2 torrent (`urn:btmh:`), and Dunlin can fetch v1 and hybrid; look for a link with `urn:btih:`"
            }
            Self::BadHash => {
                "the hash after `xt=urn:btih:` has neither 40 hexadecimal nor 32 base32 digits; copy the whole link"
            }
        })
    }
}

impl core::error::Error for MagnetError {}

impl Magnet {
    /// A link with this info-hash only.
    #[must_use]
    pub fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash: Some(info_hash),
            ..Self::empty()
        }
    }

    /// A link with this key of an item in the DHT only (BEP 46).
    #[must_use]
    #[cfg(test)]
    pub(super) fn of_key(key: MutableKey) -> Self {
        Self {
            key: Some(key),
            ..Self::empty()
        }
    }

    const fn empty() -> Self {
        Self {
            info_hash: None,
            key: None,
            name: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            web_seeds: Vec::new(),
            sources: Vec::new(),
            select: Vec::new(),
        }
    }

    /// Whether file `index` is wanted.
    #[must_use]
    pub fn selects(&self, index: u32) -> bool {
        self.select.is_empty() || self.select.iter().any(|range| range.contains(&index))
    }

    /// The torrent, once its info dictionary is known.
    #[must_use]
    pub fn torrent(&self, info: Arc<Info>) -> Torrent {
        let mut torrent = Torrent::new(info);
        torrent.trackers = self
            .trackers
            .iter()
            .map(|t| Vec::from([t.clone()]))
            .collect();
        torrent.web_seeds.clone_from(&self.web_seeds);
        torrent
    }

    /// Parses a link. Also returns which parts with a meaning were ignored.
    ///
    /// Unknown parameters, and invalid trackers and peers, are skipped. `+` is a space in `dn` only: in a
    /// URL it stands for itself. See [`bare`] for what may surround a link.
    ///
    /// # Errors
    /// It is not a magnet link, or does not identify a torrent.
    pub fn read(link: &str) -> Result<(Self, Vec<MagnetWarning>), MagnetError> {
        let mut warnings = Vec::new();
        let magnet = Self::parse(link, &mut warnings)?;
        Ok((magnet, warnings))
    }

    fn parse(link: &str, warnings: &mut Vec<MagnetWarning>) -> Result<Self, MagnetError> {
        let link = bare(link);
        if link.len() > MAX_LEN {
            return Err(MagnetError::TooLong);
        }
        let query = strip_prefix(link, "magnet:")
            // Programs that take the link for a URL with a host add slashes.
            .and_then(|rest| rest.trim_start_matches('/').strip_prefix('?'))
            .ok_or(MagnetError::NotMagnet)?;
        let mut magnet = Self::empty();
        let (mut v2, mut salt) = (false, None);
        for parameter in query.split('&') {
            // Links copied out of a page's source have `&amp;`.
            let parameter = parameter.strip_prefix("amp;").unwrap_or(parameter);
            let Some((key, value)) = parameter.split_once('=') else {
                continue;
            };
            match key_of(&key.to_ascii_lowercase()) {
                "xt" => match exact_topic(&decode(value))? {
                    Topic::V1(hash) if magnet.info_hash.is_none() => magnet.info_hash = Some(hash),
                    Topic::V2 => v2 = true,
                    _ => {}
                },
                "dn" if magnet.name.is_none() => {
                    magnet.name = Some(decode(&value.replace('+', " "))).filter(|s| !s.is_empty());
                }
                "tr" => add(&mut magnet.trackers, decode(value)),
                "ws" => add(&mut magnet.web_seeds, decode(value)),
                "xs" => {
                    let source = decode(value);
                    match strip_prefix(&source, "urn:btpk:") {
                        None => add(&mut magnet.sources, source),
                        Some(_) if magnet.key.is_some() => {}
                        Some(key) => magnet.key = Some(public_key(key)?),
                    }
                }
                // Elsewhere `s` may have another meaning: it is a salt only with a key.
                "s" if salt.is_none() => salt = Some(decode(value)),
                "x.pe" => {
                    if let Ok(peer) = decode(value).parse()
                        && magnet.peers.len() < MAX_ADDRESSES
                    {
                        magnet.peers.push(peer);
                    }
                }
                "so" => match parse_ranges(&decode(value), MAX_RANGES - magnet.select.len()) {
                    Some(ranges) => magnet.select.extend(ranges),
                    None if warnings.is_empty() => warnings.push(MagnetWarning::BadSelection),
                    None => {}
                },
                _ => {}
            }
        }
        if let (Some(key), Some(salt)) = (&mut magnet.key, salt) {
            key.salt = HEXLOWER_PERMISSIVE
                .decode(salt.trim().as_bytes())
                .ok()
                .filter(|salt| salt.len() <= MAX_SALT)
                .ok_or(MagnetError::BadKey)?;
        }
        match (magnet.info_hash, &magnet.key) {
            (None, None) if v2 => Err(MagnetError::V2Only),
            (None, None) => Err(MagnetError::NoHash),
            _ => Ok(magnet),
        }
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    /// [`Magnet::read`] without the warnings.
    fn from_str(link: &str) -> Result<Self, MagnetError> {
        Self::read(link).map(|(magnet, _)| magnet)
    }
}

/// Text that was copied, without the blanks, quotes or brackets around it.
#[must_use]
pub fn bare(text: &str) -> &str {
    const PAIRS: [(char, char); 8] = [
        ('"', '"'),
        ('\'', '\''),
        ('`', '`'),
        ('<', '>'),
        ('“', '”'),
        ('‘', '’'),
        ('„', '“'),
        ('«', '»'),
    ];
    let blank = |c: char| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}');
    let mut text = text.trim_matches(blank);
    // Scripts may add one more pair of quotes.
    for _ in 0..2 {
        let inside = |&(open, close): &(char, char)| text.strip_prefix(open)?.strip_suffix(close);
        match PAIRS.iter().find_map(inside) {
            Some(inner) => text = inner.trim_matches(blank),
            None => break,
        }
    }
    text
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        if let Some(hash) = &self.info_hash {
            write!(f, "xt=urn:btih:{hash}")?;
        }
        if let Some(MutableKey { key, salt }) = &self.key {
            let separator = if self.info_hash.is_some() { "&" } else { "" };
            write!(f, "{separator}xs=urn:btpk:")?;
            key.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
            if !salt.is_empty() {
                f.write_str("&s=")?;
                salt.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
            }
        }
        let texts = (self.name.iter().map(|n| ("dn", n)))
            .chain(self.trackers.iter().map(|t| ("tr", t)))
            .chain(self.web_seeds.iter().map(|w| ("ws", w)))
            .chain(self.sources.iter().map(|s| ("xs", s)));
        for (key, value) in texts {
            write!(f, "&{key}={}", utf8_percent_encode(value, ESCAPED))?;
        }
        for peer in &self.peers {
            let peer = alloc::format!("{peer}");
            write!(
                f,
                "&x.pe={}",
                utf8_percent_encode(&peer, ESCAPED_IN_ADDRESS)
            )?;
        }
        for (i, range) in self.select.iter().enumerate() {
            f.write_str(if i == 0 { "&so=" } else { "," })?;
            match (range.start(), range.end()) {
                (from, to) if from == to => write!(f, "{from}")?,
                (from, to) => write!(f, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}

enum Topic {
    V1(InfoHash),
    V2,
    Other,
}

fn exact_topic(urn: &str) -> Result<Topic, MagnetError> {
    if strip_prefix(urn, "urn:btmh:").is_some() {
        return Ok(Topic::V2);
    }
    let Some(hash) = strip_prefix(urn, "urn:btih:") else {
        return Ok(Topic::Other);
    };
    let hash = hash.trim().as_bytes();
    let mut out = [0; 20];
    let decoded = match hash.len() {
        40 => HEXLOWER_PERMISSIVE.decode_mut(hash, &mut out),
        32 => BASE32_NOPAD.decode_mut(&hash.to_ascii_uppercase(), &mut out),
        _ => return Err(MagnetError::BadHash),
    };
    decoded
        .map(|_| Topic::V1(InfoHash(out)))
        .map_err(|_| MagnetError::BadHash)
}

fn public_key(hex: &str) -> Result<MutableKey, MagnetError> {
    let key = HEXLOWER_PERMISSIVE.decode(hex.trim().as_bytes());
    let key = key.ok().and_then(|key| key.try_into().ok());
    Ok(MutableKey {
        key: key.ok_or(MagnetError::BadKey)?,
        salt: Vec::new(),
    })
}

/// The key of `tr.2` is `tr`: some programs number repeated keys.
fn key_of(key: &str) -> &str {
    match key.split_once('.') {
        Some((name, n)) if n.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => key,
    }
}

fn decode(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

fn add(list: &mut Vec<String>, url: String) {
    if list.len() < MAX_ADDRESSES && !url.is_empty() && !list.contains(&url) {
        list.push(url);
    }
}

fn strip_prefix<'a>(s: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = s.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// BEP 53: `0,2,4-7`. `None` if it is something else, or more than `room` ranges.
fn parse_ranges(list: &str, room: usize) -> Option<Vec<RangeInclusive<u32>>> {
    let number = |s: &str| s.trim().parse::<u32>().ok();
    let mut out = Vec::new();
    for part in list.split(',').filter(|part| !part.trim().is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(from)?, number(to)?);
        if from > to || out.len() == room {
            return None;
        }
        out.push(from..=to);
    }
    Some(out)
}
impl Torrent {
    /// A magnet link to the torrent.
    #[must_use]
    pub fn magnet(&self) -> Magnet {
        let mut magnet = Magnet::new(self.info.info_hash());
        magnet.name = Some(self.info.name().into());
        magnet.trackers = self.trackers.iter().flatten().cloned().collect();
        magnet.web_seeds.clone_from(&self.web_seeds);
        magnet
    }
}
