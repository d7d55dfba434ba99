//! The counters of a driver.

/// Counters since the driver was created, and the present use of its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of [`Driver::poll`](crate::Driver::poll).
    pub polls: u64,
    /// Turns in these calls.
    pub turns: u64,
    /// Packets received from the device.
    pub packets_in: u64,
    /// Bytes read from streams.
    pub read_bytes: u64,
    /// Bytes written to streams.
    pub written_bytes: u64,
    /// Datagrams handed to the engine.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams dropped, because there was no route or nobody to receive them.
    pub datagrams_dropped: u64,
    /// Handshakes that began from outside.
    pub syns: u64,
    /// Streams that the engine accepted.
    pub accepted: u64,
    /// Streams that the engine refused.
    pub refused: u64,
    /// Sockets taken from an unfinished handshake or an ended connection, because another
    /// connection needed one.
    pub evicted: u64,
    /// Handshakes and closing connections that took too long.
    pub overdue: u64,
    /// Attempts to connect that found no free socket.
    pub exhausted: u64,
    /// Ops taken from the engine that need an outcome.
    pub ops: u64,
    /// Outcomes handed to the engine. By law 1 this is equal to `ops` in the end.
    pub outcomes: u64,
    /// TCP sockets that exist, each of which takes memory.
    pub sockets_made: usize,
    /// TCP sockets that are free or not created yet.
    pub sockets_free: usize,
    /// TCP sockets that listen.
    pub sockets_listening: usize,
    /// TCP sockets in a handshake from outside.
    pub sockets_half_open: usize,
    /// TCP sockets of the engine's streams and of HTTP requests.
    pub sockets_used: usize,
    /// TCP sockets that linger after their connection was closed.
    pub sockets_ending: usize,
}
