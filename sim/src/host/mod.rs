//! What stands at the end of a link: anything that takes packets and may ask to be woken.

pub mod disk;
pub mod engine;
pub mod light;
pub mod punch;
pub mod service;
pub mod stack;

use std::any::Any;

use dunlin_core::Instant;
use rand_core::Rng;

use crate::{id::DeviceId, middlebox::Middlebox, packet::Packet};

/// A simulated machine. Everything it does goes through [`HostCx`]; it has no other clock, no
/// other randomness and no other network.
pub trait Host: Any {
    /// It is switched on, at the present time. After [`Action::SwitchOff`](crate::world::Action) or
    /// a reboot it is called again: what would not survive is to be forgotten here.
    fn start(&mut self, cx: &mut HostCx<'_>) {
        let _ = cx;
    }
    /// A packet for one of its addresses. What it does not want it drops.
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet);
    /// The time that it asked for with [`Host::next_wake`] has come.
    fn wake(&mut self, cx: &mut HostCx<'_>);
    /// When it wants to be woken; asked after each of the calls above. Must be cheap.
    fn next_wake(&self) -> Option<Instant>;
}

/// What a host may use during a call.
pub struct HostCx<'a> {
    /// The present.
    pub now: Instant,
    /// Which device it is.
    pub device: DeviceId,
    /// This host's own randomness, seeded from the world's seed and the host's place: another
    /// host more or less changes nothing here.
    pub rng: &'a mut dyn Rng,
    /// Packets it sends, in order. Taken up by the world after the call.
    pub out: &'a mut Vec<Packet>,
    /// Buffers of packets that are gone, for new ones.
    pub spare: &'a mut Vec<Vec<u8>>,
    /// The box that it is the gateway of; `None` for a host of its own.
    pub middlebox: Option<&'a mut Middlebox>,
    /// What it wants written into the trace, see [`HostCx::mark`].
    pub marks: &'a mut Vec<String>,
}

impl HostCx<'_> {
    /// Sends a packet.
    pub fn send(&mut self, packet: Packet) {
        self.out.push(packet);
    }

    /// Sends a datagram, in a buffer that was used before if there is one.
    pub fn send_udp(
        &mut self,
        src: core::net::SocketAddr,
        dst: core::net::SocketAddr,
        payload: &[u8],
    ) {
        let buffer = self.spare.pop().unwrap_or_default();
        self.out.push(Packet::udp_in(buffer, src, dst, payload));
    }

    /// Keeps a packet's buffer for reuse.
    pub fn recycle(&mut self, packet: Packet) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(packet.into_bytes());
        }
    }

    /// Writes a line into the trace: part of its hash, kept with time and device.
    pub fn mark(&mut self, text: impl Into<String>) {
        self.marks.push(text.into());
    }
}

/// Buffers kept for reuse.
pub(crate) const MAX_SPARE: usize = 4_096;
