//! The network: sockets and the addresses that they leave from, proxies, names, HTTP.

pub mod conntrack;
pub mod http;
pub mod interfaces;
pub mod proxy;
pub mod resolve;
pub mod socket;
pub mod socks;
