//! The table between sessions, in the format of rTorrent's `rtorrent.dht_cache`.
