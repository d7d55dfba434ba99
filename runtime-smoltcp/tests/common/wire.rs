//! A device whose frames are taken out and put in by hand.

use std::collections::VecDeque;
use std::net::IpAddr;

use dunlin_smoltcp::{Hardware, NetConfig};
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;

#[derive(Default)]
pub struct Wire {
    pub rx: VecDeque<Vec<u8>>,
    pub tx: Vec<Vec<u8>>,
    ethernet: bool,
    /// How many frames it holds until they are taken; 0 for any number.
    pub room: usize,
    /// Checksums are not verified, so that damaged frames reach the stack.
    pub unchecked: bool,
}

impl Wire {
    pub fn new(net: &NetConfig) -> Self {
        Self {
            ethernet: matches!(net.hardware, Hardware::Ethernet(_)),
            ..Self::default()
        }
    }

    pub fn ip() -> Self {
        Self::default()
    }

    fn is_full(&self) -> bool {
        self.room > 0 && self.tx.len() >= self.room
    }
}

pub struct Rx(Vec<u8>);
pub struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        // The stack must be able to answer what it receives.
        if self.is_full() {
            return None;
        }
        let frame = self.rx.pop_front()?;
        Some((Rx(frame), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        (!self.is_full()).then_some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        if self.unchecked {
            caps.checksum = ChecksumCapabilities::ignored();
            // Frames that are sent have checksums, for receivers that verify them.
            caps.checksum.ipv4 = Checksum::Tx;
            caps.checksum.tcp = Checksum::Tx;
            caps.checksum.udp = Checksum::Tx;
            caps.checksum.icmpv4 = Checksum::Tx;
            caps.checksum.icmpv6 = Checksum::Tx;
        }
        (caps.medium, caps.max_transmission_unit) = match self.ethernet {
            true => (Medium::Ethernet, 1514),
            false => (Medium::Ip, 1500),
        };
        caps
    }
}

/// Returns `true` when a machine's interface accepts a frame.
pub fn is_for(net: &NetConfig, mut ours: impl Iterator<Item = IpAddr>, frame: &[u8]) -> bool {
    match net.hardware {
        Hardware::Ethernet(mac) => frame[..6] == mac || frame[0] & 1 == 1,
        Hardware::Ip => {
            let to = destination(frame);
            to.is_multicast() || ours.any(|a| a == to)
        }
    }
}

/// The destination of an IP packet.
pub fn destination(packet: &[u8]) -> IpAddr {
    if packet[0] >> 4 == 4 {
        IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap())
    } else {
        IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).unwrap())
    }
}
