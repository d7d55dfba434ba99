//! Fragments that are translated one by one (RFC 4787 §11). Those after the first have no ports and
//! follow the first one, so a fragment that overtakes it is dropped. A box that reassembles
//! fragments does so before its NAT sees them, see [`super::super::reassembly`].

use std::{collections::VecDeque, net::SocketAddr};

use super::key::{Dir, End};
use crate::packet::{Flow, Fragment, Packet, Proto};

/// The most datagrams whose fragments are followed at one time. The oldest is removed.
const MAX_DATAGRAMS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Datagram {
    dir: Dir,
    proto: Proto,
    src: SocketAddr,
    dst: SocketAddr,
    id: u16,
}

/// The endpoints through which first fragments went.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed(VecDeque<(Datagram, End)>);

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

impl Followed {
    /// Remembers the endpoint through which a first fragment went; `flow` is that of the fragment
    /// as it came.
    pub(super) fn first(&mut self, dir: Dir, fragment: Fragment, flow: &Flow, end: End) {
        let key = datagram(dir, fragment, flow);
        self.0.retain(|(k, _)| *k != key);
        if self.0.len() >= MAX_DATAGRAMS {
            self.0.pop_front();
        }
        self.0.push_back((key, end));
    }

    /// The endpoint through which the first fragment of the same datagram went.
    fn end(&self, dir: Dir, fragment: Fragment, flow: &Flow) -> Option<End> {
        let key = datagram(dir, fragment, flow);
        self.0.iter().find(|(k, _)| *k == key).map(|(_, end)| *end)
    }

    /// Translates a later fragment like the first one. Returns `false` when the first one is not
    /// known.
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
