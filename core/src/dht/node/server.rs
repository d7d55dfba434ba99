//! Answering: a query becomes a small note, the note becomes a datagram when there is room to send.

use core::net::SocketAddr;
use core::time::Duration;

use super::Dht;
use super::items::to_send;
use crate::dht::guard::Admit;
use crate::dht::store::PeerStore;
use crate::wire::krpc::{
    self, Args, BLOOM_LEN, COMPACT_V4, COMPACT_V6, MAX_TID, Message, Method, ReplyOut,
};
use crate::{Cx, Instant, NodeId, Transmit};

/// A reply that waited longer is of no use: whoever asked has gone on (S30).
const STALE: Duration = Duration::from_secs(15);
/// Most bytes of a reply (dht.md attack 8): 8 nodes and some 30 peers.
const MAX_REPLY: usize = 560;
/// Bytes of a `get_peers` reply beside nodes and values: keys, id, tid, token, `ip`, `v`.
const OVERHEAD: usize = 130;
/// Most nodes told of each family.
const K: usize = 8;
/// Most samples in a reply (BEP 51 allows as many as fit).
const SAMPLES: usize = 20;

/// What is owed to whom.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    to: SocketAddr,
    at: Instant,
    tid: heapless::Vec<u8, MAX_TID, u8>,
    /// Length of the query, to bound the answer by.
    asked: u16,
    what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Pong,
    Nodes {
        target: NodeId,
        v4: bool,
        v6: bool,
    },
    Peers {
        hash: NodeId,
        id: NodeId,
        v4: bool,
        v6: bool,
        noseed: bool,
        scrape: bool,
    },
    Item {
        target: NodeId,
        id: NodeId,
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

impl Dht {
    /// A query came in.
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
        // Our own id comes back from reflectors only.
        if args.id.as_ref() == Some(side.routes.own()) {
            self.page.now.errors_caught += 1;
            return;
        }
        self.page.now.queries_in += 1;
        self.page.received();
        if self.guard.admit(cx.now, &from) == Admit::Limited {
            self.limited += 1;
            return;
        }
        self.budget.heard(cx.now, &from);
        if self.is_read_only() {
            return;
        }
        let what = self.reply_to(cx, from, method, args);
        if let (Some(id), false) = (
            &args.id,
            message.read_only || matches!(what, What::Error(..)),
        ) {
            let worth = self.sides[usize::from(v6)]
                .as_mut()
                .is_some_and(|side| side.routes.queried(cx.now, id, from));
            if worth {
                self.verify(cx, from, *id);
            }
        }
        if self.answers.len() >= usize::from(self.config.max_replies.max(1)) {
            self.limited += 1;
            return;
        }
        let Ok(tid) = heapless::Vec::from_slice(message.tid) else {
            return;
        };
        let asked = u16::try_from(len).unwrap_or(u16::MAX);
        self.answers.push_back(Answer {
            to: from,
            at: cx.now,
            tid,
            asked,
            what,
        });
    }

    /// What to say; announces and puts are carried out here.
    fn reply_to(&mut self, cx: &Cx<'_>, from: SocketAddr, method: Method, args: &Args<'_>) -> What {
        let Some(id) = args.id else {
            return What::Error(203, "id is missing or not 20 bytes");
        };
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
            .ok_or(What::Error(203, "target is missing or not 20 bytes"));
        let hash = args
            .info_hash
            .ok_or(What::Error(203, "info_hash is missing or not 20 bytes"));
        let what = match method {
            Method::Ping => Ok(What::Pong),
            Method::FindNode => target.map(|target| What::Nodes { target, v4, v6 }),
            Method::GetPeers => hash.map(|hash| What::Peers {
                hash,
                id,
                v4,
                v6,
                noseed: args.noseed,
                scrape: args.scrape,
            }),
            Method::AnnouncePeer => {
                hash.and_then(|hash| self.announced(cx, from, &id, &hash, args))
            }
            Method::Get => target.map(|target| What::Item {
                target,
                id,
                seq: args.item.seq,
                v4,
                v6,
            }),
            Method::Put => self.put(cx, from, &id, args),
            Method::SampleInfohashes => target.map(|target| What::Samples { target, v4, v6 }),
            Method::Unknown => Err(What::Error(204, "Unknown query type.")),
        };
        what.unwrap_or_else(|error| error)
    }

    fn announced(
        &mut self,
        cx: &Cx<'_>,
        from: SocketAddr,
        id: &NodeId,
        hash: &NodeId,
        args: &Args<'_>,
    ) -> Result<What, What> {
        let token = args.token.ok_or(What::Error(203, "token is missing"))?;
        if !self.tokens.check(&from, id, hash, token) {
            return Err(What::Error(203, "token is wrong or too old"));
        }
        let port = if args.implied_port {
            Some(from.port())
        } else {
            args.port
        };
        let port = port.ok_or(What::Error(203, "port is missing or not 1 to 65535"))?;
        let peer = SocketAddr::new(from.ip(), port);
        self.peers.announce(cx.now, hash, peer, args.seed);
        Ok(What::Pong)
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
            self.page.now.bytes_out += len as u64;
            return Some(Transmit::to(answer.to, len));
        }
        None
    }

    fn write_answer(&mut self, cx: &mut Cx<'_>, answer: &Answer, buf: &mut [u8]) -> Option<usize> {
        let to = &answer.to;
        let own = self.sides[usize::from(to.is_ipv6())].as_ref()?.routes.own();
        let (mut nodes4, mut nodes6) = ([0; K * COMPACT_V4], [0; K * COMPACT_V6]);
        let sides = &self.sides;
        let write = |side: usize, wanted: bool, target: &NodeId, out: &mut [u8]| {
            let side = sides[side].as_ref().filter(|_| wanted)?;
            Some(side.routes.write_closest(target, out))
        };
        let out = match answer.what {
            What::Error(code, text) => {
                return krpc::error(buf, &answer.tid, code, text, answer.asked.into());
            }
            What::Pong => ReplyOut::default(),
            What::Nodes { target, v4, v6 } => {
                let n4 = write(0, v4, &target, &mut nodes4);
                let n6 = write(1, v6, &target, &mut nodes6);
                let out = ReplyOut {
                    nodes: n4.and_then(|n| nodes4.get(..n)),
                    nodes6: n6.and_then(|n| nodes6.get(..n)),
                    ..ReplyOut::default()
                };
                return krpc::reply(buf, &answer.tid, own, to, &out);
            }
            What::Peers {
                hash,
                id,
                v4,
                v6,
                noseed,
                scrape,
            } => {
                let token = self.tokens.make(to, &id, &hash);
                let (mut seeds, mut leeches) = ([0; BLOOM_LEN], [0; BLOOM_LEN]);
                let scraped = scrape && self.peers.scrape(&hash, &mut seeds, &mut leeches);
                // Filters take the nodes' place: an answer must not grow beyond measure.
                let n4 = write(0, v4 && !scraped, &hash, &mut nodes4);
                let n6 = write(1, v6 && !scraped, &hash, &mut nodes6);
                let value_len = if to.is_ipv6() { 18 } else { 6 };
                let used = OVERHEAD + n4.unwrap_or(0) + n6.unwrap_or(0);
                let room = if scraped {
                    0
                } else {
                    MAX_REPLY.saturating_sub(used) / (value_len + 3)
                };
                let mut values = [0; MAX_REPLY];
                let space = values.get_mut(..room * value_len)?;
                let n = self.peers.values(cx, &hash, to.is_ipv6(), noseed, space);
                let out = ReplyOut {
                    nodes: n4.and_then(|n| nodes4.get(..n)),
                    nodes6: n6.and_then(|n| nodes6.get(..n)),
                    token: &token,
                    values: values.get(..n).unwrap_or_default(),
                    value_len,
                    seeds: scraped.then_some(&seeds),
                    leeches: scraped.then_some(&leeches),
                    ..ReplyOut::default()
                };
                return krpc::reply(buf, &answer.tid, own, to, &out);
            }
            What::Item {
                target,
                id,
                seq,
                v4,
                v6,
            } => {
                let token = self.tokens.make(to, &id, &target);
                let n4 = write(0, v4, &target, &mut nodes4);
                let n6 = write(1, v6, &target, &mut nodes6);
                let out = ReplyOut {
                    nodes: n4.and_then(|n| nodes4.get(..n)),
                    nodes6: n6.and_then(|n| nodes6.get(..n)),
                    token: &token,
                    item: to_send(&self.items, &target, seq),
                    ..ReplyOut::default()
                };
                return krpc::reply(buf, &answer.tid, own, to, &out);
            }
            What::Samples { target, v4, v6 } => {
                let n4 = write(0, v4, &target, &mut nodes4);
                let n6 = write(1, v6, &target, &mut nodes6);
                let mut samples = [0; SAMPLES * 20];
                // Nodes first: what is left of the bound is for samples.
                let left = MAX_REPLY.saturating_sub(OVERHEAD + n4.unwrap_or(0) + n6.unwrap_or(0));
                let space = samples.get_mut(..(left / 20).min(SAMPLES) * 20)?;
                let (n, num) = self.peers.sample(cx, space);
                let out = ReplyOut {
                    nodes: n4.and_then(|n| nodes4.get(..n)),
                    nodes6: n6.and_then(|n| nodes6.get(..n)),
                    samples: samples.get(..n),
                    num: Some(num),
                    interval: Some(PeerStore::sample_interval().as_secs()),
                    ..ReplyOut::default()
                };
                return krpc::reply(buf, &answer.tid, own, to, &out);
            }
        };
        krpc::reply(buf, &answer.tid, own, to, &out)
    }
}
