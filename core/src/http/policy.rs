//! Decides which addresses a request may reach: a tracker that somebody put into a torrent, or a redirect,
//! must not direct us at services of this machine or its own network.
//!
//! Every client asks before it connects, once for the URL and once for each redirect:
//!
//! ```text
//!  new ─▶ admit(addresses of the host, path) ─▶ connect to one of those, nothing else
//!              ▲                                      │
//!              └──────────── redirect ────────────────┘
//! ```
//!
//! A client that connects to addresses that [`Policy::admit`] left, without resolving the name again, is
//! safe from names whose addresses change in between.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::scope::{Scope, is_unicast};

/// The source of the URL of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user: any address may be requested.
    User,
    /// A torrent or magnet, for its tracker: from a local address only a path that looks like a tracker's
    /// may be requested.
    Torrent,
}

/// The rules for one request and its redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    origin: Origin,
    /// The widest scope of the addresses admitted last.
    from: Option<Scope>,
}

/// The reason why an address may not be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// A redirect from a wider scope leads to a local address.
    Redirect,
    /// The path on a local address is not that of a tracker.
    Path,
    /// It is not the address of one machine.
    Address,
}

impl Policy {
    /// The rules for a URL with this source.
    #[must_use]
    pub const fn new(origin: Origin) -> Self {
        Self { origin, from: None }
    }

    /// Keeps those of the host's `addresses` that may be requested with `path` (without query). Every call
    /// after the first one is for a redirect.
    ///
    /// # Errors
    /// None of them may be requested: the reason for the first one.
    pub fn admit(&mut self, addresses: &mut Vec<IpAddr>, path: &str) -> Result<(), Refused> {
        let mut refused = None;
        addresses.retain(|ip| {
            let verdict = match is_unicast(*ip) {
                true => self.check(Scope::of(*ip), path),
                // Connecting to 0.0.0.0 reaches this machine, which a user may intend.
                false if ip.is_unspecified() => self.check(Scope::Host, path),
                false => Err(Refused::Address),
            };
            refused = refused.or(verdict.err());
            verdict.is_ok()
        });
        let widest = addresses.iter().map(|ip| Scope::of(*ip)).max();
        match (widest, refused) {
            (None, Some(why)) => Err(why),
            (None, None) => Ok(()),
            (Some(scope), _) => {
                self.from = Some(scope);
                Ok(())
            }
        }
    }

    /// As [`Policy::admit`] for a `host` that a proxy resolves: only the name itself can be checked.
    ///
    /// # Errors
    /// It may not be requested.
    pub fn admit_name(&mut self, host: &str, path: &str) -> Result<(), Refused> {
        let scope = Scope::of_name(host);
        self.check(scope, path)?;
        self.from = Some(scope);
        Ok(())
    }

    /// A redirect follows, even if nothing was admitted yet: then it comes from the widest scope.
    pub fn redirected(&mut self) {
        self.from.get_or_insert(Scope::Global);
    }

    fn check(&self, scope: Scope, path: &str) -> Result<(), Refused> {
        if self.from.is_some_and(|from| scope < from) {
            return Err(Refused::Redirect);
        }
        if self.origin == Origin::Torrent && scope.is_local() && !is_announce_like(path) {
            return Err(Refused::Path);
        }
        Ok(())
    }
}

/// Whether `path` (without query) looks like that of a tracker: its last segment begins with `announce` or,
/// by BEP 48, `scrape`; or its first one begins with `announce` and a key of the user follows
/// (`/announce.php/KEY`). Only plain segments count, so no server can take a part for a step up or a query.
#[must_use]
pub fn is_announce_like(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    if is_plain(last) && (begins_with(last, "announce") || begins_with(last, "scrape")) {
        return true;
    }
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    begins_with(path, "announce") && path.split('/').all(is_plain)
}

fn begins_with(segment: &str, word: &str) -> bool {
    let start = segment.as_bytes().get(..word.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether every server takes a segment of a path for a name: it is not empty, not `.` or `..`, and has no
/// escaped characters or separators.
fn is_plain(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    segment.bytes().all(plain) && segment.bytes().any(|b| b != b'.')
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Redirect => {
                "a redirect to an address of this machine or its network is not followed"
            }
            Self::Path => {
                "a tracker on an address of this machine or its network is asked for \
                 an announce path only (…/announce or /announce/…)"
            }
            Self::Address => "not the address of one machine",
        })
    }
}

impl core::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "203.0.113.5";

    fn admit(policy: &mut Policy, ips: &[&str], path: &str) -> Result<Vec<IpAddr>, Refused> {
        let mut addresses = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        policy.admit(&mut addresses, path).map(|()| addresses)
    }

    #[test]
    fn a_redirect_never_leads_closer() {
        let order = [PUBLIC, "192.168.1.1", "169.254.169.254", "127.0.0.1"];
        for origin in [Origin::User, Origin::Torrent] {
            for (i, from) in order.iter().enumerate() {
                for (j, to) in order.iter().enumerate() {
                    let mut policy = Policy::new(origin);
                    admit(&mut policy, &[from], "/announce").unwrap();
                    let verdict = admit(&mut policy, &[to], "/announce");
                    let wanted = if j > i {
                        Err(Refused::Redirect)
                    } else {
                        Ok(())
                    };
                    assert_eq!(verdict.map(|_| ()), wanted, "{from} to {to}");
                }
            }
        }
    }

    #[test]
    fn every_disguise_of_a_local_address_is_seen_through() {
        for to in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::1",
            "fe80::1",
            "fd00::1",
        ] {
            let mut policy = Policy::new(Origin::User);
            admit(&mut policy, &[PUBLIC], "/").unwrap();
            assert_eq!(
                admit(&mut policy, &[to], "/"),
                Err(Refused::Redirect),
                "{to}"
            );
        }
    }

    /// Of a name with a public and a local address, only the public one is used.
    #[test]
    fn addresses_are_judged_one_by_one() {
        let mut policy = Policy::new(Origin::User);
        admit(&mut policy, &[PUBLIC], "/").unwrap();
        let left = admit(&mut policy, &["127.0.0.1", "198.51.100.7"], "/").unwrap();
        assert_eq!(left, ["198.51.100.7".parse::<IpAddr>().unwrap()]);

        let mut policy = Policy::new(Origin::Torrent);
        let left = admit(&mut policy, &["127.0.0.1", PUBLIC], "/shutdown").unwrap();
        assert_eq!(left, [PUBLIC.parse::<IpAddr>().unwrap()]);
        // The first answer does not decide about the next: the addresses of a name may change.
        let again = admit(&mut policy, &["127.0.0.1"], "/announce");
        assert_eq!(again, Err(Refused::Redirect));
    }

    #[test]
    fn a_local_tracker_is_asked_for_announce_paths_only() {
        for (path, wanted) in [
            ("/announce", true),
            ("/Announce.php", true),
            ("/0123456789abcdef/announce", true),
            ("/scrape", true),
            ("/announce-v2", true),
            ("/announce/0123456789abcdef", true),
            ("/announce.php/0123456789abcdef", true),
            ("/Announce/a-b/c_d.e", true),
            ("/", false),
            ("", false),
            ("/api/shutdown", false),
            ("/api/announce/shutdown", false),
            ("/scrape/shutdown", false),
            ("announce/shutdown", false),
            ("//announce/shutdown", false),
            ("/announce/", false),
            ("/announce//shutdown", false),
            ("/announce/.", false),
            ("/announce/..", false),
            ("/announce/../shutdown", false),
            ("/announce/.../shutdown", false),
            ("/announce/..;/shutdown", false),
            ("/announce/%2e%2e/shutdown", false),
            ("/announce/a%2f..%2f..%2fshutdown", false),
            ("/announce/..\\shutdown", false),
            ("/announce%2f..%2fshutdown", false),
            ("/announce;/shutdown", false),
            ("/announce\\..\\shutdown", false),
            ("/announce?x", false),
            ("/xannounce", false),
        ] {
            assert_eq!(is_announce_like(path), wanted, "{path}");
            for ip in ["127.0.0.1", "10.0.0.1", "fe80::1", "fd00::1"] {
                let verdict = admit(&mut Policy::new(Origin::Torrent), &[ip], path);
                assert_eq!(verdict.is_ok(), wanted, "{ip}{path}");
                let user = admit(&mut Policy::new(Origin::User), &[ip], path);
                assert!(user.is_ok(), "{ip}{path}");
            }
            let public = admit(&mut Policy::new(Origin::Torrent), &[PUBLIC], path);
            assert!(public.is_ok(), "{path}");
        }
    }

    #[test]
    fn many_machines_at_once_are_never_asked() {
        for ip in ["224.0.0.1", "255.255.255.255", "ff02::1"] {
            let verdict = admit(&mut Policy::new(Origin::User), &[ip], "/announce");
            assert_eq!(verdict, Err(Refused::Address), "{ip}");
        }
    }

    #[test]
    fn behind_a_proxy_the_name_is_judged() {
        let mut policy = Policy::new(Origin::Torrent);
        assert_eq!(policy.admit_name("localhost", "/x"), Err(Refused::Path));
        policy.admit_name("tracker.example", "/x").unwrap();
        for host in ["localhost", "127.1", "[::1]", "nas", "10.0.0.1"] {
            let verdict = policy.admit_name(host, "/announce");
            assert_eq!(verdict, Err(Refused::Redirect), "{host}");
        }
        policy.admit_name("other.example", "/x").unwrap();
    }
}
