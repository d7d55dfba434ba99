//! What every driver does in the same way.

pub mod torrents;
