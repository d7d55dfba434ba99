//! Bloom filters of addresses (BEP 33).
