//! Message stream encryption: key exchange and RC4.
