//! Our address, as others see it (BEP 42).
