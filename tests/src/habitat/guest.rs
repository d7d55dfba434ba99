//! A machine beside the engines that does as it is told.

use std::net::{IpAddr, SocketAddr};

/// A port that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door(pub usize);
/// A TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line(pub usize);
/// A UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post(pub usize);

/// How it stands with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not yet answered.
    Connecting,
    /// Both ways are open.
    Open,
    /// The other side has finished, and everything was read.
    Finished,
    /// Refused, reset, or given up.
    Broken,
}

/// TCP and UDP by hand. Nothing here waits: between the calls time has to pass.
pub trait Guest {
    /// Its address.
    fn ip(&self, v6: bool) -> IpAddr;
    /// Listens on a port of the platform's choice.
    fn listen(&mut self, v6: bool) -> (Door, SocketAddr);
    /// Accepts a connection, if one waits.
    fn accept(&mut self, door: Door) -> Option<Line>;
    /// An address of its own where nobody listens.
    fn closed_addr(&mut self, v6: bool) -> SocketAddr;
    /// Begins to connect.
    fn connect(&mut self, to: SocketAddr) -> Line;
    /// How it stands with a connection.
    fn life(&mut self, line: Line) -> Life;
    /// What has come in, at most `most` bytes.
    fn read(&mut self, line: Line, most: usize) -> Vec<u8>;
    /// Sends; returns how many bytes were taken.
    fn write(&mut self, line: Line, bytes: &[u8]) -> usize;
    /// Has nothing more to say, and still listens.
    fn finish(&mut self, line: Line);
    /// Breaks the connection off.
    fn reset(&mut self, line: Line);
    /// A UDP socket on a port of the platform's choice.
    fn bind(&mut self, v6: bool) -> (Post, SocketAddr);
    /// A UDP socket at this address of its own.
    fn bind_at(&mut self, addr: SocketAddr) -> Post;
    /// Sends a datagram.
    fn send(&mut self, post: Post, to: SocketAddr, bytes: &[u8]);
    /// What came, and from whom.
    fn receive(&mut self, post: Post) -> Option<(SocketAddr, Vec<u8>)>;
}
