//! Write tokens (BEP 5): a node that announces or puts must have queried us before, from the same address.
//!
//! A token is a keyed hash of the querier's IP address and of nothing else, so that none is kept.
//! BEP 5 §get_peers asks for no more, and nodes in use rely on it: some draw a new id for each put,
//! some send from another port. The key is replaced every five minutes and the one before it still
//! counts: a token lives five to ten minutes.

use core::net::IpAddr;
use core::time::Duration;

use siphasher::sip::SipHasher24;

use crate::{Cx, Instant};

/// Bytes of a token. Our choice: 64 bits cannot be guessed in ten minutes of datagrams.
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
    /// When `current` is replaced.
    until: Instant,
}

impl Tokens {
    /// Draws the first keys.
    pub fn new(cx: &mut Cx<'_>) -> Self {
        Self {
            current: draw(cx),
            // There was no key before, so no token of it may count.
            previous: draw(cx),
            until: cx.now + EPOCH,
        }
    }

    /// Draws a new key if it is due; a call too early does nothing. After a long sleep no old
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

    /// The token for queriers at `ip`.
    #[must_use]
    pub fn make(&self, ip: IpAddr) -> [u8; TOKEN_LEN] {
        mac(self.current, ip).to_le_bytes()
    }

    /// Whether `token` is one that we made for the same address, lately.
    #[must_use]
    pub fn check(&self, ip: IpAddr, token: &[u8]) -> bool {
        let Ok(token) = <[u8; TOKEN_LEN]>::try_from(token) else {
            return false;
        };
        // Whole words are compared: the time taken tells nothing of how much of a forgery is right.
        let token = u64::from_le_bytes(token);
        let made_with = |key| mac(key, ip) == token;
        made_with(self.current) || made_with(self.previous)
    }
}

fn draw(cx: &mut Cx<'_>) -> Key {
    (cx.rng.next_u64(), cx.rng.next_u64())
}

fn mac(key: Key, ip: IpAddr) -> u64 {
    let hasher = SipHasher24::new_with_keys(key.0, key.1);
    // SipHash covers the length: an IPv4 address is never taken for a part of an IPv6 one.
    match ip {
        IpAddr::V4(ip) => hasher.hash(&ip.octets()),
        IpAddr::V6(ip) => hasher.hash(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use quickcheck::quickcheck;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

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

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

    #[test]
    fn a_token_lives_five_to_ten_minutes() {
        let mut b = Bench::new();
        let token = b.tokens.make(IP);
        b.pass(299);
        assert!(b.tokens.check(IP, &token));
        let late = b.tokens.make(IP);
        assert_eq!(token, late, "one epoch, one token");
        b.pass(1);
        assert!(b.tokens.check(IP, &token), "the key before");
        assert_ne!(token, b.tokens.make(IP));
        b.pass(299);
        assert!(b.tokens.check(IP, &token));
        b.pass(1);
        assert!(!b.tokens.check(IP, &token));
    }

    #[test]
    fn after_a_long_sleep_no_old_token_counts() {
        let mut b = Bench::new();
        let token = b.tokens.make(IP);
        b.pass(600);
        assert!(!b.tokens.check(IP, &token));
        assert_eq!(b.tokens.next_rotation(), b.now + EPOCH);
    }

    quickcheck! {
        /// A token is good for one address, and in one spelling.
        fn a_token_fits_no_other_address(ip: u128, v6: bool, flip: u8, bit: u8) -> bool {
            let b = Bench::new();
            let at = |ip: u128| match v6 {
                true => IpAddr::V6(Ipv6Addr::from_bits(ip)),
                false => IpAddr::V4(Ipv4Addr::from_bits(ip as u32)),
            };
            let token = b.tokens.make(at(ip));
            let other = at(ip ^ (1 << (flip % if v6 { 128 } else { 32 })));
            let mut forged = token;
            forged[usize::from(flip % 8)] ^= 1 << (bit % 8);
            let short = &token[..usize::from(bit % 8)];
            b.tokens.check(at(ip), &token)
                && !b.tokens.check(other, &token)
                && !b.tokens.check(at(ip), &forged)
                && !b.tokens.check(at(ip), short)
                && !b.tokens.check(at(ip), &[&token[..], &[0]].concat())
        }
    }
}
