//! What a driver did: counters since its start.

/// Counters since the driver's start, and the sockets' present use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of [`Driver::poll`](crate::Driver::poll).
    pub polls: u64,
    /// Turns within these calls.
    pub turns: u64,
    /// Packets taken from the device.
    pub packets_in: u64,
    /// Bytes read from streams.
    pub read_bytes: u64,
    /// Bytes written to streams.
    pub written_bytes: u64,
    /// Datagrams handed to the engine.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams without a way or a taker.
    pub datagrams_dropped: u64,
    /// Handshakes that began from outside.
    pub syns: u64,
    /// Streams the engine took.
    pub accepted: u64,
    /// Streams it did not take.
    pub refused: u64,
    /// Sockets taken from a handshake, or from a connection that had ended, as others needed one.
    pub evicted: u64,
    /// Handshakes and endings that took too long.
    pub overdue: u64,
    /// Attempts to connect without a free socket.
    pub exhausted: u64,
    /// Ops taken from the engine that an outcome is due for.
    pub ops: u64,
    /// Outcomes handed to it. Law 1: all ops have one in the end.
    pub outcomes: u64,
    /// TCP sockets that exist: memory was taken for each.
    pub sockets_made: usize,
    /// TCP sockets: free, or not made yet.
    pub sockets_free: usize,
    /// TCP sockets that listen.
    pub sockets_listening: usize,
    /// TCP sockets in a handshake from outside.
    pub sockets_half_open: usize,
    /// TCP sockets of the engine's streams and of HTTP requests.
    pub sockets_used: usize,
    /// TCP sockets that linger after the end of their connection.
    pub sockets_ending: usize,
}
