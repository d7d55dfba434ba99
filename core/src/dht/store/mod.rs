//! What is kept for others: peers and items.
