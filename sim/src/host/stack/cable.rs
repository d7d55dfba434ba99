//! The network card of a simulated machine: two queues of IP packets.

use std::collections::VecDeque;

use smoltcp::{
    phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
};

use super::{near::NEAR_MTU, offload::Offload, tcp::TcpConfig};
use crate::{
    host::HostCx,
    packet::{Packet, Proto},
};

/// The default MTU: that of Ethernet.
pub const MTU: usize = 1_500;
/// The most packets that wait to be sent. The stack has to wait while there are as many.
const MAX_QUEUE: usize = 1_024;
/// The most buffers that are kept for reuse.
const MAX_SPARE: usize = 64;

/// A card without a link layer. It runs the TCP of its machine, unless it is
/// [bare](Cable::bare).
#[derive(Debug)]
pub struct Cable {
    mtu: usize,
    offload: Option<Box<Offload>>,
    /// Segments from the network.
    segments: VecDeque<Packet>,
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Cable {
    /// Creates a card for packets of at most `mtu` bytes, which runs TCP.
    #[must_use]
    pub fn new(mtu: usize, tcp: TcpConfig) -> Self {
        Self {
            offload: Some(Box::new(Offload::new(tcp, mtu))),
            ..Self::bare(mtu)
        }
    }

    /// Creates a card that leaves TCP to the machine's stack.
    #[must_use]
    pub const fn bare(mtu: usize) -> Self {
        Self {
            mtu,
            offload: None,
            segments: VecDeque::new(),
            received: VecDeque::new(),
            sent: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// A packet arrives. It waits for [`Cable::pass`].
    pub fn arrive(&mut self, packet: Packet) {
        if self.offload.is_some() && packet.flow().proto == Proto::Tcp {
            self.segments.push_back(packet);
        } else {
            self.received.push_back(packet.into_bytes());
        }
    }

    /// When [`Cable::pass`] has something to do without a packet.
    #[must_use]
    pub fn deadline(&self) -> Option<dunlin_core::Instant> {
        self.offload.as_ref()?.deadline()
    }

    /// Hands what the stack has sent to the world, and what has arrived to the stack. Returns
    /// whether the stack has something to do.
    pub fn pass(&mut self, cx: &mut HostCx<'_>) -> bool {
        let inside = &mut self.received;
        if let Some(offload) = &mut self.offload {
            while let Some(packet) = self.segments.pop_front() {
                offload.network_sent(cx, packet, inside);
            }
            offload.run_timers(cx, inside);
        }
        while let Some(bytes) = self.sent.pop_front() {
            // The simulator carries everything that the stack emits, except IGMP and the like.
            let Ok(packet) = Packet::parse(bytes) else {
                continue;
            };
            match &mut self.offload {
                Some(offload) if packet.flow().proto == Proto::Tcp => {
                    offload.machine_sent(cx, packet, inside);
                }
                _ => cx.send(packet),
            }
        }
        while self.spare.len() < MAX_SPARE
            && let Some(buffer) = cx.spare.pop()
        {
            self.spare.push(buffer);
        }
        !self.received.is_empty()
    }
}

impl Device for Cable {
    type RxToken<'a> = Arrived<'a>;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived<'_>, Leaving<'_>)> {
        if self.sent.len() >= MAX_QUEUE {
            return None;
        }
        let bytes = self.received.pop_front()?;
        // The buffer of the packet that arrives can be used for the answer.
        let (spare, sent) = (&mut self.spare, &mut self.sent);
        Some((
            Arrived(bytes, std::marker::PhantomData),
            Leaving { spare, sent },
        ))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        let (spare, sent) = (&mut self.spare, &mut self.sent);
        (sent.len() < MAX_QUEUE).then_some(Leaving { spare, sent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        if self.offload.is_some() {
            // The card does what concerns TCP, and cuts long segments. A datagram that is too long is
            // up to the link.
            capabilities.checksum.tcp = Checksum::None;
            capabilities.max_transmission_unit = NEAR_MTU.max(self.mtu);
        }
        capabilities
    }
}

/// A packet that the stack receives.
#[derive(Debug)]
pub struct Arrived<'a>(Vec<u8>, std::marker::PhantomData<&'a ()>);

impl RxToken for Arrived<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// A buffer for a packet that the stack sends.
#[derive(Debug)]
pub struct Leaving<'a> {
    spare: &'a mut Vec<Vec<u8>>,
    sent: &'a mut VecDeque<Vec<u8>>,
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(len, 0);
        let result = f(&mut bytes);
        self.sent.push_back(bytes);
        result
    }
}
