//! `recvmmsg` and `sendmmsg`.

use std::{
    array,
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::AsRawFd,
    slice::from_ref,
};

use heapless::Vec;
use mio::net::UdpSocket;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, addr::SocketAddrArg, sendmmsg};

use super::{BATCH, IN_SLOT, Inbox, NOBODY, Outbox};

/// The headers that the kernel fills, allocated once.
pub(super) enum Calls {
    V4(Headers<SockaddrIn>),
    V6(Headers<SockaddrIn6>),
}

/// Headers of one family, to receive.
pub(super) struct Headers<A>(MultiHeaders<A>);

impl Calls {
    pub(super) fn new(v6: bool) -> Self {
        match v6 {
            false => Self::V4(Headers::new()),
            true => Self::V6(Headers::new()),
        }
    }

    /// Receives datagrams into `inbox`, from its beginning.
    pub(super) fn receive(&mut self, io: &UdpSocket, inbox: &mut Inbox) -> io::Result<usize> {
        match self {
            Self::V4(headers) => headers.receive(io, inbox),
            Self::V6(headers) => headers.receive(io, inbox),
        }
    }

    /// Sends as many datagrams of `outbox` as the socket takes.
    pub(super) fn send(&self, io: &UdpSocket, outbox: &Outbox) -> io::Result<usize> {
        let v6 = matches!(self, Self::V6(_));
        let (what, bytes) = outbox.rest();
        // A datagram for the other family is refused when it is the first.
        let fit = what.iter().take_while(|(to, _)| to.is_ipv6() == v6);
        let to: Vec<_, BATCH> = fit.map(|(to, _)| to.as_any()).collect();
        if to.is_empty() && !what.is_empty() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let data: Vec<_, BATCH> = bytes.map(IoSlice::new).collect();
        let mut control: Vec<_, BATCH> = (to.iter())
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let parts = to.iter().zip(&data).zip(&mut control);
        let mut messages: Vec<_, BATCH> = parts
            .map(|((to, data), control)| MMsgHdr::new_with_addr(to, from_ref(data), control))
            .collect();
        Ok(sendmmsg(io, &mut messages, SendFlags::DONTWAIT)?)
    }
}

impl<A: SockaddrLike + Copy + Into<SocketAddr>> Headers<A> {
    fn new() -> Self {
        Self(MultiHeaders::preallocate(BATCH, None))
    }

    fn receive(&mut self, io: &UdpSocket, inbox: &mut Inbox) -> io::Result<usize> {
        let Inbox { bytes, what } = inbox;
        let mut slots = bytes.chunks_exact_mut(IN_SLOT);
        let mut slices: [_; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
        let results = recvmmsg(
            io.as_raw_fd(),
            &mut self.0,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        let mut n = 0;
        for (result, what) in results.zip(what) {
            *what = (result.address.map_or(NOBODY, A::into), result.bytes);
            n += 1;
        }
        Ok(n)
    }
}
