//! Keeping the tables: bootstrap, refresh, housekeeping, and what the log is told.

use core::time::Duration;

use super::page::{ENOUGH_NODES, HOUSEKEEPING, Present};
use super::queries::Purpose;
use super::searches::For;
use super::{Dht, Side};
use crate::dht::table::Action;
use crate::dht::{Cause, Contact, DhtEvent, Goal};
use crate::{Cx, Instant, NodeId};

/// Shortest pause between two rounds that brought nothing; it doubles up to [`SLOW_ROUND`].
pub(super) const FIRST_ROUND: Duration = Duration::from_millis(500);
/// A round that follows from what just happened: not the same instant, so that time goes on.
pub(super) const AT_ONCE: Duration = Duration::from_millis(1);
/// rTorrent's round (S15): while nobody answers.
const SLOW_ROUND: Duration = Duration::from_secs(60);
/// Rounds before a network is taken to be small: where many cannot be reached, some bring nothing.
const YOUNG: u32 = 12;
/// Ours: a network that is just small is searched no more often than the table is looked after.
const SMALL_NETWORK: Duration = HOUSEKEEPING;
/// Upkeep actions that are done at one time.
const ACTIONS: usize = 16;
/// Nothing at all came in for so long: it is the network that is silent, not its nodes (S22).
const SILENCE: Duration = Duration::from_secs(60);

impl Dht {
    /// Everything that is due.
    pub(super) fn upkeep(&mut self, cx: &mut Cx<'_>) {
        self.tokens.rotate(cx);
        if self.peers.next_expiry().is_some_and(|at| at <= cx.now) {
            self.peers.expire(cx.now);
        }
        if self.items.next_expiry().is_some_and(|at| at <= cx.now) {
            self.items.expire(cx.now);
        }
        for v6 in [false, true] {
            self.table_upkeep(cx, v6);
            self.bootstrap(cx, v6);
        }
        let present = self.present();
        if let Some((housekeeping, lines)) = self.page.handle_timeout(cx.now, &present) {
            if housekeeping {
                let up = self.is_network_up(cx);
                for side in self.sides.iter_mut().flatten() {
                    side.routes.housekeeping(cx.now, up);
                }
                self.tell(DhtEvent::TableChanged);
            }
            for line in lines {
                self.tell(DhtEvent::Log(line));
            }
        }
    }

    fn table_upkeep(&mut self, cx: &mut Cx<'_>, v6: bool) {
        for _ in 0..ACTIONS {
            let Some(side) = self.sides[usize::from(v6)].as_mut() else {
                return;
            };
            if side.routes.due().is_none_or(|at| at > cx.now) || self.queries.is_full() {
                return;
            }
            match side.routes.next_action(cx) {
                Some(Action::Ping(node)) => {
                    self.enqueue(cx, Purpose::Ping(None), node.addr, Some(node.id));
                }
                Some(Action::Refresh(target)) => {
                    let mut nearest = heapless::Vec::<Contact, 1>::new();
                    side.routes.closest(&target, &mut nearest);
                    if let Some(node) = nearest.first() {
                        let purpose = Purpose::Refresh { target };
                        self.enqueue(cx, purpose, node.addr, Some(node.id));
                    }
                }
                None => return,
            }
        }
    }

    /// Looks for more nodes while the table has too few, and once at the start.
    pub(super) fn bootstrap(&mut self, cx: &mut Cx<'_>, v6: bool) {
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        if side.searching || side.round.is_none_or(|at| at > cx.now) {
            return;
        }
        side.round = None;
        let had = side.routes.good();
        if side.routes.is_empty() && side.contacts.is_empty() {
            side.round = Some(cx.now + SLOW_ROUND);
            return self.tell(DhtEvent::NeedContacts { v6 });
        }
        let mut target = *side.routes.own();
        if side.rounds == 0 {
            // Our own neighbourhood; the last bit, so that nobody takes it for a reflection.
            target.0[19] ^= 1;
        } else {
            // Then bucket by bucket: one that nobody was looked for in may be empty for want of luck.
            let bits = (side.rounds - 1) % (side.routes.buckets() + 1);
            target = beside(cx, side.routes.own(), bits);
        }
        side.rounds = side.rounds.saturating_add(1);
        side.searching = true;
        let begun = self.begin(cx, Goal::Nodes(target), For::Table { v6, had });
        let side = self.sides[usize::from(v6)].as_mut();
        if let Some(side) = side.filter(|_| begun.is_none()) {
            side.searching = false;
            side.round = Some(cx.now + FIRST_ROUND);
        }
    }

    /// A search for the table is over.
    pub(super) fn searched_for_table(&mut self, now: Instant, v6: bool, had: u32) {
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        side.searching = false;
        let has = side.routes.good();
        if side.diverse && has >= ENOUGH_NODES {
            return;
        }
        if has > had {
            side.pause = FIRST_ROUND;
            side.round = Some(now + AT_ONCE);
        } else {
            side.round = Some(now + side.pause);
            let alone = has == 0;
            let most = match side.rounds {
                0..YOUNG if !alone => FIRST_ROUND,
                _ if alone => SLOW_ROUND,
                _ => SMALL_NETWORK,
            };
            side.pause = (side.pause * 2).min(most);
            if alone {
                self.tell(DhtEvent::NeedContacts { v6 });
            }
        }
    }

    /// A node was added: is that enough (S16)? Or is it the first (S15)?
    pub(super) fn grown(&mut self, now: Instant, v6: bool) {
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        side.diverse = side.diverse || is_diverse(side);
        let enough = side.diverse && side.routes.good() >= ENOUGH_NODES;
        if enough {
            // The first round looks for our own neighbourhood, however many nodes there are.
            side.round = side.round.filter(|_| side.rounds == 0);
            if self.page.is_bootstrapping() {
                side.contacts.clear();
                let present = self.present();
                let line = self.page.bootstrapped(now, &present);
                self.tell(DhtEvent::Log(line));
                self.tell(DhtEvent::TableChanged);
            }
        } else if !side.searching && side.round.is_none_or(|at| at > now) {
            // News: no need to wait for the next round.
            side.pause = FIRST_ROUND;
            side.round = Some(now + AT_ONCE);
        }
    }

    /// Anything came in lately, or nothing was expected.
    pub(super) fn is_network_up(&self, cx: &Cx<'_>) -> bool {
        cx.now.saturating_since(self.heard) < SILENCE
    }

    /// Why nobody answered.
    pub(super) fn silence(&self) -> Cause {
        if self.send_failures > 0 && self.page.now.replies == 0 {
            Cause::Send
        } else if self.page.now.replies == 0 || self.asked_since_heard > 0 {
            Cause::NoReplies
        } else {
            Cause::NodesGone
        }
    }

    /// The node as the log sees it.
    pub(super) fn present(&self) -> Present {
        let each = || self.sides.iter().flatten();
        let mangled = self.votes.observed_port();
        let unreachable = match mangled.filter(|p| *p != self.port) {
            Some(observed) => Cause::PortMangled { observed },
            None => Cause::NotForwarded,
        };
        Present {
            nodes: each().map(|s| s.routes.len()).sum(),
            buckets: each().map(|s| s.routes.buckets()).sum(),
            peers: self.peers.peers(),
            peers_max: self.peers.peers_max(),
            torrents: self.peers.hashes(),
            // Nobody asks one that does not answer.
            unreachable: (!self.is_read_only()).then_some(unreachable),
            firewalled: if self.send_failures > 0 {
                Cause::Send
            } else {
                Cause::NoReplies
            },
        }
    }

    /// An unknown node asked us something, and the table would like to have it.
    pub(super) fn verify(&mut self, cx: &mut Cx<'_>, addr: core::net::SocketAddr, id: NodeId) {
        if self.verifying.is_full() || self.verifying.contains(&addr) || self.queries.is_full() {
            return;
        }
        if !self.guard.may_probe(cx.now, &addr) {
            return;
        }
        if self.enqueue(cx, Purpose::Ping(None), addr, Some(id)) {
            let _ = self.verifying.push(addr);
        }
    }
}

/// A random id that shares just `bits` leading bits with `own`.
fn beside(cx: &mut Cx<'_>, own: &NodeId, bits: u32) -> NodeId {
    let mut id = NodeId([0; 20]);
    cx.rng.fill_bytes(&mut id.0);
    for ((id, own), at) in id.0.iter_mut().zip(own.0).zip((0u32..).step_by(8)) {
        let shared = bits.saturating_sub(at).min(8);
        let kept = !0xffu8.checked_shr(shared).unwrap_or(0);
        *id = (own & kept) | (*id & !kept);
        if (at..at + 8).contains(&bits) {
            let other = 0x80 >> (bits - at);
            *id = (*id & !other) | (!own & other);
        }
    }
    id
}

/// Bootstrap capture (dht.md attack 12): nodes of one operator are not a network.
fn is_diverse(side: &Side) -> bool {
    const NETWORKS: usize = 8;
    let mut seen = heapless::Vec::<[u8; 4], NETWORKS>::new();
    for (node, ..) in side.routes.nodes(Instant::ORIGIN) {
        let net = match node.addr.ip() {
            core::net::IpAddr::V4(ip) => [ip.octets()[0], ip.octets()[1], 0, 0],
            core::net::IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.octets();
                [a, b, c, d]
            }
        };
        if !seen.contains(&net) && seen.push(net).is_err() {
            break;
        }
    }
    seen.is_full()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn an_id_beside_ours_shares_just_so_many_bits() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (now, own) = (Instant::ORIGIN, NodeId([0x5a; 20]));
        for bits in 0..160 {
            let rng = &mut rng;
            let id = beside(&mut Cx { now, rng }, &own, bits);
            assert_eq!(id.common_prefix(&own), bits);
        }
    }
}
