//! One torrent's trackers as a machine.
