//! The announcements of NAT-PMP (RFC 6886 §3.2.1) and PCP (RFC 6887 §14.1.3): after a start and
//! after a change of the outer address, ten times, at intervals that double.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_core::{
    Instant,
    wire::{natpmp, pcp},
};

use super::Gateway;
use crate::host::HostCx;

/// How often it is said.
const TIMES: u32 = 10;
/// The first interval.
const INTERVAL: Duration = Duration::from_millis(250);

/// When an announcement is repeated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Announcer {
    next: Option<Instant>,
    said: u32,
}

impl Announcer {
    pub(super) const fn begin(&mut self, at: Instant) {
        self.next = Some(at);
        self.said = 0;
    }

    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Returns `true` when it is to be said now.
    fn is_due(&mut self, now: Instant) -> bool {
        if self.next.is_none_or(|at| at > now) {
            return false;
        }
        let wait = INTERVAL * (1 << self.said);
        self.said += 1;
        self.next = (self.said < TIMES).then(|| now + wait);
        true
    }
}

impl Gateway {
    pub(super) fn announce(&mut self, cx: &mut HostCx<'_>) {
        if !self.announcer.is_due(cx.now) {
            return;
        }
        let epoch = self.epoch(cx.now);
        let mut buf = [0; pcp::HEADER_LEN];
        let lan = self.lan();
        if let (true, Some(lan), Some(ip)) = (self.profile.nat_pmp, lan, self.told_address(cx)) {
            let response = natpmp::Response {
                result: natpmp::ResultCode::Success,
                epoch,
                body: natpmp::Body::Address(ip),
            };
            if let Some(len) = response.emit(&mut buf) {
                let group = SocketAddr::from((natpmp::ALL_HOSTS, natpmp::CLIENT_PORT));
                cx.send_udp((lan, natpmp::PORT).into(), group, &buf[..len]);
            }
        }
        if !self.profile.pcp {
            return;
        }
        let response = pcp::Response {
            result: pcp::ResultCode::Success,
            lifetime: 0,
            epoch,
            body: pcp::Body::Announce,
        };
        let Some(len) = response.emit(&mut buf) else {
            return;
        };
        let v6 = self.addrs.iter().find(|addr| addr.is_ipv6()).copied();
        let sides = [
            (lan.map(IpAddr::V4), IpAddr::V4(pcp::ALL_HOSTS)),
            (v6, IpAddr::V6(pcp::ALL_NODES)),
        ];
        for (own, group) in sides {
            if let Some(own) = own {
                let (from, to) = ((own, pcp::PORT).into(), (group, pcp::CLIENT_PORT).into());
                cx.send_udp(from, to, &buf[..len]);
            }
        }
    }
}
