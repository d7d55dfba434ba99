//! Fragments (RFC 4787 REQ-14): those that follow the first have no ports, and go where it went.
//! They are known by it, so one that overtakes the first is dropped.

use std::{collections::VecDeque, net::SocketAddr};

use super::key::{Dir, End};
use crate::packet::{Flow, Fragment, Packet, Proto};

/// Datagrams in parts that are followed at one time; the oldest makes room.
const MAX_DATAGRAMS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Datagram {
    dir: Dir,
    proto: Proto,
    src: SocketAddr,
    dst: SocketAddr,
    id: u16,
}

/// Where the first fragments went.
#[derive(Clone, Debug, Default)]
pub(super) struct Fragments(VecDeque<(Datagram, End)>);

fn datagram(dir: Dir, fragment: Fragment, flow: &Flow) -> Datagram {
    let bare = |addr: SocketAddr| SocketAddr::new(addr.ip(), 0);
    Datagram {
        dir,
        proto: flow.proto,
        src: bare(flow.src),
        dst: bare(flow.dst),
        id: fragment.id,
    }
}

impl Fragments {
    /// Remembers by which endpoint a first fragment went; `flow` is as it came.
    pub(super) fn first(&mut self, dir: Dir, fragment: Fragment, flow: &Flow, end: End) {
        let key = datagram(dir, fragment, flow);
        self.0.retain(|(k, _)| *k != key);
        if self.0.len() >= MAX_DATAGRAMS {
            self.0.pop_front();
        }
        self.0.push_back((key, end));
    }

    /// The endpoint by which the first fragment of the same datagram went.
    fn end(&self, dir: Dir, fragment: Fragment, flow: &Flow) -> Option<End> {
        let key = datagram(dir, fragment, flow);
        self.0.iter().find(|(k, _)| *k == key).map(|(_, end)| *end)
    }

    /// Sends a later fragment where the first one went; `false` if that is not known.
    pub(super) fn follow(&self, dir: Dir, fragment: Fragment, packet: &mut Packet) -> bool {
        let Some(end) = self.end(dir, fragment, packet.flow()) else {
            return false;
        };
        match dir {
            Dir::Out => packet.set_src(end.bare().addr()),
            Dir::In => packet.set_dst(end.bare().addr()),
        }
        true
    }
}
