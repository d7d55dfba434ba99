//! Single-threaded blocking driver for Dunlin.
