//! no_std driver for Dunlin over smoltcp.

#![no_std]
#![forbid(unsafe_code)]
