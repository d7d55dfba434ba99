//! One peer connection as a stream-shaped machine.
//!
//! ```text
//! outgoing  [Mse] ──▶ Hello ──handshake for our torrent──▶ Open ──fault──▶ Dead
//! incoming  Sniffing ─▶ [Mse] ─▶ Hello ──Handshake event──▶ Waiting ──welcome()──▶ Open
//! ```
//!
//! The owner drives it like every machine here: [`Peer::read_bufs`] / [`Peer::handle_read`],
//! [`Peer::write_bufs`] / [`Peer::handle_written`], [`Peer::poll_timeout`] /
//! [`Peer::handle_timeout`], and after any of them [`Peer::poll_event`] until `None`. Commands
//! ([`Peer::request`] and so on) queue bytes, and do nothing unless the connection is open.
//! Whatever happens, [`Peer::close`] brings every leased block home.
//!
//! It knows the protocol and its limits; which pieces, whom to unchoke and how fast is policy,
//! and its owner's.

use alloc::{collections::VecDeque, vec::Vec};
use core::net::IpAddr;
use core::time::Duration;

use crate::rate::Rate;
use crate::wire::extension::{ExtHandshake, Offer};
use crate::wire::peer::{Handshake, MAX_EXTENDED_LEN, MAX_MESSAGE_LEN, Message, Reserved};
use crate::{Bitfield, BlockPool, BlockRef, Cx, InfoHash, Instant, PeerId};

mod commands;
pub mod crypto;
mod event;
mod fault;
mod handshake;
mod inbound;
mod messages;
mod outbound;
mod requests;
mod slips;
mod state;
#[cfg(test)]
mod tests;

use crypto::{CryptoOffer, Encryption, MseHandshake};
pub use event::PeerEvent;
pub use fault::{Blame, PeerFault};
use inbound::Inbound;
use messages::Early;
use outbound::Outbound;
use requests::Requests;
use slips::Slips;

/// The most slices of a scatter or gather list: the rest of a block, 16 headers and blocks, a tail.
pub const MAX_IOV: usize = 2 * MAX_READ_AHEAD + 2;
/// The most blocks lent ahead of the one being read: 256 KiB, about what a socket buffer returns at once.
const MAX_READ_AHEAD: usize = 16;
/// If a peer reads nothing of its blocks for this long, they are taken back: others may need them.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(10);
/// The most control bytes that wait; a peer that causes more is disconnected.
const MAX_REPLIES: usize = 256 * 1024;

/// Maps [`crypto::req2`] of a torrent to its info-hash, for incoming encrypted handshakes.
pub type SkeyLookup<'a> = &'a dyn Fn(&[u8; 20]) -> Option<InfoHash>;

/// The configuration shared by all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The most requests of a peer that are queued; the peer is told this number (`reqq`), and more are
    /// rejected.
    pub reqq: u32,
    /// The most requests in flight with one peer, whatever number it would queue.
    pub max_pipeline: u32,
    /// The largest info dictionary that is fetched, in bytes; a larger size counts as unknown.
    pub max_metadata: u32,
    /// The most bytes kept of what a peer sends about its pieces before [`Peer::set_pieces`]. A peer that
    /// sends more is disconnected once the number of pieces is known, and has to be connected to again.
    pub max_early: usize,
    /// The longest extended message (BEP 10) that is parsed; longer ones are skipped.
    pub max_extended: u32,
    /// The time limit for all handshakes.
    pub handshake_timeout: Duration,
    /// After this long without sending, a keep-alive is sent. BEP 3 closes after "2 minutes".
    pub keepalive: Duration,
    /// After this long without receiving, the connection is closed.
    pub idle: Duration,
    /// A peer that owes payload and sent none for this long is snubbing us.
    pub snub: Duration,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            reqq: 500,
            max_pipeline: 2000,
            max_metadata: 16 * 1024 * 1024,
            max_early: MAX_MESSAGE_LEN as usize,
            max_extended: MAX_EXTENDED_LEN,
            handshake_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(100),
            idle: Duration::from_secs(240),
            snub: Duration::from_secs(60),
        }
    }
}

/// The content of our handshakes.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// The info-hash of the torrent.
    pub info_hash: InfoHash,
    /// Our peer id.
    pub peer_id: PeerId,
    /// Whether we run a DHT node.
    pub dht: bool,
    /// Whether peer exchange is supported; `false` for private torrents.
    pub pex: bool,
    /// The TCP port that we listen on.
    pub listen_port: Option<u16>,
    /// The client name and version.
    pub version: &'a str,
    /// The peer's address, which is sent to it (`yourip`).
    pub remote_ip: IpAddr,
    /// The size of the info dictionary in bytes, once known.
    pub metadata_size: Option<u32>,
    /// Whether we download nothing more.
    pub upload_only: bool,
}

impl Local<'_> {
    fn handshake(&self) -> Handshake {
        Handshake {
            reserved: Reserved::ours(self.dht),
            info_hash: self.info_hash,
            peer_id: self.peer_id,
        }
    }

    fn extended(&self, reqq: u32) -> Vec<u8> {
        Offer {
            pex: self.pex,
            metadata_size: self.metadata_size,
            port: self.listen_port,
            reqq,
            upload_only: self.upload_only,
            version: self.version,
            yourip: self.remote_ip,
        }
        .emit()
    }
}

/// The bytes transferred so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Payload of blocks received.
    pub payload_down: u64,
    /// Everything else received, including unwanted payload.
    pub protocol_down: u64,
    /// Payload of blocks sent.
    pub payload_up: u64,
    /// Everything else sent.
    pub protocol_up: u64,
    /// Payload received that was not requested.
    pub unwanted: u64,
}

#[derive(Debug)]
enum Phase {
    Sniffing(Encryption),
    Mse(alloc::boxed::Box<MseHandshake>),
    Hello,
    Waiting,
    Open,
    Dead,
}

impl Phase {
    const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

/// Choking and interest in one direction.
#[derive(Clone, Copy, Debug)]
struct Side {
    choking: bool,
    interested: bool,
}

impl Side {
    /// How every connection starts (BEP 3).
    const START: Self = Self {
        choking: true,
        interested: false,
    };
}

/// One connection with a peer: the protocol, without I/O.
#[derive(Debug)]
pub struct Peer {
    cfg: PeerConfig,
    phase: Phase,
    inb: Inbound,
    out: Outbound,
    reqs: Requests,
    /// Requests of the peer that are not answered yet.
    asked: VecDeque<BlockRef>,
    events: VecDeque<PeerEvent>,
    me: Side,
    it: Side,
    /// Our handshake and extension handshake, until the peer's handshake has arrived.
    ours: Option<(Handshake, Vec<u8>)>,
    theirs: Option<Handshake>,
    /// The torrent of an encrypted handshake.
    skey: Option<InfoHash>,
    fast: bool,
    ext: Option<ExtHandshake>,
    pex: bool,
    slips: Slips,
    has: Bitfield,
    early: Early,
    /// Pieces that we may request while choked, and those that the peer may.
    allowed_fast: Vec<u32>,
    granted_fast: Vec<u32>,
    /// Metadata pieces that we requested.
    metadata_asked: Vec<u32>,
    /// Metadata pieces that the peer requested, and how many more were passed to the owner.
    metadata_wanted: VecDeque<u32>,
    metadata_owed: u32,
    down: Rate,
    up: Rate,
    totals: Totals,
    deadline: Instant,
    last_read: Instant,
    last_written: Instant,
    /// The owner has paused reading.
    paused: bool,
    /// The owner has paused writing.
    held: bool,
    /// The peer read nothing of what we have for it during the last [`PeerConfig::keepalive`].
    stuck: bool,
    /// The time since which blocks wait without any progress.
    blocks_wait: Option<Instant>,
    /// The same for [`UPLOAD_PATIENCE`].
    takes_nothing: bool,
}

impl Peer {
    /// A connection that we opened. With an offer it begins encrypted.
    #[must_use]
    pub fn outgoing(
        cx: &mut Cx<'_>,
        cfg: &PeerConfig,
        local: &Local<'_>,
        crypto: Option<CryptoOffer>,
    ) -> Self {
        let mut this = Self::new(cx, cfg, Phase::Hello);
        let hello = local.handshake();
        match crypto {
            None => {
                this.out.control(|out| out.extend_from_slice(&hello.emit()));
            }
            Some(offer) => {
                let mse = MseHandshake::outgoing(cx, local.info_hash, offer, &hello.emit());
                this.phase = Phase::Mse(alloc::boxed::Box::new(mse));
            }
        }
        this.pex = local.pex;
        this.ours = Some((hello, local.extended(cfg.reqq)));
        this
    }

    /// Ends an encrypted handshake with a secret that some peers fail on:
    /// [`MseHandshake::refuse_short_secret`].
    pub(crate) fn refuse_short_secret(&mut self) {
        if let Phase::Mse(mse) = &mut self.phase {
            mse.refuse_short_secret();
        }
    }

    /// A connection that the peer opened.
    #[must_use]
    pub fn incoming(cx: &mut Cx<'_>, cfg: &PeerConfig, policy: Encryption) -> Self {
        Self::new(cx, cfg, Phase::Sniffing(policy))
    }

    fn new(cx: &Cx<'_>, cfg: &PeerConfig, phase: Phase) -> Self {
        Self {
            cfg: *cfg,
            phase,
            inb: Inbound::new(),
            out: Outbound::default(),
            reqs: Requests::new(cx.now),
            asked: VecDeque::new(),
            events: VecDeque::new(),
            me: Side::START,
            it: Side::START,
            ours: None,
            theirs: None,
            skey: None,
            fast: false,
            ext: None,
            pex: false,
            slips: Slips::default(),
            has: Bitfield::new(0),
            early: Early::default(),
            allowed_fast: Vec::new(),
            granted_fast: Vec::new(),
            metadata_asked: Vec::new(),
            metadata_wanted: VecDeque::new(),
            metadata_owed: 0,
            down: Rate::new(cx.now),
            up: Rate::new(cx.now),
            totals: Totals::default(),
            deadline: cx.now + cfg.handshake_timeout,
            last_read: cx.now,
            last_written: cx.now,
            paused: false,
            held: false,
            stuck: false,
            blocks_wait: None,
            takes_nothing: false,
        }
    }

    /// Queues a message; returns its end in the stream of control bytes.
    fn emit(&mut self, message: Message<'_>) -> u64 {
        self.out.control(|out| message.emit(out))
    }

    /// Ends the machine.
    fn fail(&mut self, fault: PeerFault) {
        if !matches!(self.phase, Phase::Dead) {
            self.phase = Phase::Dead;
            self.events.push_back(PeerEvent::Closed(fault));
        }
    }

    /// Gives back every leased block. Called at the end of the connection, whatever the reason. Events that
    /// were not polled are lost.
    pub fn close(&mut self, pool: &mut BlockPool) {
        self.phase = Phase::Dead;
        self.inb.close(pool);
        self.out.close(pool);
        for event in self.events.drain(..) {
            if let PeerEvent::Block { block, .. } = event {
                pool.give(block);
            }
        }
    }

    // ---- writing ----

    /// The gather list for one write, at most `limit` bytes. Control messages come before every block that
    /// has not begun.
    pub fn write_bufs<'a>(&'a mut self, limit: usize, out: &mut heapless::Vec<&'a [u8], MAX_IOV>) {
        out.clear();
        // From now on the peer has to accept what it is sent.
        self.held = false;
        match &self.phase {
            Phase::Dead => {}
            Phase::Mse(mse) => {
                let bytes = mse.output();
                if !bytes.is_empty() && limit > 0 {
                    let _ = out.push(&bytes[..bytes.len().min(limit)]);
                }
            }
            _ => self.out.gather(limit, out),
        }
    }

    /// The same without payload, for a peer that must not get any now: control messages, unless a block has
    /// begun. With `finish`, the rest of that block is sent so that they can follow.
    pub fn write_control<'a>(
        &'a mut self,
        limit: usize,
        finish: bool,
        out: &mut heapless::Vec<&'a [u8], MAX_IOV>,
    ) {
        match &self.phase {
            Phase::Dead | Phase::Mse(_) => self.write_bufs(limit, out),
            _ => {
                out.clear();
                self.held = false;
                self.out.gather_control(limit, finish, out);
            }
        }
    }

    /// Whether [`Peer::write_control`] has something to send.
    #[must_use]
    pub fn control_waits(&self, finish: bool) -> bool {
        match &self.phase {
            Phase::Dead => false,
            Phase::Mse(mse) => !mse.output().is_empty(),
            _ => self.out.control_bytes() > 0 && (finish || !self.out.has_begun()),
        }
    }

    /// The first `len` bytes of the gather list were written.
    pub fn handle_written(&mut self, cx: &mut Cx<'_>, pool: &mut BlockPool, len: usize) {
        if len == 0 {
            return;
        }
        self.last_written = cx.now;
        (self.held, self.stuck) = (false, false);
        if let Phase::Mse(mse) = &mut self.phase {
            mse.sent(len);
            self.totals.protocol_up += len as u64;
            return;
        }
        let before = self.totals.payload_up;
        self.out.written(len, pool, &mut self.totals);
        self.out.reclaim(pool);
        self.reqs.written(cx.now, self.out.control_sent());
        self.up.add(cx.now, self.totals.payload_up - before);
        self.takes_nothing = false;
        self.blocks_wait = (self.out.block_bytes() > 0).then_some(cx.now);
        if self.phase.is_open() {
            self.serve_metadata();
        }
    }

    /// Pauses writing until the next [`Peer::write_bufs`]: the peer is not to blame for what waits.
    pub const fn hold_writing(&mut self) {
        self.held = true;
    }

    /// Whether [`Peer::write_bufs`] has something to send.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        match &self.phase {
            Phase::Dead => false,
            Phase::Mse(mse) => !mse.output().is_empty(),
            _ => !self.out.is_empty(),
        }
    }

    /// The bytes of blocks that wait to be sent, including the headers of their messages.
    #[must_use]
    pub const fn queued_payload(&self) -> usize {
        self.out.block_bytes()
    }

    /// The number of bytes that wait to be sent.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        match &self.phase {
            Phase::Dead => 0,
            Phase::Mse(mse) => mse.output().len(),
            _ => self.out.bytes(),
        }
    }

    // ---- events and time ----

    /// The next event for the owner.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        let event = self.events.pop_front();
        if event.is_none() {
            self.events.shrink_to(64);
        }
        event
    }

    /// The next time at which [`Peer::handle_timeout`] has to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Dead => None,
            Phase::Open => {
                let idle = self.last_read + self.cfg.idle;
                let keepalive = self.last_written + self.cfg.keepalive;
                let requests = [
                    self.reqs.timeout(self.cfg.snub),
                    self.reqs.held(),
                    self.inb.due(self.cfg.snub),
                    self.blocks_wait.map(|since| since + UPLOAD_PATIENCE),
                ];
                let first = idle.min(keepalive);
                Some(requests.into_iter().flatten().fold(first, Instant::min))
            }
            _ => Some(self.deadline),
        }
    }

    /// Runs timers that are due.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.poll_timeout().is_none_or(|at| at > cx.now) {
            return;
        }
        if !self.phase.is_open() {
            return self.fail(PeerFault::HandshakeTimeout);
        }
        if self.paused {
            // We caused the silence.
            self.last_read = cx.now;
            self.reqs.excuse(cx.now);
            self.inb.excuse(cx.now);
        }
        if self.last_read + self.cfg.idle <= cx.now {
            return self.fail(PeerFault::Idle);
        }
        if self.last_written + self.cfg.keepalive <= cx.now {
            self.last_written = cx.now;
            if self.out.is_empty() {
                self.emit(Message::KeepAlive);
            } else if !self.held && core::mem::replace(&mut self.stuck, true) {
                // The blocks that it requested would be lent forever.
                return self.fail(PeerFault::ReadsNothing);
            }
        }
        if self
            .blocks_wait
            .is_some_and(|since| since + UPLOAD_PATIENCE <= cx.now)
        {
            // Under a rate limit it could not accept any.
            self.blocks_wait = self.held.then_some(cx.now);
            if !self.held {
                self.takes_nothing = true;
                self.events.push_back(PeerEvent::TakesNothing);
            }
        }
        self.reqs.resume(cx.now);
        self.check_arrival(cx.now);
        if !self.phase.is_open() {
            return;
        }
        while let Some(at) = self.reqs.give_up_overdue(cx.now, self.cfg.snub) {
            // It would only arrive after another peer has sent it.
            self.emit(Message::Cancel(at));
            self.events.push_back(PeerEvent::Rejected(at));
        }
        while let Some(at) = self
            .reqs
            .give_up_forgotten(cx.now)
            .or_else(|| self.reqs.give_up_snubbed(cx.now, self.cfg.snub))
        {
            self.events.push_back(PeerEvent::Rejected(at));
        }
    }
}
