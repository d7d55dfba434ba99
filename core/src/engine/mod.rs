//! The composition: demultiplexing, scheduling, swarms, ops and events.
