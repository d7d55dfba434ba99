mod refused;

use quickcheck::{Arbitrary, Gen, TestResult, quickcheck};

use super::{
    read::{
        keys::{Key, OPTIONS, TOP, TORRENT},
        keys_firewall::FIREWALL,
        keys_gateway::GATEWAY,
        keys_link::LINK,
        keys_nat::NAT,
        keys_parts::{CHECKS, EVENT, EXPECT, HOST, RANDOM, ROUTER},
    },
    *,
};
use crate::link::Loss;

/// A scenario that uses every table.
const WHOLE: &str = r#"
name = "everything"
about = "Something of everything."
seed = 7
duration = "90s"

[torrent]
size = "4 MiB"
piece = "256 KiB"

[random]
events = 100
senders = ["alice"]
receivers = ["server"]

[[router]]
name = "home"
behind = "isp"
nat = "linux"
filtering = "EIF"
mapping = "APDM"
delay = "20ms"
forward = ["udp 6881 alice:40000"]
firewall = "no-inbound"
firewall-rules = ["allow in udp from 53 stateless", "reject out tcp 25"]

[[router]]
name = "isp"
nat = "linux"
ports = "block(64)"
region = "eu-west"
link = "fibre"
up = "2 Mbit/s"
queue = "100 packets"
up-discipline = "fq-codel(5ms, 100ms)"
down-discipline = "red"
down-loss = "1%"
down-loss-burst = 4
jitter = "2ms"
overtaking = true

[[host]]
name = "alice"
behind = "home"
kind = "manual"

[[host]]
name = "server"
kind = "echo"
port = 53

[[host]]
name = "caller"
behind = "home"
kind = "steady"
to = "server"
link = "mobile-4g"
loss = "1%"

[[host]]
name = "stun"
kind = "stun"

[[host]]
name = "client"
behind = "home"
kind = "stun-client"
to = "stun"
address-count = 2

[[host]]
name = "dns"
kind = "dns"
names = ["a.example = server", "b.example = timeout"]

[[host]]
name = "node"
kind = "dht"

[[host]]
name = "other"
kind = "dht"
bootstrap = "node"

[[event]]
at = "20s"
change = "isp"
up-discipline = "codel"
up-loss = "gilbert-elliott(1%, 20%, 0%, 50%)"

[[event]]
at = "30s"
renumber = "isp"
flows = "kept"

[[event]]
at = "40s"
unplug = "home"

[[event]]
at = "42s"
mend = "home"

[[event]]
at = "50s"
part = "eu-west"

[[event]]
at = "51s"
join = "eu-west"

[[event]]
at = "12s"
reboot = "home"

[[event]]
at = "2s"
send = "alice"
to = "server"

[[expect]]
unbroken = "caller"
gap = "5s"

[[expect]]
rule = "nat.rebooted"
at = "home"

[[expect]]
behaviour = ["client", "APDM", "APDF"]
"#;

/// A scenario with populations of every kind.
const POPULATIONS: &str = r#"
seed = 1
[[router]]
name = "isp"
count = 2
nat = ["50% cgnat-good", "50% none"]
[[router]]
name = "home"
behind = "isp"
count = 3
nat = ["60% linux", "25% none", "15% symmetric"]
up = ["50% 1 Mbit/s to 5 Mbit/s", "50% 5 Mbit/s to 20 Mbit/s"]
[[host]]
name = "meet"
kind = "rendezvous"
count = 4
[[host]]
name = "a"
behind = "home"
kind = "udp-punch"
to = "b"
via = "meet"
arrive = "poisson 2/s"
[[host]]
name = "b"
count = 6
kind = "udp-punch"
to = "a"
via = "meet"
start = "0s to 2s"
[[host]]
name = "peer"
behind = "home"
count = 2
kind = "engine-leech"
peers = "peer"
group = ["all", "peers"]
stay = "exponential 10s"
arrive = "evenly over 20s"
[[expect]]
connected = ["a", "b"]
share = "50%"
[[expect]]
completed = "all"
at-most = 3
"#;

#[test]
fn a_scenario_is_understood() {
    let s = Scenario::parse(WHOLE, "x/whole.toml").expect("valid");
    assert_eq!((s.name.as_str(), s.seed), ("everything", 7));
    // Parents come first, and events in order of time.
    assert_eq!(s.routers[0].name, "isp");
    assert_eq!(
        s.events[0].action,
        Action::Send {
            from: "alice".into(),
            port: 40_000,
            to: "server".into(),
            to_port: 53,
            size: 64
        }
    );
    let nat = s.routers[1].nat.as_ref().expect("a NAT");
    assert_eq!(
        nat.tcp.filtering,
        crate::middlebox::nat::Filtering::EndpointIndependent
    );
    assert_eq!(s.hosts[2].link.both.loss, Some(Loss::Random(10_000)));
    let line = WHOLE.lines().position(|l| l == "[[expect]]");
    // The line of the key that states the expectation.
    assert_eq!(Some(s.expects[0].line - 2), line);
    let unnamed = Scenario::parse("", "dir/small.toml").expect("valid");
    assert_eq!(unnamed.name, "small");
}

/// Two hosts on perfect lines connect a round trip after they were introduced, so what is left is
/// the lead.
#[test]
fn the_lead_of_a_rendezvous_is_a_key_and_is_said() {
    let after = |lead: &str| {
        let end = |n, to| {
            format!("[[host]]\nname='{n}'\nkind='udp-punch'\nto='{to}'\nvia='r'\nlink='perfect'\n")
        };
        let text = format!(
            "duration='5s'\n[[host]]\nname='r'\nkind='rendezvous'\nlink='perfect'\n{lead}\n{}{}\
             [[expect]]\nconnected=['a','b']\n",
            end("a", "b"),
            end("b", "a")
        );
        let s = Scenario::parse(&text, "f").unwrap_or_else(|e| panic!("{e}"));
        let result = run(&s, 1, &RunOptions::default());
        assert!(result.held(), "{:?}", result.outcomes);
        (result.outcomes[0].why.clone(), result.notes[1].clone())
    };
    let (why, note) = after("");
    assert_eq!(why, "after 100 ms");
    assert_eq!(
        note,
        "r introduces its hosts 100 ms after the last of them has registered."
    );
    let (why, note) = after("lead='1.25s'");
    assert_eq!(why, "after 1.25 s");
    assert!(note.contains("1.25 s"));
    assert_eq!(after("lead=0").0, "after 0 µs");
}

/// A caller that hears nothing from 10.5 s to 14.5 s.
#[test]
fn the_longest_wait_is_told_with_its_beginning_and_end() {
    let text = "duration='20s'\n[[host]]\nname='e'\nkind='echo'\nlink='perfect'\n\
        [[host]]\nname='s'\nkind='steady'\nto='e'\nlink='perfect'\n\
        [[event]]\nat='10.5s'\ncut='e'\n[[event]]\nat='14.5s'\nmend='e'\n\
        [[expect]]\nbroken='s'\n[[expect]]\nunbroken='s'\ngap='5s'\n";
    let s = Scenario::parse(text, "f").unwrap_or_else(|e| panic!("{e}"));
    let result = run(&s, 1, &RunOptions::default());
    assert!(result.held(), "{:?}", result.outcomes);
    for outcome in &result.outcomes {
        assert_eq!(outcome.why, "the longest wait was 5 s, from 10 s to 15 s");
    }
}

/// A datagram is sent at the very end, or is under way then; one is lost while the link is cut.
#[test]
fn what_is_under_way_at_the_end_is_not_held_against_a_host() {
    let run_for = |duration: &str, cut: &str| {
        let text = format!(
            "duration='{duration}'\n[[host]]\nname='e'\nkind='echo'\ndelay='100ms'\n\
             [[host]]\nname='s'\nkind='steady'\nto='e'\n{cut}[[expect]]\nanswered='s'\n"
        );
        let s = Scenario::parse(&text, "f").unwrap_or_else(|e| panic!("{e}"));
        let outcome = run(&s, 1, &RunOptions::default()).outcomes.remove(0);
        (outcome.held, outcome.why)
    };
    for duration in ["10s", "10.05s", "10.15s"] {
        let (held, why) = run_for(duration, "");
        assert!(
            held && why == "10 of 10, and 1 under way at the end",
            "{why}"
        );
    }
    assert_eq!(run_for("10.5s", ""), (true, "11 of 11".into()));
    let cut = "[[event]]\nat='4.5s'\ncut='e'\n[[event]]\nat='5.5s'\nmend='e'\n";
    assert_eq!(run_for("10.5s", cut), (false, "10 of 11".into()));
}

#[test]
fn what_the_core_adds_is_said() {
    let note = |text: &str| {
        let s = Scenario::parse(text, "f").expect("valid");
        run(&s, 1, &RunOptions::default()).notes[0].clone()
    };
    let host = "[[host]]\nname='a'\nkind='echo'\n";
    assert!(note(host).starts_with("The core adds no delay"));
    let region = format!("{host}region='india'\n");
    assert!(note(&region).starts_with("The core adds the delay between the regions"));
}

/// A router with a gateway.
const GATEWAY_HOME: &str = "[[router]]\nname='x'\nnat='linux'\ngateway='standard'\n";

/// A file that uses one key, in a context in which it is valid.
fn with_key(section: &str, key: &str, example: &str) -> String {
    let routers = "[[router]]\nname='isp'\n[[router]]\nname='home'\n";
    let hosts = "[[host]]\nname='server'\nkind='echo'\n[[host]]\nname='alice'\nkind='manual'\n\
                 [[host]]\nname='caller'\nkind='steady'\nto='server'\n";
    let all = format!("{routers}{hosts}");
    let set = format!("{key} = {example}\n");
    match section {
        "top" => format!("{set}{all}"),
        "torrent" => format!("[torrent]\n{set}{all}"),
        "router" if key == "name" => format!("[[router]]\n{set}"),
        "router" if key == "forward" => format!(
            "[[router]]\nname='home'\nnat='linux'\n{set}[[host]]\nname='alice'\nkind='manual'\nbehind='home'\n"
        ),
        "router" if key == "gateway" => format!("[[router]]\nname='x'\nnat='linux'\n{set}"),
        "router" => format!("{all}[[router]]\nname='x'\n{set}"),
        "gateway" => format!("{GATEWAY_HOME}{set}"),
        "nat" => {
            let first = if key == "forget-after" {
                "forget-mapping = 1\n"
            } else {
                ""
            };
            format!("[[router]]\nname='x'\nnat='linux'\n{first}{set}")
        }
        "firewall" => format!("[[router]]\nname='x'\nfirewall='no-inbound'\n{set}"),
        "link" => {
            // A burst is one of losses.
            let lossy = if key.ends_with("loss-burst") {
                "loss='1%'\n"
            } else {
                ""
            };
            format!(
                "{all}[[router]]\nname='x'\n{lossy}{set}[[event]]\nat=1\nlink='x'\n{lossy}{set}\
                 [[event]]\nat=2\nchange='x'\n{set}"
            )
        }
        "host" => match key {
            "name" => format!("[[host]]\n{set}kind='echo'"),
            "kind" => format!("[[host]]\nname='x'\n{set}"),
            "arrive" => {
                format!("{all}[[host]]\nname='x'\ncount=3\nkind='steady'\nto='server'\n{set}")
            }
            _ => format!("{all}[[host]]\nname='x'\nkind='manual'\n{set}"),
        },
        "event"
            if matches!(
                key,
                "map" | "using" | "protocol" | "external-port" | "lease" | "for"
            ) =>
        {
            let rest = match key {
                "map" => "",
                "for" => "map='alice'\nusing='upnp'\n",
                _ => "map='alice'\n",
            };
            let alice = "[[host]]\nname='alice'\nkind='manual'\nbehind='x'\n";
            format!("{GATEWAY_HOME}{alice}[[event]]\nat=1\n{rest}{set}")
        }
        "event" => {
            let rest = match key {
                "at" => "off='alice'\n",
                "change" => "at=1\ndelay='1ms'\n",
                "wan" | "flows" => "at=1\nrenumber='home'\n",
                "preset" => "at=1\nlink='alice'\n",
                "send" => "at=1\nto='server'\n",
                "to" => "at=1\nsend='alice'\n",
                "to-port" | "port" | "size" => "at=1\nsend='alice'\nto='server'\n",
                _ => "at=1\n",
            };
            // Somebody has to be in the regions that part.
            let far = "[[host]]\nname='far'\nkind='echo'\nregion='na-east'\n\
                       [[host]]\nname='near'\nkind='echo'\nregion='eu-west'\n";
            format!("{all}{far}[[event]]\n{rest}{set}")
        }
        "random" => {
            let rest = ["events = 5\n", "senders='alice'\n", "receivers='server'\n"];
            let rest = rest.iter().filter(|r| !r.starts_with(key)).copied();
            let rest: String = rest.collect();
            format!("{all}[[host]]\nname='bob'\nkind='manual'\n[random]\n{rest}{set}")
        }
        _ => {
            let rest = CHECKS
                .iter()
                .find(|(name, with)| *name != key && with.contains(&key));
            let rest = match rest.map(|(name, _)| *name) {
                Some(_) if matches!(key, "at-least" | "at-most" | "exactly") => {
                    "rule='nat.mapped'\n"
                }
                _ if key == "queue-delay" => "below='1s'\n",
                _ if key == "new-flows" => "at-most=3\n",
                _ if key == "until" => "stays-connected=['p','q']\n",
                Some("queue-delay") => match key {
                    "below" => "queue-delay='alice'\n",
                    _ => "queue-delay='alice'\nbelow='1s'\n",
                },
                Some("connected") => "connected=['p','q']\n",
                Some("unbroken" | "broken") => "unbroken='caller'\n",
                Some("rule") => "rule='nat.mapped'\n",
                _ => "",
            };
            let punch = "[[host]]\nname='r'\nkind='rendezvous'\n\
                         [[host]]\nname='s'\nkind='stun'\n\
                         [[host]]\nname='p'\nkind='udp-punch'\nto='q'\nvia='r'\nkeepalive=5\n\
                         [[host]]\nname='q'\nkind='udp-punch'\nto='p'\nvia='r'\nkeepalive=5\n\
                         [[host]]\nname='bystander'\nkind='manual'\n\
                         [[host]]\nname='bob'\nkind='manual'\n";
            format!("{all}{punch}[[expect]]\n{rest}{set}")
        }
    }
}

/// Some expectations need engines, and some need hosts that punch holes.
fn with_hosts(text: &str, options: &str) -> String {
    let text = text.replace("[[host]]\nname='alice'\nkind='manual'\n", "");
    let text = text.replace("[[host]]\nname='bob'\nkind='manual'\n", "");
    let host = |n: &str, to: &str| {
        let options = options.replace('*', to);
        format!("[[host]]\nname='{n}'\n{options}\n")
    };
    format!("{}{}{text}", host("alice", "bob"), host("bob", "alice"))
}

fn accepted<S>(section: &str, keys: &[Key<S>]) {
    for key in keys {
        let mut text = with_key(section, key.name, key.example);
        let options = match (section, key.name) {
            ("expect", "connected" | "not-connected" | "stays-connected") => {
                "kind='udp-punch'\nto='*'\nvia='r'\nkeepalive='5s'"
            }
            ("expect", "behaviour") => "kind='stun-client'\nto='s'",
            ("expect", "completed" | "not-completed" | "sooner") => "kind='engine-leech'",
            _ => "",
        };
        if !options.is_empty() {
            text = with_hosts(&text, options);
        }
        if let Err(e) = Scenario::parse(&text, "f") {
            panic!("{section} {}: {e}\n{text}", key.name);
        }
    }
}

#[test]
fn every_documented_key_is_accepted() {
    accepted("top", TOP);
    accepted("torrent", TORRENT);
    accepted("router", ROUTER);
    accepted("nat", NAT);
    accepted("firewall", FIREWALL);
    accepted("gateway", GATEWAY);
    accepted("host", HOST);
    accepted("link", LINK);
    accepted("event", EVENT);
    accepted("random", RANDOM);
    accepted("expect", EXPECT);
}

#[test]
fn every_option_of_every_kind_is_accepted() {
    let support = "[[host]]\nname='server'\nkind='rendezvous'\n\
                   [[host]]\nname='tracker'\nkind='tracker'\n\
                   [[host]]\nname='node'\nkind='dht'\n\
                   [[host]]\nname='dns'\nkind='dns'\nnames='a.example = tracker'\n\
                   [[host]]\nname='alice'\nkind='engine-seed'\n";
    for kind in KINDS {
        let needs = kind.needs.iter().chain(kind.takes);
        let options = needs.map(|name| {
            let key = OPTIONS
                .iter()
                .find(|k| k.name == *name)
                .expect("an option in the table");
            format!("{} = {}\n", key.name, key.example)
        });
        let options: String = options.collect();
        let (other, rest) = match kind.kind {
            Kind::UdpPunch | Kind::TcpPunch => (kind.name, "to = 'x'\nvia = 'server'"),
            k if k.is_engine() => (kind.name, ""),
            Kind::StunClient => ("stun", ""),
            _ => ("echo", ""),
        };
        let text = format!(
            "{support}[[host]]\nname='bob'\nkind='{other}'\n{rest}\n[[host]]\nname='x'\nkind='{}'\n{options}",
            kind.name
        );
        if let Err(e) = Scenario::parse(&text, "f") {
            panic!("{e}\n{text}");
        }
        assert_eq!(kind.kind.info().name, kind.name);
    }
    for key in OPTIONS {
        let is_taken = |k: &KindInfo| k.needs.iter().chain(k.takes).any(|o| *o == key.name);
        assert!(KINDS.iter().any(is_taken), "{} is of no use", key.name);
    }
}

#[test]
fn the_reference_is_what_the_parser_goes_by() {
    let page = include_str!("../../SCENARIOS.md");
    let (_, rest) = page.split_once("<!-- reference -->\n").expect("the mark");
    assert!(
        rest.trim() == reference().trim(),
        "SCENARIOS.md is out of date: replace what follows the mark by what `dunlin-sim reference` prints"
    );
}

#[test]
fn what_is_written_back_means_the_same() {
    let one = Document::parse(WHOLE, "f").expect("valid");
    let two = Document::parse(&one.to_toml(), "f").expect("valid");
    let strip = |d: &Document| {
        let mut s = Scenario::from_document(d).expect("valid");
        s.expects.iter_mut().for_each(|e| e.line = 0);
        s
    };
    assert_eq!(strip(&one), strip(&two));
}

/// A change to a file: some bytes, at most 31, are replaced.
#[derive(Clone, Debug)]
struct Edit {
    at: u16,
    len: u8,
    with: Replacement,
}

#[derive(Clone, Debug)]
enum Replacement {
    Nothing,
    /// The same bytes three times.
    Thrice,
    /// A piece of TOML in the wrong place.
    Toml(&'static str),
    Text(String),
}

impl Arbitrary for Edit {
    fn arbitrary(g: &mut Gen) -> Self {
        let toml = [
            "[[host]]\n",
            "\"",
            " = [1, {a = 2}, 0x7f, 1e9, 1979-05-27]\n",
            "99999999999999999999",
        ];
        Self {
            at: u16::arbitrary(g),
            len: u8::arbitrary(g) % 32,
            with: match u8::arbitrary(g) % 8 {
                0 => Replacement::Nothing,
                1 => Replacement::Thrice,
                2..6 => Replacement::Toml(g.choose(&toml).unwrap()),
                _ => Replacement::Text(String::arbitrary(g)),
            },
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let with = self.with.clone();
        let smaller = (self.at, self.len).shrink().map(move |(at, len)| Self {
            at,
            len,
            with: with.clone(),
        });
        let (at, len) = (self.at, self.len);
        let simpler: Box<dyn Iterator<Item = Replacement>> = match &self.with {
            Replacement::Nothing => quickcheck::empty_shrinker(),
            Replacement::Text(text) => Box::new(text.shrink().map(Replacement::Text)),
            Replacement::Thrice | Replacement::Toml(_) => {
                quickcheck::single_shrinker(Replacement::Nothing)
            }
        };
        Box::new(smaller.chain(simpler.map(move |with| Self { at, len, with })))
    }
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for edit in edits {
        let at = usize::from(edit.at) % bytes.len().max(1);
        let to = (at + usize::from(edit.len)).min(bytes.len());
        let with = match &edit.with {
            Replacement::Nothing => Vec::new(),
            Replacement::Thrice => bytes[at..to].repeat(3),
            Replacement::Toml(text) => text.as_bytes().to_vec(),
            Replacement::Text(text) => text.as_bytes().to_vec(),
        };
        bytes.splice(at..to, with);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Networks of unusual shape.
#[test]
fn odd_networks_run() {
    let cases = [
        // Two NATs, one inside the other, with the same inner addresses; and a host with an address
        // of each family.
        "[[router]]\nname='a'\nnat='linux'\n[[router]]\nname='b'\nbehind='a'\nnat='linux'\nwan='10.0.0.2'\n\
         [[host]]\nname='h'\nbehind='b'\nkind='echo'\naddress=['10.0.0.2','2001:db8::2']",
        // A router without a NAT below one with a NAT, and the other way round.
        "[[router]]\nname='a'\n[[router]]\nname='b'\nbehind='a'\nnat='symmetric'\n[[router]]\nname='c'\nbehind='b'\n\
         [[host]]\nname='h'\nbehind='c'\nkind='steady'\nto='e'\n[[host]]\nname='e'\nkind='echo'",
        // Hosts that send to one behind their own router.
        "[[router]]\nname='a'\nnat='full-cone'\n[[host]]\nname='h'\nbehind='a'\nkind='flood'\nto='e'\nflows=10000\n\
         [[host]]\nname='e'\nbehind='a'\nkind='echo'\n[[host]]\nname='o'\nbehind='a'\nkind='steady'\nto='e'\nevery='1ms'",
        // Several events at one time.
        "[[host]]\nname='h'\nkind='manual'\n[[event]]\nat=1\noff='h'\n[[event]]\nat=1\noff='h'\n[[event]]\nat=1\non='h'\n\
         [[event]]\nat=1\nsend='h'\nto='h'\n[[event]]\nat=1\ncut='h'\n[[event]]\nat=2\nlink='h'\nloss=1\nup='1 bit/s'",
    ];
    for text in cases {
        let mut s = Scenario::parse(text, "f").unwrap_or_else(|e| panic!("{e}"));
        s.duration = std::time::Duration::from_secs(3);
        let result = run(&s, 1, &RunOptions::default());
        assert_eq!(result.stuck, None, "{text}");
    }
    let twice = "[[host]]\nname='a'\nkind='echo'\naddress='9.9.9.9'\n[[host]]\nname='b'\nkind='echo'\naddress='9.9.9.9'";
    let e = Scenario::parse(twice, "f").expect_err("one address, two hosts");
    assert!(e.to_string().starts_with("f:8:9: 9.9.9.9 is taken"), "{e}");
    let families =
        "[[host]]\nname='a'\nkind='steady'\nto='b'\naddress='::9'\n[[host]]\nname='b'\nkind='echo'";
    let e = Scenario::parse(families, "f").expect_err("no common family");
    assert!(e.to_string().contains("no IP version in common"), "{e}");
}

quickcheck! {
    fn no_file_panics(edits: Vec<Edit>) -> bool {
        let text = edited(WHOLE, &edits);
        match Scenario::parse(&text, "f") {
            // A valid scenario can be written back and is read again as the same one.
            Ok(_) => {
                let doc = Document::parse(&text, "f").expect("valid");
                Scenario::parse(&doc.to_toml(), "f").is_ok()
            }
            Err(e) => {
                let placed = |e: &ScenarioError| e.line >= 1 && e.column >= 1;
                e.iter().count() >= 1 && e.iter().all(placed) && !e.to_string().is_empty()
            }
        }
    }

    fn no_file_with_populations_panics(edits: Vec<Edit>) -> bool {
        let text = edited(POPULATIONS, &edits);
        match Scenario::parse(&text, "f") {
            Ok(s) => {
                // Another seed may draw what contradicts itself, but does not panic either.
                let _ = s.drawn(9).map(drop);
                let doc = written_out(&Document::parse(&text, "f").expect("valid"), 1);
                // What is written out is understood, and stands for the same.
                let again = Scenario::from_document(&doc.expect("valid"));
                again.is_ok_and(|again| again.hosts.len() == s.hosts.len())
            }
            Err(e) => e.iter().count() >= 1 && !e.to_string().is_empty(),
        }
    }

    fn no_scenario_that_is_taken_panics_when_it_runs(edits: Vec<Edit>) -> TestResult {
        let text = edited(WHOLE, &edits);
        let Ok(mut scenario) = Scenario::parse(&text, "f") else {
            return TestResult::discard();
        };
        // Long enough for the events in the first seconds of the file.
        scenario.duration = scenario.duration.min(std::time::Duration::from_secs(5));
        let options = RunOptions { capture: true, journeys: true, curves: true, pair: None };
        let first = run(&scenario, 3, &options);
        TestResult::from_bool(first == run(&scenario, 3, &options))
    }

    fn no_text_panics(text: String) -> bool {
        let _ = Scenario::parse(&text, "f");
        true
    }

    fn leaving_out_events_leaves_a_scenario(keep: Vec<bool>) -> bool {
        let doc = Document::parse(WHOLE, "f").expect("valid");
        let kept = |n: usize| keep.get(n).copied().unwrap_or(true);
        let less = doc.only(|n, e| e.section != "event" || kept(n));
        Scenario::from_document(&less).is_ok()
    }
}
