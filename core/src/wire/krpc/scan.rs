//! A scanner for bencode from the network (BEP 3): each call reads one token or one value.
//!
//! It accepts the same deviations as `wire::bencode`: leading zeros, unsorted and duplicate keys. Its
//! limits are those of a datagram: deeper nesting or more items than a message needs are refused.

use super::Malformed;

/// Deepest nesting, the message itself being the first level. Our choice: the deepest message of the
/// BEPs has 3, and an item (BEP 44) may bring some of its own.
pub(super) const MAX_DEPTH: u32 = 10;
/// Most integers, strings, lists and dictionaries of a message, keys included. Our choice: an answer
/// that fills a datagram with peers has some 200.
pub(super) const MAX_ITEMS: u32 = 500;

/// An integer: whether it is negative, and its magnitude.
#[derive(Clone, Copy)]
pub(super) struct Int {
    negative: bool,
    magnitude: u64,
}

impl Int {
    pub(super) const fn is_zero(self) -> bool {
        self.magnitude == 0
    }

    /// The value, if it is not negative.
    pub(super) const fn unsigned(self) -> Option<u64> {
        if self.negative && self.magnitude != 0 {
            return None;
        }
        Some(self.magnitude)
    }

    /// The value, if it fits.
    pub(super) fn signed(self) -> Option<i64> {
        if self.negative {
            return 0i64.checked_sub_unsigned(self.magnitude);
        }
        i64::try_from(self.magnitude).ok()
    }
}

/// The position in the input, and the number of items that may still follow.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    rest: &'a [u8],
    items: u32,
}

impl<'a> Scan<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self {
            rest: data,
            items: MAX_ITEMS,
        }
    }

    /// Skips the rest of the input.
    pub(super) const fn finish(&mut self) {
        self.rest = &[];
    }

    #[inline]
    fn item(&mut self) -> Result<(), Malformed> {
        self.items = self.items.checked_sub(1).ok_or(Malformed)?;
        Ok(())
    }

    /// Enters a container that begins with `kind` (`d` or `l`); `false`, and nothing is read, if
    /// something else comes.
    #[inline]
    pub(super) fn enter(&mut self, kind: u8) -> Result<bool, Malformed> {
        match self.rest {
            [b, rest @ ..] if *b == kind => {
                self.item()?;
                self.rest = rest;
                Ok(true)
            }
            [] => Err(Malformed),
            _ => Ok(false),
        }
    }

    /// Leaves the container if it ends here.
    #[inline]
    pub(super) fn leave(&mut self) -> Result<bool, Malformed> {
        match self.rest {
            [b'e', rest @ ..] => {
                self.rest = rest;
                Ok(true)
            }
            [] => Err(Malformed),
            _ => Ok(false),
        }
    }

    /// The next token, which must be a string.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        self.item()?;
        let (len, rest) = match self.rest {
            [a @ b'0'..=b'9', b':', rest @ ..] => (usize::from(a - b'0'), rest),
            [a @ b'0'..=b'9', b @ b'0'..=b'9', b':', rest @ ..] => {
                (usize::from(a - b'0') * 10 + usize::from(b - b'0'), rest)
            }
            data => long_length(data)?,
        };
        let (string, rest) = rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(string)
    }

    /// The next string; `None` if it is something else, which is skipped. `depth` is how
    /// many containers are open.
    #[inline]
    pub(super) fn bytes(&mut self, depth: u32) -> Result<Option<&'a [u8]>, Malformed> {
        if matches!(self.rest, [b'0'..=b'9', ..]) {
            return self.string().map(Some);
        }
        self.skip(depth)?;
        Ok(None)
    }

    /// The next string of `N` bytes; `None` if it is something else, which is skipped.
    #[inline]
    pub(super) fn array<const N: usize>(
        &mut self,
        depth: u32,
    ) -> Result<Option<&'a [u8; N]>, Malformed> {
        Ok(self.bytes(depth)?.and_then(|s| s.try_into().ok()))
    }

    /// The next integer; `None` if it is something else, which is skipped.
    #[inline]
    pub(super) fn int(&mut self, depth: u32) -> Result<Option<Int>, Malformed> {
        if matches!(self.rest, [b'i', ..]) {
            return self.integer().map(Some);
        }
        self.skip(depth)?;
        Ok(None)
    }

    /// The next value, checked but not parsed.
    pub(super) fn raw(&mut self, depth: u32) -> Result<&'a [u8], Malformed> {
        let before = self.rest;
        self.skip(depth)?;
        before
            .get(..before.len() - self.rest.len())
            .ok_or(Malformed)
    }

    fn integer(&mut self) -> Result<Int, Malformed> {
        self.item()?;
        let (negative, digits) = match self.rest {
            [b'i', b'-', digits @ ..] => (true, digits),
            [b'i', digits @ ..] => (false, digits),
            _ => return Err(Malformed),
        };
        let (magnitude, rest) = decimal(digits, b'e')?;
        if negative && magnitude > i64::MIN.unsigned_abs() {
            return Err(Malformed);
        }
        self.rest = rest;
        Ok(Int {
            negative,
            magnitude,
        })
    }

    /// Skips a value of any type. The stack of open containers is the bits of a word.
    pub(super) fn skip(&mut self, depth: u32) -> Result<(), Malformed> {
        // Bit 0 of `dicts` says whether the innermost container is a dictionary.
        let (mut dicts, mut open) = (0u32, 0);
        let mut key_next = false;
        loop {
            match self.rest {
                [b'0'..=b'9', ..] => {
                    self.string()?;
                    if key_next {
                        key_next = false;
                        continue;
                    }
                }
                [b'i', ..] if !key_next => _ = self.integer()?,
                [b @ (b'l' | b'd'), rest @ ..] if !key_next => {
                    self.item()?;
                    if depth + open >= MAX_DEPTH {
                        return Err(Malformed);
                    }
                    self.rest = rest;
                    key_next = *b == b'd';
                    (dicts, open) = (dicts << 1 | u32::from(key_next), open + 1);
                    continue;
                }
                [b'e', rest @ ..] if open > 0 && (key_next || dicts & 1 == 0) => {
                    self.rest = rest;
                    (dicts, open) = (dicts >> 1, open - 1);
                }
                _ => return Err(Malformed),
            }
            // A value has ended: in a dictionary, a key is next.
            if open == 0 {
                return Ok(());
            }
            key_next = dicts & 1 == 1;
        }
    }
}

/// A length of three digits or more, and what follows its colon.
fn long_length(data: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let (len, rest) = decimal(data, b':')?;
    Ok((usize::try_from(len).map_err(|_| Malformed)?, rest))
}

/// The decimal number that `data` begins with, and what follows the `stop` after it.
#[inline]
fn decimal(data: &[u8], stop: u8) -> Result<(u64, &[u8]), Malformed> {
    let (mut n, mut rest) = (0u64, data);
    loop {
        match rest {
            [d @ b'0'..=b'9', more @ ..] => {
                n = n
                    .checked_mul(10)
                    .and_then(|n| n.checked_add(u64::from(d - b'0')))
                    .ok_or(Malformed)?;
                rest = more;
            }
            [b, more @ ..] if *b == stop && rest.len() < data.len() => return Ok((n, more)),
            _ => return Err(Malformed),
        }
    }
}

/// Whether `value` is exactly one value in canonical bencode: keys sorted and unique, numbers without
/// leading zeros. A `put` of anything else is refused, as two nodes might read it differently (BEP 44).
#[must_use]
pub fn is_canonical(value: &[u8]) -> bool {
    canonical(value).is_ok_and(<[u8]>::is_empty)
}

/// An open container: `None` is a list, else the last key of the dictionary.
type Open<'a> = Option<Option<&'a [u8]>>;

/// What follows the canonical value that `data` begins with.
fn canonical(data: &[u8]) -> Result<&[u8], Malformed> {
    let mut scan = Scan::new(data);
    let mut stack = heapless::Vec::<Open<'_>, { MAX_DEPTH as usize }>::new();
    let mut key_next = false;
    loop {
        let number = match scan.rest {
            [b'i', b'-', number @ ..] | [b'i', number @ ..] => number,
            number => number,
        };
        // `0` alone is a number; `-0`, `01` and `-01` are not the only way to write theirs.
        match (scan.rest, number) {
            ([b'i', b'-', b'0', ..], _) | (_, [b'0', b'0'..=b'9', ..]) => return Err(Malformed),
            _ => {}
        }
        match scan.rest {
            [b'e', ..] if !stack.is_empty() => {
                let list = matches!(stack.pop(), Some(None));
                if !list && !key_next {
                    return Err(Malformed);
                }
                scan.leave()?;
            }
            _ if key_next => {
                let key = scan.string()?;
                match stack.last_mut() {
                    Some(Some(last)) if last.is_none_or(|last| last < key) => *last = Some(key),
                    _ => return Err(Malformed),
                }
                key_next = false;
                continue;
            }
            [b @ (b'd' | b'l'), ..] => {
                scan.enter(*b)?;
                key_next = *b == b'd';
                stack
                    .push(key_next.then_some(None))
                    .map_err(|_| Malformed)?;
                continue;
            }
            [b'i', ..] => _ = scan.integer()?,
            _ => _ = scan.string()?,
        }
        match stack.last() {
            None => return Ok(scan.rest),
            Some(open) => key_next = open.is_some(),
        }
    }
}
