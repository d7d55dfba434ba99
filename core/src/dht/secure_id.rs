//! Ids that follow from the address (BEP 42).
