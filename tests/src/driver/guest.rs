//! A machine next to the engines that is controlled by a test.

use std::net::{IpAddr, SocketAddr};

/// A listening TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door(pub usize);
/// A TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line(pub usize);
/// A UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post(pub usize);

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The other side has not answered yet.
    Connecting,
    /// Both directions are open.
    Open,
    /// The other side has finished, and everything was read.
    Finished,
    /// It was refused, reset, or given up.
    Broken,
}

/// TCP and UDP by hand. No call waits: time has to pass between calls.
pub trait Guest {
    /// Its address.
    fn ip(&self, v6: bool) -> IpAddr;
    /// Listens on a port of the platform's choice.
    fn listen(&mut self, v6: bool) -> (Door, SocketAddr);
    /// Accepts a connection, if one waits.
    fn accept(&mut self, door: Door) -> Option<Line>;
    /// One of its addresses on which nothing listens.
    fn closed_addr(&mut self, v6: bool) -> SocketAddr;
    /// Starts to connect.
    fn connect(&mut self, to: SocketAddr) -> Line;
    /// The state of a connection.
    fn life(&mut self, line: Line) -> Life;
    /// Received bytes, at most `most`.
    fn read(&mut self, line: Line, most: usize) -> Vec<u8>;
    /// Sends; returns how many bytes were accepted.
    fn write(&mut self, line: Line, bytes: &[u8]) -> usize;
    /// Closes the sending direction; it still receives.
    fn finish(&mut self, line: Line);
    /// Resets the connection.
    fn reset(&mut self, line: Line);
    /// A UDP socket on a port of the platform's choice.
    fn bind(&mut self, v6: bool) -> (Post, SocketAddr);
    /// A UDP socket at this address.
    fn bind_at(&mut self, addr: SocketAddr) -> Post;
    /// Sends a datagram.
    fn send(&mut self, post: Post, to: SocketAddr, bytes: &[u8]);
    /// A received datagram and its sender.
    fn receive(&mut self, post: Post) -> Option<(SocketAddr, Vec<u8>)>;
}
