//! The encrypted handshake of a peer connection (MSE/PE) as a stream-shaped machine.
//!
//! ```text
//! outgoing  TheirKey ──Yb, send step 3──▶ SyncVc ──VC──▶ Select ──▶ PadD ──▶ Done
//! incoming  TheirKey ──Ya, send step 2──▶ SyncReq1 ──▶ Skey ──▶ Provide ──▶ PadC
//!               ──send step 4──▶ Payload (plaintext selected) or Done
//! any       ──hostile or incompatible bytes──▶ Failed
//! ```
//!
//! The steps, the keys and the cipher are in [`crate::wire::mse`]. Feed [`MseHandshake::receive`],
//! send what [`MseHandshake::output`] shows, and after [`Progress::Done`] take the ciphers with
//! [`MseHandshake::finish`]. The machine has no timer: how long a handshake may take is the
//! connection's to say (MSE names 30 s for the first key).
//!
//! ```
//! # use dunlin_core::{Cx, InfoHash, Instant};
//! # use dunlin_core::peer::crypto::{Encryption, MseHandshake, Progress, req2};
//! # use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//! # fn run(cx: &mut Cx<'_>) -> Option<()> {
//! let torrent = InfoHash([7; 20]);
//! let offer = Encryption::Required.offer()?;
//! let mut a = MseHandshake::outgoing(cx, torrent, offer, b"hello");
//! let mut b = MseHandshake::incoming(cx, offer);
//! let known = |name: &[u8; 20]| (*name == req2(&torrent)).then_some(torrent);
//!
//! let mut b_done = Progress::NeedMore;
//! while b_done == Progress::NeedMore {
//!     b_done = b.receive(cx, a.output(), &known).ok()?;
//!     a.sent(a.output().len());
//!     a.receive(cx, b.output(), &known).ok()?;
//!     b.sent(b.output().len());
//! }
//! assert_eq!(b.finish()?.leftover, b"hello");
//! # Some(()) }
//! # let mut rng = ChaCha8Rng::seed_from_u64(1);
//! # run(&mut Cx { now: Instant::ORIGIN, rng: &mut rng }).unwrap();
//! ```

use alloc::{boxed::Box, vec::Vec};

use crate::id::InfoHash;
use crate::machine::Cx;
use crate::wire::mse::{KEY_LEN, MAX_PAD, PrivateKey, Secret, VC, cipher_a, cipher_b, req1, req3};
pub use crate::wire::mse::{Rc4Stream, looks_like_plain, req2};

mod input;
mod offer;
#[cfg(test)]
mod tests;

use input::Input;
use offer::Method;
pub use offer::{CryptoOffer, Encryption, MseError, StreamEncryption};

/// The longest initial payload that is sent inside the handshake, and the longest that is waited for if
/// plaintext follows. A BitTorrent handshake (68 bytes), an extension handshake and a bitfield fit. The
/// rest of the owner's stream follows the handshake.
pub const MAX_INITIAL_PAYLOAD: usize = 2048;
/// The number of keys that the accepting side tries to avoid a secret that begins with a zero byte. Each
/// try succeeds in 255 of 256 cases.
const MAX_KEYS: u32 = 4;

/// Whether the handshake is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// More bytes are needed.
    NeedMore,
    /// [`MseHandshake::finish`] has the result.
    Done,
}

/// The two directions of an RC4 connection.
#[derive(Debug)]
pub struct CipherPair {
    /// Decrypts what is received.
    pub rx: Rc4Stream,
    /// Encrypts what is sent.
    pub tx: Rc4Stream,
}

/// The result of a finished handshake.
#[derive(Debug)]
pub struct Established {
    /// The ciphers of the stream at their current positions; `None` if plaintext follows.
    pub cipher: Option<CipherPair>,
    /// Bytes of the peer's stream that have arrived already, decrypted, its initial payload first. Under
    /// RC4 the rest of that payload may still be under way: it is a part of the stream.
    pub leftover: Vec<u8>,
    /// Output that was not [`MseHandshake::sent`] yet, encrypted. It is sent before anything else.
    pub unsent: Vec<u8>,
    /// The info-hash of the torrent, which is the shared key of the handshake.
    pub skey: InfoHash,
}

/// The torrent, and the ciphers derived from it.
#[derive(Debug)]
struct Session {
    skey: InfoHash,
    pair: CipherPair,
}

/// The state of the handshake. Sessions are boxed so that a state is cheap to move.
#[derive(Debug)]
enum State {
    TheirKey,
    /// `vc` is the verification constant as the peer will encrypt it.
    SyncVc {
        session: Box<Session>,
        vc: [u8; 8],
        skipped: usize,
    },
    Select {
        session: Box<Session>,
    },
    PadD {
        session: Box<Session>,
        method: Method,
        len: usize,
    },
    SyncReq1 {
        secret: Box<Secret>,
        skipped: usize,
    },
    Skey {
        secret: Box<Secret>,
    },
    Provide {
        session: Box<Session>,
    },
    /// `len` bytes, and the length of the initial payload.
    PadC {
        session: Box<Session>,
        common: CryptoOffer,
        len: usize,
    },
    Payload {
        session: Box<Session>,
        len: usize,
    },
    Done {
        session: Box<Session>,
        method: Method,
        leftover: Vec<u8>,
    },
    Failed(MseError),
}

/// The result of a step.
enum Step {
    Next(State),
    Wait(State),
}

/// One handshake, started by us or by a peer.
///
/// Holds at most the output (1.2 KiB, and the payload given to it), one unfinished field of the peer's (at
/// most [`MAX_INITIAL_PAYLOAD`] bytes) and the bytes of one call.
#[derive(Debug)]
pub struct MseHandshake {
    /// The requested torrent; `None` if the peer opened the connection.
    wanted: Option<InfoHash>,
    /// The part of our stream that is not in the output yet.
    payload: Vec<u8>,
    offer: CryptoOffer,
    key: PrivateKey,
    state: State,
    input: Input,
    output: Vec<u8>,
    /// The number of bytes of `output` that are sent.
    sent: usize,
    /// See [`MseHandshake::refuse_short_secret`].
    refuses_short_secret: bool,
}

impl MseHandshake {
    /// Opens a handshake for the torrent `skey`; step 1 is in [`MseHandshake::output`] at once.
    /// One exponentiation.
    ///
    /// `initial_payload` is the start of our stream, usually the whole BitTorrent handshake.
    #[must_use]
    pub fn outgoing(
        cx: &mut Cx<'_>,
        skey: InfoHash,
        offer: CryptoOffer,
        initial_payload: &[u8],
    ) -> Self {
        let mut this = Self::new(cx, Some(skey), offer);
        this.payload.extend_from_slice(initial_payload);
        this.send_key(cx);
        this
    }

    /// Waits for a peer's handshake. Costs nothing before the peer's key has arrived, and two
    /// exponentiations then.
    #[must_use]
    pub fn incoming(cx: &mut Cx<'_>, accept: CryptoOffer) -> Self {
        Self::new(cx, None, accept)
    }

    fn new(cx: &mut Cx<'_>, wanted: Option<InfoHash>, offer: CryptoOffer) -> Self {
        Self {
            wanted,
            payload: Vec::new(),
            offer,
            key: PrivateKey::random(cx),
            state: State::TheirKey,
            input: Input::default(),
            output: Vec::new(),
            sent: 0,
            refuses_short_secret: false,
        }
    }

    /// Takes all of `data`; `skeys` maps [`req2`] of a torrent to its info-hash, and is called at most
    /// once, by an incoming handshake.
    ///
    /// # Errors
    /// The peer's mistake; the same on every later call.
    pub fn receive(
        &mut self,
        cx: &mut Cx<'_>,
        data: &[u8],
        skeys: &dyn Fn(&[u8; 20]) -> Option<InfoHash>,
    ) -> Result<Progress, MseError> {
        match &mut self.state {
            State::Failed(error) => return Err(*error),
            State::Done {
                session,
                method,
                leftover,
            } => {
                let old = leftover.len();
                leftover.extend_from_slice(data);
                if let (Method::Rc4, Some(new)) = (*method, leftover.get_mut(old..)) {
                    session.pair.rx.apply(new);
                }
                return Ok(Progress::Done);
            }
            _ => self.input.push(data),
        }
        self.advance(cx, skeys)
    }

    /// Bytes to send now.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// The first `n` bytes of [`MseHandshake::output`] were sent.
    pub fn sent(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n).min(self.output.len());
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
    }

    /// Makes an outgoing handshake fail with [`MseError::ShortSecret`] if the shared secret begins with a zero byte, as
    /// one in 256 does. An incoming one avoids such secrets by itself.
    ///
    /// Some peers leave that byte out of a hash: libtorrent before June 2026 (out of `req3`, and closes the stream) and
    /// rTorrent before August 2026 (out of every hash, and waits for bytes that never come). The next handshake with the
    /// same peer has another secret.
    pub const fn refuse_short_secret(&mut self) {
        self.refuses_short_secret = true;
    }

    /// The result, after [`Progress::Done`]; `None` before it.
    #[must_use]
    pub fn finish(mut self) -> Option<Established> {
        let State::Done {
            session,
            method,
            leftover,
        } = self.state
        else {
            return None;
        };
        self.output.drain(..self.sent);
        Some(Established {
            skey: session.skey,
            cipher: (method == Method::Rc4).then_some(session.pair),
            leftover,
            unsent: self.output,
        })
    }

    fn advance(
        &mut self,
        cx: &mut Cx<'_>,
        skeys: &dyn Fn(&[u8; 20]) -> Option<InfoHash>,
    ) -> Result<Progress, MseError> {
        // Every step advances in the diagram above, so this ends after at most seven.
        loop {
            let state = core::mem::replace(&mut self.state, State::TheirKey);
            match self.step(cx, state, skeys) {
                Ok(Step::Next(state)) => self.state = state,
                Ok(Step::Wait(state)) => {
                    let done = matches!(state, State::Done { .. });
                    self.state = state;
                    self.input.compact();
                    return Ok(if done {
                        Progress::Done
                    } else {
                        Progress::NeedMore
                    });
                }
                Err(error) => {
                    self.state = State::Failed(error);
                    self.input = Input::default();
                    return Err(error);
                }
            }
        }
    }

    fn step(
        &mut self,
        cx: &mut Cx<'_>,
        state: State,
        skeys: &dyn Fn(&[u8; 20]) -> Option<InfoHash>,
    ) -> Result<Step, MseError> {
        match state {
            State::TheirKey => self.their_key(cx),
            State::SyncVc {
                session,
                vc,
                mut skipped,
            } => Ok(match self.input.skip_past(&vc, &mut skipped)? {
                true => Step::Next(State::Select { session }),
                false => Step::Wait(State::SyncVc {
                    session,
                    vc,
                    skipped,
                }),
            }),
            State::Select { session } => self.select(session),
            State::PadD {
                session,
                method,
                len,
            } => Ok(self.pad_d(session, method, len)),
            State::SyncReq1 {
                secret,
                mut skipped,
            } => Ok(match self.input.skip_past(&req1(&secret), &mut skipped)? {
                true => Step::Next(State::Skey { secret }),
                false => Step::Wait(State::SyncReq1 { secret, skipped }),
            }),
            State::Skey { secret } => self.skey(secret, skeys),
            State::Provide { session } => self.provide(session),
            State::PadC {
                session,
                common,
                len,
            } => self.pad_c(cx, session, common, len),
            State::Payload { session, len } => Ok(self.payload(session, len)),
            State::Done { .. } => Ok(Step::Wait(state)),
            State::Failed(error) => Err(error),
        }
    }

    // ---- both sides ----

    fn their_key(&mut self, cx: &mut Cx<'_>) -> Result<Step, MseError> {
        let Some(theirs) = self.input.take_array::<KEY_LEN>() else {
            return Ok(Step::Wait(State::TheirKey));
        };
        let mut secret = self.key.agree(&theirs).ok_or(MseError::WeakKey)?;
        if let Some(skey) = self.wanted {
            if self.refuses_short_secret && secret.begins_with_zero() {
                return Err(MseError::ShortSecret);
            }
            return Ok(Step::Next(self.send_provide(cx, &secret, skey)));
        }
        // Such a secret may fail (see `refuse_short_secret`). The side that accepts has not sent its key yet, and takes another.
        for _ in 0..MAX_KEYS {
            if !secret.begins_with_zero() {
                break;
            }
            self.key = PrivateKey::random(cx);
            secret = self.key.agree(&theirs).ok_or(MseError::WeakKey)?;
        }
        self.send_key(cx);
        Ok(Step::Next(State::SyncReq1 {
            secret: Box::new(secret),
            skipped: 0,
        }))
    }

    /// Step 1 or 2: our key and a random padding.
    fn send_key(&mut self, cx: &mut Cx<'_>) {
        self.output.extend_from_slice(&self.key.public());
        let start = self.output.len();
        self.output.resize(start + pad_len(cx), 0);
        if let Some(pad) = self.output.get_mut(start..) {
            cx.rng.fill_bytes(pad);
        }
    }

    /// Encrypts what was written to the output since `start`.
    fn encrypt_from(&mut self, start: usize, tx: &mut Rc4Stream) {
        if let Some(new) = self.output.get_mut(start..) {
            tx.apply(new);
        }
    }

    /// The end: the rest of the input is the peer's stream.
    fn done(&mut self, mut session: Box<Session>, method: Method) -> Step {
        let mut leftover = self.input.take_rest();
        if method == Method::Rc4 {
            session.pair.rx.apply(&mut leftover);
        }
        Step::Next(State::Done {
            session,
            method,
            leftover,
        })
    }

    // ---- outgoing ----

    /// Step 3.
    fn send_provide(&mut self, cx: &mut Cx<'_>, secret: &Secret, skey: InfoHash) -> State {
        let mut pair = CipherPair {
            rx: cipher_b(secret, &skey),
            tx: cipher_a(secret, &skey),
        };
        self.output.extend_from_slice(&req1(secret));
        self.output.extend(masked(req2(&skey), req3(secret)));
        let start = self.output.len();
        self.output.extend_from_slice(&VC);
        self.output
            .extend_from_slice(&self.offer.bits().to_be_bytes());
        self.put_pad(cx);
        let len = self.payload.len().min(MAX_INITIAL_PAYLOAD);
        self.output.extend_from_slice(&(len as u16).to_be_bytes());
        self.output.extend(self.payload.drain(..len));
        self.encrypt_from(start, &mut pair.tx);
        let mut vc = VC;
        pair.rx.apply(&mut vc);
        State::SyncVc {
            session: Box::new(Session { skey, pair }),
            vc,
            skipped: 0,
        }
    }

    /// Writes the length of an encrypted padding and the padding, which consists of zeros (MSE, "PadC").
    fn put_pad(&mut self, cx: &mut Cx<'_>) {
        let len = pad_len(cx);
        self.output.extend_from_slice(&(len as u16).to_be_bytes()); // at most MAX_PAD
        self.output.resize(self.output.len() + len, 0);
    }

    fn select(&mut self, mut session: Box<Session>) -> Result<Step, MseError> {
        let Some(mut field) = self.input.take_array::<6>() else {
            return Ok(Step::Wait(State::Select { session }));
        };
        session.pair.rx.apply(&mut field);
        let [s0, s1, s2, s3, l0, l1] = field;
        let selected = u32::from_be_bytes([s0, s1, s2, s3]);
        let method = self
            .offer
            .selected(selected)
            .ok_or(MseError::BadSelection)?;
        let len = checked_pad([l0, l1])?;
        Ok(Step::Next(State::PadD {
            session,
            method,
            len,
        }))
    }

    fn pad_d(&mut self, mut session: Box<Session>, method: Method, len: usize) -> Step {
        let Some(pad) = self.input.take(len) else {
            return Step::Wait(State::PadD {
                session,
                method,
                len,
            });
        };
        session.pair.rx.apply(pad);
        let start = self.output.len();
        self.output.append(&mut self.payload);
        if method == Method::Rc4 {
            self.encrypt_from(start, &mut session.pair.tx);
        }
        self.done(session, method)
    }

    // ---- incoming ----

    fn skey(
        &mut self,
        secret: Box<Secret>,
        skeys: &dyn Fn(&[u8; 20]) -> Option<InfoHash>,
    ) -> Result<Step, MseError> {
        let Some(name) = self.input.take_array::<20>() else {
            return Ok(Step::Wait(State::Skey { secret }));
        };
        let skey = skeys(&masked(name, req3(&secret))).ok_or(MseError::UnknownTorrent)?;
        let pair = CipherPair {
            rx: cipher_a(&secret, &skey),
            tx: cipher_b(&secret, &skey),
        };
        let session = Box::new(Session { skey, pair });
        Ok(Step::Next(State::Provide { session }))
    }

    fn provide(&mut self, mut session: Box<Session>) -> Result<Step, MseError> {
        let Some(mut field) = self.input.take_array::<14>() else {
            return Ok(Step::Wait(State::Provide { session }));
        };
        session.pair.rx.apply(&mut field);
        let [vc @ .., p0, p1, p2, p3, l0, l1] = field;
        if vc != VC {
            return Err(MseError::BadVerification);
        }
        let common = self.offer.common(u32::from_be_bytes([p0, p1, p2, p3]));
        if common.best().is_none() {
            return Err(MseError::NoCommonMethod);
        }
        let len = checked_pad([l0, l1])?;
        Ok(Step::Next(State::PadC {
            session,
            common,
            len,
        }))
    }

    /// Ends step 3, except for the initial payload, and sends step 4.
    fn pad_c(
        &mut self,
        cx: &mut Cx<'_>,
        mut session: Box<Session>,
        mut common: CryptoOffer,
        len: usize,
    ) -> Result<Step, MseError> {
        let Some(field) = self.input.take(len + 2) else {
            return Ok(Step::Wait(State::PadC {
                session,
                common,
                len,
            }));
        };
        session.pair.rx.apply(field);
        let payload = match field {
            [.., l0, l1] => usize::from(u16::from_be_bytes([*l0, *l1])),
            _ => 0,
        };
        // A longer payload is not collected. Under RC4 it need not be.
        common.plaintext &= payload <= MAX_INITIAL_PAYLOAD;
        let method = common.best().ok_or(MseError::TooLong)?;
        let start = self.output.len();
        self.output.extend_from_slice(&VC);
        self.output.extend_from_slice(&method.bits().to_be_bytes());
        self.put_pad(cx);
        self.encrypt_from(start, &mut session.pair.tx);
        Ok(match method {
            // The payload is encrypted by the cipher of the stream, so it is the start of the stream.
            Method::Rc4 => self.done(session, method),
            Method::Plaintext => Step::Next(State::Payload {
                session,
                len: payload,
            }),
        })
    }

    /// Takes an initial payload, which is encrypted even if plaintext follows.
    fn payload(&mut self, mut session: Box<Session>, len: usize) -> Step {
        if !self.input.decrypt_next(len, &mut session.pair.rx) {
            return Step::Wait(State::Payload { session, len });
        }
        self.done(session, Method::Plaintext)
    }
}

/// The length of our next padding.
fn pad_len(cx: &mut Cx<'_>) -> usize {
    cx.below(MAX_PAD as u32 + 1) as usize
}

fn checked_pad(len: [u8; 2]) -> Result<usize, MseError> {
    let len = usize::from(u16::from_be_bytes(len));
    if len > MAX_PAD {
        return Err(MseError::TooLong);
    }
    Ok(len)
}

fn masked(name: [u8; 20], mask: [u8; 20]) -> [u8; 20] {
    core::array::from_fn(|i| name[i] ^ mask[i])
}
