//! Segments of this side.

use dunlin_core::Instant;

use super::{Conn, Phase};
use crate::{
    host::stack::tcp::{header::Header, sender::Outgoing},
    packet::TcpFlags,
};

impl Conn {
    /// The next segment to be sent now: its header and its data, in two parts.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(Header, [&[u8]; 2])> {
        let now = now.as_micros();
        if let Some(reset) = self.reset.take() {
            return Some((reset, [&[], &[]]));
        }
        match self.phase {
            Phase::SynSent | Phase::SynReceived { .. } => {
                if !self.knock.due {
                    return None;
                }
                self.knocked(now);
                Some((self.syn(now), [&[], &[]]))
            }
            Phase::Open => self.poll_open(now),
            Phase::TimeWait { .. } => self.poll_ack(now),
            Phase::Over(_) => None,
        }
    }

    fn syn(&mut self, now: u64) -> Header {
        let window = self.receiver.offer_syn();
        let mut header = Header::new(TcpFlags::SYN, self.iss, 0, window);
        let opening = self.phase == Phase::SynSent;
        if !opening {
            header.flags = TcpFlags::SYN.with(TcpFlags::ACK);
            header.ack = self.irs.wrapping_add(1);
        }
        header.mss = Some(self.own_mss);
        header.sack_permitted = opening || self.sacks;
        header.shift = (opening || self.scaled).then(|| self.config.shift());
        header.time = (opening || self.timestamps).then(|| (clock(now), self.recent));
        header
    }

    fn poll_open(&mut self, now: u64) -> Option<(Header, [&[u8]; 2])> {
        if let Some(outgoing) = self.sender.poll(now) {
            let header = self.with_data(now, &outgoing);
            return Some((header, self.sender.data(&outgoing)));
        }
        if std::mem::take(&mut self.ask) {
            // A segment before the window, which the peer must answer (RFC 9293 §3.8.4).
            let mut header = self.header(now);
            header.seq = self
                .iss
                .wrapping_add(self.sender.una() as u32)
                .wrapping_sub(1);
            return Some((header, [&[], &[]]));
        }
        self.poll_ack(now)
    }

    fn poll_ack(&mut self, now: u64) -> Option<(Header, [&[u8]; 2])> {
        if !self.receiver.owes(now) {
            return None;
        }
        Some((self.header(now), [&[], &[]]))
    }

    /// A bare acknowledgement.
    fn header(&mut self, now: u64) -> Header {
        let mut header = self.bare(now);
        if self.sacks {
            let (blocks, count) = self.receiver.blocks();
            for (start, end) in &blocks[..count] {
                let at = |offset: u64| self.irs.wrapping_add(offset as u32);
                header.add_block((at(*start), at(*end)));
            }
        }
        self.receiver.acknowledged();
        header
    }

    /// An acknowledgement without blocks.
    fn bare(&mut self, now: u64) -> Header {
        let seq = self.iss.wrapping_add(self.sender.nxt() as u32);
        self.last_ack = self.receiver.expected();
        let ack = self.irs.wrapping_add(self.last_ack as u32);
        let window = self.receiver.offer();
        let mut header = Header::new(TcpFlags::ACK, seq, ack, window);
        header.time = self.timestamps.then(|| (clock(now), self.recent));
        header
    }

    fn with_data(&mut self, now: u64, outgoing: &Outgoing) -> Header {
        let mut header = self.bare(now);
        // Full segments have no room for blocks, which a bare acknowledgement brings.
        if !(self.sacks && self.receiver.has_blocks()) {
            self.receiver.acknowledged();
        }
        header.seq = self.iss.wrapping_add(outgoing.start as u32);
        if outgoing.push && outgoing.len > 0 {
            header.flags = header.flags.with(TcpFlags::PSH);
        }
        if outgoing.fin {
            header.flags = header.flags.with(TcpFlags::FIN);
        }
        header
    }
}

/// The time that timestamps tell, in milliseconds; never 0, which would mean none.
fn clock(now: u64) -> u32 {
    ((now / 1_000) as u32).max(1)
}
