//! Extension messages (BEP 9, 10, 11, 54).
