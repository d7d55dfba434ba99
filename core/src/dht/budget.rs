//! New remote endpoints: each costs the NAT an entry.
