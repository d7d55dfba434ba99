//! One system call for each datagram, which every platform has.

use std::io;

use mio::net::UdpSocket;

use super::{IN_SLOT, Inbox, Outbox};

/// The system calls of every platform; they keep no state.
pub(super) struct Calls;

impl Calls {
    pub(super) fn new(_v6: bool) -> Self {
        Self
    }

    /// Receives datagrams into `inbox`, from its beginning.
    pub(super) fn receive(&self, io: &UdpSocket, inbox: &mut Inbox) -> io::Result<usize> {
        let slots = inbox.bytes.chunks_exact_mut(IN_SLOT);
        let mut n = 0;
        for (slot, what) in slots.zip(&mut inbox.what) {
            match io.recv_from(slot) {
                Ok((len, from)) => *what = (from, len),
                Err(error) if n == 0 => return Err(error),
                // The next call reports it again if it persists.
                Err(_) => break,
            }
            n += 1;
        }
        Ok(n)
    }

    /// Sends as many datagrams of `outbox` as the socket takes.
    pub(super) fn send(&self, io: &UdpSocket, outbox: &Outbox) -> io::Result<usize> {
        let (what, bytes) = outbox.rest();
        let mut n = 0;
        for (&(to, _), data) in what.iter().zip(bytes) {
            match io.send_to(data, to) {
                Ok(_) => n += 1,
                Err(error) if n == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(n)
    }
}
