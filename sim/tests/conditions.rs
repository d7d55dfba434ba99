//! Small scenarios of network conditions, each with the outcome that theory states.

use dunlin_sim::scenario::{RunOptions, Scenario, run};

/// Runs a scenario twice and checks its expectations.
fn holds(file: &str, text: &str) {
    let s = Scenario::parse(text, file).unwrap_or_else(|e| panic!("{e}"));
    let first = run(&s, s.seed, &RunOptions::default());
    let failed: Vec<_> = first.outcomes.iter().filter(|o| !o.held).collect();
    assert!(failed.is_empty() && first.stuck.is_none(), "{failed:#?}");
    let again = run(&s, s.seed, &RunOptions::default());
    assert_eq!(first.trace, again.trace);
}

macro_rules! cases {
    ($($name:ident = $file:literal;)+) => {
        $(#[test]
        fn $name() {
            holds($file, include_str!(concat!("cases/conditions/", $file)));
        })+
    };
}

cases! {
    losses_come_in_bursts_of_the_length_that_is_asked_for = "bursts.toml";
    disciplines_keep_queues_short_and_drop_tail_does_not = "queues.toml";
    jitter_keeps_the_order_or_does_not = "jitter.toml";
    a_new_address_flushes_mappings_or_strands_them = "redial.toml";
    an_outage_is_seen_or_not = "outage.toml";
    regions_part_and_join = "regions.toml";
    a_change_of_a_link_changes_nothing_else = "changes.toml";
    forwarded_ports_let_strangers_in = "forwards.toml";
    firewalls_have_ports_rules_and_timers = "firewalls.toml";
    stun_clients_find_out_how_nats_behave = "stun.toml";
    names_answer_fail_or_time_out = "names.toml";
    a_dht_tells_engines_of_each_other = "dht.toml";
    hosts_have_several_addresses = "addresses.toml";
}

/// Each error says where, what, and what to do.
#[test]
fn what_is_wrong_is_told_with_what_would_be_right() {
    let host = "[[host]]\nname='a'\nkind='manual'\n";
    let nat = "[[router]]\nname='r'\nnat='linux'\n[[host]]\nname='b'\nbehind='r'\nkind='manual'\n";
    for (text, place, what, help) in [
        (
            format!("{host}loss-burst=5"),
            "4:1",
            "nothing is lost",
            "add `loss",
        ),
        (
            format!("{host}loss='60%'\nloss-burst=1"),
            "5:1",
            "60 % is not possible in bursts of 1",
            "longer bursts",
        ),
        (
            format!("{host}loss='gilbert-elliott(1%, 10%, 0)'"),
            "4:6",
            "`loss` is wrong",
            "four shares",
        ),
        (
            format!("{host}link='perfect'\ndown-discipline='codel'"),
            "5:1",
            "packets never wait for this link",
            "give it a bandwidth",
        ),
        (
            format!("{host}discipline='codel(100ms, 5ms)'"),
            "4:12",
            "`discipline` is wrong",
            "a target below the interval",
        ),
        (
            format!("{host}queue='many'"),
            "4:7",
            "`queue` is wrong",
            "a size, a time or packets",
        ),
        (
            format!("{host}up-queues=5"),
            "4:1",
            "not a key",
            "`up-queue`",
        ),
        (
            format!("{host}[[event]]\nat=1\nchange='a'"),
            "6:8",
            "this changes nothing",
            "loss = ",
        ),
        (
            format!("{host}link='perfect'\n[[event]]\nat=1\nchange='a'\ndiscipline='red'"),
            "8:1",
            "packets never wait",
            "give it a bandwidth",
        ),
        (
            format!("{host}[[event]]\nat=1\npart='oceania'"),
            "6:6",
            "nobody is in the region `oceania`",
            "`region` of a router or host",
        ),
        (
            format!("{host}[[event]]\nat=1\npart='ocenia'"),
            "6:6",
            "no region `ocenia`",
            "`oceania`",
        ),
        (
            format!("{host}[[event]]\nat=1\nrenumber='a'"),
            "6:10",
            "`a` is a host",
            "this takes a router",
        ),
        (
            format!("{host}address='5.0.0.1'\n{nat}[[event]]\nat=1\nrenumber='r'\nwan='5.0.0.1'"),
            "15:",
            "5.0.0.1 is taken",
            "nobody else",
        ),
        (
            format!("[[router]]\nname='s'\nnat='linux'\nforward='80 b'\n{nat}"),
            "4:9",
            "b is not behind the NAT of s",
            "nearest NAT is s",
        ),
        (
            format!("[[router]]\nname='s'\nforward='80 b'\n{nat}"),
            "3:9",
            "this router has none",
            "add `nat",
        ),
        (
            nat.replace("nat='linux'", "nat='linux'\nforward=['80 b','tcp 80 b:81']"),
            "4:9",
            "port 80 is forwarded twice",
            "another outer port",
        ),
        (
            format!("{host}[[host]]\nname='d'\nkind='dns'\nnames='gone'"),
            "7:7",
            "`names` is wrong",
            "tracker.example = tracker",
        ),
        (
            format!("{host}[[host]]\nname='d'\nkind='dns'\nnames='a.example = nobody'"),
            "7:7",
            "no router or host `nobody`",
            "names: a, d",
        ),
        (
            format!("{host}[[host]]\nname='d'\nkind='dns'"),
            "4:1",
            "`names` is missing",
            "add `names",
        ),
        (
            format!("{host}[[host]]\nname='e'\nkind='engine-seed'\ndns='a'"),
            "7:5",
            "`a` is of kind `manual`",
            "this takes dns",
        ),
        (
            format!("{host}[[host]]\nname='e'\nkind='dht'\nbootstrap='a'"),
            "7:11",
            "`a` is of kind `manual`",
            "this takes dht",
        ),
        (
            format!("{host}[[host]]\nname='c'\nkind='stun-client'\nto='a'"),
            "7:4",
            "`a` is of kind `manual`",
            "nothing but a `stun` host answers",
        ),
        (
            format!("{host}[[expect]]\nbehaviour=['a','EIM']"),
            "5:11",
            "`behaviour` is wrong",
            "a host, a mapping and a filtering",
        ),
        (
            "[[router]]\nname='r'\nfirewall-rules='drop in any'".into(),
            "3:1",
            "this router has none",
            "add `firewall",
        ),
        (
            "[[router]]\nname='r'\nfirewall='open'\nfirewall-rules='block in any'".into(),
            "4:16",
            "`firewall-rules` is wrong",
            "does not begin with allow, drop or reject",
        ),
    ] {
        let e = Scenario::parse(&text, "f").expect_err(&text).to_string();
        assert!(e.contains(&format!("f:{place}")), "{place}: {e}");
        assert!(e.contains(what), "{what}: {e}");
        assert!(e.contains(help), "{help}: {e}");
    }
}
