//! Write tokens (BEP 5): who announces or puts must have asked us before, from the same address.
//!
//! A token is a keyed hash of who asked for what, so that none is kept. The key is replaced every
//! five minutes and the one before it still counts: a token lives five to ten minutes.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use siphasher::sip::SipHasher24;

use crate::{Cx, Instant, NodeId};

/// Bytes of a token. Ours: 64 bits cannot be guessed in ten minutes of datagrams.
pub const TOKEN_LEN: usize = 8;
/// How long a key makes tokens (BEP 5: "the secret changes every five minutes").
pub const EPOCH: Duration = Duration::from_secs(300);

/// A key of SipHash.
type Key = (u64, u64);

/// Makes and checks tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    current: Key,
    previous: Key,
    /// When `current` has served its time.
    until: Instant,
}

impl Tokens {
    /// Draws the first keys.
    pub fn new(cx: &mut Cx<'_>) -> Self {
        Self {
            current: draw(cx),
            // Nobody can have a token of an epoch that never was.
            previous: draw(cx),
            until: cx.now + EPOCH,
        }
    }

    /// Draws a new key if it is time; a call too early does nothing. After a long sleep no old
    /// token counts.
    pub fn rotate(&mut self, cx: &mut Cx<'_>) {
        if cx.now < self.until {
            return;
        }
        let overslept = cx.now >= self.until + EPOCH;
        self.previous = if overslept { draw(cx) } else { self.current };
        self.current = draw(cx);
        self.until = cx.now + EPOCH;
    }

    /// When [`Tokens::rotate`] is due.
    #[must_use]
    pub const fn next_rotation(&self) -> Instant {
        self.until
    }

    /// The token for the node `id` at `addr`, valid for `hash` alone.
    #[must_use]
    pub fn make(&self, addr: &SocketAddr, id: &NodeId, hash: &NodeId) -> [u8; TOKEN_LEN] {
        mac(self.current, addr, id, hash).to_le_bytes()
    }

    /// Whether `token` is one that we made for the same node, address and hash, lately.
    #[must_use]
    pub fn check(&self, addr: &SocketAddr, id: &NodeId, hash: &NodeId, token: &[u8]) -> bool {
        let Ok(token) = <[u8; TOKEN_LEN]>::try_from(token) else {
            return false;
        };
        // Whole words are compared: the time taken tells nothing of how much of a forgery is right.
        let token = u64::from_le_bytes(token);
        let made_with = |key| mac(key, addr, id, hash) == token;
        made_with(self.current) || made_with(self.previous)
    }
}

fn draw(cx: &mut Cx<'_>) -> Key {
    (cx.rng.next_u64(), cx.rng.next_u64())
}

fn mac(key: Key, addr: &SocketAddr, id: &NodeId, hash: &NodeId) -> u64 {
    // A layout of its own for each family: nothing can be shifted from one field into the next.
    let mut input = [0; 58];
    let len = match addr.ip() {
        IpAddr::V4(ip) => {
            input[42..46].copy_from_slice(&ip.octets());
            46
        }
        IpAddr::V6(ip) => {
            input[42..].copy_from_slice(&ip.octets());
            58
        }
    };
    input[..20].copy_from_slice(&id.0);
    input[20..40].copy_from_slice(&hash.0);
    input[40..42].copy_from_slice(&addr.port().to_be_bytes());
    SipHasher24::new_with_keys(key.0, key.1).hash(&input[..len])
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    const ID: NodeId = NodeId([1; 20]);
    const HASH: NodeId = NodeId([2; 20]);

    struct Bench {
        now: Instant,
        rng: ChaCha8Rng,
        tokens: Tokens,
    }

    impl Bench {
        fn new() -> Self {
            let (now, mut rng) = (Instant::from_micros(5), ChaCha8Rng::seed_from_u64(1));
            let tokens = Tokens::new(&mut Cx { now, rng: &mut rng });
            Self { now, rng, tokens }
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            self.tokens.rotate(&mut Cx {
                now: self.now,
                rng: &mut self.rng,
            });
        }
    }

    fn addr() -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 7], 6881))
    }

    #[test]
    fn a_token_lives_five_to_ten_minutes() {
        let mut b = Bench::new();
        let token = b.tokens.make(&addr(), &ID, &HASH);
        b.pass(299);
        assert!(b.tokens.check(&addr(), &ID, &HASH, &token));
        let late = b.tokens.make(&addr(), &ID, &HASH);
        assert_eq!(token, late, "one epoch, one token");
        b.pass(1);
        assert!(
            b.tokens.check(&addr(), &ID, &HASH, &token),
            "the key before"
        );
        assert_ne!(token, b.tokens.make(&addr(), &ID, &HASH));
        b.pass(299);
        assert!(b.tokens.check(&addr(), &ID, &HASH, &token));
        b.pass(1);
        assert!(!b.tokens.check(&addr(), &ID, &HASH, &token));
    }

    #[test]
    fn after_a_long_sleep_no_old_token_counts() {
        let mut b = Bench::new();
        let token = b.tokens.make(&addr(), &ID, &HASH);
        b.pass(600);
        assert!(!b.tokens.check(&addr(), &ID, &HASH, &token));
        assert_eq!(b.tokens.next_rotation(), b.now + EPOCH);
    }

    quickcheck! {
        /// Attack 7: a token is good for one address, port, id and hash, and in one spelling.
        fn a_token_fits_nobody_else(ip: u32, port: u16, what: u8, flip: u8, cut: u8) -> bool {
            let b = Bench::new();
            let addr = SocketAddr::from((ip.to_be_bytes(), port));
            let token = b.tokens.make(&addr, &ID, &HASH);
            let (mut other, mut id, mut hash, mut forged) = (addr, ID, HASH, token);
            match what % 5 {
                0 => other.set_ip((ip ^ (1 << (flip % 32))).to_be_bytes().into()),
                1 => other.set_port(port ^ (1 << (flip % 16))),
                2 => id.0[usize::from(flip % 20)] ^= 1 << (cut % 8),
                3 => hash.0[usize::from(flip % 20)] ^= 1 << (cut % 8),
                _ => forged[usize::from(flip % 8)] ^= 1 << (cut % 8),
            }
            let short = &token[..usize::from(cut % 8)];
            b.tokens.check(&addr, &ID, &HASH, &token)
                && !b.tokens.check(&other, &id, &hash, &forged)
                && !b.tokens.check(&addr, &ID, &HASH, short)
                && !b.tokens.check(&addr, &ID, &HASH, &[&token[..], &[0]].concat())
        }
    }
}
