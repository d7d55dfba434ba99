//! Deterministic network simulator for Dunlin.
