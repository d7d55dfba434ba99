//! Stateful firewalls for IPv4 and IPv6 (RFC 6092). In a box with a NAT the firewall is on the
//! inner side and sees internal addresses.

mod config;
pub mod presets;
mod rules;
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
pub use rules::{FirewallRule, RuleAction, Way};

use crate::{
    middlebox::{
        conntrack::{Outcome, Rules, Track},
        nat::{Filtering, UnsolicitedSyn},
    },
    packet::{
        Flow, IcmpError, Packet, Proto, Segment, TcpFlags,
        verdict::{Rule, Verdict},
    },
};

/// How long a SYN from outside waits for one from inside before it is refused, as in a NAT.
const SYN_PATIENCE: Duration = Duration::from_secs(6);
const MAX_DELAYED: usize = 256;
static NONE: Ports = Ports::Only(Vec::new());

/// The endpoints that identify a flow.
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
    /// The time of the timer that is in force; never later than `expires`.
    timer: Instant,
}

/// A flow, for inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The protocol.
    pub proto: Proto,
    /// The internal endpoint.
    pub internal: SocketAddr,
    /// The remote endpoint.
    pub remote: SocketAddr,
    /// The internal endpoint sent the first packet.
    pub from_inside: bool,
    /// The state of a TCP connection or SCTP association, by the name that Linux has for it in TCP.
    pub state: Option<&'static str>,
    /// When the flow expires if no packet comes.
    pub expires: Instant,
}

/// Who may send to a flow's internal endpoint besides the flow's own remote endpoint.
type Permit = (Proto, SocketAddr, Option<IpAddr>);

/// A pinhole that a host asked for (RFC 6887 §11, without translation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinhole {
    /// UDP or TCP.
    pub proto: Proto,
    /// The internal endpoint that anybody may send to.
    pub internal: SocketAddr,
    /// When the pinhole ends.
    pub expires: Instant,
}

/// There are [`FirewallConfig::max_pinholes`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinholesFull;

/// A seeded hasher, the same on every machine. Only speed depends on it.
#[derive(Clone, Copy, Debug)]
struct SeededHasher(u64);

impl BuildHasher for SeededHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for SeededHasher {
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

/// A firewall with its state.
#[derive(Clone, Debug)]
pub struct Firewall {
    config: FirewallConfig,
    flows: HashMap<Key, State, SeededHasher>,
    permits: HashMap<Permit, u32, SeededHasher>,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    pinholes: BTreeMap<(Proto, SocketAddr), Instant>,
    /// The earliest end of a pinhole, or earlier.
    next_pinhole: Option<Instant>,
    delayed: VecDeque<(Instant, Key, Packet)>,
}

/// The remote endpoint of an ICMP query has no port, but `query`, which tells what is asked for.
fn key(proto: Proto, inside: SocketAddr, outside: SocketAddr, query: u16) -> Key {
    let port = if proto == Proto::Icmp {
        query
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
    /// Creates a firewall with an empty table.
    #[must_use]
    pub const fn new(config: FirewallConfig, seed: u64) -> Self {
        Self {
            config,
            flows: HashMap::with_hasher(SeededHasher(seed)),
            permits: HashMap::with_hasher(SeededHasher(!seed)),
            timers: BinaryHeap::new(),
            pinholes: BTreeMap::new(),
            next_pinhole: None,
            delayed: VecDeque::new(),
        }
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &FirewallConfig {
        &self.config
    }

    /// The number of flows in the table, including flows that have expired since the last packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Returns `true` when the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The flows in the table, by protocol and endpoints.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = (self.flows.iter())
            .map(|(key, state)| Entry {
                proto: key.proto,
                internal: key.inside,
                remote: key.outside,
                from_inside: state.from_inside,
                state: state.track.state(),
                expires: state.expires,
            })
            .collect();
        all.sort_unstable_by_key(|e| (e.proto, e.internal, e.remote));
        all
    }

    /// Handles a packet from inside.
    pub fn outbound(&mut self, now: Instant, packet: &Packet) -> Verdict {
        let flow = packet.flow();
        if let Some(verdict) = self.without_flow(now, packet, true) {
            return verdict;
        }
        if let Some(verdict) = self.by_rule(packet, true, true) {
            return verdict;
        }
        let key = key(flow.proto, flow.src, flow.dst, packet.icmp_query(true));
        match self.touch(now, key, true, &packet.segment()) {
            Some(verdict) => return verdict,
            None if !self.config.rules.is_empty()
                && let Some(verdict) = self.by_rule(packet, true, false) =>
            {
                return match verdict {
                    Verdict::Pass(_) => {
                        self.admit(now, key, true, &packet.segment(), Rule::FirewallNew)
                    }
                    stopped => stopped,
                };
            }
            None if !self
                .ports(flow.proto)
                .is_none_or(|p| p.allow(flow.dst.port())) =>
            {
                return Verdict::Drop(match flow.proto {
                    Proto::Udp => Rule::FirewallUdpBlocked,
                    _ => Rule::FirewallPortBlocked,
                });
            }
            None => {}
        }
        if packet.is_icmp_reply() == Some(true) {
            return Verdict::Drop(Rule::FirewallUnsolicited);
        }
        self.admit(now, key, true, &packet.segment(), Rule::FirewallNew)
    }

    /// Handles a packet from outside.
    pub fn inbound(&mut self, now: Instant, packet: &Packet) -> Verdict {
        let flow = packet.flow();
        if let Some(verdict) = self.without_flow(now, packet, false) {
            return verdict;
        }
        if let Some(verdict) = self.by_rule(packet, false, true) {
            return verdict;
        }
        let key = key(flow.proto, flow.dst, flow.src, packet.icmp_query(false));
        if let Some(verdict) = self.touch(now, key, false, &packet.segment()) {
            return verdict;
        }
        match self.by_rule(packet, false, false) {
            None => {}
            Some(Verdict::Pass(rule)) => {
                return self.admit(now, key, false, &packet.segment(), rule);
            }
            Some(stopped) => return stopped,
        }
        let (inside, outside) = (key.inside, key.outside.ip());
        let permitted = match self.config.filtering {
            Filtering::EndpointIndependent => Some((flow.proto, inside, None)),
            Filtering::AddressDependent => Some((flow.proto, inside, Some(outside))),
            Filtering::AddressAndPortDependent => None,
        };
        let echo = packet.is_icmp_reply();
        let invited = self.config.open && echo != Some(true)
            || self.pinholes.contains_key(&(flow.proto, inside))
            || permitted.is_some_and(|p| self.permits.contains_key(&p)) && echo.is_none()
            || self.config.echo_in && echo == Some(false);
        if invited {
            return self.admit(now, key, false, &packet.segment(), Rule::FirewallAllowed);
        }
        self.refuse(now, key, packet)
    }

    /// Handles a packet that a port mapping of the NAT has let in: it passes, and its flow is known
    /// from now on.
    pub fn forwarded(&mut self, now: Instant, packet: &Packet) -> Verdict {
        let flow = packet.flow();
        if let Some(verdict) = self.without_flow(now, packet, false) {
            return verdict;
        }
        let key = key(flow.proto, flow.dst, flow.src, packet.icmp_query(false));
        match self.touch(now, key, false, &packet.segment()) {
            Some(verdict) => verdict,
            None => self.admit(now, key, false, &packet.segment(), Rule::FirewallAllowed),
        }
    }

    /// Decides about packets without a flow of their own: other families, later fragments, ICMP
    /// errors.
    fn without_flow(&mut self, now: Instant, packet: &Packet, out: bool) -> Option<Verdict> {
        let flow = packet.flow();
        if self.config.families == Families::V6 && flow.src.is_ipv4() {
            return Some(Verdict::Pass(Rule::FirewallAllowed));
        }
        self.expire(now);
        // The first fragment decides. Without it the others do not make a datagram.
        if packet.fragment().is_some_and(|f| f.offset > 0) {
            return Some(Verdict::Pass(Rule::FirewallAllowed));
        }
        // Linux takes the checksums of UDP-Lite for wrong; see `OtherProtocols::Ports` of a NAT.
        if flow.proto == Proto::UdpLite && !self.config.open {
            return Some(Verdict::Drop(Rule::FirewallPortBlocked));
        }
        if flow.proto != Proto::Icmp || packet.is_icmp_reply().is_some() {
            return None;
        }
        let known = packet.quoted().is_some_and(|q: Flow| {
            let query = packet.quoted_query(out);
            let key = match out {
                true => key(q.proto, q.dst, q.src, query),
                false => key(q.proto, q.src, q.dst, query),
            };
            self.config.icmp_errors && self.flows.contains_key(&key)
        });
        // An open firewall hides nothing.
        Some(match known || self.config.open {
            true => Verdict::Pass(Rule::FirewallEstablished),
            false => Verdict::Drop(Rule::FirewallUnsolicited),
        })
    }

    /// Decides by the first stateless, or stateful, rule that fits.
    fn by_rule(&self, packet: &Packet, out: bool, stateless: bool) -> Option<Verdict> {
        let of_kind = self
            .config
            .rules
            .iter()
            .filter(|r| r.stateless == stateless);
        let rule = of_kind.into_iter().find(|r| r.fits(packet.flow(), out))?;
        Some(match rule.action {
            RuleAction::Allow => Verdict::Pass(Rule::FirewallAllowed),
            RuleAction::Drop => Verdict::Drop(Rule::FirewallRule),
            RuleAction::Reject => {
                let from = packet.flow().dst.ip();
                let answer = match packet.flow().proto {
                    Proto::Tcp => packet.reset(),
                    _ => Some(Packet::icmp_error(from, IcmpError::Prohibited, packet)),
                };
                match answer {
                    Some(answer) => Verdict::Answer(Rule::FirewallRule, Box::new(answer)),
                    None => Verdict::Drop(Rule::FirewallRule),
                }
            }
        })
    }

    /// The ports that may be reached by a protocol; `None` when all may. What may not send UDP to
    /// every port may not use rarer protocols either.
    const fn ports(&self, proto: Proto) -> Option<&Ports> {
        match proto {
            Proto::Udp => Some(&self.config.udp_out),
            Proto::Tcp => Some(&self.config.tcp_out),
            Proto::Icmp => None,
            Proto::Sctp | Proto::UdpLite | Proto::Gre | Proto::Esp => match self.config.udp_out {
                Ports::All => None,
                Ports::Only(_) => Some(&NONE),
            },
        }
    }

    /// Handles a packet of a known flow; returns `None` when its flow is not known.
    fn touch(&mut self, now: Instant, key: Key, out: bool, segment: &Segment) -> Option<Verdict> {
        let state = self.flows.get_mut(&key)?;
        let (times, began) = (&self.config.timeouts, state.from_inside == out);
        match state.track.account(times, now, key.proto, began, segment) {
            Outcome::Lives(life) => {
                if out || times.inbound_refresh || key.proto != Proto::Udp {
                    state.expires = now + life;
                    if state.expires < state.timer {
                        state.timer = state.expires;
                        self.timers.push(Reverse((state.expires, key)));
                        self.remove_stale_timers();
                    }
                }
            }
            Outcome::Passes => {}
            Outcome::Invalid => return Some(Verdict::Drop(Rule::FirewallUnsolicited)),
            Outcome::Over => {
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

    /// A flow from inside lets remotes send to its internal endpoint; a flow from outside lets in
    /// no one else.
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

    /// Removes timers that are no longer in force once they are the majority.
    fn remove_stale_timers(&mut self) {
        if self.timers.len() > 4 * self.flows.len() + 64 {
            let flows = &self.flows;
            self.timers
                .retain(|Reverse((at, key))| flows.get(key).is_some_and(|s| s.timer == *at));
        }
    }

    /// Handles an unsolicited packet.
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

    /// Returns a delayed refusal that is due, like
    /// [`Nat::delayed`](crate::middlebox::nat::Nat::delayed).
    pub fn delayed(&mut self, now: Instant) -> Option<Packet> {
        let due = self.delayed.front().is_some_and(|(at, ..)| *at <= now);
        let (_, _, error) = due.then(|| self.delayed.pop_front()).flatten()?;
        Some(error)
    }

    /// The number of delayed refusals.
    pub(crate) fn delayed_count(&self) -> usize {
        self.delayed.len()
    }

    /// Translates the refusal that was delayed last, and discards it when there is no translation.
    pub(crate) fn translate_last(&mut self, translate: impl FnOnce(&mut Packet) -> bool) {
        if let Some((_, _, error)) = self.delayed.back_mut()
            && !translate(error)
        {
            self.delayed.pop_back();
        }
    }

    /// When [`Firewall::delayed`] returns something next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.delayed.front().map(|(at, ..)| *at)
    }

    /// Lets anybody send to `internal` for `lifetime`, or for as long as the firewall grants.
    /// Returns when that ends. A second call renews the pinhole.
    ///
    /// # Errors
    /// [`PinholesFull`] when there is no room for another pinhole.
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

    /// Closes a pinhole. Returns `false` when there was none. Flows that came through it stay.
    pub fn close_pinhole(&mut self, proto: Proto, internal: SocketAddr) -> bool {
        self.pinholes.remove(&(proto, internal)).is_some()
    }

    /// The pinholes, by protocol and endpoint, including those that have ended since the last
    /// packet.
    pub fn pinholes(&self) -> impl Iterator<Item = Pinhole> {
        (self.pinholes.iter()).map(|((proto, internal), expires)| Pinhole {
            proto: *proto,
            internal: *internal,
            expires: *expires,
        })
    }

    /// Forgets the flows of IPv4.
    pub(crate) fn forget_v4(&mut self) {
        let mut gone: Vec<Key> = (self.flows.keys())
            .filter(|key| key.inside.is_ipv4())
            .copied()
            .collect();
        // The table has no order of its own.
        gone.sort_unstable();
        gone.into_iter().for_each(|key| self.forget(key));
    }

    /// Restarts the firewall, which forgets its flows and pinholes.
    pub fn reboot(&mut self) {
        self.flows.clear();
        self.permits.clear();
        self.timers.clear();
        self.pinholes.clear();
        self.next_pinhole = None;
        self.delayed.clear();
    }
}
