//! What a session consists of, for every driver: its settings, the torrents added to it, and what is
//! remembered of them.

pub mod add;
pub mod setup;
pub mod store;
