//! Items that nodes keep for others (BEP 44), and the pointer to a torrent that one may be (BEP 46).
//!
//! An immutable item is found under the hash of its value. A mutable one is found under the hash
//! of a public key (and a salt, so that one key may own several); its owner signs each version.

use alloc::vec::Vec;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha1::{Digest, Sha1};

use crate::hash::sha1;
use crate::wire::bencode::{Dict, Limits};
use crate::wire::krpc::{Item, is_canonical};
use crate::{InfoHash, NodeId};

/// Longest value, as bencode, in bytes (BEP 44).
pub const MAX_VALUE: usize = 1000;
pub use crate::wire::krpc::MAX_SALT;
/// Longest signed text: `4:salt64:` salt `3:seqi-9223372036854775808e1:v` value.
const MAX_SIGNED: usize = 9 + MAX_SALT + 30 + MAX_VALUE;

/// Why an item is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A field is missing or malformed, or the value is not canonical bencode.
    Malformed,
    /// The value is longer than [`MAX_VALUE`].
    TooBig,
    /// The signature does not verify.
    BadSignature,
    /// The salt is longer than [`MAX_SALT`].
    SaltTooBig,
    /// The version that `cas` expects is not the one that is kept.
    CasMismatch,
    /// The version that is kept is newer, or is the same with another value.
    Old,
}

impl Refusal {
    /// The code of the error message (BEP 5, 44).
    #[must_use]
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::Malformed => 203,
            Self::TooBig => 205,
            Self::BadSignature => 206,
            Self::SaltTooBig => 207,
            Self::CasMismatch => 301,
            Self::Old => 302,
        }
    }

    /// The text of the error message.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed item.",
            Self::TooBig => "Value too big.",
            Self::BadSignature => "Invalid signature.",
            Self::SaltTooBig => "Salt too big.",
            Self::CasMismatch => "CAS mismatch.",
            Self::Old => "Sequence number too old.",
        }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Refusal {}

/// The target of an immutable item; `value` is bencode.
#[must_use]
pub fn immutable_target(value: &[u8]) -> NodeId {
    NodeId(sha1(value))
}

/// The target of the mutable items of `key` under `salt`.
#[must_use]
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> NodeId {
    NodeId(
        Sha1::new()
            .chain_update(key)
            .chain_update(salt)
            .finalize()
            .into(),
    )
}

/// Checks what a `put` brings as far as that is possible without knowing what is stored already, and returns the
/// target that it belongs to.
///
/// # Errors
/// Why it is refused. The signature is verified last, because that is the most expensive check.
pub(crate) fn check(item: &Item<'_>) -> Result<NodeId, Refusal> {
    let value = item
        .v
        .filter(|_| !item.malformed)
        .ok_or(Refusal::Malformed)?;
    if value.len() > MAX_VALUE {
        return Err(Refusal::TooBig);
    }
    let salt = item.salt.unwrap_or_default();
    if salt.len() > MAX_SALT {
        return Err(Refusal::SaltTooBig);
    }
    if !is_canonical(value) {
        return Err(Refusal::Malformed);
    }
    match (item.k, item.sig, item.seq) {
        (None, None, None) => Ok(immutable_target(value)),
        (Some(key), Some(sig), Some(seq)) if seq >= 0 => {
            if verify(key, salt, seq, value, sig) {
                Ok(mutable_target(key, salt))
            } else {
                Err(Refusal::BadSignature)
            }
        }
        _ => Err(Refusal::Malformed),
    }
}

/// Whether version `seq` with `value` may take the place of `kept_seq` with `kept_value`. The same
/// version with the same value may: that renews it.
///
/// # Errors
/// [`Refusal::CasMismatch`] or [`Refusal::Old`].
pub(crate) fn check_update(
    (kept_seq, kept_value): (i64, &[u8]),
    (seq, value): (i64, &[u8]),
    cas: Option<i64>,
) -> Result<(), Refusal> {
    if cas.is_some_and(|cas| cas != kept_seq) {
        return Err(Refusal::CasMismatch);
    }
    if seq < kept_seq || seq == kept_seq && value != kept_value {
        return Err(Refusal::Old);
    }
    Ok(())
}

/// Whether the owner of `key` signed this version of the item under `salt`; `value` is bencode.
/// Weak keys, for which anybody could have signed, are rejected.
#[must_use]
pub fn verify(key: &[u8; 32], salt: &[u8], seq: i64, value: &[u8], sig: &[u8; 64]) -> bool {
    let (Some(text), Ok(key)) = (signed(salt, seq, value), VerifyingKey::from_bytes(key)) else {
        return false;
    };
    key.verify_strict(&text, &Signature::from_bytes(sig))
        .is_ok()
}

/// Signs a version of the item under `salt`; `value` is bencode.
///
/// # Errors
/// [`Refusal::TooBig`], [`Refusal::SaltTooBig`], [`Refusal::Malformed`] if `value` is not canonical
/// bencode or `seq` is negative, because no node would store it.
pub fn sign(secret: &[u8; 32], salt: &[u8], seq: i64, value: &[u8]) -> Result<[u8; 64], Refusal> {
    if salt.len() > MAX_SALT {
        return Err(Refusal::SaltTooBig);
    }
    let text = signed(salt, seq, value).ok_or(Refusal::TooBig)?;
    if seq < 0 || !is_canonical(value) {
        return Err(Refusal::Malformed);
    }
    Ok(SigningKey::from_bytes(secret).sign(&text).to_bytes())
}

/// The public key of a secret one: 32 random bytes, the seed of RFC 8032 §5.1.5.
#[must_use]
pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(secret).verifying_key().to_bytes()
}

/// The text that a signature covers (BEP 44); `None` if value or salt are too long.
fn signed(salt: &[u8], seq: i64, value: &[u8]) -> Option<heapless::Vec<u8, MAX_SIGNED>> {
    if salt.len() > MAX_SALT || value.len() > MAX_VALUE {
        return None;
    }
    let mut text = heapless::Vec::new();
    let mut numbers = heapless::String::<48>::new();
    if !salt.is_empty() {
        core::fmt::write(&mut numbers, format_args!("4:salt{}:", salt.len())).ok()?;
        text.extend_from_slice(numbers.as_bytes()).ok()?;
        text.extend_from_slice(salt).ok()?;
        numbers.clear();
    }
    core::fmt::write(&mut numbers, format_args!("3:seqi{seq}e1:v")).ok()?;
    text.extend_from_slice(numbers.as_bytes()).ok()?;
    text.extend_from_slice(value).ok()?;
    Some(text)
}

/// The torrent that an item points to (BEP 46): a dictionary with its info-hash as `ih`.
#[must_use]
pub fn read_pointer(value: &[u8]) -> Option<InfoHash> {
    let (dict, _) = Dict::parse(value, Limits::MESSAGE).ok()?;
    Some(InfoHash(dict.bytes(b"ih")?.try_into().ok()?))
}

/// An item's value that points to a torrent (BEP 46).
#[must_use]
pub fn pointer(torrent: InfoHash) -> Vec<u8> {
    [b"d2:ih20:", &torrent.0[..], b"e"].concat()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use data_encoding::HEXLOWER;
    use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
    use quickcheck::quickcheck;
    use sha2::Sha512;

    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER
            .decode(text.as_bytes())
            .unwrap()
            .try_into()
            .unwrap()
    }

    const VALUE: &[u8] = b"12:Hello World!";
    const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
    /// The expanded key: no seed is known for it.
    const SECRET: &str = "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74db7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d";
    const TESTS: [(&str, &str, &str, &str); 2] = [
        (
            "",
            "3:seqi1e1:v12:Hello World!",
            "4a533d47ec9c7d95b1ad75f576cffc641853b750",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
        ),
        (
            "foobar",
            "4:salt6:foobar3:seqi1e1:v12:Hello World!",
            "411eba73b6f087ca51a3795d9c8c938d365e32c1",
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17ddf9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
        ),
    ];

    #[test]
    fn bep44_mutable_examples() {
        let key = hex::<32>(KEY);
        let secret = ExpandedSecretKey::from_bytes(&hex::<64>(SECRET));
        for (salt, text, target, sig) in TESTS {
            let (salt, sig) = (salt.as_bytes(), hex::<64>(sig));
            assert_eq!(signed(salt, 1, VALUE).unwrap(), text.as_bytes());
            assert_eq!(mutable_target(&key, salt), NodeId(hex(target)));
            assert!(verify(&key, salt, 1, VALUE, &sig));
            assert!(!verify(&key, salt, 2, VALUE, &sig));
            assert!(!verify(&key, b"salz", 1, VALUE, &sig));
            assert!(!verify(&key, salt, 1, b"12:Hello world!", &sig));
            let public = VerifyingKey::from_bytes(&key).unwrap();
            let again = raw_sign::<Sha512>(&secret, text.as_bytes(), &public);
            assert_eq!(again.to_bytes(), sig);
        }
    }

    #[test]
    fn bep44_immutable_example() {
        let target = NodeId(hex("e5f96f6f38320f0f33959cb4d3d656452117aadb"));
        assert_eq!(immutable_target(VALUE), target);
        let item = Item {
            v: Some(VALUE),
            ..Item::default()
        };
        assert_eq!(check(&item), Ok(target));
    }

    #[test]
    fn bep46_targets_and_pointer() {
        let key = hex("8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e");
        let plain = NodeId(hex("cc3f9d90b572172053626f9980ce261a850d050b"));
        let salted = NodeId(hex("59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f"));
        assert_eq!(mutable_target(&key, b""), plain);
        assert_eq!(mutable_target(&key, b"n"), salted);
        let torrent = InfoHash([7; 20]);
        assert_eq!(read_pointer(&pointer(torrent)), Some(torrent));
        assert!(is_canonical(&pointer(torrent)));
        assert_eq!(read_pointer(b"d2:ih19:0123456789012345678e"), None);
        assert_eq!(read_pointer(VALUE), None);
    }

    #[test]
    fn every_refusal_has_its_code() {
        let (key, sig) = (hex::<32>(KEY), hex::<64>(TESTS[0].3));
        let good = Item {
            v: Some(VALUE),
            k: Some(&key),
            sig: Some(&sig),
            seq: Some(1),
            ..Item::default()
        };
        let big = [b"998:", &vec![b'x'; 998][..]].concat();
        let code = |item: Item<'_>| check(&item).map_err(Refusal::code);
        assert_eq!(code(good), Ok(mutable_target(&key, b"")));
        assert_eq!(code(Item { v: None, ..good }), Err(203));
        assert_eq!(code(Item { sig: None, ..good }), Err(203));
        assert_eq!(code(Item { k: None, ..good }), Err(203));
        assert_eq!(code(Item { seq: None, ..good }), Err(203));
        assert_eq!(
            code(Item {
                seq: Some(-1),
                ..good
            }),
            Err(203)
        );
        assert_eq!(
            code(Item {
                malformed: true,
                ..good
            }),
            Err(203)
        );
        assert_eq!(
            code(Item {
                v: Some(b"i01e"),
                ..good
            }),
            Err(203)
        );
        assert_eq!(
            code(Item {
                v: Some(&big),
                ..good
            }),
            Err(205)
        );
        assert_eq!(
            code(Item {
                seq: Some(2),
                ..good
            }),
            Err(206)
        );
        assert_eq!(
            code(Item {
                salt: Some(&[b's'; 65]),
                ..good
            }),
            Err(207)
        );
        let update = |kept, new, cas| check_update(kept, new, cas).map_err(Refusal::code);
        assert_eq!(update((4, b"1:a"), (5, b"1:b"), None), Ok(()));
        assert_eq!(update((4, b"1:a"), (5, b"1:b"), Some(4)), Ok(()));
        assert_eq!(update((4, b"1:a"), (5, b"1:b"), Some(3)), Err(301));
        assert_eq!(update((4, b"1:a"), (4, b"1:a"), None), Ok(()));
        assert_eq!(update((4, b"1:a"), (4, b"1:b"), None), Err(302));
        assert_eq!(update((4, b"1:a"), (3, b"1:a"), None), Err(302));
    }

    quickcheck! {
        fn what_is_signed_is_kept(seed: (u128, u128), salt: Vec<u8>, seq: i64, text: Vec<u8>) -> bool {
            let secret: [u8; 32] =
                [seed.0.to_le_bytes(), seed.1.to_le_bytes()].concat().try_into().unwrap();
            let value = [alloc::format!("{}:", text.len()).as_bytes(), &text].concat();
            let key = public_key(&secret);
            match sign(&secret, &salt, seq, &value) {
                Err(Refusal::SaltTooBig) => salt.len() > MAX_SALT,
                Err(Refusal::TooBig) => value.len() > MAX_VALUE,
                Err(why) => why == Refusal::Malformed && seq < 0,
                Ok(sig) => {
                    let item = Item {
                        v: Some(&value),
                        k: Some(&key),
                        sig: Some(&sig),
                        seq: Some(seq),
                        salt: Some(&salt),
                        ..Item::default()
                    };
                    check(&item) == Ok(mutable_target(&key, &salt))
                }
            }
        }
    }
}
