//! The configuration of the interface and its sockets, which bounds memory.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use dunlin_core::Config;
use dunlin_core::scope::is_unicast;
use smoltcp::config::{DNS_MAX_SERVER_COUNT, IFACE_MAX_ADDR_COUNT};
use smoltcp::phy::Medium;

/// The format of the frames on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// Ethernet, with the hardware address of the interface.
    Ethernet([u8; 6]),
    /// IP packets without a link layer.
    Ip,
}

/// The configuration of the interface and its sockets.
///
/// # Memory
///
/// A TCP socket takes [`tcp_rx`](Self::tcp_rx) + [`tcp_tx`](Self::tcp_tx) bytes and about 1 KiB of
/// state. There are at most [`connections`](Self::connections), plus [`reserve`](Self::reserve) for
/// each port that the engine listens on. Sockets are created when first needed, unless
/// [`preallocate`](Self::preallocate) is set, and are reused and never freed. A UDP socket takes 2
/// × [`udp_bytes`](Self::udp_bytes), and a DNS query about 0.5 KiB. The engine's blocks and tables
/// are bounded by its own [`Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// The format of the frames.
    pub hardware: Hardware,
    /// The addresses of the interface with their prefix lengths; at most 4.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The gateway for IPv4 packets to destinations off the link.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The gateway for IPv6 packets to destinations off the link.
    pub gateway_v6: Option<Ipv6Addr>,
    /// Requests an IPv4 address, a gateway and DNS servers over DHCP. Ethernet only.
    pub dhcp: bool,
    /// The DNS servers; at most 4. Those of DHCP are used when there are none.
    pub dns: Vec<IpAddr>,
    /// The multicast groups to join; at most 4.
    pub multicast: Vec<IpAddr>,

    /// The most TCP sockets besides listening ones. Connections to peers, connections that are
    /// being opened or that linger after their end, and HTTP requests share them.
    pub connections: usize,
    /// The sockets that listen on each port. The stack has no backlog: a socket that has received a
    /// SYN no longer listens. Another socket takes its place before the next packet is processed,
    /// so 1 loses no SYN; more are a reserve for when all other sockets are in use.
    pub reserve: usize,
    /// The receive buffer of a TCP socket in bytes, which is its window.
    pub tcp_rx: usize,
    /// The send buffer of a TCP socket in bytes, which limits the data in flight.
    pub tcp_tx: usize,
    /// Creates all sockets at once, so that memory cannot run out later: those for connections, and
    /// those that listen on the ports of [`Config::listen`].
    pub preallocate: bool,
    /// The most incoming connections with an unfinished handshake. The oldest one is dropped.
    pub half_open: usize,
    /// How long such a handshake may take.
    pub half_open_timeout: Duration,
    /// How long a connection that was closed here may take to deliver its remaining data.
    pub linger: Duration,
    /// The silence after which a connection is probed.
    pub keep_alive: Duration,
    /// The silence after which a connection is given up. Must be longer than `keep_alive`.
    pub timeout: Duration,
    /// How long an acknowledgement may be delayed.
    pub ack_delay: Duration,
    /// Connects to peers from the port that the engine listens on, when that combination of
    /// addresses and ports is not in use. Two ends that do so at the same time open one connection
    /// through their NATs (RFC 5382 §4.3, RFC 9293 §3.5).
    pub connect_from_listen_port: bool,

    /// The number of UDP sockets, one for each port that the engine binds.
    pub udp_sockets: usize,
    /// The datagrams that a UDP socket buffers, in each direction.
    pub udp_packets: usize,
    /// The bytes that a UDP socket buffers, in each direction.
    pub udp_bytes: usize,
    /// The most names looked up at once. Further ones wait.
    pub lookups: usize,
    /// The most HTTP requests at once. Further ones wait.
    pub http_requests: usize,
}

impl NetConfig {
    /// An interface without addresses, with as many sockets as `config` lets an engine use.
    #[must_use]
    pub fn for_engine(hardware: Hardware, config: &Config) -> Self {
        let connections = (config.max_connections as usize).clamp(1, 10_000);
        let http_requests = 4;
        Self {
            hardware,
            addresses: Vec::new(),
            gateway_v4: None,
            gateway_v6: None,
            dhcp: false,
            dns: Vec::new(),
            multicast: Vec::new(),
            // One additional socket in eight is for connections that linger.
            connections: connections + connections.div_ceil(8) + http_requests,
            reserve: 2,
            tcp_rx: 128 << 10,
            tcp_tx: 128 << 10,
            preallocate: false,
            half_open: connections.div_ceil(2).clamp(1, 128),
            half_open_timeout: Duration::from_secs(8),
            linger: Duration::from_secs(15),
            keep_alive: Duration::from_secs(40),
            timeout: Duration::from_secs(90),
            ack_delay: Duration::from_millis(10),
            connect_from_listen_port: false,
            udp_sockets: 2,
            udp_packets: 32,
            udp_bytes: 32 << 10,
            lookups: 4,
            http_requests,
        }
    }

    /// The configuration for a machine with tens of KiB to spare and [`Config::tiny`]: four TCP
    /// sockets in total, with two segments of buffer in each direction.
    #[must_use]
    pub fn tiny(hardware: Hardware) -> Self {
        Self {
            connections: 3,
            reserve: 1,
            tcp_rx: 2 * 1460,
            tcp_tx: 2 * 1460,
            preallocate: true,
            half_open: 1,
            udp_sockets: 1,
            udp_packets: 2,
            udp_bytes: 2 * 1500,
            lookups: 1,
            http_requests: 1,
            ..Self::for_engine(hardware, &Config::tiny())
        }
    }

    /// Adds an address.
    #[must_use]
    pub fn address(mut self, address: IpAddr, prefix: u8) -> Self {
        self.addresses.push((address, prefix));
        self
    }

    /// Sets the gateway of the address's family.
    #[must_use]
    pub fn gateway(mut self, gateway: IpAddr) -> Self {
        match gateway {
            IpAddr::V4(v4) => self.gateway_v4 = Some(v4),
            IpAddr::V6(v6) => self.gateway_v6 = Some(v6),
        }
        self
    }

    /// Returns `true` when IPv4 (or IPv6) is in use, or will be.
    pub(crate) fn has(&self, v6: bool) -> bool {
        (self.dhcp && !v6) || self.addresses.iter().any(|(a, _)| a.is_ipv6() == v6)
    }

    /// Checks for everything that would make the stack panic.
    pub(crate) fn check(&self, medium: Medium) -> Result<(), SetupError> {
        match (self.hardware, medium) {
            (Hardware::Ethernet(mac), Medium::Ethernet) if mac[0] & 1 == 0 && mac != [0; 6] => {}
            (Hardware::Ip, Medium::Ip) if !self.dhcp => {}
            (Hardware::Ip, Medium::Ip) => return Err(SetupError::Dhcp),
            (Hardware::Ethernet(_), Medium::Ethernet) => return Err(SetupError::Hardware),
            _ => return Err(SetupError::Medium),
        }
        // DHCP needs room for one more address.
        if self.addresses.len() + usize::from(self.dhcp) > IFACE_MAX_ADDR_COUNT
            || self.dns.len() > DNS_MAX_SERVER_COUNT
        {
            return Err(SetupError::TooMany);
        }
        for (address, prefix) in &self.addresses {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let broadcast = *address == IpAddr::V4(Ipv4Addr::BROADCAST);
            if *prefix > most || address.is_multicast() || address.is_unspecified() || broadcast {
                return Err(SetupError::Address(*address));
            }
        }
        let v4 = self.gateway_v4.map(IpAddr::V4);
        let gateways = v4.into_iter().chain(self.gateway_v6.map(IpAddr::V6));
        for address in gateways.chain(self.dns.iter().copied()) {
            if !is_gateway(address) {
                return Err(SetupError::Address(address));
            }
        }
        if let Some(group) = self.multicast.iter().find(|g| !g.is_multicast()) {
            return Err(SetupError::Address(*group));
        }
        let sizes = [
            self.connections,
            self.reserve,
            self.half_open,
            self.tcp_rx,
            self.tcp_tx,
            self.udp_packets,
            self.udp_bytes,
        ];
        // TCP windows are limited to this size (RFC 7323 §2.3).
        if sizes.contains(&0) || self.tcp_rx > 1 << 30 || self.timeout <= self.keep_alive {
            return Err(SetupError::Size);
        }
        Ok(())
    }
}

/// Returns `true` when `ip` can be the address of one other machine.
pub(crate) fn is_gateway(ip: IpAddr) -> bool {
    is_unicast(ip) && !ip.is_loopback()
}

/// The reasons why a driver could not be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupError {
    /// The device's frames are not of the format in [`NetConfig::hardware`].
    Medium,
    /// The hardware address is not that of one machine.
    Hardware,
    /// DHCP requires Ethernet.
    Dhcp,
    /// There are more addresses, servers or groups than the stack has room for.
    TooMany,
    /// The address is not valid in its place, or its prefix is too long.
    Address(IpAddr),
    /// A number is zero or too large, or `timeout` is not longer than `keep_alive`.
    Size,
}

impl core::fmt::Display for SetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Medium => f.write_str("the device's medium is not the configured one"),
            Self::Hardware => f.write_str("the hardware address is not unicast"),
            Self::Dhcp => f.write_str("DHCP needs Ethernet"),
            Self::TooMany => f.write_str("too many addresses, servers or groups"),
            Self::Address(a) => write!(f, "{a} cannot be used here"),
            Self::Size => f.write_str("a number of sockets, a size or a timeout is out of range"),
        }
    }
}

impl core::error::Error for SetupError {}
