//! What one torrent knows: pieces, picking, choking, blame.

pub mod blame;
pub mod choker;
pub mod pace;
pub mod picker;
