//! The connection from the first byte to [`PeerEvent::Established`].

use alloc::{boxed::Box, vec::Vec};

use super::{Local, Peer, PeerEvent, PeerFault, Phase, SkeyLookup, crypto};
use crate::wire::extension::{ExtHandshake, ours};
use crate::wire::peer::{HANDSHAKE_LEN, Handshake, Message, PROTOCOL};
use crate::{BlockPool, Cx};

impl Peer {
    /// Answers an incoming handshake, after [`PeerEvent::Handshake`].
    pub fn welcome(&mut self, cx: &mut Cx<'_>, local: &Local<'_>) {
        let (Phase::Waiting, Some(theirs)) = (&self.phase, self.theirs) else {
            return;
        };
        let hello = local.handshake();
        if hello.info_hash != theirs.info_hash {
            return self.fail(PeerFault::WrongTorrent);
        }
        self.out.control(|out| out.extend_from_slice(&hello.emit()));
        self.pex = local.pex;
        self.ours = Some((hello, local.extended(self.cfg.reqq)));
        self.open();
        // What arrived with the handshake. No block is expected yet, so none has to be leased.
        self.handle_read(cx, &mut BlockPool::new(0), 0, &|_| None);
    }

    /// Handles the peer's handshake of 68 bytes.
    fn on_handshake(&mut self, bytes: &[u8; HANDSHAKE_LEN]) {
        let Some(theirs) = Handshake::parse(bytes) else {
            return self.fail(PeerFault::NotBitTorrent);
        };
        let expected = self.ours.as_ref().map(|(hello, _)| hello.info_hash);
        if expected
            .or(self.skey)
            .is_some_and(|h| h != theirs.info_hash)
        {
            return self.fail(PeerFault::WrongTorrent);
        }
        self.theirs = Some(theirs);
        if expected.is_some() {
            return self.open();
        }
        self.phase = Phase::Waiting;
        self.events.push_back(PeerEvent::Handshake {
            info_hash: theirs.info_hash,
            peer_id: theirs.peer_id,
        });
    }

    /// Both handshakes are known: opens the connection.
    fn open(&mut self) {
        let (Some(theirs), Some((hello, extended))) = (self.theirs, self.ours.take()) else {
            return;
        };
        if hello.peer_id == theirs.peer_id {
            return self.fail(PeerFault::Ourselves);
        }
        self.phase = Phase::Open;
        self.fast = theirs.reserved.fast();
        if theirs.reserved.extended() {
            self.ext = Some(ExtHandshake::default());
            self.emit(Message::Extended {
                id: ours::HANDSHAKE,
                payload: &extended,
            });
        }
        self.events.push_back(PeerEvent::Established);
    }

    /// Takes bytes in any phase of the connection.
    pub(super) fn feed(
        &mut self,
        cx: &mut Cx<'_>,
        pool: &mut BlockPool,
        mut data: &[u8],
        skeys: SkeyLookup<'_>,
    ) {
        while !data.is_empty() {
            match &mut self.phase {
                Phase::Sniffing(policy) => {
                    let policy = *policy;
                    data = self.inb.collect(data, PROTOCOL.len());
                    self.sniff(cx, policy, skeys);
                }
                Phase::Mse(_) => {
                    let rest = self.feed_mse(cx, data, skeys);
                    // The phase has changed, so this recurses once.
                    return self.feed(cx, pool, &rest, skeys);
                }
                Phase::Hello => {
                    data = self.inb.collect(data, HANDSHAKE_LEN);
                    self.hello();
                }
                Phase::Waiting => {
                    self.inb.defer(data);
                    return;
                }
                Phase::Open => return self.feed_open(cx.now, pool, data),
                Phase::Dead => return,
            }
        }
    }

    /// Distinguishes plaintext from encryption by the first bytes.
    fn sniff(&mut self, cx: &mut Cx<'_>, policy: crypto::Encryption, skeys: SkeyLookup<'_>) {
        let plain = crypto::looks_like_plain(self.inb.collected());
        match (plain, policy.offer()) {
            (None, _) => {}
            (Some(true), _) if policy.allows_plain() => self.phase = Phase::Hello,
            (Some(false), Some(offer)) => {
                let mse = crypto::MseHandshake::incoming(cx, offer);
                self.phase = Phase::Mse(Box::new(mse));
                let first = self.inb.take_collected();
                // 20 bytes are far less than that handshake: nothing is left over.
                let _ = self.feed_mse(cx, &first, skeys);
            }
            _ => self.fail(PeerFault::Encryption),
        }
    }

    /// Continues the encrypted handshake. Returns what follows it, decrypted.
    fn feed_mse(&mut self, cx: &mut Cx<'_>, data: &[u8], skeys: SkeyLookup<'_>) -> Vec<u8> {
        let Phase::Mse(mse) = &mut self.phase else {
            return Vec::new();
        };
        match mse.receive(cx, data, skeys) {
            Ok(crypto::Progress::NeedMore) => return Vec::new(),
            Ok(crypto::Progress::Done) => {}
            Err(error) => {
                self.fail(PeerFault::Mse(error));
                return Vec::new();
            }
        }
        let Phase::Mse(mse) = core::mem::replace(&mut self.phase, Phase::Hello) else {
            return Vec::new();
        };
        let Some(done) = mse.finish() else {
            return Vec::new();
        };
        self.skey = Some(done.skey);
        self.out.control(|out| out.extend_from_slice(&done.unsent));
        if let Some(pair) = done.cipher {
            self.inb.decrypt_with(pair.rx);
            self.out.encrypt(pair.tx);
        }
        done.leftover
    }

    /// Checks the handshake collected so far.
    fn hello(&mut self) {
        let head = self.inb.collected();
        let start = PROTOCOL.len().min(head.len());
        if head.get(..start) != PROTOCOL.get(..start) {
            return self.fail(PeerFault::NotBitTorrent);
        }
        if let Ok(bytes) = <[u8; HANDSHAKE_LEN]>::try_from(head) {
            self.inb.clear_head();
            self.on_handshake(&bytes);
        }
    }
}
