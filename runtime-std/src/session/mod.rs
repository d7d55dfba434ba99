//! What a session is made of, whichever driver runs it: its settings, the torrents that are added to it, and the
//! folder that remembers them.

pub mod add;
mod claims;
pub mod folder;
pub mod setup;
pub mod store;
