//! Blocks of ports, one for each internal address (RFC 7422).

use std::{collections::BTreeMap, net::Ipv4Addr};

/// The blocks that were given out. A block stays with its internal address until the box restarts.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    /// The number of blocks given out of each public address.
    given: BTreeMap<Ipv4Addr, u32>,
    /// The number of the block of each internal address.
    index: BTreeMap<Ipv4Addr, u32>,
}

impl Blocks {
    /// The port range of `inside`, which gets a block if it has none. Returns `None` when all
    /// blocks are taken.
    pub(super) fn of(
        &mut self,
        inside: Ipv4Addr,
        public: Ipv4Addr,
        size: u16,
        range: (u16, u16),
    ) -> Option<(u16, u16)> {
        let size = u32::from(size.max(1));
        let wide = u32::from(range.1) - u32::from(range.0) + 1;
        let n = match self.index.get(&inside) {
            Some(n) => *n,
            None => {
                let given = self.given.entry(public).or_default();
                if *given > 0 && (*given + 1) * size > wide {
                    return None;
                }
                let n = *given;
                *given += 1;
                self.index.insert(inside, n);
                n
            }
        };
        let low = u32::from(range.0) + n * size;
        let high = (low + size - 1).min(u32::from(range.1));
        Some((low as u16, high as u16))
    }
}
