//! What one torrent knows: pieces, picking, choking, blame.

pub mod picker;
