//! The firewall rules of `dunlin dht advice`, loaded into a network namespace of their own.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use dunlin_std::net::conntrack::{Firewall, notrack};

/// Runs commands in a namespace that ends with them, and answers what the last one prints.
fn alone(commands: &[String]) -> String {
    let output = Command::new("unshare")
        .args(["--net", "sh", "-ec", &commands.join("\n")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn s32_nft_takes_the_rules_as_they_are_printed() {
    let mut commands = notrack(Firewall::Nftables, 51413);
    commands.push("nft list table inet dunlin_dht".into());
    let rules = alone(&commands);
    for part in [
        "hook prerouting priority raw",
        "hook output priority raw",
        "udp dport 51413 notrack",
        "udp sport 51413 notrack",
    ] {
        assert!(rules.contains(part), "{part}: {rules}");
    }
}
