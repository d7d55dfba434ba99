//! The parts of simulated machines that speak TCP: a network card, the TCP that it runs, and a
//! small server and client.

mod cable;
mod client;
mod emit;
mod near;
mod offload;
mod server;
pub mod tcp;
#[cfg(test)]
mod tests;

pub use cable::{Arrived, Cable, Leaving, MTU};
pub use client::TcpClient;
pub(crate) use emit::build;
pub use server::{Reply, TcpServer};
