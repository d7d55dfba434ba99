//! Fragments (RFC 4787 REQ-14): those that follow the first have no ports, and go where it went.
//! They are known by it, so one that overtakes the first is dropped.

use std::{collections::VecDeque, net::SocketAddr};

use super::{Dir, Nat, key::End};
use crate::packet::{
    Flow, Fragment, Packet, Proto,
    verdict::{Rule, Verdict},
};

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
}

impl Nat {
    /// A fragment that is not the first, or that this box does not pass.
    pub(super) fn later_fragment(
        &self,
        dir: Dir,
        fragment: Fragment,
        packet: &mut Packet,
    ) -> Verdict {
        let key = datagram(dir, fragment, packet.flow());
        let known = self.fragments.0.iter().find(|(k, _)| *k == key);
        let Some((_, end)) = known.filter(|_| self.config.fragments) else {
            return Verdict::Drop(Rule::NatFragment);
        };
        let end = end.bare().addr();
        match dir {
            Dir::Out => packet.set_src(end),
            Dir::In => packet.set_dst(end),
        }
        Verdict::Pass(Rule::NatMapped)
    }
}
