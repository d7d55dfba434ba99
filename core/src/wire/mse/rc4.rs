//! RC4 as MSE uses it.

use ::rc4::{KeyInit, Rc4, StreamCipher};

/// Key stream that is thrown away, as its start betrays the key (MSE, "the first 1024 bytes").
const DISCARD: usize = 1024;

/// One direction of an encrypted connection: a key stream and the place reached in it.
pub struct Rc4Stream(Rc4);

impl Rc4Stream {
    /// The stream of `key`, past the discarded start.
    #[must_use]
    pub fn new(key: &[u8; 20]) -> Self {
        Self::discarding(key)
    }

    fn discarding(key: &[u8]) -> Self {
        // RC4 takes keys of 1 to 256 bytes, and ours has 20.
        #[expect(clippy::expect_used, reason = "the length is checked by the type")]
        let mut cipher = Rc4::new_from_slice(key).expect("a key of legal length");
        cipher.apply_keystream(&mut [0; DISCARD]);
        Self(cipher)
    }

    /// Encrypts or decrypts the next `data.len()` bytes of the stream, in place.
    pub fn apply(&mut self, data: &mut [u8]) {
        self.0.apply_keystream(data);
    }
}

impl core::fmt::Debug for Rc4Stream {
    /// Without the state, which is the key.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rc4Stream")
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use quickcheck::quickcheck;

    use super::*;

    /// RFC 6229 §2, 40-bit key 0x0102030405, offset 1024.
    #[test]
    fn stream_after_the_discard_matches_rfc_6229() {
        let mut out = [0; 16];
        Rc4Stream::discarding(&[1, 2, 3, 4, 5]).apply(&mut out);
        assert_eq!(
            u128::from_be_bytes(out),
            0x30ab_bcc7_c20b_0160_9f23_ee2d_5f6b_b7df
        );
    }

    quickcheck! {
        /// Where the calls are cut does not matter.
        fn applying_in_parts_is_applying_at_once(key: Vec<u8>, data: Vec<u8>, cut: usize) -> bool {
            let mut bytes = [7; 20];
            bytes.iter_mut().zip(&key).for_each(|(b, k)| *b = *k);
            let (mut whole, mut parts) = (data.clone(), data);
            Rc4Stream::new(&bytes).apply(&mut whole);
            let cut = cut % (parts.len() + 1);
            let mut stream = Rc4Stream::new(&bytes);
            let (left, right) = parts.split_at_mut(cut);
            stream.apply(left);
            stream.apply(right);
            whole == parts
        }
    }
}
