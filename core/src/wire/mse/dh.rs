//! Diffie-Hellman over the 768-bit group of MSE (the first Oakley group, RFC 2409 §6.1, with
//! generator 2).

use crypto_bigint::{U192, U768, modular::ConstMontyForm, modular::ConstMontyParams};

use crate::machine::Cx;

/// Bytes of a public key and of the secret, big endian (MSE, "Prime P is a 768 bit safe prime").
pub const KEY_LEN: usize = 96;
/// Bits of a private exponent: more than 160 gain nothing against this prime (MSE, "Xa and Xb").
const EXPONENT_BITS: u32 = 160;

// The macro declares its params type public; this module keeps it private.
crypto_bigint::const_monty_params!(
    Prime,
    U768,
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74\
     020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437\
     4FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
    "The prime P of MSE."
);

type Element = ConstMontyForm<Prime, { U768::LIMBS }>;

/// A public key as it goes over the wire.
pub type PublicKey = [u8; KEY_LEN];

/// The private half of one handshake; never used twice.
#[derive(Clone)]
pub struct PrivateKey(U192);

impl PrivateKey {
    /// A fresh exponent.
    #[must_use]
    pub fn random(cx: &mut Cx<'_>) -> Self {
        let mut exponent = [0; (EXPONENT_BITS / 8) as usize];
        cx.rng.fill_bytes(&mut exponent);
        Self::from_bytes(&exponent)
    }

    fn from_bytes(exponent: &[u8; (EXPONENT_BITS / 8) as usize]) -> Self {
        let mut wide = [0; 24];
        wide[4..].copy_from_slice(exponent);
        Self(U192::from_be_slice(&wide))
    }

    /// `2^x mod P`. One exponentiation.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        bytes(&self.power(&U768::from_u8(2)))
    }

    /// `theirs^x mod P`. One exponentiation.
    ///
    /// `None` if the key is not within `2..=P-2`: the others make the secret known to everybody
    /// (0, 1, P-1) or come from no honest peer.
    #[must_use]
    pub fn agree(&self, theirs: &PublicKey) -> Option<Secret> {
        let theirs = U768::from_be_slice(theirs);
        let top = Prime::PARAMS.modulus().get().wrapping_sub(&U768::ONE);
        if theirs <= U768::ONE || theirs >= top {
            return None;
        }
        Some(Secret(bytes(&self.power(&theirs))))
    }

    fn power(&self, base: &U768) -> U768 {
        Element::new(base)
            .pow_bounded_exp(&self.0, EXPONENT_BITS)
            .retrieve()
    }
}

impl core::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// The secret that both sides share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; KEY_LEN]);

impl Secret {
    /// The number, big endian, with leading zeros.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Whether the first byte is zero.
    #[must_use]
    pub const fn begins_with_zero(&self) -> bool {
        self.0[0] == 0
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}

fn bytes(number: &U768) -> [u8; KEY_LEN] {
    let mut out = [0; KEY_LEN];
    out.copy_from_slice(number.to_be_bytes().as_slice());
    out
}

#[cfg(test)]
pub(super) mod tests {
    use alloc::vec::Vec;

    use data_encoding::HEXLOWER;
    use quickcheck::quickcheck;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::time::Instant;

    // Computed with Python's pow() for the exponents of `pair`.
    const YA: &[u8] = b"96e112dab29e8c5272accb9b17b26887ce54a144a4e3b697c7d159b7a817e556\
                        b0918db2b4c658e02a87f7e5fb14b18a553e084cbf3dad2d30f16596ccb982d4\
                        06258c61b30c5c1dae2ddc60bdbd48d79896312aad63238c39e1a633821eb693";
    const YB: &[u8] = b"d32ae8cedd0de9ca4fe67e35626bb8c7cdb0966727d899f6a62fdb2b68817f9d\
                        dc4b684e3eb34030b8dba4e028b7cff3264020340cb4eab61923cdc4e4216ba8\
                        73368d83f0a38e497f1f6b4e3d2012eb91a3ee6056f966f9eae732089b6fa46e";
    const S: &[u8] = b"d05ed96a95215a89b44073afe5d0b1626289ac01cff7849392948b2470b34654\
                       7e944d7562a897ae86976bc389999083ec09572dbdc8ed7f6a0a86a1aa42a3ca\
                       04209b72d8239890360435640643b76479ed7836f1857963fcc7cb72084c3ab4";

    /// Private keys with the exponents 01..14 and 65..78 (hex, big endian).
    pub(in crate::wire::mse) fn pair() -> (PrivateKey, PrivateKey) {
        (
            PrivateKey::from_bytes(&core::array::from_fn(|i| 1 + i as u8)),
            PrivateKey::from_bytes(&core::array::from_fn(|i| 101 + i as u8)),
        )
    }

    fn hex(text: &[u8]) -> Vec<u8> {
        HEXLOWER.decode(text).unwrap()
    }

    #[test]
    fn keys_and_secret_match_an_independent_computation() {
        let (a, b) = pair();
        assert_eq!(a.public()[..], hex(YA));
        assert_eq!(b.public()[..], hex(YB));
        assert_eq!(a.agree(&b.public()).unwrap().as_bytes()[..], hex(S));
        assert_eq!(b.agree(&a.public()).unwrap().as_bytes()[..], hex(S));
    }

    #[test]
    fn keys_that_give_the_secret_away_are_refused() {
        let (key, _) = pair();
        let p = Prime::PARAMS.modulus().get();
        let below = |n: u8| p.wrapping_sub(&U768::from_u8(n));
        for refused in [U768::ZERO, U768::ONE, below(1), below(0), U768::MAX] {
            assert_eq!(key.agree(&bytes(&refused)), None, "{refused}");
        }
        for taken in [U768::from_u8(2), below(2)] {
            assert!(key.agree(&bytes(&taken)).is_some(), "{taken}");
        }
    }

    quickcheck! {
        fn both_sides_agree(seed: u64) -> bool {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut cx = Cx { now: Instant::from_micros(1), rng: &mut rng };
            let (a, b) = (PrivateKey::random(&mut cx), PrivateKey::random(&mut cx));
            let secret = a.agree(&b.public());
            secret.is_some() && secret == b.agree(&a.public())
        }
    }
}
