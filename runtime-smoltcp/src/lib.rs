//! The `no_std` side of Dunlin over [smoltcp](https://docs.rs/smoltcp).
//!
//! What stands here so far is the ground the driver will be built on: one time for engine and
//! stack, and when to poll which. The driver itself (socket pool, DNS, storage) is to come.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

pub mod time;
