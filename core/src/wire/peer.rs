//! Peer wire messages (BEP 3, 6).
