//! The parts of simulated machines that speak TCP: a network card and a small server.

mod cable;
mod server;

pub use cable::{Arrived, Cable, Leaving, MTU};
pub use server::{Reply, TcpServer};
