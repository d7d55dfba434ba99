//! A tolerant bencode reader for bytes from the network, which it borrows (BEP 3 "bencoding").
//!
//! ```text
//! bytes ──parse: one validating pass, no recursion, no allocation──▶ Dict ──get──▶ Value ──▶ bytes, int, list…
//! ```
//!
//! Deviations that occur in practice are accepted: unsorted keys, duplicate keys (the first one counts),
//! leading zeros, and bytes after the value (they are handed back: BEP 9 puts its payload there).
//! An integer that is beyond 64 bits or malformed is an integer without a value: it is an error
//! only where its value is needed.
//! Input that could be read in more than one way is refused. What Dunlin emits is written with
//! `bendy`, which writes canonical bencode only.
//!
//! [`Dict::parse`] checks the whole value; accessors then rely on that and do not check again.
//! A lookup scans the dictionary from its start and skips strings without reading them.

use core::fmt;

/// Limits on the structure that is parsed. The caller limits the number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most levels of nesting, the outermost list or dictionary being the first; at most
    /// [`Limits::MAX_DEPTH`].
    pub depth: u32,
    /// The most integers, strings, lists and dictionaries in all, keys included.
    pub items: u32,
}

impl Limits {
    /// The largest `depth`: the reader's stack is the bits of one word.
    pub const MAX_DEPTH: u32 = 64;

    /// For messages of peers, trackers and DHT nodes: none nests deeper than 4, and a full
    /// tracker answer of 1000 peers as dictionaries has some 7000 items.
    pub const MESSAGE: Self = Self {
        depth: 16,
        items: 10_000,
    };

    /// For torrent files: a v2 file tree nests as deep as its folders, and 2^19 files with their
    /// paths come to some millions of items.
    pub const TORRENT: Self = Self {
        depth: Self::MAX_DEPTH,
        items: 1 << 24,
    };
}

/// An error in bencode, with its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Offset of the offending byte in the input.
    pub at: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// The kinds of errors in bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The input ends inside a value.
    Truncated,
    /// No value begins with this byte.
    UnexpectedByte(u8),
    /// A dictionary key is not a string.
    KeyNotString,
    /// A dictionary ends after a key.
    KeyWithoutValue,
    /// The length of a string is not a decimal number, or an integer has other characters than
    /// those of numbers.
    BadNumber,
    /// The length of a string does not fit a `usize`.
    NumberTooLarge,
    /// Nested deeper than [`Limits::depth`].
    TooDeep,
    /// More than [`Limits::items`].
    TooManyItems,
    /// A valid value, but not a dictionary.
    NotDict,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the data ends in the middle of a value",
            Self::UnexpectedByte(b) => return write!(f, "no value begins with byte 0x{b:02x}"),
            Self::KeyNotString => "a dictionary key is not a string",
            Self::KeyWithoutValue => "a dictionary key has no value",
            Self::BadNumber => "a number is malformed",
            Self::NumberTooLarge => "a number is too large",
            Self::TooDeep => "values are nested too deeply",
            Self::TooManyItems => "there are too many values",
            Self::NotDict => "this is not a dictionary",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {})", self.fault, self.at)
    }
}

impl core::error::Error for Error {}

/// Any value, checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    raw: &'a [u8],
    at: usize,
}

/// A dictionary, checked. Keys come in the order they were sent in; of duplicates the first counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dict<'a>(Value<'a>);

/// A list, checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct List<'a>(Value<'a>);

/// The type of a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the four types of bencode")]
pub enum Kind {
    Int,
    Bytes,
    List,
    Dict,
}

impl<'a> Value<'a> {
    /// Reads the value that `data` begins with; also returns the bytes after it.
    pub fn parse(data: &'a [u8], limits: Limits) -> Result<(Self, &'a [u8]), Error> {
        let end = validate(data, limits)?;
        let (raw, rest) = data.split_at(end);
        Ok((Self { raw, at: 0 }, rest))
    }

    /// The bytes the value was read from.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Where [`Value::raw`] starts in the input that was parsed.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.raw.first() {
            Some(b'i') => Kind::Int,
            Some(b'l') => Kind::List,
            Some(b'd') => Kind::Dict,
            _ => Kind::Bytes,
        }
    }

    /// The content of a string.
    #[must_use]
    pub fn bytes(&self) -> Option<&'a [u8]> {
        let (start, end) = string(self.raw, 0).ok()?;
        self.raw.get(start..end)
    }

    /// The content of a string that is UTF-8.
    #[must_use]
    pub fn str(&self) -> Option<&'a str> {
        core::str::from_utf8(self.bytes()?).ok()
    }

    /// An integer that fits.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self.number()? {
            (false, n) => i64::try_from(n).ok(),
            (true, n) => 0i64.checked_sub_unsigned(n),
        }
    }

    /// An integer that is not negative.
    #[must_use]
    pub fn uint(&self) -> Option<u64> {
        let (negative, n) = self.number()?;
        (!negative || n == 0).then_some(n)
    }

    /// A list.
    #[must_use]
    pub fn list(self) -> Option<List<'a>> {
        (self.kind() == Kind::List).then_some(List(self))
    }

    /// A dictionary.
    #[must_use]
    pub fn dict(self) -> Option<Dict<'a>> {
        (self.kind() == Kind::Dict).then_some(Dict(self))
    }

    fn number(&self) -> Option<(bool, u64)> {
        match self.raw {
            [b'i', ..] => integer(self.raw),
            _ => None,
        }
    }

    /// The values inside a list or dictionary, keys among them.
    const fn inside(&self) -> Values<'a> {
        Values {
            rest: match self.raw {
                [_, inner @ .., _] => inner,
                _ => &[],
            },
            at: self.at + 1,
        }
    }
}

impl<'a> Dict<'a> {
    /// Reads the dictionary that `data` begins with; also returns the bytes after it.
    pub fn parse(data: &'a [u8], limits: Limits) -> Result<(Self, &'a [u8]), Error> {
        if data.first().is_some_and(|&b| b != b'd') {
            return Err(Error {
                at: 0,
                fault: Fault::NotDict,
            });
        }
        let (value, rest) = Value::parse(data, limits)?;
        Ok((Self(value), rest))
    }

    /// A dictionary that [`Dict::parse`] has accepted before.
    pub(crate) const fn trusted(raw: &'a [u8]) -> Self {
        Self(Value { raw, at: 0 })
    }

    /// The bytes the dictionary was read from: what a hash covers, and how long it was.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.0.raw
    }

    /// Where [`Dict::raw`] starts in the input that was parsed.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.0.at
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Value<'a>> {
        let mut inside = self.0.inside();
        while let Some(found) = inside.next_key() {
            if found == key {
                return inside.next();
            }
            inside.pass();
        }
        None
    }

    /// The string at `key`; `None` if there is no such key, or something else there.
    #[must_use]
    pub fn bytes(&self, key: &[u8]) -> Option<&'a [u8]> {
        self.get(key)?.bytes()
    }

    /// The UTF-8 string at `key`.
    #[must_use]
    pub fn str(&self, key: &[u8]) -> Option<&'a str> {
        self.get(key)?.str()
    }

    /// The integer at `key`.
    #[must_use]
    pub fn int(&self, key: &[u8]) -> Option<i64> {
        self.get(key)?.int()
    }

    /// The integer at `key`, if it is not negative.
    #[must_use]
    pub fn uint(&self, key: &[u8]) -> Option<u64> {
        self.get(key)?.uint()
    }

    /// The list at `key`.
    #[must_use]
    pub fn list(&self, key: &[u8]) -> Option<List<'a>> {
        self.get(key)?.list()
    }

    /// The dictionary at `key`.
    #[must_use]
    pub fn dict(&self, key: &[u8]) -> Option<Self> {
        self.get(key)?.dict()
    }

    /// All pairs, in the order sent, duplicates included.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let mut inside = self.0.inside();
        core::iter::from_fn(move || Some((inside.next_key()?, inside.next()?)))
    }
}

impl<'a> List<'a> {
    /// The bytes the list was read from.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.0.raw
    }

    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        self.0.inside()
    }

    /// Whether there are no values.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.raw.len() <= 2
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Kind::Int => match self.number() {
                Some((true, n)) => write!(f, "-{n}"),
                Some((false, n)) => write!(f, "{n}"),
                None => write!(f, "{}", self.raw.escape_ascii()),
            },
            Kind::Bytes => write!(f, "\"{}\"", self.bytes().unwrap_or(&[]).escape_ascii()),
            Kind::List => List(*self).fmt(f),
            Kind::Dict => Dict(*self).fmt(f),
        }
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.iter().map(|(key, v)| (key.escape_ascii(), v));
        let mut map = f.debug_map();
        pairs.for_each(|(key, v)| _ = map.entry(&format_args!("{key}"), &v));
        map.finish()
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Walks the validated inside of a list or dictionary.
#[derive(Clone, Copy)]
struct Values<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Values<'a> {
    fn take(&mut self, len: usize) -> Option<Value<'a>> {
        let (raw, rest) = self.rest.split_at_checked(len).filter(|_| len > 0)?;
        let value = Value { raw, at: self.at };
        self.rest = rest;
        self.at += len;
        Some(value)
    }

    fn next_key(&mut self) -> Option<&'a [u8]> {
        let (start, end) = string(self.rest, 0).ok()?;
        self.take(end)?.raw.get(start..)
    }

    fn pass(&mut self) {
        let len = span(self.rest);
        _ = self.take(len);
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.take(span(self.rest))
    }
}

/// Length of the validated value that `data` begins with; 0 at the end.
fn span(data: &[u8]) -> usize {
    let (mut pos, mut depth) = (0usize, 0usize);
    while let Some(&b) = data.get(pos) {
        match b {
            b'0'..=b'9' => match string(data, pos) {
                Ok((_, end)) => pos = end,
                Err(_) => return 0,
            },
            b'i' => {
                while data.get(pos).is_some_and(|&b| b != b'e') {
                    pos += 1;
                }
                pos += 1;
            }
            b'e' => {
                depth = depth.saturating_sub(1);
                pos += 1;
            }
            _ => {
                depth += 1;
                pos += 1;
            }
        }
        if depth == 0 {
            return pos.min(data.len());
        }
    }
    0
}

/// Checks the value that `data` begins with and finds its end. The stack of open containers is the
/// bits of one word, so deep nesting cannot exhaust anything.
fn validate(data: &[u8], limits: Limits) -> Result<usize, Error> {
    let max_depth = limits.depth.min(Limits::MAX_DEPTH);
    let (mut pos, mut items) = (0, limits.items);
    // Bit 0 of `dicts` says whether the innermost container is a dictionary.
    let (mut dicts, mut depth) = (0u64, 0u32);
    let mut key_next = false;
    loop {
        let fail = |fault| Err(Error { at: pos, fault });
        let Some(&b) = data.get(pos) else {
            return fail(Fault::Truncated);
        };
        if b == b'e' && depth > 0 {
            if dicts & 1 == 1 && !key_next {
                return fail(Fault::KeyWithoutValue);
            }
            (dicts, depth, pos) = (dicts >> 1, depth - 1, pos + 1);
        } else {
            let Some(left) = items.checked_sub(1) else {
                return fail(Fault::TooManyItems);
            };
            items = left;
            match b {
                b'0'..=b'9' => pos = string(data, pos)?.1,
                b'i' | b'l' | b'd' if key_next => return fail(Fault::KeyNotString),
                b'i' => pos = integer_end(data, pos)?,
                b'l' | b'd' => {
                    if depth == max_depth {
                        return fail(Fault::TooDeep);
                    }
                    (dicts, depth, pos) = (dicts << 1 | u64::from(b == b'd'), depth + 1, pos + 1);
                    key_next = b == b'd';
                    continue;
                }
                _ => return fail(Fault::UnexpectedByte(b)),
            }
            if key_next {
                key_next = false;
                continue;
            }
        }
        // A value has ended: in a dictionary, a key is next.
        key_next = dicts & 1 == 1;
        if depth == 0 {
            return Ok(pos);
        }
    }
}

/// Start and end of the content of the string at `pos`.
fn string(data: &[u8], pos: usize) -> Result<(usize, usize), Error> {
    let (len, start) = digits(data, pos, b':')?;
    let end = usize::try_from(len)
        .ok()
        .and_then(|len| start.checked_add(len));
    match end {
        Some(end) if end <= data.len() => Ok((start, end)),
        _ => Err(Error {
            at: pos,
            fault: Fault::Truncated,
        }),
    }
}

/// Sign and magnitude of an integer, if it is written as one and fits.
fn integer(raw: &[u8]) -> Option<(bool, u64)> {
    let (negative, start) = match raw.get(1)? {
        b'-' => (true, 2),
        b'+' => (false, 2),
        _ => (false, 1),
    };
    let (n, _) = digits(raw, start, b'e').ok()?;
    (!negative || n <= i64::MIN.unsigned_abs()).then_some((negative, n))
}

/// The end of the integer whose `i` is at `pos`, whether or not its value fits.
fn integer_end(data: &[u8], pos: usize) -> Result<usize, Error> {
    let mut at = pos + 1;
    loop {
        let fault = match data.get(at) {
            Some(b'e') => return Ok(at + 1),
            Some(b'0'..=b'9' | b'+' | b'-' | b'.') => {
                at += 1;
                continue;
            }
            Some(_) => Fault::BadNumber,
            None => Fault::Truncated,
        };
        return Err(Error { at, fault });
    }
}

/// The decimal number at `start`, which ends with `stop`, and the position after it.
fn digits(data: &[u8], start: usize, stop: u8) -> Result<(u64, usize), Error> {
    let mut n = 0u64;
    let mut at = start;
    loop {
        let fail = |fault| Err(Error { at, fault });
        match data.get(at) {
            None => return fail(Fault::Truncated),
            Some(&b) if b.is_ascii_digit() => {
                let Some(next) = n
                    .checked_mul(10)
                    .and_then(|n| n.checked_add(u64::from(b - b'0')))
                else {
                    return fail(Fault::NumberTooLarge);
                };
                n = next;
            }
            Some(&b) if b == stop && at > start => return Ok((n, at + 1)),
            Some(_) => return fail(Fault::BadNumber),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests;
