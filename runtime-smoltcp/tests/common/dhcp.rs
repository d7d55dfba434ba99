//! A DHCP server on Ethernet (RFC 2131), which offers one address and can withdraw it.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;

use dunlin_core::Instant;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::Station;

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0xfe]);
/// The address of the server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

pub struct Dhcp {
    /// The address that it offers. After a change, the old one is refused on renewal.
    pub offer: Rc<Cell<Ipv4Addr>>,
    pub lease: u32,
    /// The gateway that it announces.
    pub router: Ipv4Addr,
    pub acks: Rc<Cell<u32>>,
}

impl Station for Dhcp {
    fn hears(&self, frame: &[u8]) -> bool {
        frame[..6] == MAC.0 || frame[..6] == [0xff; 6]
    }

    fn frame(&mut self, _: Instant, frame: &[u8], out: &mut Vec<Vec<u8>>) {
        let frame = EthernetFrame::new_checked(frame).unwrap();
        if frame.ethertype() == EthernetProtocol::Arp {
            out.extend(arp_reply(frame.payload()));
            return;
        }
        let Ok(ip) = Ipv4Packet::new_checked(frame.payload()) else {
            return;
        };
        let Ok(udp) = UdpPacket::new_checked(ip.payload()) else {
            return;
        };
        if ip.next_header() != IpProtocol::Udp || udp.dst_port() != 67 {
            return;
        }
        let packet = DhcpPacket::new_checked(udp.payload()).unwrap();
        let request = DhcpRepr::parse(&packet).unwrap();
        let offer = self.offer.get();
        let message_type = match request.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request => {
                let wanted = request.requested_ip.unwrap_or(request.client_ip);
                if wanted == offer {
                    self.acks.set(self.acks.get() + 1);
                    DhcpMessageType::Ack
                } else {
                    DhcpMessageType::Nak
                }
            }
            _ => return,
        };
        let reply = DhcpRepr {
            message_type,
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: offer,
            server_ip: SERVER,
            router: Some(self.router),
            subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(SERVER),
            parameter_request_list: None,
            lease_duration: Some(self.lease),
            ..request
        };
        out.push(datagram(frame.src_addr(), &reply));
    }
}

fn datagram(to: EthernetAddress, reply: &DhcpRepr<'_>) -> Vec<u8> {
    let caps = ChecksumCapabilities::default();
    let len = reply.buffer_len();
    let mut bytes = vec![0; 14 + 20 + 8 + len];
    EthernetRepr {
        src_addr: MAC,
        dst_addr: to,
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
    let ip = Ipv4Repr {
        src_addr: SERVER,
        dst_addr: Ipv4Addr::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: 8 + len,
        hop_limit: 64,
    };
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[14..]), &caps);
    let udp = UdpRepr {
        src_port: 67,
        dst_port: 68,
    };
    let mut payload = vec![0; len];
    reply
        .emit(&mut DhcpPacket::new_unchecked(&mut payload[..]))
        .unwrap();
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[34..]),
        &SERVER.into(),
        &Ipv4Addr::BROADCAST.into(),
        len,
        |to| to.copy_from_slice(&payload),
        &caps,
    );
    bytes
}

/// The answer to an ARP request for the server (RFC 826).
fn arp_reply(request: &[u8]) -> Option<Vec<u8>> {
    if request[7] != 1 || request[24..28] != SERVER.octets() {
        return None;
    }
    let mut frame = request[8..14].to_vec();
    frame.extend(MAC.0);
    frame.extend([8, 6]);
    frame.extend(&request[..7]);
    frame.push(2);
    frame.extend(MAC.0);
    frame.extend(SERVER.octets());
    frame.extend(&request[8..18]);
    Some(frame)
}
