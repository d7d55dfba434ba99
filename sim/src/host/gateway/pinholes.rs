//! Pinholes in the firewall for IPv6, asked for over PCP or WANIPv6FirewallControl:1.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_core::{Instant, wire::pcp::Nonce};

use super::{
    Gateway, Quirk,
    soap::{Args, Fault, Fields},
};
use crate::{host::HostCx, middlebox::firewall::PinholesFull, packet::Proto};

/// The most pinholes.
const MAX_PINHOLES: usize = 256;
/// The longest lease in seconds (WANIPv6FirewallControl:1 §2.3.8).
const MAX_LEASE: u32 = 86_400;

/// An internal endpoint.
pub(super) type Place = (Proto, SocketAddr);

/// A pinhole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pin {
    /// The nonce of the PCP client.
    pub(super) nonce: Option<Nonce>,
    pub(super) expires: Instant,
    /// Its number in UPnP, which is given when it is opened.
    pub(super) id: u16,
}

/// The pinholes of a gateway.
#[derive(Clone, Debug, Default)]
pub(super) struct Pinholes {
    pins: BTreeMap<Place, Pin>,
    last: u16,
}

impl Pinholes {
    pub(super) fn at(&self, place: Place) -> Option<&Pin> {
        self.pins.get(&place)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.pins.retain(|_, pin| pin.expires > now);
    }

    fn numbered(&self, id: u16) -> Option<(Place, Pin)> {
        let mut all = self.pins.iter();
        all.find(|(_, pin)| pin.id == id).map(|(p, pin)| (*p, *pin))
    }

    fn number(&mut self) -> u16 {
        // There are fewer pinholes than numbers.
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && self.numbered(self.last).is_none() {
                return self.last;
            }
        }
    }
}

impl Gateway {
    /// Opens or renews a pinhole. Returns its number.
    pub(super) fn open(
        &mut self,
        cx: &mut HostCx<'_>,
        place: Place,
        mut pin: Pin,
    ) -> Result<u16, PinholesFull> {
        let known = self.pinholes.at(place).map(|pin| pin.id);
        if known.is_none() && self.pinholes.pins.len() >= MAX_PINHOLES {
            return Err(PinholesFull);
        }
        let lifetime = pin.expires.saturating_since(cx.now);
        if let Some(wall) = cx.middlebox.as_deref_mut().and_then(|b| b.firewall_mut()) {
            pin.expires = wall.pinhole(cx.now, place.0, place.1, lifetime)?;
        }
        pin.id = known.unwrap_or_else(|| self.pinholes.number());
        self.pinholes.pins.insert(place, pin);
        Ok(pin.id)
    }

    pub(super) fn close(&mut self, cx: &mut HostCx<'_>, place: Place) {
        self.pinholes.pins.remove(&place);
        if let Some(wall) = cx.middlebox.as_deref_mut().and_then(|b| b.firewall_mut()) {
            wall.close_pinhole(place.0, place.1);
        }
    }

    /// Carries out an action of WANIPv6FirewallControl:1.
    pub(super) fn firewall_action(
        &mut self,
        cx: &mut HostCx<'_>,
        peer: IpAddr,
        action: &str,
        args: &Args,
    ) -> Result<Fields, Fault> {
        match action {
            "GetFirewallStatus" => Ok(vec![
                ("FirewallEnabled", "1".into()),
                ("InboundPinholeAllowed", "1".into()),
            ]),
            "GetOutboundPinholeTimeout" => Ok(vec![("OutboundPinholeTimeout", "120".into())]),
            "AddPinhole" => self.add_pinhole(cx, peer, args),
            "UpdatePinhole" => {
                let (place, mut pin) = self.owned(peer, args)?;
                pin.expires = cx.now + lease(args, "NewLeaseTime")?;
                self.open(cx, place, pin).map_err(|_| Fault(701))?;
                Ok(Vec::new())
            }
            "DeletePinhole" => {
                let (place, _) = self.owned(peer, args)?;
                self.close(cx, place);
                Ok(Vec::new())
            }
            "CheckPinholeWorking" => {
                self.owned(peer, args)?;
                Ok(vec![("IsWorking", "1".into())])
            }
            _ => Err(Fault(401)),
        }
    }

    fn add_pinhole(
        &mut self,
        cx: &mut HostCx<'_>,
        peer: IpAddr,
        args: &Args,
    ) -> Result<Fields, Fault> {
        let client = args.need("InternalClient")?;
        let number: u16 = args.number("Protocol")?;
        let port: u16 = args.number("InternalPort")?;
        let _: u16 = args.number("RemotePort")?;
        let remote = args.need("RemoteHost")?.trim();
        let lease = lease(args, "LeaseTime")?;
        // A wildcard is the empty string, for hosts, and 0 or 65535.
        if client.trim().is_empty() {
            return Err(Fault(708));
        }
        let client: IpAddr = client.trim().parse().map_err(|_| Fault(402))?;
        let proto = match number {
            17 => Proto::Udp,
            6 => Proto::Tcp,
            65_535 => return Err(Fault(707)),
            _ => return Err(Fault(705)),
        };
        if port == 0 {
            return Err(Fault(706));
        }
        // The firewall lets in everybody, whoever is named.
        if !remote.is_empty() && remote.parse::<IpAddr>().is_err() {
            return Err(Fault(402));
        }
        if !client.is_ipv6() {
            return Err(Fault(402));
        }
        if client != peer && (self.profile.has(Quirk::CallerOnly) || self.profile.is_lax()) {
            return Err(Fault(606));
        }
        let pin = Pin {
            nonce: None,
            expires: cx.now + lease,
            id: 0,
        };
        let place = (proto, SocketAddr::new(client, port));
        let id = self.open(cx, place, pin).map_err(|_| Fault(701))?;
        Ok(vec![("UniqueID", id.to_string())])
    }

    /// The pinhole that an action is about.
    fn owned(&self, peer: IpAddr, args: &Args) -> Result<(Place, Pin), Fault> {
        let id = args.number("UniqueID")?;
        let (place, pin) = self.pinholes.numbered(id).ok_or(Fault(704))?;
        if place.1.ip() != peer && self.profile.has(Quirk::CallerOnly) {
            return Err(Fault(606));
        }
        Ok((place, pin))
    }
}

fn lease(args: &Args, key: &str) -> Result<Duration, Fault> {
    let seconds: u32 = args.number(key)?;
    if seconds == 0 || seconds > MAX_LEASE {
        return Err(Fault(402));
    }
    Ok(Duration::from_secs(seconds.into()))
}
