//! What a session is made of, whichever driver runs it: its settings, the torrents that are added to it, and what is
//! remembered of them.

pub mod add;
pub mod setup;
pub mod store;
