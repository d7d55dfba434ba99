use std::time::Duration;

use super::*;
use crate::middlebox::{
    conntrack::Timeouts,
    firewall::{Families, FirewallConfig, Ports},
    nat::{
        Clash, Filtering, Full, Hairpin, Mapping, NatConfig, Pooling, PortPolicy, Translation,
        UnsolicitedSyn, WanInput,
    },
};

use Filtering::{
    AddressAndPortDependent as Apdf, AddressDependent as Adf, EndpointIndependent as Eif,
};
use Mapping::{AddressAndPortDependent as Apdm, EndpointIndependent as Eim};

fn timeouts() -> Timeouts {
    let secs = Duration::from_secs;
    Timeouts {
        udp_first: secs(30),
        udp_stream: secs(120),
        udp_stream_after: secs(2),
        inbound_refresh: true,
        ..crate::middlebox::nat::presets::linux().timeouts
    }
}

fn nat(mapping: Mapping, filtering: Filtering) -> NatConfig {
    let translation = Translation {
        mapping,
        filtering,
        ports: PortPolicy::Random,
        clash: Clash::Random,
    };
    NatConfig {
        udp: translation,
        tcp: translation,
        port_range: (1024, 65_535),
        wan_input: WanInput::Drop,
        timeouts: timeouts(),
        pooling: Pooling::Paired,
        hairpin: Hairpin::None,
        max_entries: 4096,
        max_per_host: None,
        full: Full::DropNew,
        unsolicited_syn: UnsolicitedSyn::Drop,
        boot: Duration::ZERO,
        ..crate::middlebox::nat::presets::linux()
    }
}

fn linux() -> NatConfig {
    let mut nat = nat(Eim, Apdf);
    for t in [&mut nat.udp, &mut nat.tcp] {
        t.ports = PortPolicy::Preserve;
        t.clash = Clash::Overload;
    }
    nat
}

fn firewall(filtering: Filtering) -> FirewallConfig {
    FirewallConfig {
        rules: Vec::new(),
        families: Families::Both,
        open: false,
        filtering,
        udp_out: Ports::All,
        tcp_out: Ports::All,
        unsolicited_syn: UnsolicitedSyn::Drop,
        echo_in: true,
        icmp_errors: true,
        tcp_windows: true,
        timeouts: timeouts(),
        max_entries: 4096,
        max_pinholes: 64,
        max_lease: Duration::from_secs(7200),
    }
}

fn behind(path: impl IntoIterator<Item = NatConfig>) -> End {
    let path = path.into_iter().map(|nat| BoxConfig {
        nat: Some(nat),
        ..BoxConfig::default()
    });
    End {
        path: path.collect(),
        port: 6881,
        forwarded: false,
    }
}

fn guarded(firewall: FirewallConfig) -> End {
    End {
        path: vec![BoxConfig {
            firewall: Some(firewall),
            ..BoxConfig::default()
        }],
        port: 6881,
        forwarded: false,
    }
}

fn open() -> End {
    behind([])
}

fn forwarded(end: End) -> End {
    End {
        forwarded: true,
        ..end
    }
}

fn pair<'a>(a: &'a End, b: &'a End) -> Pair<'a> {
    Pair {
        a,
        b,
        meet: Meet::Core,
        family: Family::V4,
    }
}

fn asked(transport: Transport, attempt: Attempt, a: &End, b: &End) -> Result<(), Reason> {
    ask(transport, attempt, pair(a, b))
}

/// The results measured on kernels. Columns: open or mapped, EIM/EIF, EIM/ADF, EIM/APDF, APDM/APDF;
/// rows: the same without the first.
const MEASURED: [&str; 4] = ["YYYYY", "YYYYY", "YYYYn", "YYYnn"];

fn types() -> [End; 5] {
    [
        open(),
        behind([nat(Eim, Eif)]),
        behind([nat(Eim, Adf)]),
        behind([nat(Eim, Apdf)]),
        behind([nat(Apdm, Apdf)]),
    ]
}

/// Checks the table for ends of these types.
fn is_as_measured(transport: Transport, types: &[End; 5]) {
    for (row, expected) in MEASURED.iter().enumerate() {
        let a = &types[row + 1];
        let found: String = types
            .iter()
            .map(|b| {
                let found = way(transport, pair(a, b));
                let turned = way(transport, pair(b, a));
                assert_eq!(found.is_possible(), turned.is_possible());
                if found.is_possible() { 'Y' } else { 'n' }
            })
            .collect();
        assert_eq!(found, *expected, "row {row} {transport:?}");
    }
}

#[test]
fn udp_punching_is_as_measured() {
    is_as_measured(Transport::Udp, &types());
}

#[test]
fn tcp_simultaneous_open_is_as_measured() {
    is_as_measured(Transport::Tcp, &types());
}

#[test]
fn a_mapping_turns_a_row_into_open() {
    for transport in Transport::ALL {
        for mapped in types().map(forwarded) {
            for other in types() {
                let found = way(transport, pair(&other, &mapped));
                assert!(
                    matches!(found, Way::Direct { a_dials: true, .. }),
                    "{found:?}"
                );
            }
        }
    }
}

#[test]
fn a_chain_is_as_strict_as_its_strictest_box() {
    let order = [(Eim, Eif), (Eim, Adf), (Eim, Apdf), (Apdm, Apdf)];
    for inner in 0..4 {
        for outer in 0..4 {
            let both = [inner, outer].map(|n| nat(order[n].0, order[n].1));
            let mut chained = types();
            let strictest = inner.max(outer) + 1;
            chained[strictest] = behind(both);
            is_as_measured(Transport::Udp, &chained);
            is_as_measured(Transport::Tcp, &chained);
        }
    }
}

#[test]
fn preserved_and_shared_ports_are_stable_though_mapping_depends_on_the_destination() {
    let mut conntrack = nat(Apdm, Apdf);
    conntrack.udp.ports = PortPolicy::Preserve;
    let moved = behind([conntrack.clone()]);
    conntrack.udp.clash = Clash::Overload;
    let kept = behind([conntrack]);
    let with = |end| asked(Transport::Udp, Attempt::Together, end, &behind([linux()]));
    assert_eq!((with(&kept), with(&moved)), (Ok(()), Err(Reason::Remapped)));
}

#[test]
fn a_nat_that_drops_on_a_clash_keeps_the_port_for_every_destination() {
    let mut strict = nat(Apdm, Apdf);
    strict.udp.ports = PortPolicy::Preserve;
    strict.udp.clash = Clash::Drop;
    let strict = behind([strict]);
    assert_eq!(
        asked(Transport::Udp, Attempt::Dial, &strict, &open()),
        Ok(())
    );
    assert_eq!(
        asked(
            Transport::Udp,
            Attempt::Together,
            &strict,
            &behind([linux()])
        ),
        Ok(())
    );
}

#[test]
fn an_accepting_wan_side_collides_unless_packets_cross() {
    let accepting = behind([NatConfig {
        wan_input: WanInput::Accept,
        ..linux()
    }]);
    let dropping = behind([linux()]);
    for transport in Transport::ALL {
        let together = asked(transport, Attempt::Together, &accepting, &accepting);
        assert_eq!(together, Ok(()));
    }
    let udp = |a, b| asked(Transport::Udp, Attempt::First, a, b);
    assert_eq!(udp(&dropping, &accepting), Err(Reason::Collision));
    assert_eq!(udp(&accepting, &accepting), Err(Reason::Collision));
    assert_eq!(udp(&accepting, &dropping), Ok(()));
    // A remapped end can still reach one that admits any port of its address.
    let lenient = behind([nat(Eim, Adf)]);
    assert_eq!(udp(&lenient, &accepting), Ok(()));
    // An inner box never sees what the outer one drops.
    let within = behind([
        NatConfig {
            wan_input: WanInput::Accept,
            ..linux()
        },
        linux(),
    ]);
    assert_eq!(udp(&dropping, &within), Ok(()));
    // Over TCP the box's own stack sends a reset, and a flow that was reset is not kept.
    let tcp = |a, b| asked(Transport::Tcp, Attempt::First, a, b);
    assert_eq!(tcp(&accepting, &accepting), Err(Reason::Reset));
    assert_eq!(tcp(&dropping, &accepting), Ok(()));
}

#[test]
fn rejecting_with_icmp_does_not_hinder_and_resetting_does_if_both_do() {
    let meeting = |unsolicited_syn| {
        behind([NatConfig {
            unsolicited_syn,
            ..linux()
        }])
    };
    let first = |a: &End, b: &End| asked(Transport::Tcp, Attempt::First, a, b);
    let resets = meeting(UnsolicitedSyn::Reset);
    for soft in [
        UnsolicitedSyn::Drop,
        UnsolicitedSyn::Icmp,
        UnsolicitedSyn::DelayedIcmp,
    ] {
        let soft = meeting(soft);
        assert_eq!(first(&soft, &soft), Ok(()));
        assert_eq!(first(&soft, &resets), Ok(()));
        assert_eq!(first(&resets, &soft), Ok(()));
    }
    assert_eq!(first(&resets, &resets), Err(Reason::Reset));
    assert_eq!(
        asked(Transport::Tcp, Attempt::Together, &resets, &resets),
        Ok(())
    );
    assert_eq!(
        asked(Transport::Udp, Attempt::First, &resets, &resets),
        Ok(())
    );
}

#[test]
fn hairpinning_decides_behind_one_box() {
    let behind_one = |hairpin, transport, inner: &[NatConfig]| {
        let shared = NatConfig { hairpin, ..linux() };
        let path = |own: &[NatConfig]| behind(own.iter().cloned().chain([shared.clone()]));
        let (a, b) = (path(inner), path(inner));
        let pair = Pair {
            meet: Meet::Box,
            ..pair(&a, &b)
        };
        ask(transport, Attempt::Together, pair)
    };
    for transport in Transport::ALL {
        assert_eq!(
            behind_one(Hairpin::None, transport, &[]),
            Err(Reason::NoHairpin)
        );
        assert_eq!(behind_one(Hairpin::ExternalSource, transport, &[]), Ok(()));
        assert_eq!(
            behind_one(Hairpin::ExternalSource, transport, &[linux()]),
            Ok(())
        );
        assert_eq!(
            behind_one(Hairpin::ExternalSource, transport, &[nat(Apdm, Apdf)]),
            Err(Reason::Remapped)
        );
    }
    let inside = Hairpin::InternalSource;
    assert_eq!(behind_one(inside, Transport::Udp, &[]), Ok(()));
    assert_eq!(behind_one(inside, Transport::Udp, &[nat(Eim, Eif)]), Ok(()));
    assert_eq!(
        behind_one(inside, Transport::Udp, &[linux()]),
        Err(Reason::HairpinSource)
    );
    assert_eq!(
        behind_one(inside, Transport::Tcp, &[]),
        Err(Reason::HairpinSource)
    );
}

#[test]
fn firewalls_translate_nothing_so_punching_works() {
    for transport in Transport::ALL {
        for family in [Family::V4, Family::V6] {
            for (a, b) in [(Eif, Apdf), (Apdf, Apdf), (Adf, Apdf)] {
                let (a, b) = (guarded(firewall(a)), guarded(firewall(b)));
                let pair = Pair {
                    family,
                    ..pair(&a, &b)
                };
                assert_eq!(ask(transport, Attempt::Together, pair), Ok(()));
                assert_eq!(
                    ask(transport, Attempt::Dial, pair),
                    Err(Reason::Unsolicited)
                );
            }
        }
    }
}

#[test]
fn ipv6_is_not_translated() {
    let (a, b) = (behind([nat(Apdm, Apdf)]), behind([nat(Apdm, Apdf)]));
    let v6 = Pair {
        family: Family::V6,
        ..pair(&a, &b)
    };
    assert!(!way(Transport::Udp, pair(&a, &b)).is_possible());
    assert!(way(Transport::Udp, v6).is_possible());
}

#[test]
fn what_a_firewall_does_not_let_out_cannot_punch() {
    let mut no_udp = firewall(Apdf);
    no_udp.udp_out = Ports::Only(Vec::new());
    let no_udp = guarded(no_udp);
    assert_eq!(
        asked(Transport::Udp, Attempt::Together, &open(), &no_udp),
        Err(Reason::Blocked)
    );
    assert_eq!(
        asked(Transport::Tcp, Attempt::Dial, &no_udp, &open()),
        Ok(())
    );

    let mut web = firewall(Apdf);
    web.tcp_out = Ports::Only(vec![80, 443]);
    let web = guarded(web);
    let on_443 = End {
        port: 443,
        ..open()
    };
    assert_eq!(
        asked(Transport::Tcp, Attempt::Together, &web, &open()),
        Err(Reason::PortBlocked)
    );
    assert_eq!(asked(Transport::Tcp, Attempt::Dial, &web, &on_443), Ok(()));
    assert_eq!(
        asked(Transport::Tcp, Attempt::Dial, &open(), &web),
        Err(Reason::Unsolicited)
    );
}

#[test]
fn what_might_help_is_said_and_not_counted() {
    let sequential = |mapping| {
        let mut nat = nat(mapping, Apdf);
        nat.udp.ports = PortPolicy::Sequential(1);
        behind([nat])
    };
    let hint = |a: &End, b: &End| match way(Transport::Udp, pair(a, b)) {
        Way::No { hint, .. } => hint,
        way => panic!("{way:?}"),
    };
    let (easy, hard) = (behind([linux()]), behind([nat(Apdm, Apdf)]));
    assert_eq!(hint(&easy, &hard), Some(Hint::Birthday));
    assert_eq!(hint(&hard, &hard), None);
    assert_eq!(hint(&sequential(Apdm), &easy), Some(Hint::Prediction));
    assert_eq!(hint(&sequential(Apdm), &hard), None);
}

#[test]
fn who_can_dial_whom_is_said() {
    let cone = behind([nat(Eim, Eif)]);
    assert_eq!(
        way(Transport::Tcp, pair(&cone, &behind([linux()]))),
        Way::Direct {
            a_dials: false,
            b_dials: true
        }
    );
    assert_eq!(
        way(Transport::Tcp, pair(&behind([linux()]), &behind([linux()]))),
        Way::Punch { uncrossed: true }
    );
}
