//! The one place that names a shared pointer, so that a target without atomics has one place
//! to change.

pub use alloc::sync::Arc;
