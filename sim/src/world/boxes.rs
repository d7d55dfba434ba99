//! Boxes in the tree.

use super::{Kind, NodeId, World};
use crate::Middlebox;

impl World {
    /// The NAT and firewall of a router; `None` if it has neither.
    #[must_use]
    pub fn middlebox(&self, id: NodeId) -> Option<&Middlebox> {
        self.nodes.get(id.index())?.router()?.middlebox.as_ref()
    }

    /// As [`World::middlebox`].
    pub fn middlebox_mut(&mut self, id: NodeId) -> Option<&mut Middlebox> {
        let node = self.nodes.get_mut(id.index())?;
        node.router_mut()?.middlebox.as_mut()
    }

    pub(super) fn reboot_box(&mut self, id: NodeId) {
        let now = self.now();
        if let Kind::Router(router) = &mut self.nodes[id.index()].kind
            && let Some(middlebox) = &mut router.middlebox
        {
            middlebox.reboot(now);
        }
    }
}
