//! Stateful firewalls for IPv4 and IPv6 (RFC 6092).

mod config;

pub use config::{Families, FirewallConfig, Ports};
