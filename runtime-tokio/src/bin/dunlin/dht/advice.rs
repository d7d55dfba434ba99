//! `advice`: how to keep the DHT out of the kernel's table of connections.

use dunlin_tokio::system::net::conntrack::{Firewall, Usage, notrack};
use serde_json::json;

use crate::{
    args::dht as args,
    exit::Exit,
    output::{fail, say, say_json},
    settings,
};

/// Runs `dunlin dht advice`.
pub(super) fn advice(args: &args::Advice) -> Exit {
    let settings = match settings::read(args.config.as_deref()) {
        Ok(settings) => settings,
        Err(message) => {
            fail("configuration", &message);
            return Exit::Usage;
        }
    };
    let port = args.port.unwrap_or_else(|| settings.dht_port());
    let usage = Usage::read();
    if args.json {
        say_json(&json!({
            "type": "advice",
            "port": port,
            "iptables": notrack(Firewall::Iptables, port),
            "ip6tables": notrack(Firewall::Ip6tables, port),
            "nftables": notrack(Firewall::Nftables, port),
            "conntrack": usage.map(|u| json!({ "count": u.count, "max": u.max })),
        }));
    } else {
        text(port, usage).iter().for_each(|line| say(line));
    }
    Exit::Complete
}

/// The lines for people.
fn text(port: u16, usage: Option<Usage>) -> Vec<String> {
    let mut text = vec![
        "A firewall or router that follows connections makes an entry for every node that the"
            .into(),
        "DHT exchanges a datagram with. A DHT node that runs for long fills the table, and then"
            .into(),
        "other connections are dropped. What can be done:".into(),
        String::new(),
        "1. Run the DHT only while it is needed (dht.mode = \"auto\", the default): queries stop"
            .into(),
        "   soon when nobody answers them.".into(),
        "2. Let it send less (dht.limit_up, dht.new_remote_budget): who sends little is asked"
            .into(),
        "   little.".into(),
        format!(
            "3. Take UDP port {port} out of the table, as root, on this machine and on a Linux router:"
        ),
        String::new(),
    ];
    let mut rules = |title: &str, firewall| {
        text.push(format!("   {title}:"));
        for rule in notrack(firewall, port) {
            text.push(format!("     {rule}"));
        }
        text.push(String::new());
    };
    rules("iptables", Firewall::Iptables);
    rules("ip6tables", Firewall::Ip6tables);
    rules("nftables, both families", Firewall::Nftables);
    text.extend([
        "   These datagrams then have the state UNTRACKED: rules that go by state (\"ct state"
            .into(),
        "   established accept\") no longer match them, so accept the port by its number. ICMP"
            .into(),
        "   errors about them have the state INVALID: where INVALID is dropped, they are lost,"
            .into(),
        "   and Dunlin does not rely on them.".into(),
        String::new(),
        match usage {
            Some(usage) => {
                let full = match usage.is_high() {
                    true => ": nearly full, act now",
                    false => "",
                };
                format!("The table of this machine: {usage}{full}.")
            }
            None => "This machine does not follow connections, or does not tell.".into(),
        },
    ]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s32_the_advice_has_the_rules_of_the_page_and_what_they_imply() {
        let text = text(51_413, Some(Usage { count: 8, max: 10 })).join("\n");
        for part in [
            "iptables -t raw -I PREROUTING -p udp --dport 51413 -j NOTRACK",
            "iptables -t raw -I OUTPUT -p udp --sport 51413 -j NOTRACK",
            "ip6tables -t raw -I OUTPUT",
            "udp dport 51413 notrack",
            "UNTRACKED",
            "INVALID",
            "8 of 10 entries, 80 %: nearly full",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() < 130));
    }
}
