//! The routers that are compared: for each the ruleset of a Linux router and the simulator's
//! parameters.
//!
//! Most keep the kernel's own timers. A few have short ones, so that the scripts see flows expire.

use std::fmt::Write;
use std::time::Duration;

use dunlin_sim::middlebox::firewall;
use dunlin_sim::middlebox::nat::{
    Clash, Filtering, Hairpin, Mapping, NatConfig, PortPolicy, Translation, UnsolicitedSyn,
    WanInput, presets,
};
use dunlin_sim::{BoxConfig, Proto};

use super::script::Place;

/// With short timers: a UDP flow without an answer, a TCP connection that opens or closes; seconds.
const SHORT: u64 = 4;
/// With short timers: a UDP stream, a TCP connection that is open; seconds.
const LONG: u64 = 8;
/// A UDP flow becomes a stream when it is this old and answered: the kernel's constant.
const STREAM_AGE: u64 = 2;
/// The kernel's own timer of a TCP connection that was reset, and of SCTP associations that open and
/// close: the ones that a script outlives.
const OWN: [u64; 2] = [3, 10];

/// How far, in milliseconds, every pause of a script keeps away from the thresholds.
pub const MARGIN: u32 = 800;

/// First of the ports that are given out by a computation or by chance, and how many there are.
const POOL: (u16, u16) = (2048, 60_000);
/// The range of the kernel's sequence, a power of two.
const SEQUENCE: (u16, u16) = (32_768, 1024);
/// Ports of one inside host: many, so that chance seldom picks one twice. Blocks 1 to 3 are used,
/// in which no script's inside port lies, as the kernel would keep that.
const BLOCK: u16 = 8192;
/// Where full cones put what may not keep its port.
const SPARE: (u16, u16) = (50_000, 59_999);

/// How external ports are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Which are the inside ones must be the same; the others by what shares them.
    Preserve,
    /// By what shares them, for all time: the same flow gets the same port again.
    Stable,
    /// By what shares them, while anything can be left of the mapping.
    Random,
    /// By their differences, modulo this.
    Sequential(u16),
    /// As random, and each host keeps to blocks of this size, aligned.
    Block(u16),
}

/// A NAT in both worlds.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Its simulated form.
    pub config: BoxConfig,
    /// IPv6, with a firewall and no NAT.
    pub v6: bool,
    /// Pauses, in milliseconds, at which the kernel's behaviour changes.
    pub thresholds: Vec<u32>,
    /// After this much silence nothing is left of a flow.
    pub longest: Duration,
    /// ICMP queries and errors, SCTP, UDP-Lite, GRE and ESP are compared, too. Their translation is that of a
    /// plain `masquerade`.
    pub all_protocols: bool,
    /// How its external ports are compared.
    pub ports: Ports,
    /// Its form in the kernel.
    recipe: Recipe,
    /// What becomes of packets for the router itself, from either side.
    input: WanInput,
    /// The timers are short, and not the kernel's own.
    short: bool,
    /// Packets from inside to an external endpoint come back in.
    hairpin: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recipe {
    /// `masquerade` with this behind it.
    Masquerade(&'static str),
    /// `masquerade to` the hash of these fields, `T` being the transport protocol.
    Hash(&'static str),
    Sequence,
    Blocks,
    /// Maps that make a mapping independent of the remote endpoint. Either all addresses may send, or only
    /// those that were sent to.
    Cone {
        anybody: bool,
    },
    /// No translation.
    Firewall,
}

/// Every model.
pub fn all() -> Vec<Model> {
    use Mapping::{
        AddressAndPortDependent as Apdm, AddressDependent as Adm, EndpointIndependent as Eim,
    };
    let hash = "ip saddr . T sport";
    let plain = |name| {
        let recipe = Recipe::Masquerade("");
        model(name, recipe, Ports::Preserve, Eim, PortPolicy::Preserve)
    };
    vec![
        plain("linux-preserve").with_all_protocols(),
        plain("linux-accept")
            .with_all_protocols()
            .with_input(WanInput::Accept),
        plain("linux-reject")
            .with_all_protocols()
            .with_input(WanInput::Reject),
        plain("linux-short").with_short_timers(),
        firewall("firewall6"),
        model(
            "eim-hash",
            Recipe::Hash(hash),
            Ports::Stable,
            Eim,
            PortPolicy::Hash,
        ),
        model(
            "adm-hash",
            Recipe::Hash("ip saddr . T sport . ip daddr"),
            Ports::Stable,
            Adm,
            PortPolicy::Hash,
        )
        .with_short_timers(),
        model(
            "apdm-hash",
            Recipe::Hash("ip saddr . T sport . ip daddr . T dport"),
            Ports::Stable,
            Apdm,
            PortPolicy::Hash,
        )
        .with_short_timers(),
        model(
            "apdm-random",
            Recipe::Masquerade("fully-random"),
            Ports::Random,
            Apdm,
            PortPolicy::Random,
        ),
        model(
            "apdm-sequential",
            Recipe::Sequence,
            Ports::Sequential(SEQUENCE.1),
            Apdm,
            PortPolicy::Sequential(1),
        ),
        model(
            "cgn-block",
            Recipe::Blocks,
            Ports::Block(BLOCK),
            Eim,
            PortPolicy::Block(BLOCK),
        ),
        cone("eim-eif", true),
        cone("eim-adf", false),
        cone("hairpin", true).with_hairpin(),
    ]
}

fn model(
    name: &'static str,
    recipe: Recipe,
    ports: Ports,
    mapping: Mapping,
    policy: PortPolicy,
) -> Model {
    let translation = Translation {
        mapping,
        filtering: Filtering::AddressAndPortDependent,
        ports: policy,
        clash: Clash::Overload,
    };
    let nat = NatConfig {
        udp: translation,
        tcp: translation,
        port_range: match ports {
            Ports::Preserve => (1024, u16::MAX),
            Ports::Stable | Ports::Random => (POOL.0, POOL.0 + (POOL.1 - 1)),
            Ports::Sequential(count) => (SEQUENCE.0, SEQUENCE.0 + (count - 1)),
            Ports::Block(size) => (size, u16::MAX),
        },
        ..presets::linux()
    };
    let config = BoxConfig {
        nat: Some(nat),
        ..BoxConfig::default()
    };
    Model::new(name, recipe, ports, config)
}

/// A stateful firewall for IPv6 that lets in nothing but answers.
fn firewall(name: &'static str) -> Model {
    let config = BoxConfig {
        firewall: Some(firewall::presets::home6()),
        ..BoxConfig::default()
    };
    let mut model = Model::new(name, Recipe::Firewall, Ports::Stable, config);
    model.v6 = true;
    model.all_protocols = true;
    model
}

/// UDP with mappings that anybody may use. TCP as [`model`] has it.
fn cone(name: &'static str, anybody: bool) -> Model {
    let model = model(
        name,
        Recipe::Cone { anybody },
        Ports::Preserve,
        Mapping::EndpointIndependent,
        PortPolicy::Preserve,
    );
    let mut model = model.with_short_timers();
    if let Some(nat) = &mut model.config.nat {
        nat.udp.clash = Clash::Random;
        nat.udp.filtering = if anybody {
            Filtering::EndpointIndependent
        } else {
            Filtering::AddressDependent
        };
        // One timer for the maps and for conntrack.
        nat.timeouts.udp_stream = nat.timeouts.udp_first;
        // The spare ports are given by a range, which holds for low ports, too.
        nat.low_ports_stay = false;
    }
    model
}

impl Model {
    fn new(name: &'static str, recipe: Recipe, ports: Ports, config: BoxConfig) -> Self {
        let own = OWN.iter().chain([&STREAM_AGE]);
        Self {
            name,
            config,
            ports,
            recipe,
            v6: false,
            thresholds: own.map(|secs| *secs as u32 * 1000).collect(),
            longest: Duration::from_secs(3600),
            all_protocols: false,
            input: WanInput::Drop,
            short: false,
            hairpin: false,
        }
    }

    fn with_all_protocols(mut self) -> Self {
        self.all_protocols = true;
        self
    }

    fn with_input(mut self, input: WanInput) -> Self {
        self.input = input;
        if let Some(nat) = &mut self.config.nat {
            nat.wan_input = input;
            nat.lan_input = input;
            nat.unsolicited_syn = UnsolicitedSyn::Icmp;
        }
        self
    }

    fn with_hairpin(mut self) -> Self {
        self.hairpin = true;
        if let Some(nat) = &mut self.config.nat {
            nat.hairpin = Hairpin::InternalSource;
        }
        self
    }

    fn with_short_timers(mut self) -> Self {
        let (short, long) = (Duration::from_secs(SHORT), Duration::from_secs(LONG));
        self.short = true;
        self.thresholds = [STREAM_AGE, SHORT, LONG]
            .map(|secs| secs as u32 * 1000)
            .into();
        self.longest = long;
        if let Some(nat) = &mut self.config.nat {
            nat.timeouts.udp_first = short;
            nat.timeouts.udp_stream = long;
            nat.timeouts.set_tcp_opening(short);
            nat.timeouts.tcp_established = long;
            nat.timeouts.tcp_stalled = long;
            nat.timeouts.set_tcp_closing(short);
            nat.timeouts.tcp_reset = short;
        }
        self
    }
}

impl Model {
    /// Whether packets of this protocol from inside to an external endpoint are compared.
    pub fn has_hairpin(&self, proto: Proto) -> bool {
        !self.v6 && (!self.hairpin || proto == Proto::Udp)
    }

    /// Settings below `/proc/sys/net`.
    pub fn sysctls(&self) -> Vec<(String, String)> {
        let short = [
            "udp_timeout",
            "tcp_timeout_syn_sent",
            "tcp_timeout_syn_recv",
            "tcp_timeout_fin_wait",
            "tcp_timeout_close_wait",
            "tcp_timeout_last_ack",
            "tcp_timeout_time_wait",
            "tcp_timeout_close",
        ];
        let long = [
            "udp_timeout_stream",
            "tcp_timeout_established",
            "tcp_timeout_unacknowledged",
            "tcp_timeout_max_retrans",
        ];
        let conntrack = |name: &&str| format!("netfilter/nf_conntrack_{name}");
        let mut all: Vec<(String, String)> = Vec::new();
        if self.short {
            let shorten = |name| (conntrack(name), SHORT.to_string());
            all.extend(short.iter().map(shorten));
            all.extend(long.iter().map(|name| (conntrack(name), LONG.to_string())));
        }
        all.push(("ipv4/ip_forward".into(), "1".into()));
        all.push(("ipv6/conf/all/forwarding".into(), "1".into()));
        all.push(("ipv4/conf/all/rp_filter".into(), "0".into()));
        // Every error is sent, not one a second.
        all.push(("ipv4/icmp_ratelimit".into(), "0".into()));
        all.push(("ipv4/icmp_msgs_per_sec".into(), "100000".into()));
        all.push(("ipv4/icmp_msgs_burst".into(), "100000".into()));
        all.push(("ipv6/icmp/ratelimit".into(), "0".into()));
        if matches!(self.recipe, Recipe::Cone { .. }) {
            all.push((conntrack(&"udp_timeout_stream"), SHORT.to_string()));
        }
        all
    }

    /// The router's rules, for scripts at the first `places` places. What goes to the addresses
    /// in `fences` passes untracked.
    pub fn ruleset(&self, places: u16, fences: &str) -> String {
        let mut text = format!(
            "table ip parity {{\n\
             chain untracked {{ type filter hook prerouting priority raw; ip daddr {{ {fences} }} notrack; }}\n\
             chain input {{ type filter hook input priority filter; {} }}\n",
            match self.input {
                WanInput::Drop => "policy drop;",
                WanInput::Accept => "policy accept;",
                WanInput::Reject => "policy accept; reject;",
            }
        );
        let mut forward = String::new();
        let mut post = String::new();
        match self.recipe {
            Recipe::Masquerade(how) => _ = writeln!(post, "masquerade {how};"),
            Recipe::Hash(fields) => {
                for proto in ["udp", "tcp"] {
                    let fields = fields.replace('T', proto);
                    let (from, count) = POOL;
                    _ = writeln!(
                        post,
                        "meta l4proto {proto} masquerade to :jhash {fields} mod {count} seed 5 offset {from};"
                    );
                }
            }
            Recipe::Sequence => sequence(&mut text, &mut post, places),
            Recipe::Blocks => {
                for host in 1..=3 {
                    let (address, from) = (10 + host, BLOCK * host);
                    let to = from + (BLOCK - 1);
                    _ = writeln!(
                        post,
                        "meta l4proto {{ tcp, udp }} ip saddr & 0.0.0.255 == 0.0.0.{address} masquerade to :{from}-{to};"
                    );
                }
            }
            Recipe::Cone { anybody } => {
                cone_rules(anybody, self.hairpin, &mut text, &mut forward, &mut post);
            }
            Recipe::Firewall => {}
        }
        if self.v6 {
            return text + FENCED_ONLY + STATEFUL6;
        }
        _ = write!(
            text,
            "chain forward {{ type filter hook forward priority filter; policy drop;\n\
             ip daddr {{ {fences} }} accept;\n\
             ct state invalid drop;\n\
             {forward}\
             ct state established,related accept;\n\
             iifname \"lan\" oifname \"wan\" accept;\n}}\n\
             chain post {{ type nat hook postrouting priority srcnat; oifname != \"wan\" return;\n{post}}}\n}}\n"
        );
        text
    }
}

/// IPv4 carries the fences only.
const FENCED_ONLY: &str = "}\n";
/// The rules that the home router for IPv6 has.
const STATEFUL6: &str = "table ip6 parity {
chain input { type filter hook input priority filter; policy drop; }
chain forward { type filter hook forward priority filter; policy drop;
ct state invalid drop;
ct state established,related accept;
iifname \"lan\" oifname \"wan\" accept;
}
}
";

/// Each script has a sequence of its own, UDP and TCP apart. The generator counts in the
/// machine's byte order, hence the map.
fn sequence(text: &mut String, post: &mut String, places: u16) {
    let (from, count) = SEQUENCE;
    let elements: Vec<String> = (0..count).map(|n| format!("{n} : {}", from + n)).collect();
    _ = writeln!(
        text,
        "map sequence {{ typeof numgen inc mod {count} : udp dport; elements = {{ {} }}; }}",
        elements.join(", ")
    );
    let mut chains = Vec::new();
    for n in 0..places {
        let place = Place {
            number: n,
            v6: false,
        };
        _ = writeln!(
            text,
            "chain s{n} {{\n\
             meta l4proto udp masquerade to :numgen inc mod {count} map @sequence;\n\
             meta l4proto tcp masquerade to :numgen inc mod {count} map @sequence;\n}}"
        );
        chains.push(format!("{} : goto s{n}", place.public()));
    }
    // The remotes of a script are in its public address's network.
    _ = writeln!(
        post,
        "ip daddr & 255.255.255.0 | 0.0.0.1 vmap {{ {} }};",
        chains.join(", ")
    );
}

/// Who has which external endpoint is kept in maps, and found out behind the translation. All
/// elements live as long as a flow, and any packet keeps them alive:
///
/// - `inner`: external endpoint to inside endpoint, by which strangers come in;
/// - `outer`: inside endpoint to external port, by which every flow gets the same;
/// - `taken`: external endpoints, by their network, so that a second host moves to a spare port;
/// - `peers`: external endpoint and remote address, for address-dependent filtering.
fn cone_rules(
    anybody: bool,
    hairpin: bool,
    text: &mut String,
    forward: &mut String,
    post: &mut String,
) {
    let kind = format!("flags dynamic,timeout; timeout {SHORT}s; size 65535;");
    let net = "255.255.255.0";
    _ = write!(
        text,
        "map inner {{ type ipv4_addr . inet_service : ipv4_addr . inet_service; {kind} }}\n\
         map outer {{ type ipv4_addr . inet_service : inet_service; {kind} }}\n\
         set taken {{ type ipv4_addr . inet_service; {kind} }}\n\
         set peers {{ type ipv4_addr . inet_service . ipv4_addr; {kind} }}\n\
         chain pre {{ type nat hook prerouting priority dstnat;\n\
         {} meta l4proto udp dnat ip to ip daddr . udp dport map @inner; }}\n",
        if hairpin { "" } else { "iifname \"wan\"" }
    );
    if hairpin {
        _ = writeln!(forward, "iifname \"lan\" oifname \"lan\" accept;");
    }
    // `own` is the external endpoint, `inside` the inside one, in the words of the chain at hand.
    let keep = |own_ip: &str, own_port: &str, inside_ip: &str, inside_port: &str, peer: &str| {
        format!(
            "update @inner {{ {own_ip} . {own_port} : {inside_ip} . {inside_port} }} \
             update @outer {{ {inside_ip} . {inside_port} : {own_port} }} \
             update @taken {{ {peer} & {net} . {own_port} }} \
             update @peers {{ {own_ip} . {own_port} . {peer} }}"
        )
    };
    // Outbound, behind the translation: the header has the external endpoint.
    _ = writeln!(
        text,
        "chain learn {{ type filter hook postrouting priority srcnat + 10; oifname != \"wan\" return; meta l4proto != udp return; ip daddr {{ 20.255.0.0/16 }} return;\n\
         ct direction original meta l4proto udp {};\n\
         ct direction reply meta l4proto udp {};\n}}",
        keep(
            "ip saddr",
            "udp sport",
            "ct original ip saddr",
            "ct original proto-src",
            "ip daddr"
        ),
        keep(
            "ip saddr",
            "udp sport",
            "ct reply ip saddr",
            "ct reply proto-src",
            "ip daddr"
        ),
    );
    // Inbound, translated back: the header has the inside endpoint.
    let answers = keep(
        "ct reply ip daddr",
        "ct reply proto-dst",
        "ip daddr",
        "udp dport",
        "ip saddr",
    );
    let strangers = keep(
        "ct original ip daddr",
        "ct original proto-dst",
        "ip daddr",
        "udp dport",
        "ip saddr",
    );
    let may = if anybody {
        "ct status dnat".to_owned()
    } else {
        "ct original ip daddr . ct original proto-dst . ip saddr @peers".to_owned()
    };
    _ = write!(
        forward,
        "iifname \"wan\" meta l4proto udp ct direction reply {answers} accept;\n\
         iifname \"wan\" meta l4proto udp ct direction original {may} {strangers} accept;\n\
         iifname \"wan\" meta l4proto udp ct direction original drop;\n"
    );
    let (from, to) = SPARE;
    _ = write!(
        post,
        "meta l4proto udp masquerade to :ip saddr . udp sport map @outer;\n\
         ip daddr & {net} . udp sport @taken masquerade to :{from}-{to};\n\
         masquerade;\n"
    );
}
