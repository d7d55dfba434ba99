//! Stateful firewalls for IPv4 and IPv6 (RFC 6092). A firewall stands on the inner side of a NAT
//! in the same box: it sees internal addresses.

mod config;
pub mod presets;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    hash::{BuildHasher, Hasher},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_core::Instant;
use hashbrown::HashMap;

pub use config::{Families, FirewallConfig, Ports};

use crate::{
    middlebox::{
        conntrack::{Rules, Sign, Track},
        nat::{Filtering, UnsolicitedSyn},
    },
    packet::{
        Flow, IcmpError, Packet, Proto, Segment, TcpFlags,
        verdict::{Rule, Verdict},
    },
};

/// As [`crate::middlebox::nat::Nat::delayed`] has them.
const SYN_PATIENCE: Duration = Duration::from_secs(6);
const MAX_DELAYED: usize = 256;

/// A flow's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    proto: Proto,
    inside: SocketAddr,
    outside: SocketAddr,
}

#[derive(Clone, Copy, Debug)]
struct State {
    track: Track,
    from_inside: bool,
    expires: Instant,
    /// The timer that counts; never later than `expires`.
    timer: Instant,
}

/// Whom a flow lets in, beside the far end of its own.
type Permit = (Proto, SocketAddr, Option<IpAddr>);

/// A hole that somebody asked for (RFC 6887 §11 without translation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinhole {
    /// UDP or TCP.
    pub proto: Proto,
    /// Where it leads.
    pub internal: SocketAddr,
    /// When it ends.
    pub expires: Instant,
}

/// There are [`FirewallConfig::max_pinholes`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinholesFull;

/// Keyed, and the same on every machine; nothing depends on it but speed.
#[derive(Clone, Copy, Debug)]
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for Keyed {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let a = u128::from(self.0 ^ u64::from_le_bytes(word) ^ 0x2d35_8dcc_aa6c_78a5);
            let wide = a * 0x9e37_79b9_7f4a_7c15;
            self.0 = wide as u64 ^ (wide >> 64) as u64;
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A firewall at work.
#[derive(Clone, Debug)]
pub struct Firewall {
    config: FirewallConfig,
    flows: HashMap<Key, State, Keyed>,
    permits: HashMap<Permit, u32, Keyed>,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    pinholes: BTreeMap<(Proto, SocketAddr), Instant>,
    /// When the first of them ends, or earlier.
    next_pinhole: Option<Instant>,
    delayed: VecDeque<(Instant, Key, Packet)>,
}

/// The far end of an echo is its address alone.
fn key(proto: Proto, inside: SocketAddr, outside: SocketAddr) -> Key {
    let port = if proto == Proto::Icmp {
        0
    } else {
        outside.port()
    };
    Key {
        proto,
        inside,
        outside: SocketAddr::new(outside.ip(), port),
    }
}

impl Firewall {
    /// A firewall that knows no flow yet.
    #[must_use]
    pub const fn new(config: FirewallConfig, seed: u64) -> Self {
        Self {
            config,
            flows: HashMap::with_hasher(Keyed(seed)),
            permits: HashMap::with_hasher(Keyed(!seed)),
            timers: BinaryHeap::new(),
            pinholes: BTreeMap::new(),
            next_pinhole: None,
            delayed: VecDeque::new(),
        }
    }

    /// What it was made with.
    #[must_use]
    pub const fn config(&self) -> &FirewallConfig {
        &self.config
    }

    /// Flows in its table; those whose time has come since the last packet are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether its table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// A packet from inside.
    pub fn outbound(&mut self, now: Instant, packet: &Packet) -> Verdict {
        let flow = packet.flow();
        if let Some(verdict) = self.aside(now, packet, true) {
            return verdict;
        }
        let key = key(flow.proto, flow.src, flow.dst);
        match self.touch(now, key, true, &packet.segment()) {
            Some(verdict) => return verdict,
            None if !self
                .ports(flow.proto)
                .is_none_or(|p| p.allow(flow.dst.port())) =>
            {
                return Verdict::Drop(match flow.proto {
                    Proto::Udp => Rule::FirewallUdpBlocked,
                    Proto::Tcp | Proto::Icmp => Rule::FirewallPortBlocked,
                });
            }
            None => {}
        }
        if packet.is_echo_reply() == Some(true) {
            return Verdict::Drop(Rule::FirewallUnsolicited);
        }
        self.admit(now, key, true, &packet.segment(), Rule::FirewallNew)
    }

    /// A packet from outside.
    pub fn inbound(&mut self, now: Instant, packet: &Packet) -> Verdict {
        let flow = packet.flow();
        if let Some(verdict) = self.aside(now, packet, false) {
            return verdict;
        }
        let key = key(flow.proto, flow.dst, flow.src);
        if let Some(verdict) = self.touch(now, key, false, &packet.segment()) {
            return verdict;
        }
        let (inside, outside) = (key.inside, key.outside.ip());
        let permitted = match self.config.filtering {
            Filtering::EndpointIndependent => Some((flow.proto, inside, None)),
            Filtering::AddressDependent => Some((flow.proto, inside, Some(outside))),
            Filtering::AddressAndPortDependent => None,
        };
        let echo = packet.is_echo_reply();
        let invited = self.config.open && echo != Some(true)
            || self.pinholes.contains_key(&(flow.proto, inside))
            || permitted.is_some_and(|p| self.permits.contains_key(&p)) && echo.is_none()
            || self.config.echo_in && echo == Some(false);
        if invited {
            return self.admit(now, key, false, &packet.segment(), Rule::FirewallAllowed);
        }
        self.refuse(now, key, packet)
    }

    /// A packet that the NAT's own port mapping led in: it is let through, and known from now.
    pub fn forwarded(&mut self, now: Instant, packet: &Packet) -> Verdict {
        let flow = packet.flow();
        if let Some(verdict) = self.aside(now, packet, false) {
            return verdict;
        }
        let key = key(flow.proto, flow.dst, flow.src);
        match self.touch(now, key, false, &packet.segment()) {
            Some(verdict) => verdict,
            None => self.admit(now, key, false, &packet.segment(), Rule::FirewallAllowed),
        }
    }

    /// What needs no flow of its own: other families, fragments, ICMP errors.
    fn aside(&mut self, now: Instant, packet: &Packet, out: bool) -> Option<Verdict> {
        let flow = packet.flow();
        if self.config.families == Families::V6 && flow.src.is_ipv4() {
            return Some(Verdict::Pass(Rule::FirewallAllowed));
        }
        self.expire(now);
        // The first decides; without it the others are not a datagram.
        if packet.fragment().is_some_and(|f| f.offset > 0) {
            return Some(Verdict::Pass(Rule::FirewallAllowed));
        }
        if flow.proto != Proto::Icmp || packet.is_echo_reply().is_some() {
            return None;
        }
        let known = packet.quoted().is_some_and(|q: Flow| {
            let key = match out {
                true => key(q.proto, q.dst, q.src),
                false => key(q.proto, q.src, q.dst),
            };
            self.config.icmp_errors && self.flows.contains_key(&key)
        });
        // With an open firewall there is nothing to hide.
        Some(match known || self.config.open {
            true => Verdict::Pass(Rule::FirewallEstablished),
            false => Verdict::Drop(Rule::FirewallUnsolicited),
        })
    }

    const fn ports(&self, proto: Proto) -> Option<&Ports> {
        match proto {
            Proto::Udp => Some(&self.config.udp_out),
            Proto::Tcp => Some(&self.config.tcp_out),
            Proto::Icmp => None,
        }
    }

    /// A packet of a flow that is known; `None` if it is of none.
    fn touch(&mut self, now: Instant, key: Key, out: bool, segment: &Segment) -> Option<Verdict> {
        let state = self.flows.get_mut(&key)?;
        let (times, began) = (&self.config.timeouts, state.from_inside == out);
        match state.track.sign(times, now, key.proto, began, segment) {
            Sign::Lives(life) => {
                if out || times.inbound_refresh || key.proto != Proto::Udp {
                    state.expires = now + life;
                    if state.expires < state.timer {
                        state.timer = state.expires;
                        self.timers.push(Reverse((state.expires, key)));
                        self.tidy();
                    }
                }
            }
            Sign::Passes => {}
            Sign::Invalid => return Some(Verdict::Drop(Rule::FirewallUnsolicited)),
            Sign::Over => {
                self.forget(key);
                return None;
            }
        }
        Some(Verdict::Pass(Rule::FirewallEstablished))
    }

    fn admit(
        &mut self,
        now: Instant,
        key: Key,
        out: bool,
        segment: &Segment,
        rule: Rule,
    ) -> Verdict {
        let rules = Rules {
            times: &self.config.timeouts,
            loose: true,
            windows: self.config.tcp_windows,
        };
        let Some((track, life)) = Track::begin(&rules, now, key.proto, segment) else {
            return Verdict::Drop(Rule::FirewallUnsolicited);
        };
        if self.flows.len() >= self.config.max_entries as usize {
            return Verdict::Drop(Rule::FirewallTableFull);
        }
        let expires = now + life;
        let state = State {
            track,
            from_inside: out,
            expires,
            timer: expires,
        };
        self.flows.insert(key, state);
        self.timers.push(Reverse((expires, key)));
        if let Some(permit) = self.permit(key, out) {
            *self.permits.entry(permit).or_default() += 1;
        }
        self.delayed.retain(|(_, k, _)| *k != key);
        Verdict::Pass(rule)
    }

    /// A flow from inside lets in by its internal endpoint; one from outside lets nobody else in.
    fn permit(&self, key: Key, out: bool) -> Option<Permit> {
        match self.config.filtering {
            _ if !out => None,
            Filtering::EndpointIndependent => Some((key.proto, key.inside, None)),
            Filtering::AddressDependent => Some((key.proto, key.inside, Some(key.outside.ip()))),
            Filtering::AddressAndPortDependent => None,
        }
    }

    fn forget(&mut self, key: Key) {
        let Some(state) = self.flows.remove(&key) else {
            return;
        };
        if let Some(permit) = self.permit(key, state.from_inside)
            && let Some(count) = self.permits.get_mut(&permit)
        {
            *count -= 1;
            if *count == 0 {
                self.permits.remove(&permit);
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            match self.flows.get_mut(&key) {
                Some(state) if state.timer == at && state.expires > now => {
                    state.timer = state.expires;
                    self.timers.push(Reverse((state.expires, key)));
                }
                Some(state) if state.timer == at => self.forget(key),
                _ => {}
            }
        }
        if self.next_pinhole.is_some_and(|at| at <= now) {
            self.pinholes.retain(|_, at| *at > now);
            self.next_pinhole = self.pinholes.values().min().copied();
        }
    }

    /// Timers that count no more are thrown out when they are the most.
    fn tidy(&mut self) {
        if self.timers.len() > 4 * self.flows.len() + 64 {
            let flows = &self.flows;
            self.timers
                .retain(|Reverse((at, key))| flows.get(key).is_some_and(|s| s.timer == *at));
        }
    }

    /// A packet that nobody inside asked for.
    fn refuse(&mut self, now: Instant, key: Key, packet: &Packet) -> Verdict {
        let rule = Rule::FirewallUnsolicited;
        let flags = packet.flow().flags;
        if !flags.has(TcpFlags::SYN) || flags.has(TcpFlags::ACK) {
            return Verdict::Drop(rule);
        }
        let from = packet.flow().dst.ip();
        let error = || Packet::icmp_error(from, IcmpError::Prohibited, packet);
        match self.config.unsolicited_syn {
            UnsolicitedSyn::Drop => Verdict::Drop(rule),
            UnsolicitedSyn::Icmp => Verdict::Answer(rule, Box::new(error())),
            UnsolicitedSyn::Reset => match packet.reset() {
                Some(reset) => Verdict::Answer(rule, Box::new(reset)),
                None => Verdict::Drop(rule),
            },
            UnsolicitedSyn::DelayedIcmp => {
                let waits = self.delayed.iter().any(|(_, k, _)| *k == key);
                if !waits && self.delayed.len() < MAX_DELAYED {
                    self.delayed.push_back((now + SYN_PATIENCE, key, error()));
                }
                Verdict::Drop(rule)
            }
        }
    }

    /// As [`crate::middlebox::nat::Nat::delayed`].
    pub fn delayed(&mut self, now: Instant) -> Option<Packet> {
        let due = self.delayed.front().is_some_and(|(at, ..)| *at <= now);
        let (_, _, error) = due.then(|| self.delayed.pop_front()).flatten()?;
        Some(error)
    }

    /// How many refusals are put off.
    pub(crate) fn put_off(&self) -> usize {
        self.delayed.len()
    }

    /// Has the refusal that was put off last translated; without a translation there is none.
    pub(crate) fn translate_last(&mut self, translate: impl FnOnce(&mut Packet) -> bool) {
        if let Some((_, _, error)) = self.delayed.back_mut()
            && !translate(error)
        {
            self.delayed.pop_back();
        }
    }

    /// As [`crate::middlebox::nat::Nat::next_timeout`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.delayed.front().map(|(at, ..)| *at)
    }

    /// Lets anybody in to `internal` for `lifetime`, or as long as the firewall grants; when it
    /// ends. Asked again, it renews.
    ///
    /// # Errors
    /// See [`PinholesFull`].
    pub fn pinhole(
        &mut self,
        now: Instant,
        proto: Proto,
        internal: SocketAddr,
        lifetime: Duration,
    ) -> Result<Instant, PinholesFull> {
        self.expire(now);
        let place = (proto, internal);
        let full = self.pinholes.len() >= self.config.max_pinholes as usize;
        if full && !self.pinholes.contains_key(&place) {
            return Err(PinholesFull);
        }
        let expires = now + lifetime.min(self.config.max_lease);
        self.pinholes.insert(place, expires);
        self.next_pinhole = [self.next_pinhole, Some(expires)]
            .into_iter()
            .flatten()
            .min();
        Ok(expires)
    }

    /// Closes a pinhole; `false` if there was none. Flows that came by it live on.
    pub fn close_pinhole(&mut self, proto: Proto, internal: SocketAddr) -> bool {
        self.pinholes.remove(&(proto, internal)).is_some()
    }

    /// The pinholes, by protocol and endpoint. Those that have ended since the last packet are
    /// among them.
    pub fn pinholes(&self) -> impl Iterator<Item = Pinhole> {
        (self.pinholes.iter()).map(|((proto, internal), expires)| Pinhole {
            proto: *proto,
            internal: *internal,
            expires: *expires,
        })
    }

    /// Restarts it: it forgets everything, pinholes too.
    pub fn reboot(&mut self) {
        self.flows.clear();
        self.permits.clear();
        self.timers.clear();
        self.pinholes.clear();
        self.next_pinhole = None;
        self.delayed.clear();
    }
}
