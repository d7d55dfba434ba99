//! Message stream encryption (MSE/PE): its constants, hashes, key exchange and cipher.
//!
//! The specification is the Vuze wiki's "Message Stream Encryption", called MSE here:
//!
//! ```text
//! 1  A→B  Ya, PadA
//! 2  B→A  Yb, PadB
//! 3  A→B  H("req1" S), H("req2" SKEY) ^ H("req3" S),
//!         RC4(VC, crypto_provide, len PadC, PadC, len IA), RC4(IA)
//! 4  B→A  RC4(VC, crypto_select, len PadD, PadD), then the stream by the selected method
//! 5  A→B  the stream by the selected method
//! ```
//!
//! `S` is the Diffie-Hellman secret, `SKEY` the info hash, `H` SHA-1. A sends under
//! `H("keyA" S SKEY)`, B under `H("keyB" S SKEY)`. This hides the protocol from simple
//! traffic filters; it authenticates nobody. The handshake itself is [`crate::peer::crypto`].

use sha1::{Digest, Sha1};

use crate::id::InfoHash;

mod dh;
mod rc4;

pub use dh::{KEY_LEN, PrivateKey, PublicKey, Secret};
pub use rc4::Rc4Stream;

/// The most bytes of each of the four paddings (MSE, "PadA … PadD").
pub const MAX_PAD: usize = 512;
/// The verification constant: a side that decrypts to it has the right key (MSE, "VC").
pub const VC: [u8; 8] = [0; 8];
/// Bit of `crypto_provide` and `crypto_select`: nothing is encrypted after the handshake.
pub const METHOD_PLAINTEXT: u32 = 1;
/// Bit of `crypto_provide` and `crypto_select`: RC4 goes on after the handshake.
pub const METHOD_RC4: u32 = 2;

/// How a plaintext connection starts (BEP 3).
const PLAIN_START: &[u8; 20] = b"\x13BitTorrent protocol";

fn digest(label: &[u8; 4], parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new_with_prefix(label);
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// `H("req1" S)`: where step 3 begins, after a padding of unknown length.
#[must_use]
pub fn req1(secret: &Secret) -> [u8; 20] {
    digest(b"req1", &[secret.as_bytes()])
}

/// `H("req2" SKEY)`: how an incoming handshake names the torrent.
#[must_use]
pub fn req2(info_hash: &InfoHash) -> [u8; 20] {
    digest(b"req2", &[&info_hash.0])
}

/// `H("req3" S)`: masks the name of the torrent.
#[must_use]
pub fn req3(secret: &Secret) -> [u8; 20] {
    digest(b"req3", &[secret.as_bytes()])
}

/// The cipher of the side that opened the connection ("keyA").
#[must_use]
pub fn cipher_a(secret: &Secret, skey: &InfoHash) -> Rc4Stream {
    Rc4Stream::new(&digest(b"keyA", &[secret.as_bytes(), &skey.0]))
}

/// The cipher of the side that accepted the connection ("keyB").
#[must_use]
pub fn cipher_b(secret: &Secret, skey: &InfoHash) -> Rc4Stream {
    Rc4Stream::new(&digest(b"keyB", &[secret.as_bytes(), &skey.0]))
}

/// Tells a plaintext BitTorrent handshake from an encrypted one by the first bytes received.
///
/// `None` as long as they could be either. A public key that happens to begin with the 20 bytes
/// of the plaintext start is taken for one; that happens once in 2^160.
#[must_use]
pub fn looks_like_plain(first: &[u8]) -> Option<bool> {
    let len = first.len().min(PLAIN_START.len());
    if first.get(..len) != PLAIN_START.get(..len) {
        return Some(false);
    }
    (len == PLAIN_START.len()).then_some(true)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use quickcheck::quickcheck;

    use super::*;

    use alloc::vec::Vec;

    // Computed with Python's pow() and hashlib for the private exponents 01..14 and 65..78 (20
    // bytes, hex, big endian) and the info hash 40..53.
    const REQ1: &[u8] = b"78fffb0f23055a793ff7609f359e04e383ec3505";
    const REQ2: &[u8] = b"41211f37ae932232dbdb147991836a6ff8dcaf4e";
    const REQ3: &[u8] = b"3b47152f695ef0d8d12be9fba7fd92922faf45e8";
    const KEY_A_STREAM: &[u8] = b"ffa0a24392d0a7640ffbe234900855b03cc6a1cddc53acbe0c873de6e5a4c66f";

    fn hex(text: &[u8]) -> Vec<u8> {
        HEXLOWER.decode(text).unwrap()
    }

    fn secret() -> Secret {
        let (a, b) = dh::tests::pair();
        a.agree(&b.public()).unwrap()
    }

    fn skey() -> InfoHash {
        InfoHash(core::array::from_fn(|i| 0x40 + i as u8))
    }

    #[test]
    fn hashes_match_an_independent_computation() {
        assert_eq!(req1(&secret())[..], hex(REQ1));
        assert_eq!(req2(&skey())[..], hex(REQ2));
        assert_eq!(req3(&secret())[..], hex(REQ3));
    }

    #[test]
    fn key_stream_matches_an_independent_computation() {
        let mut stream = [0; 32];
        cipher_a(&secret(), &skey()).apply(&mut stream);
        assert_eq!(stream[..], hex(KEY_A_STREAM));
    }

    #[test]
    fn plain_start_is_told_as_early_as_it_can_be() {
        assert_eq!(looks_like_plain(b""), None);
        assert_eq!(looks_like_plain(b"\x14"), Some(false));
        assert_eq!(looks_like_plain(b"\x13BitTorrent protoco"), None);
        assert_eq!(looks_like_plain(PLAIN_START), Some(true));
        assert_eq!(looks_like_plain(b"\x13BitTorrent protocol\0\0"), Some(true));
        assert_eq!(looks_like_plain(b"\x13BitTorrent protocoL"), Some(false));
    }

    quickcheck! {
        fn only_the_plain_start_is_plain(data: Vec<u8>) -> bool {
            looks_like_plain(&data) == match PLAIN_START.starts_with(&data) {
                true => None,
                false => Some(data.starts_with(PLAIN_START)),
            }
        }
    }
}
