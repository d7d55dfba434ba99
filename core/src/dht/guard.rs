//! Decides which sources are answered: not martian addresses, and not those that ask too much.
//!
//! The source of a datagram may be forged, so a limit protects both us and whoever receives the replies.
//! Each network (a /24, or a /64 of IPv6) has a bucket of queries, and one of bytes by which replies
//! may exceed queries. What we send of our own accord is limited by destination, since the
//! addresses in replies may be a victim's. A source that has answered one of our queries has proved its
//! address, so it may receive large items. An address that keeps changing its id is banned.

mod assoc;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

pub(in crate::dht) use assoc::{Assoc, Half};
use siphasher::sip::SipHasher13;

use crate::Instant;

/// Queries a second to one destination, and at once. Our choice: a lookup asks once, a bucket rarely.
const SEND_RATE: u32 = 2;
const SEND_BURST: u32 = 10;
/// Bytes by which replies may exceed queries, for each query that a network may send. Our choice: about
/// the excess of a reply with eight nodes, so that a source that asks only for peers meets this limit first.
const EXCESS_PER_QUERY: u32 = 200;

/// How long the address of a source that answered one of our queries counts as proved. Our choice: two lifetimes of
/// a token's key, because a token proves the same.
const PROVEN: Duration = Duration::from_secs(600);
/// An address that changes its id twice within this time is banned for the same time. Our choice: a node that is
/// restarted may come back under another id, but not every half hour.
const BAN: Duration = Duration::from_secs(3600);
/// A port of a well-known service is pinged once in this time.
const PROBE: Duration = Duration::from_secs(24 * 3600);
/// Lower ports belong to services; a DHT node seldom uses them.
const FIRST_USER_PORT: u16 = 1024;

/// The kinds of entries for an address. The kind changes the key of the hash, so that one table holds all kinds.
#[derive(Clone, Copy, Debug)]
enum Note {
    Proven = 1,
    Probed,
    Changed,
    Banned,
}

/// The limits of a [`Guard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Networks and destinations that are watched at once.
    pub max_sources: u16,
    /// A private network: one address may be many nodes, so that queries are not limited by source,
    /// and what we send by address and port.
    pub local: bool,
    /// Queries a second, sustained. `None`: no limit.
    pub rate: Option<u32>,
    /// Queries at once.
    pub burst: u32,
}

/// Whether a query is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// The query is handled.
    Yes,
    /// Its source exceeds its limit: the query is dropped without an answer.
    Limited,
}

/// Watches sources and destinations in constant space.
#[derive(Clone, Debug)]
pub struct Guard {
    key: (u64, u64),
    limits: GuardLimits,
    /// How long the bucket of queries takes to fill, and that of bytes.
    depth: (u64, u64),
    queries: Assoc,
    excess: Assoc,
    sends: Assoc,
    notes: Assoc,
    /// When the last ban ends.
    banning: Option<Instant>,
}

impl Guard {
    /// A guard that has not seen any query; `key` is drawn from the node's random source.
    #[must_use]
    pub fn new(key: (u64, u64), limits: GuardLimits) -> Self {
        let limited = limits.rate.is_some() && !limits.local;
        let sources = if limited { limits.max_sources } else { 0 };
        let rate = limits.rate.unwrap_or(0);
        let excess = u64::from(limits.burst) * u64::from(EXCESS_PER_QUERY);
        Self {
            key,
            limits,
            depth: (
                flow(limits.burst.into(), rate),
                flow(excess, rate.saturating_mul(EXCESS_PER_QUERY)),
            ),
            queries: Assoc::new(sources),
            excess: Assoc::new(sources),
            sends: Assoc::new(limits.max_sources),
            notes: Assoc::new(limits.max_sources),
            banning: None,
        }
    }

    /// Counts a query from `from`.
    pub fn admit(&mut self, now: Instant, from: &SocketAddr) -> Admit {
        let Some(rate) = self.rate() else {
            return Admit::Yes;
        };
        let hash = self.hash_network(from.ip());
        if self.queries.take(now, hash, flow(1, rate), self.depth.0) {
            Admit::Yes
        } else {
            Admit::Limited
        }
    }

    /// Counts a reply of `reply_len` bytes to a query of `query_len`. `false` if the replies to the source exceed its
    /// queries by too much: what is sent to it now must not be longer than its query.
    pub fn charge(
        &mut self,
        now: Instant,
        from: &SocketAddr,
        query_len: usize,
        reply_len: usize,
    ) -> bool {
        let (Some(rate), Some(excess @ 1..)) = (self.rate(), reply_len.checked_sub(query_len))
        else {
            return true;
        };
        let hash = self.hash_network(from.ip());
        let rate = rate.saturating_mul(EXCESS_PER_QUERY);
        let cost = flow(excess as u64, rate);
        self.excess.take(now, hash, cost, self.depth.1)
    }

    /// Counts a query of ours to `to`; `false` if that destination may not be sent more now.
    pub fn may_send(&mut self, now: Instant, to: &SocketAddr) -> bool {
        let port = if self.limits.local { to.port() } else { 0 };
        let hash = hash_endpoint(self.key, &SocketAddr::new(to.ip(), port));
        let (cost, depth) = (flow(1, SEND_RATE), flow(SEND_BURST.into(), SEND_RATE));
        self.sends.take(now, hash, cost, depth)
    }

    /// The node at `at` answered a query of ours, or brought a token that we gave it, which proves its address.
    pub fn prove(&mut self, now: Instant, at: &SocketAddr) {
        let hash = self.hash_note(Note::Proven, at);
        self.notes.note(now, hash, Half::Ours);
    }

    /// Whether a source has proved its address; in a private network every source counts as proved.
    #[must_use]
    pub fn is_proven(&self, now: Instant, at: &SocketAddr) -> bool {
        let hash = || self.hash_note(Note::Proven, at);
        self.limits.local || self.notes.noted(now, hash(), PROVEN)
    }

    /// Whether an address that may be a victim's may be pinged to see if a node is there. Ports
    /// below 1024 get one such ping a day.
    pub fn may_probe(&mut self, now: Instant, at: &SocketAddr) -> bool {
        if at.port() >= FIRST_USER_PORT || self.limits.local {
            return true;
        }
        let hash = self.hash_note(Note::Probed, at);
        let new = !self.notes.noted(now, hash, PROBE);
        if new {
            self.notes.note(now, hash, Half::Theirs);
        }
        new
    }

    /// A node at `ip` answered under another id than before. Once may be a restart; twice within an
    /// hour bans the address for an hour.
    pub fn changed_id(&mut self, now: Instant, ip: IpAddr) {
        if self.limits.local {
            return;
        }
        let at = SocketAddr::new(ip, 0);
        let (changed, banned) = (
            self.hash_note(Note::Changed, &at),
            self.hash_note(Note::Banned, &at),
        );
        if self.notes.noted(now, changed, BAN) {
            self.notes.note(now, banned, Half::Ours);
            self.banning = Some(now + BAN);
        }
        self.notes.note(now, changed, Half::Ours);
    }

    /// Whether nothing that comes from `ip` counts.
    #[must_use]
    pub fn is_banned(&self, now: Instant, ip: IpAddr) -> bool {
        // Usually there is no ban, so nothing has to be looked up.
        if self.banning.is_none_or(|until| until <= now) {
            return false;
        }
        let hash = self.hash_note(Note::Banned, &SocketAddr::new(ip, 0));
        self.notes.noted(now, hash, BAN)
    }

    fn hash_note(&self, note: Note, at: &SocketAddr) -> u64 {
        hash_endpoint((self.key.0 ^ note as u64, self.key.1), at)
    }

    const fn rate(&self) -> Option<u32> {
        if self.limits.local {
            None
        } else {
            self.limits.rate
        }
    }

    fn hash_network(&self, ip: IpAddr) -> u64 {
        let hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.hash(&network(ip).to_le_bytes())
    }
}

/// How long `amount` takes to flow in, in microseconds.
fn flow(amount: u64, per_second: u32) -> u64 {
    amount.saturating_mul(1_000_000) / u64::from(per_second.max(1))
}

/// A keyed hash of an address and port.
pub(in crate::dht) fn hash_endpoint(key: (u64, u64), addr: &SocketAddr) -> u64 {
    let hasher = SipHasher13::new_with_keys(key.0, key.1);
    match addr {
        SocketAddr::V4(addr) => {
            let (ip, port) = (u64::from(addr.ip().to_bits()), u64::from(addr.port()));
            hasher.hash(&(ip << 16 | port).to_le_bytes())
        }
        SocketAddr::V6(addr) => {
            let mut input = [0; 18];
            input[..16].copy_from_slice(&addr.ip().octets());
            input[16..].copy_from_slice(&addr.port().to_be_bytes());
            hasher.hash(&input)
        }
    }
}

/// The network of an address that is assumed to have one owner: its /24, or its /64.
#[must_use]
pub const fn network(ip: IpAddr) -> u64 {
    match ip {
        // No IPv6 network in use begins with 16 zero bits.
        IpAddr::V4(ip) => (1 << 24) | (ip.to_bits() >> 8) as u64,
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

/// Whether no honest datagram comes from `addr`, and none should be sent there. Of a `local`
/// network, only what is not a single host's address is martian.
#[must_use]
pub const fn is_martian(addr: &SocketAddr, local: bool) -> bool {
    if addr.port() == 0 {
        return true;
    }
    match addr {
        SocketAddr::V4(addr) => is_martian_v4(*addr.ip(), local),
        SocketAddr::V6(addr) => is_martian_v6(*addr.ip(), local),
    }
}

const fn is_martian_v4(ip: Ipv4Addr, local: bool) -> bool {
    let [a, b, ..] = ip.octets();
    // "This" network (RFC 1122), multicast (RFC 5771), reserved and broadcast (RFC 1112).
    if a == 0 || a >= 224 {
        return true;
    }
    // RFC 1918, and the space that providers' NATs share (RFC 6598). Networks for documentation are not
    // assigned to anybody, so datagrams to them harm nobody.
    !local
        && (ip.is_loopback()
            || ip.is_private()
            || ip.is_link_local()
            || (a == 100 && b & 0xc0 == 64))
}

const fn is_martian_v6(ip: Ipv6Addr, local: bool) -> bool {
    if ip.is_unspecified() || ip.is_multicast() {
        return true;
    }
    // An IPv6 node is not reached at an IPv4-mapped address.
    if ip.to_ipv4_mapped().is_some() {
        return true;
    }
    !local && (ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests;
