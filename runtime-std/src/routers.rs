//! Where a DHT node begins when it knows no other node.

use dunlin_core::metainfo::HostPort;

/// Public nodes that know many others, to begin with where no other node is known. They are run by
/// the makers of BitTorrent, µTorrent, Transmission and libtorrent.
pub const ROUTERS: [&str; 4] = [
    "router.bittorrent.com:6881",
    "router.utorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
];

/// [`ROUTERS`], parsed.
#[must_use]
pub fn routers() -> Vec<HostPort> {
    ROUTERS
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routers_are_well_formed() {
        assert_eq!(routers().len(), ROUTERS.len());
    }
}
