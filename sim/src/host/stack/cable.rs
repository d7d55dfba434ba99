//! The network card of a simulated machine: two queues of IP packets.

use std::collections::VecDeque;

use smoltcp::{
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
};

use crate::{host::HostCx, packet::Packet};

/// The default MTU: that of Ethernet.
pub const MTU: usize = 1_500;
/// The most packets that wait to be sent. The stack has to wait while there are as many.
const MAX_QUEUE: usize = 1_024;
/// The most buffers that are kept for reuse.
const MAX_SPARE: usize = 64;

/// A card without a link layer. [`Cable::pass`] takes what the stack has sent.
#[derive(Debug)]
pub struct Cable {
    mtu: usize,
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Cable {
    /// Creates a card for packets of at most `mtu` bytes.
    #[must_use]
    pub const fn new(mtu: usize) -> Self {
        Self {
            mtu,
            received: VecDeque::new(),
            sent: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// A packet arrives. It waits for the next poll of the stack.
    pub fn arrive(&mut self, packet: Packet) {
        self.received.push_back(packet.into_bytes());
    }

    /// Hands what the stack sent to the world.
    pub fn pass(&mut self, cx: &mut HostCx<'_>) {
        while let Some(bytes) = self.sent.pop_front() {
            // The simulator carries everything that the stack emits, except IGMP and the like.
            if let Ok(packet) = Packet::parse(bytes) {
                cx.send(packet);
            }
        }
        while self.spare.len() < MAX_SPARE
            && let Some(buffer) = cx.spare.pop()
        {
            self.spare.push(buffer);
        }
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
