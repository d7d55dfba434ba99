//! The keys that change a gateway preset.

use super::keys::{Key, keys};
use crate::{
    host::gateway::{GatewayProfile, Igd, Quirk},
    scenario::syntax::{
        document::Value,
        value::{self, Wrong},
    },
};

/// The additional keys of a `[[router]]` that has a gateway.
pub(crate) const GATEWAY: &[Key<GatewayProfile>] = keys! {
    "gateway-protocols", "upnp-igd1, upnp-igd2, nat-pmp, pcp", "the preset's", "[\"upnp-igd1\", \"nat-pmp\"]", "The protocols that it speaks."
        => |s, v| protocols(s, v)?;
    "gateway-quirks", "quirks", "the preset's", "[\"permanent-leases-only\"]", "Quirks besides the preset's; see the quirks of gateways below."
        => |s, v| for quirk in quirks(v)? { s.quirks = s.quirks.with(quirk) };
    "gateway-keeps-mappings", "true or false", "the preset's", "true", "Whether it stores mappings and restores them after a restart: the opposite of the quirk `forgets-mappings`."
        => |s, v| s.quirks = match value::switch(v)? {
            true => s.quirks.without(Quirk::ForgetsMappings),
            false => s.quirks.with(Quirk::ForgetsMappings),
        };
    "gateway-secure", "true or false", "the preset's", "true", "Whether UPnP makes mappings to the machine alone that asks: the quirk `caller-only`."
        => |s, v| s.quirks = match value::switch(v)? {
            true => s.quirks.with(Quirk::CallerOnly),
            false => s.quirks.without(Quirk::CallerOnly),
        };
    "gateway-min-lease", "time", "the preset's", "\"2min\"", "The shortest lease that NAT-PMP and PCP grant."
        => |s, v| s.min_lease = value::duration(v)?;
    "gateway-max-lease", "time", "the preset's", "\"1h\"", "The longest lease that is granted, also when UPnP asks for one without an end from a gateway of version 2."
        => |s, v| s.max_lease = value::duration(v)?;
    "gateway-mappings", "whole number", "the preset's", "32", "The most port mappings, from 1 to 1024."
        => |s, v| s.max_mappings = value::word(v, 1, 1_024)?;
    "gateway-per-client", "whole number", "no limit", "8", "The most port mappings of one host, from 1 to 1024."
        => |s, v| s.max_per_client = Some(value::word(v, 1, 1_024)?);
    "gateway-ports", "\"low-high\"", "the preset's", "\"1024-65535\"", "The external ports that may be mapped."
        => |s, v| s.ports = value::port_range(v)?;
};

fn protocols(profile: &mut GatewayProfile, v: &Value) -> Result<(), Wrong> {
    (profile.igd, profile.nat_pmp, profile.pcp) = (None, false, false);
    for name in value::names(v)? {
        match name.as_str() {
            "upnp-igd1" => profile.igd = Some(Igd::V1),
            "upnp-igd2" => profile.igd = Some(Igd::V2),
            "nat-pmp" => profile.nat_pmp = true,
            "pcp" => profile.pcp = true,
            _ => return Err("a list of: upnp-igd1, upnp-igd2, nat-pmp, pcp".into()),
        }
    }
    Ok(())
}

fn quirks(v: &Value) -> Result<Vec<Quirk>, Wrong> {
    let names = value::names(v)?;
    let found = |name: &String| {
        Quirk::find(name).ok_or_else(|| {
            let all = Quirk::ALL.iter().map(|q| q.name());
            let near = crate::scenario::syntax::error::nearest(name, all);
            match near {
                Some(near) => format!("names of quirks: did you mean {near} instead of {name}"),
                None => format!("names of quirks, which {name} is not; SCENARIOS.md lists them"),
            }
        })
    };
    names.iter().map(found).collect()
}
