//! Hosts: the machines at the leaves of the tree, which receive packets and ask to be woken.
//!
//! - [`light`]: hosts without an IP stack, for machines of the core that speak UDP.
//! - [`engine`]: a host that runs the whole engine on the firmware's driver, with a simulated
//!   [`disk`].
//! - [`gateway`]: the port-mapping services of a router.
//! - [`stack`]: a network card, its TCP, and a small TCP server, for hosts that speak TCP.
//! - [`service`]: trackers, name servers and STUN servers.
//! - [`punch`]: hosts that punch holes through NATs.
//! - [`bulk`]: hosts that transfer data as fast as TCP allows.

pub mod bulk;
pub mod disk;
pub mod engine;
pub mod gateway;
pub mod light;
pub mod punch;
pub mod service;
pub mod stack;

use std::any::Any;

use dunlin_core::Instant;
use rand_core::Rng;

use crate::{id::DeviceId, middlebox::Middlebox, packet::Packet};

/// A simulated machine. It acts only through [`HostCx`], and has no other clock, randomness or
/// network.
pub trait Host: Any {
    /// The host is switched on now. This is called again after
    /// [`Action::SwitchOff`](crate::world::Action) or a reboot, and must forget what would not
    /// survive that.
    fn start(&mut self, cx: &mut HostCx<'_>) {
        let _ = cx;
    }
    /// A packet for one of the host's addresses has arrived. The host drops packets that it has no
    /// use for.
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet);
    /// The time that [`Host::next_wake`] returned has come.
    fn wake(&mut self, cx: &mut HostCx<'_>) {
        let _ = cx;
    }
    /// When the host wants to be woken; `None` when only packets concern it. This is asked after
    /// each of the calls above and must be cheap.
    fn next_wake(&self) -> Option<Instant> {
        None
    }
}

/// What a host can use during a call.
pub struct HostCx<'a> {
    /// The present.
    pub now: Instant,
    /// The device at which the host is.
    pub device: DeviceId,
    /// The host's own random numbers, seeded from the world's seed and the host's place in the
    /// tree, so that adding another host does not change them.
    pub rng: &'a mut dyn Rng,
    /// The packets that the host sends, in order. The world takes them after the call.
    pub out: &'a mut Vec<Packet>,
    /// Spare buffers for new packets.
    pub spare: &'a mut Vec<Vec<u8>>,
    /// The box whose gateway the host is; `None` for other hosts.
    pub middlebox: Option<&'a mut Middlebox>,
    /// The lines that the host writes into the trace, see [`HostCx::mark`].
    pub marks: &'a mut Vec<String>,
}

impl HostCx<'_> {
    /// Sends a packet.
    pub fn send(&mut self, packet: Packet) {
        self.out.push(packet);
    }

    /// Sends a datagram, in a spare buffer if there is one.
    pub fn send_udp(
        &mut self,
        src: core::net::SocketAddr,
        dst: core::net::SocketAddr,
        payload: &[u8],
    ) {
        let buffer = self.spare.pop().unwrap_or_default();
        self.out.push(Packet::udp_in(buffer, src, dst, payload));
    }

    /// Keeps the buffer of a packet for reuse.
    pub fn recycle(&mut self, packet: Packet) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(packet.into_bytes());
        }
    }

    /// Writes a line into the trace. It is part of the trace's hash and is kept with the time and
    /// the device.
    pub fn mark(&mut self, text: impl Into<String>) {
        self.marks.push(text.into());
    }
}

/// The most buffers that are kept for reuse.
pub(crate) const MAX_SPARE: usize = 4_096;
