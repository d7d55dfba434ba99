//! Answers queries: a query becomes a small [`Answer`], which becomes a datagram when there is room to send.

use core::net::SocketAddr;
use core::time::Duration;

use super::{Dht, Side};
use crate::dht::guard::Admit;
use crate::dht::store::PeerStore;
use crate::wire::krpc::{
    self, Args, BLOOM_LEN, COMPACT_V4, COMPACT_V6, Item, MAX_TID, Message, Method, ReplyOut,
};
use crate::{Cx, Instant, NodeId, Transmit};

/// A reply that waited longer is dropped, because the querier has given up (S30).
const STALE: Duration = Duration::from_secs(15);
/// The most bytes of a reply, which hold 8 nodes and about 30 peers.
const MAX_REPLY: usize = 560;
/// How many tenths of the query's length a reply may have: without peers, and with peers, items or samples. It bounds
/// amplification. Eight IPv6 nodes alone take more than the former, which therefore applies to IPv4 only.
const BARE: usize = 32;
const LADEN: usize = 60;
/// The most bytes of a reply with a large item to a querier that has proved its address. Our choice: what every path
/// carries unfragmented (RFC 8200 §5: 1280, less headers).
const MAX_ITEM_REPLY: usize = 1232;
/// Bytes of a reply beside its values: `d2:ip6:…1:rd2:id20:…e1:t0:1:v4:…1:y1:re`, for IPv4.
const FRAME: usize = 66;
/// How much longer an IPv6 address in `ip` is.
const FRAME_V6: usize = 13;
/// `5:token8:…`
const TOKEN: usize = 17;
/// `5:nodes208:`
const NODES: usize = 11;
/// `6:nodes6304:`
const NODES6: usize = 12;
/// `6:valuesle`
const VALUES: usize = 10;
/// `8:intervali900e3:numi4294967295e7:samples400:`
const SAMPLES_KEYS: usize = 45;
/// The most nodes of each family in a reply.
const K: usize = 8;
/// Most samples in a reply (BEP 51 allows as many as fit).
const SAMPLES: usize = 20;

/// An answer that waits to be sent.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    to: SocketAddr,
    at: Instant,
    tid: heapless::Vec<u8, MAX_TID, u8>,
    /// Length of the query, to bound the answer by.
    asked: u16,
    content: Content,
}

/// The content of an answer; the values it lists are looked up when it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Pong,
    Nodes {
        target: NodeId,
        v4: bool,
        v6: bool,
    },
    Peers {
        hash: NodeId,
        v4: bool,
        v6: bool,
        noseed: bool,
        scrape: bool,
    },
    Item {
        target: NodeId,
        seq: Option<i64>,
        v4: bool,
        v6: bool,
    },
    Samples {
        target: NodeId,
        v4: bool,
        v6: bool,
    },
    Error(u32, &'static str),
}

impl Answer {
    /// Bytes for the values of a reply that may be so many tenths of the query.
    fn room(&self, tenths: usize) -> usize {
        let (asked, tid) = (usize::from(self.asked), self.tid.len());
        let v6 = self.to.is_ipv6();
        let most = if v6 && tenths == BARE {
            MAX_REPLY
        } else {
            MAX_REPLY.min(asked * tenths / 10)
        };
        let frame = FRAME + tid + usize::from(tid >= 10) + if v6 { FRAME_V6 } else { 0 };
        most.saturating_sub(frame)
    }
}

/// Nodes of each family that fit: eight if possible, of both if both are wanted.
fn fit(v4: bool, v6: bool, room: usize) -> (usize, usize) {
    let (mut n4, mut n6) = (if v4 { K } else { 0 }, if v6 { K } else { 0 });
    let keys = if v4 { NODES } else { 0 } + if v6 { NODES6 } else { 0 };
    while keys + n4 * COMPACT_V4 + n6 * COMPACT_V6 > room && n4 + n6 > 0 {
        *(if n6 >= n4 { &mut n6 } else { &mut n4 }) -= 1;
    }
    (n4 * COMPACT_V4, n6 * COMPACT_V6)
}

/// Bytes of an item in a reply.
fn len_of(item: &Item<'_>) -> usize {
    let v = item.v.map_or(0, |v| 3 + v.len());
    let k = item.k.map_or(0, |_| 38);
    let sig = item.sig.map_or(0, |_| 72);
    let digits = |seq: i64| seq.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    let seq = item.seq.map_or(0, |seq| 7 + digits(seq));
    v + k + sig + seq
}

impl Dht {
    /// Handles a query.
    pub(super) fn asked(
        &mut self,
        cx: &mut Cx<'_>,
        from: SocketAddr,
        message: &Message<'_>,
        method: Method,
        args: &Args<'_>,
        len: usize,
    ) {
        let v6 = from.is_ipv6();
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        // Our own id comes back only when our queries are reflected.
        if args.id.as_ref() == Some(side.routes.own()) {
            self.monitor.counters.errors_caught += 1;
            return;
        }
        self.monitor.counters.queries_in += 1;
        self.monitor.received();
        if self.guard.admit(cx.now, &from) == Admit::Limited {
            self.limited += 1;
            return;
        }
        self.budget.heard(cx.now, &from);
        if self.is_read_only() {
            return;
        }
        let content = self.reply_to(cx, from, method, args);
        if let (Some(id), false) = (
            &args.id,
            message.read_only || matches!(content, Content::Error(..)),
        ) {
            let worth = self.sides[usize::from(v6)]
                .as_mut()
                .is_some_and(|side| side.routes.queried(cx.now, id, from));
            if worth {
                self.verify(cx, from, *id);
            }
        }
        let Ok(tid) = heapless::Vec::from_slice(message.tid) else {
            return;
        };
        let answer = Answer {
            to: from,
            at: cx.now,
            tid,
            asked: u16::try_from(len).unwrap_or(u16::MAX),
            content,
        };
        // A large item must not be sent to a forged address, so the querier has to prove its own first, by
        // answering a ping. A read-only node does not answer pings (BEP 43), so it gets
        // the small answer at once.
        let large = !message.read_only && self.is_too_large(cx.now, &answer);
        if let (Some(id), true) = (args.id, large) {
            self.verify(cx, from, id);
            if self.verifying.contains(&from) {
                if self.withheld.is_full()
                    && let Some(oldest) = self.withheld.pop_front()
                {
                    self.owe(oldest);
                }
                let _ = self.withheld.push_back(answer);
                return;
            }
        }
        self.owe(answer);
    }

    /// Queues an answer; those beyond the bound are dropped.
    fn owe(&mut self, answer: Answer) {
        if self.answers.len() < usize::from(self.config.max_replies.max(1)) {
            self.answers.push_back(answer);
        } else {
            self.limited += 1;
        }
    }

    /// Whether an item is too large for a reply to an address that is not proved.
    fn is_too_large(&self, now: Instant, answer: &Answer) -> bool {
        let Content::Item { target, seq, .. } = answer.content else {
            return false;
        };
        let item = self.items.reply(&target, seq);
        item.v.is_some()
            && answer.room(LADEN) < TOKEN + len_of(&item)
            && !self.guard.is_proven(now, &answer.to)
    }

    /// A node has proved its address: answers that were withheld are sent.
    pub(super) fn proven(&mut self, now: Instant, at: &SocketAddr) {
        self.guard.prove(now, at);
        self.release(at);
    }

    /// Answers to `at` are withheld no longer.
    pub(super) fn release(&mut self, at: &SocketAddr) {
        for _ in 0..self.withheld.len() {
            let Some(answer) = self.withheld.pop_front() else {
                return;
            };
            if answer.to == *at {
                self.owe(answer);
            } else {
                let _ = self.withheld.push_back(answer);
            }
        }
    }

    /// Decides what to answer; announces and puts are carried out here.
    fn reply_to(
        &mut self,
        cx: &Cx<'_>,
        from: SocketAddr,
        method: Method,
        args: &Args<'_>,
    ) -> Content {
        if args.id.is_none() {
            return Content::Error(203, "id is missing or not 20 bytes");
        }
        let v6 = from.is_ipv6();
        let (want4, want6) = args.want.map_or((!v6, v6), |w| (w.v4, w.v6));
        // `want` of neither means the querier's own family (BEP 32).
        let (v4, v6) = if want4 || want6 {
            (want4, want6)
        } else {
            (!v6, v6)
        };
        let target = args
            .target
            .ok_or(Content::Error(203, "target is missing or not 20 bytes"));
        let hash = args
            .info_hash
            .ok_or(Content::Error(203, "info_hash is missing or not 20 bytes"));
        let content = match method {
            Method::Ping => Ok(Content::Pong),
            Method::FindNode => target.map(|target| Content::Nodes { target, v4, v6 }),
            Method::GetPeers => hash.map(|hash| Content::Peers {
                hash,
                v4,
                v6,
                noseed: args.noseed,
                scrape: args.scrape,
            }),
            Method::AnnouncePeer => hash.and_then(|hash| self.announced(cx, from, &hash, args)),
            Method::Get => target.map(|target| Content::Item {
                target,
                seq: args.item.seq,
                v4,
                v6,
            }),
            Method::Put => self.put(cx, from, args),
            Method::SampleInfohashes => target.map(|target| Content::Samples { target, v4, v6 }),
            Method::Unknown => Err(Content::Error(204, "Unknown query type.")),
        };
        content.unwrap_or_else(|error| error)
    }

    fn announced(
        &mut self,
        cx: &Cx<'_>,
        from: SocketAddr,
        hash: &NodeId,
        args: &Args<'_>,
    ) -> Result<Content, Content> {
        let token = args.token.ok_or(Content::Error(203, "token is missing"))?;
        if !self.tokens.check(from.ip(), token) {
            return Err(Content::Error(203, "token is wrong or too old"));
        }
        self.proven(cx.now, &from);
        let port = if args.implied_port {
            Some(from.port())
        } else {
            args.port
        };
        let port = port.ok_or(Content::Error(203, "port is missing or not 1 to 65535"))?;
        let peer = SocketAddr::new(from.ip(), port);
        self.peers.announce(cx.now, hash, peer, args.seed);
        Ok(Content::Pong)
    }

    /// Writes the next answer that is still worth it.
    pub(super) fn answer(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        while let Some(answer) = self.answers.pop_front() {
            if cx.now.saturating_since(answer.at) > STALE {
                self.held_back += 1;
                continue;
            }
            let Some(len) = self.write_answer(cx, &answer, buf) else {
                continue;
            };
            if !self
                .guard
                .charge(cx.now, &answer.to, usize::from(answer.asked), len)
            {
                self.limited += 1;
                continue;
            }
            self.monitor.counters.bytes_out += len as u64;
            return Some(Transmit::to(answer.to, len));
        }
        None
    }

    fn write_answer(&mut self, cx: &mut Cx<'_>, answer: &Answer, buf: &mut [u8]) -> Option<usize> {
        let to = &answer.to;
        let own = self.sides[usize::from(to.is_ipv6())].as_ref()?.routes.own();
        let (mut nodes4, mut nodes6) = ([0; K * COMPACT_V4], [0; K * COMPACT_V6]);
        let sides = &self.sides;
        // Nodes that may all be one operator's are not handed out.
        let told = |side: &Side, target: &NodeId, out: &mut [u8]| {
            if side.diverse || side.routes.len() < K as u32 {
                side.routes.write_closest(target, out)
            } else {
                0
            }
        };
        // The nodes that fit into `room`, and the bytes they take.
        let mut write = |v4: bool, v6: bool, target: &NodeId, room: usize| {
            let [side4, side6] = sides;
            let (side4, side6) = (side4.as_ref().filter(|_| v4), side6.as_ref().filter(|_| v6));
            let (n4, n6) = fit(side4.is_some(), side6.is_some(), room);
            let n4 = side4.zip(nodes4.get_mut(..n4));
            let n6 = side6.zip(nodes6.get_mut(..n6));
            let n4 = n4.map(|(side, out)| told(side, target, out));
            let n6 = n6.map(|(side, out)| told(side, target, out));
            let used = n4.map_or(0, |n| NODES + n) + n6.map_or(0, |n| NODES6 + n);
            (n4, n6, used)
        };
        let (bare, laden) = (answer.room(BARE), answer.room(LADEN));
        // Filled where they are needed: most replies have none of them.
        let (token, mut values, mut seeds, mut leeches);
        let mut out = ReplyOut::default();
        let (n4, n6) = match answer.content {
            Content::Error(code, text) => {
                return krpc::error(buf, &answer.tid, code, text, answer.asked.into());
            }
            Content::Pong => (None, None),
            Content::Nodes { target, v4, v6 } => {
                let (n4, n6, _) = write(v4, v6, &target, bare);
                (n4, n6)
            }
            Content::Peers {
                hash,
                v4,
                v6,
                noseed,
                scrape,
            } => {
                token = self.tokens.make(to.ip());
                out.token = &token;
                (seeds, leeches) = ([0; BLOOM_LEN], [0; BLOOM_LEN]);
                if scrape && self.peers.scrape(&hash, &mut seeds, &mut leeches) {
                    // Filters take the place of nodes, because both would make the reply too large.
                    (out.seeds, out.leeches) = (Some(&seeds), Some(&leeches));
                    (None, None)
                } else {
                    let (n4, n6, used) = write(v4, v6, &hash, bare.saturating_sub(TOKEN));
                    out.value_len = if to.is_ipv6() { 18 } else { 6 };
                    let left = laden.saturating_sub(TOKEN + used + VALUES);
                    let each = out.value_len + if to.is_ipv6() { 3 } else { 2 };
                    values = [0; MAX_REPLY];
                    let space = values.get_mut(..left / each * out.value_len)?;
                    let n = self.peers.values(cx, &hash, to.is_ipv6(), noseed, space);
                    out.values = values.get(..n).unwrap_or_default();
                    (n4, n6)
                }
            }
            Content::Item {
                target,
                seq,
                v4,
                v6,
            } => {
                token = self.tokens.make(to.ip());
                out.token = &token;
                out.item = self.items.reply(&target, seq);
                let len = TOKEN + len_of(&out.item);
                if out.item.v.is_none() || len <= laden {
                    let room = bare.saturating_sub(TOKEN).min(laden.saturating_sub(len));
                    let (n4, n6, _) = write(v4, v6, &target, room);
                    (n4, n6)
                } else if self.guard.is_proven(cx.now, to) {
                    let room = MAX_ITEM_REPLY.saturating_sub(FRAME + FRAME_V6 + MAX_TID + len);
                    let (n4, n6, _) = write(v4, v6, &target, room);
                    (n4, n6)
                } else {
                    out.item = Item {
                        seq: out.item.seq,
                        ..Item::default()
                    };
                    let room = bare.saturating_sub(TOKEN + len_of(&out.item));
                    let (n4, n6, _) = write(v4, v6, &target, room);
                    (n4, n6)
                }
            }
            Content::Samples { target, v4, v6 } => {
                // Nodes first: what is left of the bound is for samples.
                let (n4, n6, used) = write(v4, v6, &target, bare);
                let left = laden.saturating_sub(SAMPLES_KEYS + used);
                values = [0; MAX_REPLY];
                let space = values.get_mut(..(left / 20).min(SAMPLES) * 20)?;
                let (n, num) = self.peers.sample(cx, space);
                out.samples = values.get(..n);
                out.num = Some(num);
                out.interval = Some(PeerStore::sample_interval().as_secs());
                (n4, n6)
            }
        };
        out.nodes = n4.and_then(|n| nodes4.get(..n));
        out.nodes6 = n6.and_then(|n| nodes6.get(..n));
        krpc::reply(buf, &answer.tid, own, to, &out)
    }
}
