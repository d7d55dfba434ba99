//! The floor of a DHT node: it answers every datagram with the same bytes, as many as a full answer has.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;

/// Datagrams that one system call takes or gives.
const BATCH: usize = 64;
/// Longest query.
const ROOM: usize = 2048;
/// `find_node` answered with 8 nodes, as BEP 5 has it.
const ANSWER: usize = 277;
/// The end of a reply, for programs that count answers.
const TAIL: &[u8] = b"1:y1:re";

pub(crate) fn run(listen: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(listen)?;
    set_socket_recv_buffer_size(&socket, 4 << 20)?;
    let mut answer = [b'x'; ANSWER];
    answer[ANSWER - TAIL.len()..].copy_from_slice(TAIL);

    let mut queries = vec![[0; ROOM]; BATCH];
    let mut came = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut going = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let answers: [_; BATCH] = array::from_fn(|_| [IoSlice::new(&answer)]);
    let mut senders = [None; BATCH];
    loop {
        poll(&mut [PollFd::new(&socket, PollFlags::IN)], None)?;
        loop {
            let mut rooms = queries.iter_mut();
            let mut slices: [_; BATCH] = array::from_fn(|_| {
                [IoSliceMut::new(
                    rooms.next().map_or(&mut [], |r| &mut r[..]),
                )]
            });
            let fd = socket.as_raw_fd();
            let received = match recvmmsg(
                fd,
                &mut came,
                slices.iter_mut(),
                MsgFlags::MSG_DONTWAIT,
                None,
            ) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => break,
                Err(e) => return Err(e.into()),
            };
            let mut n = 0;
            for query in received {
                senders[n] = query
                    .address
                    .map(|a| SockaddrIn::from(SocketAddrV4::from(a)));
                n += 1;
            }
            match sendmmsg(
                fd,
                &mut going,
                &answers[..n],
                &senders[..n],
                [],
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(_) | Err(Errno::EAGAIN | Errno::ECONNREFUSED) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
