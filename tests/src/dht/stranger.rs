//! Single DHT nodes of programs that Dunlin shares no line with.

use std::fmt::Debug;
use std::net::SocketAddr;

use super::Item;
use super::bittorrent::Bittorrent;
use super::mainline::Mainline;
use crate::lab::Lab;

/// The secret half of the key that strangers sign their items with (RFC 8032 §5.1.5).
pub(super) const SEED: [u8; 32] = *b"a key that is known to everybody";

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The crate `mainline`.
    Mainline,
    /// The npm package `bittorrent-dht`, which is webtorrent's.
    Bittorrent,
}

/// A node that takes part in the DHT until it is dropped. Questions end within seconds and may find nothing although there
/// is something: they are to be repeated.
pub trait Stranger: Debug {
    /// How many nodes it knows.
    fn nodes(&self) -> usize;
    /// The peers of a torrent that it finds.
    fn peers(&self, hash: &str) -> Vec<SocketAddr>;
    /// Announces a peer at its own address; whether a node confirmed.
    fn announce(&self, hash: &str, port: u16) -> bool;
    /// Stores a text; its target, if a node confirmed.
    fn put(&self, value: &str) -> Option<String>;
    /// Stores a version of the item under its own key; the key, if a node confirmed.
    fn put_mutable(&self, salt: Option<&str>, seq: i64, value: &str) -> Option<String>;
    /// Fetches a text.
    fn get(&self, target: &str) -> Option<String>;
    /// Fetches the newest version that it finds.
    fn get_mutable(&self, key: &str, salt: Option<&str>) -> Item;
}

impl Kind {
    /// Starts one that listens at `at` and begins with these nodes, and with no others.
    pub fn start(self, lab: &Lab, at: SocketAddr, nodes: &[SocketAddr]) -> Box<dyn Stranger> {
        match self {
            Self::Mainline => Box::new(Mainline::start(lab, at, nodes)),
            Self::Bittorrent => Box::new(Bittorrent::start(lab, at, nodes)),
        }
    }
}
