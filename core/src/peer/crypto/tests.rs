use alloc::{format, vec, vec::Vec};

use core::convert::Infallible;

use data_encoding::HEXLOWER;
use quickcheck::quickcheck;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_core::{Rng, TryRng};

use super::*;
use crate::time::Instant;
use crate::wire::mse::{METHOD_PLAINTEXT, METHOD_RC4};

const BOTH: CryptoOffer = offer(true, true);
const PLAIN: CryptoOffer = offer(true, false);
const RC4: CryptoOffer = offer(false, true);
const NONE: CryptoOffer = offer(false, false);

const fn offer(plaintext: bool, rc4: bool) -> CryptoOffer {
    CryptoOffer { plaintext, rc4 }
}

fn torrent() -> InfoHash {
    InfoHash(core::array::from_fn(|i| 0x40 + i as u8))
}

fn known(name: &[u8; 20]) -> Option<InfoHash> {
    (*name == req2(&torrent())).then(torrent)
}

struct Side {
    hs: MseHandshake,
    done: bool,
}

/// A (opened) and B (accepted), a wire that cuts as it likes, and a source of chance.
struct Bench {
    rng: ChaCha8Rng,
    a: Side,
    b: Side,
}

impl Bench {
    fn new(seed: u64, offer: CryptoOffer, accept: CryptoOffer, payload: &[u8]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut rng,
        };
        let a = MseHandshake::outgoing(&mut cx, torrent(), offer, payload);
        let b = MseHandshake::incoming(&mut cx, accept);
        let side = |hs| Side { hs, done: false };
        Self {
            a: side(a),
            b: side(b),
            rng,
        }
    }

    /// Moves at most `max` bytes one way; whether there were any.
    fn carry(&mut self, to_b: bool, max: usize) -> Result<bool, MseError> {
        let (from, to) = match to_b {
            true => (&mut self.a, &mut self.b),
            false => (&mut self.b, &mut self.a),
        };
        let len = from.hs.output().len().min(max);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut self.rng,
        };
        let data = from.hs.output()[..len].to_vec();
        from.hs.sent(len);
        to.done = to.hs.receive(&mut cx, &data, &known)? == Progress::Done;
        Ok(len > 0)
    }

    /// Runs until both are done, in random pieces of at most `max` bytes.
    fn run(&mut self, max: u32) -> Result<(), MseError> {
        let mut idle = 0;
        while !(self.a.done && self.b.done) {
            let (to_b, len) = (self.rng.next_u32() & 1 == 0, self.rng.next_u32() % max + 1);
            idle = if self.carry(to_b, len as usize)? {
                0
            } else {
                idle + 1
            };
            assert!(idle < 1000, "stuck: {:?} {:?}", self.a.hs, self.b.hs);
        }
        Ok(())
    }
}

fn send(cipher: &mut Option<CipherPair>, text: &[u8]) -> Vec<u8> {
    let mut data = text.to_vec();
    if let Some(pair) = cipher {
        pair.tx.apply(&mut data);
    }
    data
}

fn read(cipher: &mut Option<CipherPair>, mut data: Vec<u8>) -> Vec<u8> {
    if let Some(pair) = cipher {
        pair.rx.apply(&mut data);
    }
    data
}

/// Both streams go on after the handshake as if nothing had been there.
fn streams_go_on(bench: Bench, payload: &[u8]) -> bool {
    let mut a = bench.a.hs.finish().unwrap();
    let mut b = bench.b.hs.finish().unwrap();
    assert_eq!((a.skey, b.skey), (torrent(), torrent()));
    assert_eq!(a.cipher.is_some(), b.cipher.is_some());
    // What A did not send yet is under its cipher already, and likewise B; B's step 4 is all
    // out, or A would not be done.
    let mut seen_by_b = b.leftover;
    seen_by_b.extend(read(&mut b.cipher, a.unsent));
    let more = send(&mut a.cipher, b"more from A");
    seen_by_b.extend(read(&mut b.cipher, more));
    assert!(b.unsent.is_empty());
    let more = send(&mut b.cipher, b"from B");
    let mut seen_by_a = a.leftover;
    seen_by_a.extend(read(&mut a.cipher, more));
    seen_by_b == [payload, b"more from A"].concat() && seen_by_a == b"from B"
}

quickcheck! {
    fn every_offer_meets_every_accept(seed: u64, bits: (bool, bool, bool, bool), payload: Vec<u8>, max: u16) -> bool {
        let (offer, accept) = (offer(bits.0, bits.1), offer(bits.2, bits.3));
        let mut bench = Bench::new(seed, offer, accept, &payload);
        let outcome = bench.run(u32::from(max).max(1));
        let (rc4, plain) = (offer.rc4 && accept.rc4, offer.plaintext && accept.plaintext);
        if !rc4 && !plain {
            return outcome == Err(MseError::NoCommonMethod);
        }
        assert_eq!(outcome, Ok(()));
        let State::Done { method, .. } = bench.b.hs.state else { return false };
        (method == Method::Plaintext) == plain && streams_go_on(bench, &payload)
    }

    /// Any byte string ends in an error or hunger, and little memory is held.
    fn hostile_bytes_are_survived(seed: u64, parts: Vec<Vec<u8>>, outgoing: bool) -> bool {
        let bench = Bench::new(seed, BOTH, BOTH, b"payload");
        let mut hs = if outgoing { bench.a.hs } else { bench.b.hs };
        let mut rng = bench.rng;
        let mut cx = Cx { now: Instant::ORIGIN, rng: &mut rng };
        let all_torrents = |_: &[u8; 20]| Some(torrent());
        parts.iter().cycle().take(200).all(|part| {
            let outcome = hs.receive(&mut cx, part, &all_torrents);
            outcome != Ok(Progress::Done) && hs.input.len() <= MAX_INITIAL_PAYLOAD
        })
    }

    /// A handshake whose bytes are bent anywhere fails, waits or ends, but never panics, and
    /// never yields another torrent.
    fn bent_bytes_are_survived(seed: u64, at: usize, flip: u8) -> bool {
        let mut bench = Bench::new(seed, BOTH, BOTH, b"payload");
        let mut count = 0;
        for _ in 0..8 {
            for to_b in [true, false] {
                let (from, to) = if to_b { (&mut bench.a, &mut bench.b) } else { (&mut bench.b, &mut bench.a) };
                let mut data = from.hs.output().to_vec();
                from.hs.sent(data.len());
                for byte in &mut data {
                    if count == at % 2500 {
                        *byte ^= flip;
                    }
                    count += 1;
                }
                let mut cx = Cx { now: Instant::ORIGIN, rng: &mut bench.rng };
                let _ = to.hs.receive(&mut cx, &data, &known);
            }
        }
        bench.b.hs.finish().is_none_or(|b| b.skey == torrent())
    }
}

#[test]
fn byte_by_byte_and_all_at_once_both_work() {
    for (max, offer) in [(1, BOTH), (u32::MAX, BOTH), (1, PLAIN), (u32::MAX, PLAIN)] {
        let mut bench = Bench::new(1, offer, BOTH, b"\x13BitTorrent protocol");
        bench.run(max).unwrap();
        assert!(streams_go_on(bench, b"\x13BitTorrent protocol"));
    }
}

#[test]
fn a_payload_beyond_the_limit_follows_the_handshake() {
    let payload: Vec<u8> = (0..3 * MAX_INITIAL_PAYLOAD).map(|i| i as u8).collect();
    for offer in [PLAIN, RC4] {
        let mut bench = Bench::new(2, offer, BOTH, &payload);
        bench.run(700).unwrap();
        assert!(streams_go_on(bench, &payload));
    }
}

#[test]
fn bytes_after_the_end_join_the_leftover() {
    for (accept, word) in [(PLAIN, *b"!!"), (RC4, *b"!!")] {
        let mut bench = Bench::new(3, BOTH, accept, b"hello");
        bench.run(u32::MAX).unwrap();
        let mut a = bench.a.hs.finish().unwrap();
        let more = send(&mut a.cipher, &word);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut bench.rng,
        };
        assert_eq!(
            bench.b.hs.receive(&mut cx, &more, &known),
            Ok(Progress::Done)
        );
        assert_eq!(bench.b.hs.finish().unwrap().leftover, b"hello!!");
    }
}

#[test]
fn an_unfinished_handshake_has_no_result() {
    let bench = Bench::new(4, BOTH, BOTH, b"");
    assert!(bench.a.hs.finish().is_none());
    assert!(bench.b.hs.finish().is_none());
}

#[test]
fn an_error_stays() {
    let mut bench = Bench::new(5, BOTH, BOTH, b"");
    let mut cx = Cx {
        now: Instant::ORIGIN,
        rng: &mut bench.rng,
    };
    for data in [&[0; 96][..], b"", b"more"] {
        assert_eq!(
            bench.b.hs.receive(&mut cx, data, &known),
            Err(MseError::WeakKey)
        );
    }
}

#[test]
fn policies_offer_what_they_say() {
    assert_eq!(Encryption::Off.offer(), None);
    assert_eq!(Encryption::Preferred.offer(), Some(BOTH));
    assert_eq!(Encryption::Required.offer(), Some(RC4));
    assert!(Encryption::Off.allows_plain() && Encryption::Preferred.allows_plain());
    assert!(!Encryption::Required.allows_plain());
    assert_eq!(NONE.common(METHOD_PLAINTEXT | METHOD_RC4).best(), None);
}

// ---- the peer played by hand ----

/// Counts 01, 02, … for bytes and gives 0 for numbers, so that every padding is empty and the
/// private exponent is known.
struct Counter;

impl TryRng for Counter {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0)
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        dst.iter_mut().zip(1..).for_each(|(d, n)| *d = n);
        Ok(())
    }
}

// Computed with Python's pow() and hashlib and an RC4 of eight lines, for A with the exponent
// 01..14 (hex, big endian), B with 65..78, the info hash 40..53, no paddings, methods 3 provided
// and 2 selected, the initial payload "hello", then "world" from A and "reply" from B.
const YA: &str = "96e112dab29e8c5272accb9b17b26887ce54a144a4e3b697c7d159b7a817e556\
                  b0918db2b4c658e02a87f7e5fb14b18a553e084cbf3dad2d30f16596ccb982d4\
                  06258c61b30c5c1dae2ddc60bdbd48d79896312aad63238c39e1a633821eb693";
const YB: &str = "d32ae8cedd0de9ca4fe67e35626bb8c7cdb0966727d899f6a62fdb2b68817f9d\
                  dc4b684e3eb34030b8dba4e028b7cff3264020340cb4eab61923cdc4e4216ba8\
                  73368d83f0a38e497f1f6b4e3d2012eb91a3ee6056f966f9eae732089b6fa46e";
const STEP_3: &str = "78fffb0f23055a793ff7609f359e04e383ec35057a660a18c7cdd2ea0af0fd82\
                      367ef8fdd773eaa6ffa0a24392d0a7640ffbe237900855b554a3cda1b3";
const STEP_4: &str = "740d648f40848e21f93ac3bb1e89";
const WORLD: &str = "24c3cc60e3";
const REPLY: &str = "15585f0f53";

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

#[test]
fn transcript_of_the_opener_matches_an_independent_computation() {
    let mut cx = Cx {
        now: Instant::ORIGIN,
        rng: &mut Counter,
    };
    let mut a = MseHandshake::outgoing(&mut cx, torrent(), BOTH, b"hello");
    assert_eq!(a.output(), hex(YA));
    a.sent(96);
    assert_eq!(a.receive(&mut cx, &hex(YB), &known), Ok(Progress::NeedMore));
    assert_eq!(a.output(), hex(STEP_3));
    let answer = hex(&[STEP_4, REPLY].concat());
    assert_eq!(a.receive(&mut cx, &answer, &known), Ok(Progress::Done));
    let mut a = a.finish().unwrap();
    assert_eq!(a.leftover, b"reply");
    assert_eq!(a.unsent, hex(STEP_3));
    assert_eq!(send(&mut a.cipher, b"world"), hex(WORLD));
}

/// An opener played by hand against a real acceptor.
struct ByHand {
    b: MseHandshake,
    secret: Secret,
    tx: Rc4Stream,
}

impl ByHand {
    /// After step 2.
    fn new(accept: CryptoOffer) -> Self {
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut Counter,
        };
        let mut b = MseHandshake::incoming(&mut cx, accept);
        let key = PrivateKey::random(&mut Cx {
            now: Instant::ORIGIN,
            rng: &mut ChaCha8Rng::seed_from_u64(9),
        });
        let outcome = b.receive(&mut cx, &key.public(), &known);
        assert_eq!(outcome, Ok(Progress::NeedMore));
        let secret = key.agree(b.output().first_chunk().unwrap()).unwrap();
        let tx = cipher_a(&secret, &torrent());
        Self { b, secret, tx }
    }

    fn receive(&mut self, data: &[u8]) -> Result<Progress, MseError> {
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut Counter,
        };
        self.b.receive(&mut cx, data, &known)
    }

    fn receive_encrypted(&mut self, data: &[u8]) -> Result<Progress, MseError> {
        let mut data = data.to_vec();
        self.tx.apply(&mut data);
        self.receive(&data)
    }

    fn name(&self, torrent: &InfoHash) -> [u8; 20] {
        masked(req2(torrent), req3(&self.secret))
    }

    /// Up to the name of the torrent.
    fn named(accept: CryptoOffer) -> Self {
        let mut this = Self::new(accept);
        let (mark, name) = (req1(&this.secret), this.name(&torrent()));
        assert_eq!(this.receive(&mark), Ok(Progress::NeedMore));
        assert_eq!(this.receive(&name), Ok(Progress::NeedMore));
        this
    }
}

#[test]
fn the_mark_is_found_after_the_longest_padding_and_not_after_a_longer_one() {
    let mut peer = ByHand::new(BOTH);
    let data = [&[0; MAX_PAD][..], &req1(&peer.secret)].concat();
    assert_eq!(peer.receive(&data), Ok(Progress::NeedMore));
    assert!(matches!(peer.b.state, State::Skey { .. }));

    let mut peer = ByHand::new(BOTH);
    let data = [&[0; MAX_PAD + 1][..], &req1(&peer.secret)].concat();
    assert_eq!(peer.receive(&data), Err(MseError::NoSync));

    // One byte at a time the end is the same: 512 + 20 bytes, and not one more.
    let mut peer = ByHand::new(BOTH);
    let fed = (0..).find(|_| peer.receive(&[0]).is_err());
    assert_eq!(fed, Some(MAX_PAD + 19));
}

#[test]
fn an_unknown_torrent_is_refused() {
    let mut peer = ByHand::new(BOTH);
    let data = [req1(&peer.secret), peer.name(&InfoHash([1; 20]))].concat();
    assert_eq!(peer.receive(&data), Err(MseError::UnknownTorrent));
}

#[test]
fn fields_out_of_bounds_are_refused() {
    let provide = |vc: u8, bits: u32, pad: u16| {
        let mut field = vec![0, 0, 0, 0, 0, 0, 0, vc];
        field.extend(bits.to_be_bytes());
        field.extend(pad.to_be_bytes());
        field
    };
    for (accept, field, want) in [
        (BOTH, provide(1, 3, 0), Err(MseError::BadVerification)),
        (BOTH, provide(0, 0, 0), Err(MseError::NoCommonMethod)),
        (BOTH, provide(0, 4, 0), Err(MseError::NoCommonMethod)),
        (RC4, provide(0, 1, 0), Err(MseError::NoCommonMethod)),
        (BOTH, provide(0, 3, 513), Err(MseError::TooLong)),
        (BOTH, provide(0, 3, 512), Ok(Progress::NeedMore)),
        // Bits of methods to come do not disturb.
        (BOTH, provide(0, 0xff, 0), Ok(Progress::NeedMore)),
    ] {
        assert_eq!(ByHand::named(accept).receive_encrypted(&field), want);
    }
}

#[test]
fn a_long_payload_is_refused_where_it_would_have_to_be_kept() {
    for (bits, want) in [
        (METHOD_PLAINTEXT, Err(MseError::TooLong)),
        (METHOD_RC4, Ok(Progress::Done)),
        // RC4 does without keeping it.
        (METHOD_PLAINTEXT | METHOD_RC4, Ok(Progress::Done)),
    ] {
        let mut peer = ByHand::named(BOTH);
        let mut field = VC.to_vec();
        field.extend(bits.to_be_bytes());
        field.extend([0, 0, 0xff, 0xff]);
        assert_eq!(peer.receive_encrypted(&field), want);
    }
}

#[test]
fn plaintext_is_answered_at_once_and_waits_for_the_encrypted_payload() {
    let mut peer = ByHand::named(PLAIN);
    peer.b.sent(usize::MAX);
    let mut field = VC.to_vec();
    field.extend(METHOD_PLAINTEXT.to_be_bytes());
    field.extend([0, 0, 0, 5]);
    field.extend(b"hell");
    assert_eq!(peer.receive_encrypted(&field), Ok(Progress::NeedMore));
    assert_eq!(peer.b.output().len(), 8 + 4 + 2);
    assert_eq!(peer.receive_encrypted(b"o"), Ok(Progress::Done));
    assert_eq!(peer.receive(b" world"), Ok(Progress::Done));
    let b = peer.b.finish().unwrap();
    assert!(b.cipher.is_none());
    assert_eq!(b.leftover, b"hello world");
}

/// What an opener with `offer` makes of a step 4 with these bits and padding length.
fn selected(offer: CryptoOffer, bits: u32, pad: u16) -> Result<Progress, MseError> {
    let mut cx = Cx {
        now: Instant::ORIGIN,
        rng: &mut Counter,
    };
    let mut a = MseHandshake::outgoing(&mut cx, torrent(), offer, b"");
    let key = PrivateKey::random(&mut Cx {
        now: Instant::ORIGIN,
        rng: &mut ChaCha8Rng::seed_from_u64(9),
    });
    let secret = key.agree(a.output().first_chunk().unwrap()).unwrap();
    let mut data = VC.to_vec();
    data.extend(bits.to_be_bytes());
    data.extend(pad.to_be_bytes());
    data.extend(vec![0; pad.into()]);
    cipher_b(&secret, &torrent()).apply(&mut data);
    let data = [&key.public()[..], &[5; MAX_PAD], &data].concat();
    a.receive(&mut cx, &data, &known)
}

#[test]
fn only_one_offered_method_may_be_selected() {
    assert_eq!(selected(BOTH, 1, 0), Ok(Progress::Done));
    assert_eq!(selected(BOTH, 2, 512), Ok(Progress::Done));
    for (offer, bits) in [
        (BOTH, 0),
        (BOTH, 3),
        (BOTH, 4),
        (BOTH, 6),
        (RC4, 1),
        (PLAIN, 2),
    ] {
        assert_eq!(selected(offer, bits, 0), Err(MseError::BadSelection));
    }
    assert_eq!(selected(BOTH, 2, 513), Err(MseError::TooLong));
}

/// rTorrent cannot go on from a secret that begins with a zero.
#[test]
fn who_accepts_avoids_a_secret_that_begins_with_a_zero() {
    /// Found by trying.
    const SEED: u64 = 106;
    let rng = ChaCha8Rng::seed_from_u64;
    let now = Instant::ORIGIN;
    let theirs = PrivateKey::random(&mut Cx {
        now,
        rng: &mut rng(0),
    });
    let secret = |key: &[u8]| theirs.agree(key.first_chunk().unwrap()).unwrap();
    // What the first key of an acceptor with this seed would lead to.
    let mut first = rng(SEED);
    let first = PrivateKey::random(&mut Cx {
        now,
        rng: &mut first,
    });
    assert_eq!(secret(&first.public()).as_bytes()[0], 0);

    let mut rng = rng(SEED);
    let mut cx = Cx { now, rng: &mut rng };
    let mut b = MseHandshake::incoming(&mut cx, BOTH);
    let outcome = b.receive(&mut cx, &theirs.public(), &known);
    assert_eq!(outcome, Ok(Progress::NeedMore));
    assert_ne!(secret(b.output()).as_bytes()[0], 0);
}

/// libtorrent and rTorrent fail on it when they are called, too.
#[test]
fn who_calls_refuses_a_secret_that_begins_with_a_zero_if_it_is_told_to() {
    for refuses in [false, true] {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut rng,
        };
        let mut a = MseHandshake::outgoing(&mut cx, torrent(), BOTH, &[]);
        if refuses {
            a.refuse_short_secret();
        }
        let ours = *a.output().first_chunk().unwrap();
        a.sent(a.output().len());
        let theirs = loop {
            let key = PrivateKey::random(&mut cx);
            if key.agree(&ours).unwrap().begins_with_zero() {
                break key.public();
            }
        };
        let outcome = a.receive(&mut cx, &theirs, &known);
        if refuses {
            assert_eq!(outcome, Err(MseError::ShortSecret));
        } else {
            assert_eq!(outcome, Ok(Progress::NeedMore));
        }
        assert_eq!(a.output().is_empty(), refuses);
    }
}

#[test]
fn nothing_secret_is_printed() {
    let bench = Bench::new(6, BOTH, BOTH, b"");
    let text = format!("{:?}", bench.a.hs);
    assert!(text.contains("PrivateKey,"), "{text}");
}
