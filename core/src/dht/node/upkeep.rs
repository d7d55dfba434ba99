//! Maintenance of the tables: bootstrap, refresh, housekeeping, and lines of the log.

use core::net::SocketAddr;
use core::time::Duration;

use super::monitor::{ENOUGH_NODES, Gauges, HOUSEKEEPING};
use super::queries::Task;
use super::searches::{CONTACTS, Requester};
use super::side::{AT_ONCE, FIRST_ROUND};
use super::{Dht, guard};
use crate::dht::table::Action;
use crate::dht::{Cause, Contact, DhtEvent, Goal};
use crate::{Cx, Instant, NodeId};

/// The longest pause between two rounds while nobody answers: rTorrent's (S15).
const SLOW_ROUND: Duration = Duration::from_secs(60);
/// Rounds before a network counts as small: where many nodes cannot be reached, some rounds find none.
const YOUNG: u32 = 12;
/// The longest pause between two rounds in a small network. Our choice: it is searched as often as the table is looked
/// after.
const SMALL_NETWORK: Duration = HOUSEKEEPING;
/// Upkeep actions that are done at one time.
const ACTIONS: usize = 16;
/// If no datagram came for this time, the network is down, not its nodes (S22).
const SILENCE: Duration = Duration::from_secs(60);

impl Dht {
    /// Does everything that is due.
    pub(super) fn upkeep(&mut self, cx: &mut Cx<'_>) {
        self.tokens.rotate(cx);
        if self.peers.next_expiry().is_some_and(|at| at <= cx.now) {
            self.peers.expire(cx.now);
        }
        if self.items.next_expiry().is_some_and(|at| at <= cx.now) {
            self.items.expire(cx.now);
        }
        for v6 in [false, true] {
            self.watch(cx.now, v6);
            self.table_upkeep(cx, v6);
            self.bootstrap(cx, v6);
        }
        let gauges = self.gauges();
        if let Some((housekeeping, lines)) = self.monitor.handle_timeout(cx.now, &gauges) {
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

    /// Bootstraps again if no node of the table answers any more: after a long sleep, or in another network.
    fn watch(&mut self, now: Instant, v6: bool) {
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        if side.liveness.handle_timeout(now) {
            (side.rounds, side.pause) = (0, FIRST_ROUND);
            if !side.searching {
                side.round = Some(now);
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
                    self.enqueue(cx, Task::Ping(None), node.addr, Some(node.id));
                }
                Some(Action::Refresh(target)) => {
                    let mut nearest = heapless::Vec::<Contact, 1>::new();
                    side.routes.closest(&target, &mut nearest);
                    if let Some(node) = nearest.first() {
                        let task = Task::Refresh { target };
                        self.enqueue(cx, task, node.addr, Some(node.id));
                    }
                }
                None => return,
            }
        }
    }

    /// Looks for more nodes while the table has too few, and once at the start.
    pub(super) fn bootstrap(&mut self, cx: &mut Cx<'_>, v6: bool) {
        let slow = self.slow_round(v6);
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        if side.searching || side.round.is_none_or(|at| at > cx.now) {
            return;
        }
        side.round = None;
        let had = side.routes.good();
        if side.routes.is_empty() && side.contacts.is_empty() {
            side.round = Some(cx.now + slow);
            return self.tell(DhtEvent::NeedContacts { v6 });
        }
        let mut target = *side.routes.own();
        if side.rounds == 0 {
            // Our own neighbourhood. The last bit differs, so that no node takes the query for a reflection.
            target.0[19] ^= 1;
        } else {
            // Then bucket by bucket: one that was never searched may be empty by chance.
            let bits = (side.rounds - 1) % (side.routes.buckets() + 1);
            target = beside(cx, side.routes.own(), bits);
        }
        side.rounds = side.rounds.saturating_add(1);
        side.searching = true;
        let begun = self.begin(cx, Goal::Nodes(target), Requester::Table { v6, had });
        let side = self.sides[usize::from(v6)].as_mut();
        if let Some(side) = side.filter(|_| begun.is_none()) {
            side.searching = false;
            side.round = Some(cx.now + FIRST_ROUND);
        }
        if begun.is_some() {
            self.probe_contacts(cx, v6);
        }
    }

    /// While no node of the table has answered, pings contacts as well. Searches that no node
    /// answered go on with those that reply (see [`Dht::found_alive`]).
    fn probe_contacts(&mut self, cx: &mut Cx<'_>, v6: bool) {
        let side = self.sides[usize::from(v6)].as_mut();
        // With an empty table the search itself has begun with them.
        let Some(side) = side.filter(|s| !s.liveness.is_heard() && !s.routes.is_empty()) else {
            return;
        };
        side.probes = 0;
        let newest = side.contacts.iter().rev().take(CONTACTS).copied();
        let contacts: heapless::Vec<SocketAddr, CONTACTS> = newest.collect();
        side.contacts.rotate_right(contacts.len());
        for addr in contacts {
            self.probe(cx, addr);
        }
    }

    /// Pings a contact before anything else is sent; at most [`CONTACTS`] in a round
    /// (S15).
    pub(super) fn probe(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) {
        let side = self.sides[usize::from(addr.is_ipv6())].as_mut();
        let Some(side) = side.filter(|s| s.probes < CONTACTS) else {
            return;
        };
        side.probes += 1;
        let slot = self.queries.open(cx, Task::Ping(None), addr, None);
        self.urgent.extend(slot);
    }

    /// Whether nodes of the other family answer.
    fn is_other_heard(&self, v6: bool) -> bool {
        let other = self.sides[usize::from(!v6)].as_ref();
        other.is_some_and(|s| s.liveness.is_heard())
    }

    /// Whether a family does not work here: none of its nodes answers, and some of the other's do.
    pub(super) fn is_resting(&self, now: Instant, v6: bool) -> bool {
        let side = self.sides[usize::from(v6)].as_ref();
        side.is_some_and(|s| s.liveness.is_silent(now)) && self.is_other_heard(v6)
    }

    /// The pause between rounds that nobody answers.
    fn slow_round(&self, v6: bool) -> Duration {
        match self.is_other_heard(v6) {
            true => SMALL_NETWORK,
            false => SLOW_ROUND,
        }
    }

    /// A search for the table is over.
    pub(super) fn searched_for_table(&mut self, now: Instant, v6: bool, had: u32) {
        let slow = self.slow_round(v6);
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        side.searching = false;
        let (has, heard) = (side.routes.good(), side.liveness.is_heard());
        if side.diverse && heard && has >= ENOUGH_NODES {
            return;
        }
        if has > had {
            side.pause = FIRST_ROUND;
            side.round = Some(now + AT_ONCE);
        } else {
            side.round = Some(now + side.pause);
            let alone = has == 0 || !heard;
            let most = match side.rounds {
                0..YOUNG if !alone => FIRST_ROUND,
                _ if alone => slow,
                _ => SMALL_NETWORK,
            };
            side.pause = (side.pause * 2).min(most);
            if alone {
                self.tell(DhtEvent::NeedContacts { v6 });
            }
        }
    }

    /// A node was added. That may be enough (S16); if not, the next round begins at once (S15).
    pub(super) fn grown(&mut self, now: Instant, v6: bool) {
        if self.is_enough(now, v6) {
            return;
        }
        if let Some(side) = &mut self.sides[usize::from(v6)]
            && !side.searching
            && side.round.is_none_or(|at| at > now)
        {
            // The new node knows others, so the next round need not wait.
            side.pause = FIRST_ROUND;
            side.round = Some(now + AT_ONCE);
        }
    }

    /// Whether a table has enough nodes that answered; if so, the bootstrap is complete.
    pub(super) fn is_enough(&mut self, now: Instant, v6: bool) -> bool {
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return true;
        };
        side.judge_diversity();
        if !side.diverse || side.routes.good() < ENOUGH_NODES {
            return false;
        }
        // The first round looks for our own neighbourhood, however many nodes there are.
        side.round = side.round.filter(|_| side.rounds == 0);
        if self.monitor.is_bootstrapping() {
            side.contacts.clear();
            let gauges = self.gauges();
            let line = self.monitor.bootstrapped(now, &gauges);
            self.tell(DhtEvent::Log(line));
            self.tell(DhtEvent::TableChanged);
        }
        true
    }

    /// Whether a datagram came in recently.
    pub(super) fn is_network_up(&self, cx: &Cx<'_>) -> bool {
        cx.now.saturating_since(self.heard) < SILENCE
    }

    /// Why no node answered.
    pub(super) fn silence(&self) -> Cause {
        let (asked, refused) = self.unanswered();
        if is_refusal(asked, refused) {
            Cause::Send
        } else if self.monitor.counters.replies == 0 || asked > 0 {
            Cause::NoReplies
        } else {
            Cause::NodesGone
        }
    }

    /// Queries since somebody answered last, and those of them that the platform refused. A family
    /// in which nobody answers does not count beside one in which somebody does.
    fn unanswered(&self) -> (u32, u32) {
        let heard = self.is_heard();
        let sides = self.sides.iter().flatten().map(|s| s.liveness);
        let counts = sides.filter(|p| p.is_heard() == heard);
        counts.fold((0, 0), |(asked, refused), liveness| {
            let (a, r) = liveness.unanswered();
            (asked.saturating_add(a), refused.saturating_add(r))
        })
    }

    /// The values that the log prints.
    pub(super) fn gauges(&self) -> Gauges {
        let each = || self.sides.iter().flatten();
        let mangled = self.votes.observed_port();
        let unreachable = match mangled.filter(|p| *p != self.port) {
            Some(observed) => Cause::PortMangled { observed },
            None => Cause::NotForwarded,
        };
        Gauges {
            nodes: each().map(|s| s.routes.len()).sum(),
            buckets: each().map(|s| s.routes.buckets()).sum(),
            peers: self.peers.peers(),
            peers_max: self.peers.peers_max(),
            torrents: self.peers.hashes(),
            // A read-only node is not queried, so a lack of queries says nothing.
            unreachable: (!self.is_read_only()).then_some(unreachable),
            firewalled: match self.unanswered() {
                (asked, refused) if is_refusal(asked, refused) => Cause::Send,
                _ => Cause::NoReplies,
            },
        }
    }

    /// An unknown node asked us something or was told of, and the table would like to have it.
    pub(super) fn verify(&mut self, cx: &mut Cx<'_>, addr: SocketAddr, id: NodeId) {
        // A reply may name any address; one that is not public is not asked.
        if guard::is_martian(&addr, self.config.local) {
            return;
        }
        if self.verifying.is_full() || self.verifying.contains(&addr) || self.queries.is_full() {
            return;
        }
        if !self.guard.may_probe(cx.now, &addr) {
            return;
        }
        if self.enqueue(cx, Task::Ping(None), addr, Some(id)) {
            let _ = self.verifying.push(addr);
        }
    }
}

/// Whether the platform does not let queries out: it refused half of them or more.
const fn is_refusal(asked: u32, refused: u32) -> bool {
    refused > 0 && refused >= asked - asked / 2
}

/// A random id that shares exactly `bits` leading bits with `own`.
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
