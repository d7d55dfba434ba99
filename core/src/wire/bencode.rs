//! Tolerant, borrowed bencode reader for what the network sends.
