//! Segments of the peer (RFC 9293 §3.10.7).

use dunlin_core::Instant;

use super::{CHALLENGES, Conn, End, Phase, TIME_WAIT, offset};
use crate::{
    host::stack::tcp::{header::Header, sender::Ack},
    packet::TcpFlags,
};

/// After so long without news, a timestamp says nothing (RFC 7323 §5.5): 24 days.
const TIMES_LAST: u64 = 24 * 86_400 * 1_000_000;

impl Conn {
    /// Handles a segment of the peer.
    pub(crate) fn segment(&mut self, now: Instant, header: &Header, data: &[u8]) {
        let now = now.as_micros();
        match self.phase {
            Phase::SynSent => self.while_opening(now, header),
            Phase::SynReceived { admitted: false } => {
                if header.has(TcpFlags::RST) {
                    self.phase = Phase::Over(End::Reset);
                }
            }
            Phase::SynReceived { admitted: true } | Phase::Open | Phase::TimeWait { .. } => {
                self.while_open(now, header, data);
            }
            Phase::Over(_) => {}
        }
    }

    fn while_opening(&mut self, now: u64, header: &Header) {
        let acks = header.has(TcpFlags::ACK);
        if acks && header.ack != self.iss.wrapping_add(1) {
            // A segment of an older connection. The reset makes the peer give that connection up,
            // and this one goes on.
            if !header.has(TcpFlags::RST) {
                self.reset = Some(Header::new(TcpFlags::RST, header.ack, 0, 0));
            }
            return;
        }
        if header.has(TcpFlags::RST) {
            if acks {
                self.phase = Phase::Over(End::Reset);
            }
            return;
        }
        if !header.has(TcpFlags::SYN) {
            return;
        }
        self.heard += 1;
        self.options(now, header);
        if acks {
            self.opened(now);
            self.receiver.owe();
        } else {
            // Both sides have opened the connection at once.
            self.phase = Phase::SynReceived { admitted: true };
            self.knock.due = true;
        }
    }

    fn while_open(&mut self, now: u64, header: &Header, data: &[u8]) {
        let expected = self.receiver.expected();
        let start = offset(header.seq, self.irs, expected);
        if header.has(TcpFlags::RST) {
            // Only a reset at exactly the expected place is believed (RFC 5961 §3.2).
            match start {
                Some(start) if start == expected => self.phase = Phase::Over(End::Reset),
                Some(start) if start > expected && start < self.receiver.edge() => {
                    self.challenge(now);
                }
                _ => {}
            }
            return;
        }
        let una = self.sender.una();
        let acked = offset(header.ack, self.iss, una);
        if header.has(TcpFlags::SYN) {
            self.repeated_syn(now, header);
            return;
        }
        if !header.has(TcpFlags::ACK) {
            return;
        }
        let (Some(start), Some(acked)) = (start, acked) else {
            return self.challenge(now);
        };
        if self.is_stale(now, header) {
            return self.challenge(now);
        }
        let fin = header.has(TcpFlags::FIN);
        let len = data.len() as u64 + u64::from(fin);
        let before = start + len < expected && start + len < self.last_ack;
        if before || start > self.receiver.edge().max(expected) {
            // Repeated data is acknowledged again; a bare segment, such as a probe, not too often.
            match len {
                0 => self.challenge(now),
                _ => self.receiver.segment(now, start, data, fin),
            }
            if before && acked <= self.sender.nxt() {
                self.acknowledged(now, header, acked);
            }
            return;
        }
        if acked > self.sender.nxt() {
            return self.challenge(now);
        }
        if matches!(self.phase, Phase::SynReceived { .. }) {
            if acked < 1 {
                return;
            }
            self.opened(now);
        }
        if let Some((theirs, _)) = header.time
            && start <= self.last_ack
        {
            (self.recent, self.recent_at) = (theirs, now);
        }
        self.acknowledged(now, header, acked);
        if len > 0 {
            self.receiver.segment(now, start, data, fin);
            if let Some(rtt) = self.echo(now, header) {
                self.receiver.sample(rtt);
            }
        }
        self.settle(now);
        if let Phase::TimeWait { until } = &mut self.phase
            && fin
        {
            *until = now + TIME_WAIT;
        }
    }

    /// A SYN on a connection that has received one.
    fn repeated_syn(&mut self, now: u64, header: &Header) {
        let same = header.seq == self.irs;
        if self.phase == (Phase::SynReceived { admitted: true }) && same {
            if header.has(TcpFlags::ACK) && header.ack == self.iss.wrapping_add(1) {
                // The other half of a simultaneous open.
                self.opened(now);
                self.receiver.owe();
            } else {
                // Our answer was lost.
                self.knock.due = true;
            }
        } else if same && self.is_open() {
            // Our last segment of the handshake was lost.
            self.receiver.owe();
        } else {
            self.challenge(now);
        }
    }

    /// Returns `true` when the timestamp says that the segment is an old one (RFC 7323 §5.3).
    fn is_stale(&self, now: u64, header: &Header) -> bool {
        if now.saturating_sub(self.recent_at) > TIMES_LAST {
            return false;
        }
        let old = |theirs: u32| (theirs.wrapping_sub(self.recent) as i32) < 0;
        self.timestamps && header.time.is_some_and(|(theirs, _)| old(theirs))
    }

    /// The round-trip time that the echoed timestamp tells.
    fn echo(&self, now: u64, header: &Header) -> Option<u64> {
        let (_, echo) = header.time.filter(|_| self.timestamps)?;
        if echo == 0 {
            return None;
        }
        let passed = ((now / 1_000) as u32).wrapping_sub(echo);
        // Times count whole milliseconds.
        (passed < 1 << 24).then(|| u64::from(passed.max(1)) * 1_000)
    }

    fn acknowledged(&mut self, now: u64, header: &Header, acked: u64) {
        self.heard += 1;
        if acked < self.sender.una() {
            return;
        }
        let mut blocks = [(0, 0); 4];
        let mut count = 0;
        for (start, end) in header.blocks() {
            let near = self.sender.una();
            let range = (offset(*start, self.iss, near), offset(*end, self.iss, near));
            // A block beyond what was sent is a mistake of the peer.
            if let (Some(start), Some(end)) = range
                && start < end
                && end <= self.sender.nxt()
            {
                blocks[count] = (start, end);
                count += 1;
            }
        }
        self.sender.ack(
            now,
            &Ack {
                una: acked,
                edge: acked + (u64::from(header.window) << self.shift),
                blocks: &blocks[..count],
                echo: self.echo(now, header),
            },
        );
        self.sender.heard();
    }

    /// Answers an unacceptable segment, but not too often.
    fn challenge(&mut self, now: u64) {
        if self.challenged.is_none_or(|at| now >= at + CHALLENGES) {
            self.challenged = Some(now);
            self.receiver.owe();
        }
    }
}
