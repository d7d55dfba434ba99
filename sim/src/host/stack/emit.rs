//! Segments as packets.

use std::net::SocketAddr;

use super::tcp::Header;
use crate::{
    host::HostCx,
    packet::{Outgoing, Packet},
};

/// Builds a segment.
pub(crate) fn build(
    cx: &mut HostCx<'_>,
    [from, to]: [SocketAddr; 2],
    header: &Header,
    data: [&[u8]; 2],
    checksum: bool,
) -> Packet {
    let mut options = [0; 40];
    let len = header.options(&mut options);
    let head = Outgoing {
        flags: header.flags,
        seq: header.seq,
        ack: header.ack,
        window: header.window,
        options: &options[..len],
        checksum,
    };
    let buffer = cx.spare.pop().unwrap_or_default();
    Packet::tcp_in(buffer, from, to, &head, data)
}
