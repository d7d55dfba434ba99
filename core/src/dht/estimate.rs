//! How large the network is.
