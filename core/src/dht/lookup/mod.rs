//! Iterative searches.
