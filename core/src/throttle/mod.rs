//! Token buckets in a tree.
