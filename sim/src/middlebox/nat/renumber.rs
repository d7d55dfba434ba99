//! What happens to a NAT when its outer link goes down or its address changes.

use std::net::Ipv4Addr;

use super::{Blocks, Followed, Nat};
use crate::packet::verdict::Rule;

impl Nat {
    /// Forgets every flow, as Linux does for masqueraded flows when the interface goes down or loses
    /// its address. Port mappings that were asked for stay.
    pub fn flush(&mut self) {
        let ends: Vec<_> = self.table.iter().map(|f| (f.proto, f.external)).collect();
        for (proto, external) in ends {
            self.remember_end(proto, external, Rule::NatFlushed);
        }
        self.table.clear();
        self.blocks = Blocks::default();
        self.fragments = Followed::default();
        self.delayed.clear();
    }

    /// Changes the external addresses. Port mappings that were asked for move to the new ones. Flows
    /// go on with the addresses that they have, and new flows use the new ones; see
    /// [`Nat::flush`].
    ///
    /// # Panics
    /// When there is no external address.
    pub fn renumber(&mut self, public: &[Ipv4Addr]) {
        assert!(!public.is_empty(), "a NAT needs an external address");
        self.public = public.to_vec();
        // The address that is paired with an internal one is another one, too.
        let mut forwards = std::mem::take(&mut self.forwards);
        forwards.move_to(|inside| self.paired(inside));
        self.forwards = forwards;
        self.blocks = Blocks::default();
    }
}
