//! Items (BEP 44): targets, signatures, and what makes one sound.
