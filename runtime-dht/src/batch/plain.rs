//! One system call for each datagram: every platform has that.

use std::io;

use mio::net::UdpSocket;

use super::{IN_SLOT, Inbox, Outbox};

/// What is kept between calls: nothing.
pub(super) struct Calls;

impl Calls {
    pub(super) fn new(_v6: bool) -> Self {
        Self
    }

    /// Fills `inbox` from its beginning.
    pub(super) fn receive(&self, io: &UdpSocket, inbox: &mut Inbox) -> io::Result<usize> {
        let slots = inbox.bytes.chunks_exact_mut(IN_SLOT);
        let mut n = 0;
        for (slot, what) in slots.zip(&mut inbox.what) {
            match io.recv_from(slot) {
                Ok((len, from)) => *what = (from, len),
                Err(error) if n == 0 => return Err(error),
                // Told again by the next call, if it still holds.
                Err(_) => break,
            }
            n += 1;
        }
        Ok(n)
    }

    /// Sends of `outbox` what the socket takes.
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
