//! The limits of a scenario.

/// The most routers and hosts.
pub const MAX_NODES: usize = 20_000;
/// The most routers one behind another. A packet can make 64 hops.
pub const MAX_DEPTH: usize = 16;
/// The most events that a file lists.
pub const MAX_EVENTS: usize = 200_000;
