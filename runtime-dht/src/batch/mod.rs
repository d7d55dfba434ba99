//! Receives and sends datagrams in batches, with one system call for many.
//!
//! The buffers are allocated once. Where the platform has no such call, each datagram takes one.

#[cfg(target_os = "linux")]
mod mmsg;
#[cfg(any(test, not(target_os = "linux")))]
mod plain;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use dunlin_core::wire::krpc;
use mio::net::UdpSocket;

#[cfg(target_os = "linux")]
use mmsg::Calls;
#[cfg(not(target_os = "linux"))]
use plain::Calls;

/// Datagrams in a batch. Our choice: more gains nothing that can be measured, and a burst of this size
/// is answered within 200 µs.
pub(super) const BATCH: usize = 64;
/// The buffer for a received datagram: one byte longer than any that is parsed, so that a longer one
/// is recognised as too long.
const IN_SLOT: usize = krpc::MAX_DATAGRAM + 1;
/// The buffer for a datagram to send.
pub(super) const OUT_SLOT: usize = krpc::MAX_DATAGRAM;

const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Datagrams that were received.
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    /// Sender and length of each.
    what: Box<[(SocketAddr, usize)]>,
}

impl Inbox {
    fn new() -> Self {
        Self {
            bytes: vec![0; BATCH * IN_SLOT].into(),
            what: vec![(NOBODY, 0); BATCH].into(),
        }
    }

    /// The datagram in place `i`.
    fn get(&self, i: usize) -> Option<(SocketAddr, &[u8])> {
        let &(from, len) = self.what.get(i)?;
        let slot = self.bytes.get(i * IN_SLOT..)?;
        Some((from, slot.get(..len.min(IN_SLOT))?))
    }
}

/// Datagrams to send: places `sent..filled`.
pub(super) struct Outbox {
    bytes: Box<[u8]>,
    /// Receiver and length of each.
    what: Box<[(SocketAddr, usize)]>,
    sent: usize,
    filled: usize,
}

impl Outbox {
    fn new() -> Self {
        Self {
            bytes: vec![0; BATCH * OUT_SLOT].into(),
            what: vec![(NOBODY, 0); BATCH].into(),
            sent: 0,
            filled: 0,
        }
    }

    /// The datagrams left to send: receivers with lengths, and the bytes of each, in the same order.
    fn rest(&self) -> (&[(SocketAddr, usize)], impl Iterator<Item = &[u8]>) {
        let what = &self.what[self.sent..self.filled];
        let slots = self.bytes.chunks_exact(OUT_SLOT).skip(self.sent);
        let bytes = what.iter().zip(slots).map(|(&(_, len), slot)| &slot[..len]);
        (what, bytes)
    }
}

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything was sent.
    All,
    /// The socket takes no more now.
    Blocked,
    /// The platform refused to send to this address; the datagram is dropped.
    Refused(SocketAddr),
}

/// A socket and its buffers.
pub(super) struct Batch {
    io: UdpSocket,
    calls: Calls,
    inbox: Inbox,
    outbox: Outbox,
}

impl Batch {
    /// Takes a socket, which does not block.
    pub(super) fn new(io: UdpSocket) -> io::Result<Self> {
        let v6 = io.local_addr()?.is_ipv6();
        Ok(Self {
            io,
            calls: Calls::new(v6),
            inbox: Inbox::new(),
            outbox: Outbox::new(),
        })
    }

    /// For the poll.
    pub(super) fn source(&mut self) -> &mut UdpSocket {
        &mut self.io
    }

    /// Receives up to [`BATCH`] datagrams and returns how many; fewer means that no more wait.
    ///
    /// # Errors
    /// The platform's error, except for `WouldBlock`, which is 0.
    pub(super) fn receive(&mut self) -> io::Result<usize> {
        loop {
            match self.calls.receive(&self.io, &mut self.inbox) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Some platforms report an earlier send's failure here; the socket is fine.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                result => return result,
            }
        }
    }

    /// Datagram `i` of the last [`Batch::receive`].
    pub(super) fn datagram(&self, i: usize) -> Option<(SocketAddr, &[u8])> {
        self.inbox.get(i)
    }

    /// The buffer for one more datagram to send, unless the batch is full.
    pub(super) fn slot(&mut self) -> Option<&mut [u8]> {
        let at = self.outbox.filled;
        self.outbox
            .bytes
            .get_mut(at * OUT_SLOT..(at + 1) * OUT_SLOT)
    }

    /// Queues the `len` bytes that were written into [`Batch::slot`].
    pub(super) fn fill(&mut self, to: SocketAddr, len: usize) {
        if let Some(what) = self.outbox.what.get_mut(self.outbox.filled) {
            *what = (to, len.min(OUT_SLOT));
            self.outbox.filled += 1;
        }
    }

    /// The first `len` bytes of [`Batch::slot`], which are for another socket.
    pub(super) fn peek(&self, len: usize) -> &[u8] {
        let slot = self.outbox.bytes.get(self.outbox.filled * OUT_SLOT..);
        slot.and_then(|slot| slot.get(..len)).unwrap_or_default()
    }

    /// Whether datagrams wait to be sent.
    pub(super) fn is_dirty(&self) -> bool {
        self.outbox.filled > 0
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.filled == BATCH
    }

    /// Sends the queued datagrams. After [`Flushed::Refused`] there may be more.
    pub(super) fn flush(&mut self) -> Flushed {
        while self.outbox.sent < self.outbox.filled {
            match self.calls.send(&self.io, &self.outbox) {
                Ok(n) => self.outbox.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(_) => {
                    let (to, _) = self.outbox.what[self.outbox.sent];
                    self.outbox.sent += 1;
                    return Flushed::Refused(to);
                }
            }
        }
        (self.outbox.sent, self.outbox.filled) = (0, 0);
        Flushed::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Batch, std::net::UdpSocket) {
        let ours = UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let other = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        other.connect(ours.local_addr().unwrap()).unwrap();
        (Batch::new(ours).unwrap(), other)
    }

    /// Loopback delivers at once, but not before the call returns on every platform.
    fn receive(batch: &mut Batch) -> usize {
        loop {
            match batch.receive().unwrap() {
                0 => std::thread::yield_now(),
                n => return n,
            }
        }
    }

    #[test]
    fn a_batch_comes_whole_and_in_order_and_its_answers_go_to_who_asked() {
        let (mut batch, other) = pair();
        assert_eq!(batch.receive().unwrap(), 0);
        for round in 0..3u8 {
            for i in 0..50u8 {
                other.send(&[i; 100][..50 + usize::from(i)]).unwrap();
            }
            let mut got = 0;
            while got < 50 {
                for i in 0..receive(&mut batch) {
                    let (from, data) = batch.datagram(i).unwrap();
                    assert_eq!(from, other.local_addr().unwrap());
                    assert_eq!(data, &vec![got as u8; 50 + got][..], "round {round}");
                    let answer = [data[0], round];
                    batch.slot().unwrap()[..2].copy_from_slice(&answer);
                    batch.fill(from, 2);
                    got += 1;
                }
            }
            assert!(batch.is_dirty());
            assert_eq!(batch.flush(), Flushed::All);
            assert!(!batch.is_dirty());
            let mut answer = [0; 9];
            for i in 0..50u8 {
                assert_eq!(other.recv(&mut answer).unwrap(), 2);
                assert_eq!(answer[..2], [i, round]);
            }
        }
    }

    #[test]
    fn what_is_too_long_is_seen_to_be_and_a_full_batch_takes_no_more() {
        let (mut batch, other) = pair();
        other.send(&[1; krpc::MAX_DATAGRAM + 500]).unwrap();
        other.send(&[]).unwrap();
        assert_eq!(receive(&mut batch), 2);
        assert!(batch.datagram(0).unwrap().1.len() > krpc::MAX_DATAGRAM);
        assert_eq!(batch.datagram(1).unwrap().1.len(), 0);
        assert!(batch.datagram(BATCH).is_none());
        let to = other.local_addr().unwrap();
        while let Some(slot) = batch.slot() {
            slot[0] = 1;
            batch.fill(to, 1);
        }
        assert!(batch.is_full());
        batch.fill(to, 1);
        assert_eq!(batch.flush(), Flushed::All);
        assert!(batch.slot().is_some());
    }

    #[test]
    fn who_cannot_be_sent_to_does_not_hold_up_the_others() {
        let (mut batch, other) = pair();
        // IPv6 from an IPv4 socket, and port 0: no platform does that.
        for to in ["[::1]:9".parse().unwrap(), other.local_addr().unwrap()] {
            batch.slot().unwrap()[0] = 7;
            batch.fill(to, 1);
        }
        assert!(matches!(batch.flush(), Flushed::Refused(to) if to.is_ipv6()));
        assert_eq!(batch.flush(), Flushed::All);
        let mut answer = [0; 9];
        assert_eq!(other.recv(&mut answer).unwrap(), 1);
    }

    #[test]
    fn one_call_for_each_does_the_same() {
        let (batch, other) = pair();
        let calls = plain::Calls::new(false);
        let mut inbox = Inbox::new();
        other.send(b"one").unwrap();
        other.send(b"two").unwrap();
        let mut got = Vec::new();
        while got.len() < 2 {
            for i in 0..calls.receive(&batch.io, &mut inbox).unwrap_or(0) {
                got.push(inbox.get(i).unwrap().1.to_vec());
            }
        }
        assert_eq!(got, [b"one", b"two"]);
        let mut outbox = Outbox::new();
        outbox.bytes[0] = 9;
        outbox.what[0] = (other.local_addr().unwrap(), 1);
        outbox.filled = 1;
        assert_eq!(calls.send(&batch.io, &outbox).unwrap(), 1);
        assert_eq!(other.recv(&mut [0; 9]).unwrap(), 1);
    }
}
