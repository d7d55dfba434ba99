//! RC4 as MSE uses it.
//!
//! Implemented here because it is all that encryption costs per byte: the `rc4` crate, which the
//! tests compare it with, keeps its state in bytes, waits for each store before the next load, and
//! is about three times slower.

/// Bytes of the key stream that are discarded, as its start reveals the key (MSE, "the first 1024 bytes").
const DISCARD: usize = 1024;

/// One direction of an encrypted connection: a key stream and the place reached in it.
pub struct Rc4Stream {
    /// A permutation of 0..=255; whole words, so that no load waits for part of a register.
    state: [u32; 256],
    /// Index of the next step, 0..=255.
    i: u32,
    /// Sum of the steps so far, 0..=255.
    j: u32,
}

impl Rc4Stream {
    /// The key stream of `key`, after the discarded start.
    #[must_use]
    pub fn new(key: &[u8; 20]) -> Self {
        let mut this = Self::scheduled(key);
        this.apply(&mut [0; DISCARD]);
        this
    }

    /// The key schedule; `key` is not empty.
    fn scheduled(key: &[u8]) -> Self {
        let mut state = core::array::from_fn(|n| n as u32);
        let mut j = 0u8;
        for (i, byte) in (0..state.len()).zip(key.iter().cycle()) {
            j = j.wrapping_add(state[i] as u8).wrapping_add(*byte);
            state.swap(i, usize::from(j));
        }
        Self { state, i: 1, j: 0 }
    }

    /// Encrypts or decrypts the next `data.len()` bytes of the stream, in place.
    pub fn apply(&mut self, data: &mut [u8]) {
        let ahead = self.state[self.i as usize & 255];
        let mut walk = Walk {
            state: &mut self.state,
            i: self.i,
            j: self.j,
            ahead,
        };
        let (words, rest) = data.as_chunks_mut::<8>();
        for word in words {
            let key = core::array::from_fn(|_| walk.step());
            *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(key)).to_ne_bytes();
        }
        for byte in rest {
            *byte ^= walk.step();
        }
        (self.i, self.j) = (walk.i, walk.j);
    }
}

/// A stream while it runs, with its indices in registers.
struct Walk<'a> {
    state: &'a mut [u32; 256],
    i: u32,
    j: u32,
    /// `state[i]`, loaded one step early so that it need not wait for that step's stores.
    ahead: u32,
}

impl Walk<'_> {
    #[inline(always)]
    fn step(&mut self) -> u8 {
        // The masks are the arithmetic modulo 256, and spare the bounds checks.
        let (i, x) = (self.i, self.ahead);
        let next = (i + 1) & 255;
        let loaded = self.state[next as usize & 255];
        self.j = (self.j + x) & 255;
        let y = self.state[self.j as usize & 255];
        self.state[i as usize & 255] = y;
        self.state[self.j as usize & 255] = x;
        // The one store that the early load can have missed.
        self.ahead = if next == self.j { x } else { loaded };
        self.i = next;
        self.state[(x + y) as usize & 255] as u8
    }
}

impl core::fmt::Debug for Rc4Stream {
    /// Does not print the state, as it is as secret as the key.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rc4Stream")
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use ::rc4::{KeyInit, Rc4, StreamCipher};
    use quickcheck::quickcheck;

    use super::*;

    /// RFC 6229 §2, 40-bit key 0x0102030405, offsets 0 and 1024.
    #[test]
    fn stream_matches_rfc_6229() {
        let mut out = [0; DISCARD + 16];
        Rc4Stream::scheduled(&[1, 2, 3, 4, 5]).apply(&mut out);
        let at = |n: usize| u128::from_be_bytes(*out[n..].first_chunk().unwrap());
        assert_eq!(at(0), 0xb239_6305_f03d_c027_ccc3_524a_0a11_18a8);
        assert_eq!(at(1024), 0x30ab_bcc7_c20b_0160_9f23_ee2d_5f6b_b7df);
    }

    quickcheck! {
        /// In parts of any length, it is the same stream as another implementation's.
        fn stream_matches_the_rc4_crate(key: Vec<u8>, parts: Vec<Vec<u8>>) -> bool {
            let mut bytes = [7; 20];
            bytes.iter_mut().zip(&key).for_each(|(b, k)| *b = *k);
            let mut theirs = Rc4::new_from_slice(&bytes).unwrap();
            theirs.apply_keystream(&mut [0; DISCARD]);
            let mut ours = Rc4Stream::new(&bytes);
            parts.into_iter().all(|part| {
                let (mut a, mut b) = (part.clone(), part);
                ours.apply(&mut a);
                theirs.apply_keystream(&mut b);
                a == b
            })
        }
    }
}
