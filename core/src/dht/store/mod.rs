//! What a node stores for others: peers and items.

pub mod items;
mod keyed;
mod lists;
mod pack;
pub mod peers;

pub use items::{ItemStore, PutError, StoredItem};
pub use peers::{PeerLimits, PeerStore};
