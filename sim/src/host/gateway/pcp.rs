//! PCP (RFC 6887), the gateway's side: ANNOUNCE and MAP.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use dunlin_core::wire::pcp::{
    Ask, Body, HEADER_LEN, MAX_LEN, Map, Request, Response, ResultCode, Unservable, VERSION, refuse,
};

use super::{Gateway, Owner, Quirk, Refused, Wanted, nat_of, natpmp::name, pinholes::Pin};
use crate::{host::HostCx, packet::Proto};

/// IANA's numbers of the protocols.
const UDP: u8 = 17;
const TCP: u8 = 6;
/// How long a client should believe in an error that will not go away by itself, and in one that
/// may, in seconds (RFC 6887 §7.4).
const LONG: u32 = 1_800;
const SHORT: u32 = 30;
/// Where the ports of a MAP are in a message.
const PORTS: std::ops::Range<usize> = 40..44;

/// How long a refusal is valid.
const fn validity(result: ResultCode) -> u32 {
    match result {
        ResultCode::NetworkFailure
        | ResultCode::NoResources
        | ResultCode::UserExceededQuota
        | ResultCode::CannotProvideExternal => SHORT,
        _ => LONG,
    }
}

const fn proto_of(number: u8) -> Option<Proto> {
    match number {
        UDP => Some(Proto::Udp),
        TCP => Some(Proto::Tcp),
        _ => None,
    }
}

impl Gateway {
    /// The answer to a request.
    pub(super) fn pcp(
        &mut self,
        cx: &mut HostCx<'_>,
        from: SocketAddr,
        data: &[u8],
    ) -> Option<Vec<u8>> {
        if self.profile.is_lax() {
            return self.pcp_lax(cx, from, data);
        }
        let mut buf = [0; MAX_LEN];
        let epoch = self.epoch(cx.now);
        let answered = match Request::parse(data) {
            Ok(request) => self.carry_out(cx, from, &request),
            Err(Unservable::Refuse(code)) => Err(code),
            Err(Unservable::Ignore) => return None,
        };
        let len = match answered {
            Ok((lifetime, body)) => Response {
                result: ResultCode::Success,
                lifetime,
                epoch,
                body,
            }
            .emit(&mut buf),
            Err(code) => refuse(data, code, validity(code), epoch, &mut buf),
        };
        Some(buf[..len?].to_vec())
    }

    /// What miniupnpd answers: it sends back the request with what it knows written over it.
    fn pcp_lax(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        let data = &data[..data.len().min(MAX_LEN)];
        if data.len() < 4 || data[1] & 0x80 != 0 {
            return None;
        }
        let mut buf = [0; MAX_LEN];
        let epoch = self.epoch(cx.now);
        let (result, lifetime) = match Request::parse(data) {
            Ok(request) => match self.carry_out(cx, from, &request) {
                Ok((lifetime, body)) => {
                    let len = Response {
                        result: ResultCode::Success,
                        lifetime,
                        epoch,
                        body,
                    }
                    .emit(&mut buf)?;
                    let mut answer = buf[..len].to_vec();
                    answer.extend_from_slice(data.get(HEADER_LEN + 36..).unwrap_or_default());
                    answer.truncate(data.len().max(HEADER_LEN));
                    return Some(answer);
                }
                Err(ResultCode::NoResources) => (ResultCode::NoResources, SHORT),
                Err(code) => (code, 0),
            },
            Err(Unservable::Refuse(code)) => (code, 0),
            Err(Unservable::Ignore) => return None,
        };
        let len = refuse(data, result, lifetime, epoch, &mut buf)?;
        let mut answer = buf[..len].to_vec();
        let malformed = data.len() < HEADER_LEN || !data.len().is_multiple_of(4);
        if malformed {
            answer[..4].copy_from_slice(&[0, 0x80, 0, ResultCode::MalformedRequest.into()]);
        } else if (result == ResultCode::UnsupportedVersion || data.len() < HEADER_LEN + 36)
            && let Some(ports) = answer.get_mut(PORTS)
        {
            ports.fill(0);
        }
        // It tells its address in some refusals.
        let told = matches!(result, ResultCode::NoResources)
            || result == ResultCode::MalformedRequest && data.get(36) == Some(&0);
        if told
            && !malformed
            && data
                .get(PORTS)
                .is_some_and(|p| p[..2] == [0, 0] || result == ResultCode::NoResources)
            && let Some(ip) = self.told_address(cx)
            && let Some(place) = answer.get_mut(44..60)
        {
            place.copy_from_slice(&ip.to_ipv6_mapped().octets());
        }
        Some(answer)
    }

    /// Carries out a request. Returns the lifetime and the body of the answer.
    fn carry_out(
        &mut self,
        cx: &mut HostCx<'_>,
        from: SocketAddr,
        request: &Request,
    ) -> Result<(u32, Body), ResultCode> {
        let lax = self.profile.is_lax();
        // RFC 6887 §8.2: a NAT between the client and the gateway shows here.
        if request.client != from.ip() && !(lax && request.ask == Ask::Announce) {
            return Err(ResultCode::AddressMismatch);
        }
        let Ask::Map(map) = request.ask else {
            return Ok((0, Body::Announce));
        };
        if lax && map.protocol == 0 && map.internal == 0 && request.lifetime > 0 {
            return Err(ResultCode::MalformedRequest);
        }
        match from {
            SocketAddr::V4(client) if request.lifetime == 0 => {
                self.delete(cx, client, map)?;
                let external_ip = match self.told_address(cx) {
                    Some(ip) if lax => ip.into(),
                    _ => map.external_ip,
                };
                let body = Map { external_ip, ..map };
                Ok((0, Body::Map(body)))
            }
            SocketAddr::V4(client) => self.map_v4(cx, client, map, request.lifetime),
            SocketAddr::V6(client) => self.map_v6(cx, client, map, request.lifetime),
        }
    }

    fn map_v4(
        &mut self,
        cx: &mut HostCx<'_>,
        client: SocketAddrV4,
        map: Map,
        lifetime: u32,
    ) -> Result<(u32, Body), ResultCode> {
        let proto = proto_of(map.protocol).ok_or(ResultCode::UnsupportedProtocol)?;
        let lax = self.profile.is_lax();
        if map.internal == 0 {
            // All ports of a host are not mapped.
            return Err(ResultCode::NotAuthorized);
        }
        let internal = SocketAddrV4::new(*client.ip(), map.internal);
        let by = Owner::Pcp(map.nonce);
        let known = self.mappings.of(proto, internal, |o| self.shares(o, by));
        let known = known.map(|m| (m.external, m.owner));
        if !lax && known.is_some_and(|(_, owner)| matches!(owner, Owner::Pcp(n) if n != map.nonce))
        {
            return Err(ResultCode::NotAuthorized);
        }
        let own = self.told_address(cx).ok_or(ResultCode::NetworkFailure)?;
        let asked = match map.external {
            0 => map.internal,
            port => port,
        };
        let lease = self.profile.lease(lifetime);
        let wanted = Wanted {
            proto,
            external: known.filter(|_| !lax).map_or(asked, |(port, _)| port),
            internal,
            enabled: true,
            description: format!("PCP MAP {} {}", map.internal, name(proto)),
            lease: (!self.profile.has(Quirk::LeasesNeverEnd)).then_some(lease),
            owner: by,
        };
        let exactly = map.prefer_failure && !lax;
        if exactly {
            let wants_ip = !map.external_ip.is_unspecified() && map.external_ip != IpAddr::V4(own);
            let port = map.external != 0 && map.external != wanted.external;
            if wants_ip || port || !self.may_map(wanted.external) {
                return Err(ResultCode::CannotProvideExternal);
            }
        }
        let given = if exactly {
            let port = wanted.external;
            let other = self.mappings.get(proto, port);
            match other.is_some_and(|m| m.internal != internal) {
                true => Err(Refused::Taken),
                false => self.map(cx, wanted).map(|()| port),
            }
        } else {
            self.map_near(cx, wanted, true)
        };
        let external = given.map_err(|why| match why {
            Refused::Taken | Refused::ByHand => ResultCode::CannotProvideExternal,
            Refused::Full => ResultCode::NoResources,
            Refused::Quota => ResultCode::UserExceededQuota,
            Refused::NoAddress => ResultCode::NetworkFailure,
        })?;
        let body = Map {
            external,
            external_ip: own.into(),
            ..map
        };
        Ok((lease.as_secs() as u32, Body::Map(body)))
    }

    /// Deletes the mapping of an internal port, or all of a protocol, or all (RFC 6887 §15.1).
    fn delete(
        &mut self,
        cx: &mut HostCx<'_>,
        client: SocketAddrV4,
        map: Map,
    ) -> Result<(), ResultCode> {
        let lax = self.profile.is_lax();
        let of_proto = |proto| map.protocol == 0 || proto_of(map.protocol) == Some(proto);
        let of_client = (self.mappings.iter())
            .filter(|m| of_proto(m.proto) && m.internal.ip() == client.ip())
            .filter(|m| map.internal == 0 || m.internal.port() == map.internal)
            .filter(|m| self.shares(m.owner, Owner::Pcp(map.nonce)));
        let same = |owner: Owner| !matches!(owner, Owner::Pcp(nonce) if nonce != map.nonce);
        let (own, others): (Vec<_>, Vec<_>) = of_client
            .map(|m| (m.proto, m.external, m.owner))
            .partition(|(.., owner)| same(*owner));
        if lax && own.is_empty() {
            return Err(ResultCode::NoResources);
        }
        if map.internal != 0 && own.is_empty() && !others.is_empty() {
            return Err(ResultCode::NotAuthorized);
        }
        for (proto, external, _) in own {
            self.mappings.remove(cx.now, nat_of(cx), proto, external);
        }
        Ok(())
    }

    /// Opens or closes the firewall for an IPv6 client. Nothing is translated.
    fn map_v6(
        &mut self,
        cx: &mut HostCx<'_>,
        client: SocketAddrV6,
        map: Map,
        lifetime: u32,
    ) -> Result<(u32, Body), ResultCode> {
        let own = IpAddr::V6(*client.ip());
        let granted = Map {
            external: map.internal,
            external_ip: own,
            ..map
        };
        if lifetime > 0 && (map.protocol == 0 || proto_of(map.protocol).is_none()) {
            return Err(ResultCode::UnsupportedProtocol);
        }
        let proto = proto_of(map.protocol).ok_or(ResultCode::UnsupportedProtocol)?;
        if map.internal == 0 {
            return Err(ResultCode::NotAuthorized);
        }
        let place = (proto, SocketAddr::new(own, map.internal));
        let known = self.pinholes.at(place).map(|pin| pin.nonce);
        if known.is_some_and(|nonce| nonce.is_some_and(|n| n != map.nonce)) {
            return Err(ResultCode::NotAuthorized);
        }
        if lifetime == 0 {
            self.close(cx, place);
            return Ok((0, Body::Map(granted)));
        }
        let moved = map.external != 0 && map.external != map.internal
            || !map.external_ip.is_unspecified() && map.external_ip != own;
        if map.prefer_failure && moved {
            return Err(ResultCode::CannotProvideExternal);
        }
        let lease = self.profile.lease(lifetime);
        let pin = Pin {
            nonce: Some(map.nonce),
            expires: cx.now + lease,
            id: 0,
        };
        self.open(cx, place, pin)
            .map_err(|_| ResultCode::NoResources)?;
        Ok((lease.as_secs() as u32, Body::Map(granted)))
    }
}

const _: () = assert!(
    VERSION == 2,
    "the refusals above are written for this version"
);
