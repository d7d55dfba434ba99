//! Which nodes are pinged, and when; when a node that does not answer has failed.

use core::net::SocketAddr;
use core::time::Duration;

use super::bucket::Bucket;
use super::entry::{Entry, State, Tick, endpoint, pack, seconds, unpack};
use super::routing::Table;
use super::schedule::FRESH;
use super::{Action, K};
use crate::{Cx, Instant, NodeId};

/// A bad node is dropped when it was not heard of for this many seconds (S21).
const DROPPED: u32 = 4 * 3600;
/// A table with fewer nodes that are ready is young (S15).
const YOUNG: u32 = 32;

/// The network is up if a node answered within this time.
const RECENT: Duration = Duration::from_secs(5);
/// Failures count if another node answers within this time after the first of them.
const JUDGED: Duration = Duration::from_secs(12);
/// Forgiving at least this many failures at once means that the network was down, not the nodes.
const OUTAGE: u32 = 3;
/// After this many pings without any reply the pace slows down.
const UNHEARD: u16 = 64;

/// The time between two pings in a hurry, or while the table is young: at most 25 a second, which a NAT can take.
const PING_HURRY: Duration = Duration::from_millis(40);
/// The time between two pings if more than an eighth of the nodes are not ready.
const PING_BRISK: Duration = Duration::from_secs(2);
/// The time between two pings of a healthy table: with the reply and occasional retries, 2 packets a
/// minute.
const PING_CALM: Duration = Duration::from_secs(65);
/// The same for refreshes: a query, and a ping to each of those of its 8 nodes that are wanted.
const REFRESH_HURRY: Duration = Duration::from_millis(100);
const REFRESH_BRISK: Duration = Duration::from_secs(1);
const REFRESH_CALM: Duration = Duration::from_secs(600);
/// A hurry ends after this many seconds.
const HURRY: u32 = 60;
/// A node that was not asked for this many seconds was not asked since the hurry began.
const NEVER: u32 = 12 * 3600;
/// The longest time between two looks at the table, in seconds.
const IDLE: u32 = 60;

/// The pause in seconds before a node is asked again after its first failure; it doubles with each.
const RETRY: u32 = 30;
/// The same for a bad node.
const RETRY_BAD: u32 = 30 * 60;
/// The same for a node that shares its bucket with one that changed its id.
const RETRY_DOUBTED: u32 = 5 * 60;
/// The same for a node that never answered.
const RETRY_UNVERIFIED: u32 = 60;

/// Refreshes of a bucket come 4ⁿ seconds after the last, up to 4½ hours; an hour for our own.
const MAX_TRIES: u8 = 7;
const MAX_TRIES_OWN: u8 = 6;
/// The first few come at once, also in a table that is healthy otherwise: a bucket with holes is
/// mended, or found to have no more nodes in the network, within 1½ minutes.
const EAGER: u8 = 4;
/// The count of refreshes that a bucket goes back to when it loses a node.
const TRIES_AFTER_LOSS: u8 = 2;

/// The pace of pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Hurry,
    Brisk,
    Calm,
}

/// Seconds until a node should be asked; 0: now.
fn wait<const S: usize>(e: &Entry<S>, now: u32, hurry: Option<u32>) -> u32 {
    let (asked, unheard) = (e.asked.age(now), now.saturating_sub(e.heard));
    if hurry.is_some_and(|since| e.heard < since) && asked >= NEVER {
        return 0;
    }
    let pause = if e.state.is_bad() {
        RETRY_BAD
    } else if e.state.fails() > 0 || e.state.has(State::SUSPECT) {
        RETRY << e.state.fails()
    } else if e.state.has(State::DOUBTED) {
        RETRY_DOUBTED
    } else if !e.state.has(State::VERIFIED) {
        RETRY_UNVERIFIED
    } else {
        return FRESH.saturating_sub(unheard.min(asked));
    };
    pause.saturating_sub(asked)
}

impl<const S: usize> Table<S> {
    /// A node answered, so the network is up, and nodes that failed just now failed by themselves.
    pub(super) fn alive(&mut self, now: Instant) {
        self.upkeep.heard = Some(now);
        self.upkeep.unheard = 0;
        if self.upkeep.suspects == 0 {
            return;
        }
        (self.upkeep.suspects, self.upkeep.probe) = (0, false);
        let guilty = now.saturating_since(self.upkeep.silent_since) < JUDGED;
        let (now_s, mut forgiven) = (seconds(now), 0);
        for b in 0..self.buckets.len() {
            // Counting a failure changes the order: from the last to the first, no node is missed.
            for i in (0..K).rev() {
                let Some(mut e) = self.buckets[b].get(i) else {
                    continue;
                };
                if !e.state.has(State::SUSPECT) {
                    continue;
                }
                e.state = e.state.without(State::SUSPECT);
                if guilty {
                    e.state = e.state.failed();
                    self.buckets[b].tries = self.buckets[b].tries.min(TRIES_AFTER_LOSS);
                } else {
                    forgiven += 1;
                }
                self.buckets[b].set(i, &e);
            }
            self.fill(b, now_s);
        }
        self.changed(now);
        if forgiven >= OUTAGE {
            self.upkeep.grace = now + JUDGED;
            self.hurry(now);
        }
    }

    /// See [`Routes::failed`](super::Routes::failed).
    pub(super) fn failed(&mut self, now: Instant, addr: SocketAddr) {
        let Some(key) = pack::<S>(&NodeId([0; 20]), addr) else {
            return;
        };
        let holder = self.holder(&key);
        let Some((b, i, _)) = holder.filter(|h| self.is_at(h.0, h.1, &key)) else {
            self.candidates.forget_endpoint(endpoint(&key));
            return;
        };
        let Some(mut e) = self.buckets[b].get(i) else {
            return;
        };
        if now < self.upkeep.grace {
            return;
        }
        let now_s = seconds(now);
        e.asked = Tick::at(now_s);
        let was_suspect = e.state.has(State::SUSPECT);
        if self
            .upkeep
            .heard
            .is_some_and(|at| now.saturating_since(at) < RECENT)
        {
            e.state = e.state.failed();
            self.buckets[b].tries = self.buckets[b].tries.min(TRIES_AFTER_LOSS);
            self.buckets[b].set(i, &e);
            self.fill(b, now_s);
            self.changed(now);
        } else if !was_suspect {
            e.state = e.state.with(State::SUSPECT);
            self.buckets[b].set(i, &e);
            if self.upkeep.suspects == 0 {
                (self.upkeep.probe, self.upkeep.silent_since) = (true, now);
                self.upkeep.ping_at = self.upkeep.ping_at.min(now);
            }
            self.upkeep.suspects += 1;
        } else {
            self.buckets[b].set(i, &e);
        }
    }

    /// Buckets came, or lost nodes.
    pub(super) fn changed(&mut self, now: Instant) {
        let own = self.buckets.len().saturating_sub(1);
        let mut buckets = self.buckets.iter().enumerate();
        if buckets.any(|(b, bucket)| bucket.tries < EAGER && (b == own || bucket.ready() < K)) {
            self.upkeep.refresh_at = self.upkeep.refresh_at.min(now + REFRESH_HURRY);
        }
    }

    /// An action may be due earlier than planned.
    pub(super) fn wake(&mut self, now: Instant) {
        self.upkeep.ping_at = self.upkeep.ping_at.min(now);
        self.upkeep.refresh_at = self.upkeep.refresh_at.min(now);
    }

    /// The nodes of a bucket are to be asked again: one of them changed its id.
    pub(super) fn doubt(&mut self, b: usize, now: Instant) {
        for i in 0..K {
            if let Some(mut e) = self.buckets[b].get(i) {
                e.state = e.state.with(State::DOUBTED);
                self.buckets[b].set(i, &e);
            }
        }
        self.upkeep.ping_at = self.upkeep.ping_at.min(now);
    }

    /// See [`Routes::hurry`](super::Routes::hurry).
    pub(super) fn hurry(&mut self, now: Instant) {
        self.upkeep.hurry = Some(seconds(now));
        for bucket in &mut self.buckets {
            (bucket.tries, bucket.refreshed) = (0, 0);
            bucket.forget_asked(Tick::never(seconds(now)));
        }
        self.wake(now);
    }

    /// See [`Routes::due`](super::Routes::due).
    pub(super) fn due(&self) -> Option<Instant> {
        let next = self.upkeep.ping_at.min(self.upkeep.refresh_at);
        self.buckets.iter().any(|b| b.len() > 0).then_some(next)
    }

    fn pace(&self) -> Pace {
        let (len, ready) = (self.len(), self.ready());
        if self.upkeep.unheard > UNHEARD {
            Pace::Brisk
        } else if self.upkeep.hurry.is_some() || ready < YOUNG {
            Pace::Hurry
        } else if (len - ready) * 8 > len {
            Pace::Brisk
        } else {
            Pace::Calm
        }
    }

    /// See [`Routes::next_action`](super::Routes::next_action).
    pub(super) fn next_action(&mut self, cx: &mut Cx<'_>) -> Option<Action> {
        let (now, now_s) = (cx.now, seconds(cx.now));
        if self.upkeep.hurry.is_some_and(|since| now_s > since + HURRY) {
            self.upkeep.hurry = None;
        }
        let action = if self.due().is_none_or(|at| at > now) {
            None
        } else if let Some(ping) = self.next_ping(now, now_s) {
            Some(ping)
        } else {
            self.next_refresh(cx, now_s)
        };
        debug_assert!(action.is_some() || self.due().is_none_or(|at| at > now));
        action
    }

    fn next_ping(&mut self, now: Instant, now_s: u32) -> Option<Action> {
        if self.upkeep.ping_at > now {
            return None;
        }
        let probe = core::mem::take(&mut self.upkeep.probe);
        let hurry = self.upkeep.hurry;
        let mut best: Option<((u8, u32), usize, usize)> = None;
        let mut soonest = IDLE;
        for (b, bucket) in self.buckets.iter().enumerate() {
            for (i, e) in bucket.entries().enumerate() {
                let key = if probe {
                    // The node that is most likely to answer.
                    if !e.state.is_ready() || e.state.has(State::SUSPECT) {
                        continue;
                    }
                    (0, u32::MAX - e.heard)
                } else {
                    let wait = wait(&e, now_s, hurry);
                    if wait > 0 {
                        soonest = soonest.min(wait);
                        continue;
                    }
                    let class = match e.state {
                        s if s.is_bad() => 3,
                        s if !s.has(State::VERIFIED) && s.fails() == 0 => 0,
                        s if !s.is_ready() || s.has(State::DOUBTED) => 1,
                        _ => 2,
                    };
                    // In a hurry those first that are likely to live, else those that may not.
                    (
                        class,
                        if hurry.is_some() {
                            u32::MAX - e.heard
                        } else {
                            e.heard
                        },
                    )
                };
                if best.is_none_or(|(k, ..)| key < k) {
                    best = Some((key, b, i));
                }
            }
        }
        let Some((_, b, i)) = best else {
            self.upkeep.hurry = None;
            self.upkeep.ping_at = now + Duration::from_secs(soonest.into());
            return None;
        };
        let mut e = self.buckets.get(b)?.get(i)?;
        e.asked = Tick::at(now_s);
        self.buckets[b].set(i, &e);
        self.upkeep.unheard = self.upkeep.unheard.saturating_add(1);
        self.upkeep.ping_at = now
            + match self.pace() {
                Pace::Hurry => PING_HURRY,
                Pace::Brisk => PING_BRISK,
                Pace::Calm => PING_CALM,
            };
        Some(Action::Ping(unpack(&e.node)))
    }

    fn next_refresh(&mut self, cx: &mut Cx<'_>, now_s: u32) -> Option<Action> {
        if self.upkeep.refresh_at > cx.now {
            return None;
        }
        let own = self.buckets.len().saturating_sub(1);
        let mut best: Option<(u8, usize)> = None;
        let mut soonest = IDLE;
        for (b, bucket) in self.buckets.iter().enumerate().rev() {
            // Our own bucket may split, full as it is.
            if bucket.ready() == K && b != own {
                continue;
            }
            let tries = bucket
                .tries
                .min(if b == own { MAX_TRIES_OWN } else { MAX_TRIES });
            let pause = if tries == 0 { 0 } else { 1 << (2 * tries) };
            let wait = (bucket.refreshed + pause).saturating_sub(now_s);
            if wait > 0 {
                soonest = soonest.min(wait);
            } else if best.is_none_or(|(t, _)| tries < t) {
                best = Some((tries, b));
            }
        }
        let Some((tries, b)) = best else {
            self.upkeep.refresh_at = cx.now + Duration::from_secs(soonest.into());
            return None;
        };
        let bucket = self.buckets.get_mut(b)?;
        bucket.refreshed = now_s;
        bucket.tries = bucket.tries.saturating_add(1).min(MAX_TRIES);
        let pause = match self.pace() {
            Pace::Hurry => REFRESH_HURRY,
            Pace::Brisk => REFRESH_BRISK,
            Pace::Calm if tries < EAGER => REFRESH_BRISK,
            Pace::Calm => REFRESH_CALM,
        };
        self.upkeep.refresh_at = cx.now + pause;
        if pause == REFRESH_CALM {
            // Its packets are those of the pings that are left out.
            self.upkeep.ping_at = self.upkeep.ping_at.max(cx.now + pause);
        }
        Some(Action::Refresh(self.target(cx, b, tries)))
    }

    /// An id in bucket `b`: at random; in our own at first the one next to ours (S15).
    fn target(&self, cx: &mut Cx<'_>, b: usize, tries: u8) -> NodeId {
        let mut id = *self.own();
        let is_own = b + 1 == self.buckets.len();
        if is_own && tries == 0 {
            id.0[19] ^= 1;
            return id;
        }
        cx.rng.fill_bytes(&mut id.0);
        for (i, (byte, own)) in id.0.iter_mut().zip(self.own().0).enumerate() {
            // The first b bits are ours; the next is not, but for our own bucket.
            let keep = match b.saturating_sub(i * 8) {
                0 => 0,
                n @ 1..8 => !(0xff_u8 >> n),
                _ => 0xff,
            };
            *byte = (own & keep) | (*byte & !keep);
        }
        let bit = 0x80 >> (b % 8);
        if !is_own {
            id.0[b / 8] = (id.0[b / 8] & !bit) | (!self.own().0[b / 8] & bit);
        }
        id
    }

    /// See [`Routes::housekeeping`](super::Routes::housekeeping).
    pub(super) fn housekeeping(&mut self, now: Instant, network_up: bool) {
        let now_s = seconds(now);
        for b in 0..self.buckets.len() {
            for i in (0..K).rev() {
                let Some(mut e) = self.buckets[b].get(i) else {
                    continue;
                };
                let dropped = e.state.is_bad() && now_s.saturating_sub(e.heard) >= DROPPED;
                if dropped && network_up {
                    self.buckets[b].remove(i);
                } else if e.asked.age(now_s) > 2 * 24 * 3600 {
                    // Before the clock of `asked` wraps.
                    e.asked = Tick::never(now_s);
                    self.buckets[b].set(i, &e);
                }
            }
            if network_up {
                self.fill(b, now_s);
            }
        }
        self.sift();
        self.candidates.expire(now_s);
        self.recount();
    }

    /// Nodes may have gone that were to be judged.
    pub(super) fn recount(&mut self) {
        let states = self.buckets.iter().flat_map(Bucket::states);
        self.upkeep.suspects = states.filter(|s| s.has(State::SUSPECT)).count() as u32;
    }
}
