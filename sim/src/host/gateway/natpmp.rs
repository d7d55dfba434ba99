//! NAT-PMP (RFC 6886), the gateway's side.

use std::net::SocketAddrV4;

use dunlin_core::wire::natpmp::{
    Body, MAX_LEN, Map, Protocol, Request, Response, ResultCode, Unservable, refuse,
};

use super::{Gateway, Owner, Quirk, Refused, Wanted, nat_of};
use crate::{host::HostCx, packet::Proto};

impl Gateway {
    /// The answer to a request.
    pub(super) fn nat_pmp(
        &mut self,
        cx: &mut HostCx<'_>,
        from: SocketAddrV4,
        data: &[u8],
    ) -> Option<Vec<u8>> {
        let epoch = self.epoch(cx.now);
        let answered = match Request::parse(data) {
            Ok(Request::Address) => self
                .told_address(cx)
                .map(Body::Address)
                .ok_or(ResultCode::NetworkFailure),
            Ok(Request::Map(map)) if map.lifetime == 0 => {
                self.unmap(cx, from, map);
                Ok(Body::Map(Map { external: 0, ..map }))
            }
            Ok(Request::Map(map)) => self.map_for(cx, from, map).map(Body::Map),
            Err(Unservable::Refuse(code)) => Err(code),
            Err(Unservable::Ignore) => return None,
        };
        let mut buf = [0; MAX_LEN];
        let len = match (answered, Request::parse(data)) {
            // It sends back what it would have mapped.
            (Err(result), Ok(Request::Map(map))) if self.profile.is_lax() => {
                let external = if map.external == 0 {
                    map.internal
                } else {
                    map.external
                };
                let body = Body::Map(Map { external, ..map });
                let response = Response {
                    result,
                    epoch,
                    body,
                };
                response.emit(&mut buf)
            }
            (Err(code), _) => refuse(data, code, epoch, &mut buf),
            (Ok(body), _) => {
                let response = Response {
                    result: ResultCode::Success,
                    epoch,
                    body,
                };
                response.emit(&mut buf)
            }
        };
        Some(buf[..len?].to_vec())
    }

    fn map_for(
        &mut self,
        cx: &mut HostCx<'_>,
        from: SocketAddrV4,
        map: Map,
    ) -> Result<Map, ResultCode> {
        if map.internal == 0 {
            return Err(ResultCode::NotAuthorized);
        }
        let proto = proto_of(map.protocol);
        let internal = SocketAddrV4::new(*from.ip(), map.internal);
        let lax = self.profile.is_lax();
        // The lease that it tells, and the one that it gives.
        let lease = match lax {
            true => std::time::Duration::from_secs(map.lifetime.into()),
            false => self.profile.lease(map.lifetime),
        };
        let ends = (!self.profile.has(Quirk::LeasesNeverEnd)).then_some(lease);
        let known = self
            .mappings
            .of(proto, internal, |owner| self.shares(owner, Owner::NatPmp));
        let known = known.map(|m| m.external).filter(|_| !lax);
        let asked = match map.external {
            0 => map.internal,
            port => port,
        };
        let wanted = Wanted {
            proto,
            // RFC 6886 §3.3: a mapping that exists keeps its port.
            external: known.unwrap_or(asked),
            internal,
            enabled: true,
            description: format!("NAT-PMP {} {}", map.internal, name(proto)),
            lease: ends,
            owner: Owner::NatPmp,
        };
        let external = self.map_near(cx, wanted, true).map_err(|why| match why {
            Refused::NoAddress => ResultCode::NetworkFailure,
            _ => ResultCode::OutOfResources,
        })?;
        Ok(Map {
            external,
            lifetime: u32::try_from(lease.as_secs()).unwrap_or(u32::MAX),
            ..map
        })
    }

    /// Deletes the mappings of an internal port, or all of a client (RFC 6886 §3.4).
    fn unmap(&mut self, cx: &mut HostCx<'_>, from: SocketAddrV4, map: Map) {
        let proto = proto_of(map.protocol);
        let of_client: Vec<u16> = (self.mappings.iter())
            .filter(|m| m.proto == proto && m.internal.ip() == from.ip())
            .filter(|m| map.internal == 0 || m.internal.port() == map.internal)
            .filter(|m| self.shares(m.owner, Owner::NatPmp))
            .map(|m| m.external)
            .collect();
        for external in of_client {
            self.mappings.remove(cx.now, nat_of(cx), proto, external);
        }
    }
}

const fn proto_of(protocol: Protocol) -> Proto {
    match protocol {
        Protocol::Udp => Proto::Udp,
        Protocol::Tcp => Proto::Tcp,
    }
}

/// The name of a protocol in a description.
pub(super) const fn name(proto: Proto) -> &'static str {
    match proto {
        Proto::Udp => "udp",
        Proto::Tcp => "tcp",
        _ => "icmp",
    }
}
