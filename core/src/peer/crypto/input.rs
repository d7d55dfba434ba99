//! Received bytes that no step of the handshake has used yet.

use alloc::vec::Vec;

use super::MseError;
use crate::wire::mse::{MAX_PAD, Rc4Stream};

/// A buffer that is filled at its end and consumed from its start.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Where the unused part begins; at most `bytes.len()`.
    at: usize,
}

impl Input {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// The number of bytes held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next `len` bytes, once all of them have arrived.
    pub(super) fn take(&mut self, len: usize) -> Option<&mut [u8]> {
        let (start, end) = (self.at, self.at.checked_add(len)?);
        let taken = self.bytes.get_mut(start..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.rest().first_chunk().copied()?;
        self.at += N;
        Some(taken)
    }

    /// Consumes a padding of unknown length and the `mark` after it; `false` if it has not arrived.
    /// `skipped` is the length of the padding consumed so far, 0 at first, so that no byte is searched
    /// twice.
    pub(super) fn skip_past(&mut self, mark: &[u8], skipped: &mut usize) -> Result<bool, MseError> {
        let rest = self.rest();
        let reach = (MAX_PAD + mark.len()).saturating_sub(*skipped);
        let window = rest.get(..reach).unwrap_or(rest);
        if let Some(found) = window.windows(mark.len()).position(|w| w == mark) {
            self.at += found + mark.len();
            return Ok(true);
        }
        // The last bytes may be the start of the mark.
        let gone = (window.len() + 1).saturating_sub(mark.len());
        self.at += gone;
        *skipped += gone;
        if *skipped > MAX_PAD {
            return Err(MseError::NoSync);
        }
        Ok(false)
    }

    /// Decrypts the next `len` bytes in place, once all of them have arrived, without consuming them.
    pub(super) fn decrypt_next(&mut self, len: usize, rx: &mut Rc4Stream) -> bool {
        let Some(next) = self.bytes.get_mut(self.at..).and_then(|b| b.get_mut(..len)) else {
            return false;
        };
        rx.apply(next);
        true
    }

    /// Takes everything that is left.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        self.compact();
        core::mem::take(&mut self.bytes)
    }

    /// Frees what is consumed.
    pub(super) fn compact(&mut self) {
        self.bytes.drain(..self.at);
        self.at = 0;
    }
}

impl core::fmt::Debug for Input {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Input({} bytes)", self.rest().len())
    }
}
