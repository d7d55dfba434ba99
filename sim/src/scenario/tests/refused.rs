//! What is refused, and what the messages say.

use super::{super::*, GATEWAY_HOME};

/// The messages about invalid files, one case of each.
#[test]
fn what_is_wrong_is_told_with_its_place_and_what_would_be_right() {
    const HOST: &str = "[[host]]\nname='a'\nkind='manual'\n";
    const STEADY: &str = "[[host]]\nname='e'\nkind='echo'\n[[host]]\nname='s'\nkind='steady'\n";
    let cases: &[(String, &str, &str)] = &[
        ("sede = 5".into(), "1:1", "did you mean `seed`?"),
        ("seed = -5".into(), "1:8", "expected a whole number from 0"),
        ("duration = '5 parsecs'".into(), "1:12", "expected a time"),
        (
            "[[rooter]]\nname='x'".into(),
            "1:1",
            "did you mean `router`?",
        ),
        ("[host]\nname='x'".into(), "1:1", "write `[[host]]`"),
        ("[[torrent]]\nsize=1".into(), "1:1", "write `[torrent]`"),
        ("host = 5".into(), "1:1", "write `[[host]]`"),
        ("[[host]]\nkind='echo'".into(), "1:1", "add `name = …`"),
        (
            "[[host]]\nname='a'\nkind='ecko'".into(),
            "3:6",
            "did you mean \"echo\"?",
        ),
        (format!("{HOST}{HOST}"), "5:6", "a name of its own"),
        (format!("{HOST}behind='b'"), "4:8", "there are no routers"),
        (
            format!("{HOST}behind='r'\n[[router]]\nname='rr'"),
            "4:8",
            "did you mean `rr`?",
        ),
        (format!("{HOST}flows=5"), "4:1", "that is for flood"),
        (format!("{HOST}lnk='lan'"), "4:1", "did you mean `link`?"),
        (format!("{HOST}link='dls'"), "4:6", "did you mean `dsl`?"),
        (format!("{HOST}loss='200%'"), "4:6", "expected a share"),
        (
            "[[router]]\nname='r'\nmapping='EIM'".into(),
            "3:1",
            "add `nat",
        ),
        (
            "[[router]]\nname='r'\nnat='lunix'".into(),
            "3:5",
            "did you mean `linux`?",
        ),
        (
            "[[router]]\nname='r'\nnat='linux'\nmapping='EIN'".into(),
            "4:9",
            "did you mean \"EIM\"?",
        ),
        (
            "[[router]]\nname='r'\nnat='linux'\nports='sequential'".into(),
            "4:7",
            "sequential(1)",
        ),
        (
            "[[router]]\nname='a'\nbehind='b'\n[[router]]\nname='b'\nbehind='a'".into(),
            "3:8",
            "outermost",
        ),
        (
            "[[router]]\nname='a'\nbehind='a'".into(),
            "3:8",
            "outermost",
        ),
        (format!("{HOST}behind='a'"), "4:8", "takes a router"),
        (
            format!("{HOST}[[event]]\nreboot='a'\nat=1"),
            "5:8",
            "takes a router",
        ),
        (format!("{HOST}[[event]]\noff='a'"), "4:1", "add `at = …`"),
        (
            format!("{HOST}[[event]]\nat='2min'\noff='a'"),
            "5:4",
            "ends at 1 min",
        ),
        (format!("{HOST}[[event]]\nat=1"), "4:1", "exactly one of"),
        (
            format!("{HOST}[[event]]\nat=1\noff='a'\ncut='a'"),
            "7:1",
            "exactly one of",
        ),
        (
            format!("{HOST}[[event]]\nat=1\noff='a'\nloss=0"),
            "7:1",
            "take it out",
        ),
        (
            format!("{HOST}[[event]]\nat=1\nsend='a'\nto='b'"),
            "7:4",
            "names: a",
        ),
        (format!("{STEADY}to='s'"), "7:4", "name another"),
        (format!("{STEADY}every='1s'"), "4:1", "add `to = …`"),
        (
            format!("{HOST}[[expect]]\nunbroken='a'"),
            "5:10",
            "this takes steady",
        ),
        (
            format!("{HOST}[[expect]]\nrule='nat.filterd'"),
            "5:6",
            "did you mean \"nat.filtered\"?",
        ),
        (
            format!("{HOST}[[expect]]\nrule='nat.filtered'\nwithin=3"),
            "6:1",
            "at-least",
        ),
        (
            format!("{HOST}[[expect]]\nrule='nat.filtered'\nat-least=3\nat-most=2"),
            "7:9",
            "at least 3",
        ),
        (
            format!("{HOST}[[expect]]\nconnected=['a']"),
            "5:11",
            "two names",
        ),
        ("a = ".into(), "1:5", "not TOML"),
    ];
    for (text, place, help) in cases {
        let error = Scenario::parse(text, "f").expect_err(text).to_string();
        let head = format!("f:{place}: ");
        assert!(
            error.starts_with(&head),
            "wanted {head} of\n{text}\n\ngot {error}"
        );
        assert!(
            error.contains(help),
            "wanted {help} of\n{text}\n\ngot {error}"
        );
    }
}

/// Every error is told, in the order of the file, and nothing that merely follows from another.
#[test]
fn all_that_is_wrong_is_told() {
    let text = "duraton = '5s'\n\
        [[rooter]]\nname = 'x'\n\
        [[router]]\nname = 'home'\nnat = 'lunix'\nmapping = 'EIN'\nloss = '200%'\n\
        [[router]]\nname = 'home'\n\
        [[host]]\nname = 'a'\nkind = 'ecko'\nport = 0\nreply-after = '1s'\nbehind = 'hone'\n\
        [[host]]\nname = 'b'\nkind = 'steady'\n\
        [[host]]\nnmae = 'c'\nkind = 'echo'\n\
        [[event]]\nat = '1s'\nrebot = 'home'\n\
        [[event]]\nat = '2h'\ncut = 'hom'\n\
        [[event]]\nat = '1s'\nsend = 'b'\nto = 'nobody'\nloss = '1%'\n\
        [[expect]]\nconnected = ['a', 'nobody']\nwithin = 'x'\n\
        [[expect]]\ncompleted = ['b', 'a']\n";
    let errors = Scenario::parse(text, "f").expect_err("much is wrong");
    let told: Vec<(usize, &str)> = errors
        .iter()
        .map(|e| (e.line, e.message.as_str()))
        .collect();
    let wanted = [
        (1, "`duraton` is not a key before the first table"),
        (2, "`[[rooter]]` is not a table here"),
        (6, "there is no NAT preset `lunix`"),
        (7, "`mapping` is wrong"),
        (8, "`loss` is wrong"),
        (10, "there is a `home` already"),
        (13, "`kind` is wrong"),
        (16, "there is no router `hone`"),
        (17, "`to` is missing from this [[host]]"),
        (21, "`nmae` is not a key of [[host]]"),
        (25, "`rebot` is not a key of [[event]]"),
        (28, "there is no router or host `hom`"),
        (31, "`b` is of kind `steady`"),
        (32, "there is no router or host `nobody`"),
        (33, "`loss` does not go with `send`"),
        (36, "`within` is wrong"),
        (38, "`b` is of kind `steady`"),
    ];
    assert_eq!(told, wanted);
    let shown = errors.to_string();
    assert_eq!(shown.matches("\n  ").count(), 2 * wanted.len(), "{shown}");

    // What is TOML nowhere is told wherever it is.
    let errors = Scenario::parse("a = \nb = 1\n[[host]\nc = 'x\n", "f").expect_err("no TOML");
    let lines: Vec<usize> = errors.iter().map(|e| e.line).collect();
    assert!(lines.starts_with(&[1]) && lines.contains(&3), "{errors}");

    // A long list has an end.
    let long: String = (0..5_000).map(|n| format!("k{n} = 1\n")).collect();
    let errors = Scenario::parse(&long, "f").expect_err("no keys");
    assert_eq!(errors.iter().count(), 100);
    assert!(
        errors
            .to_string()
            .ends_with("the first 100 errors are told")
    );
}

/// Two homes, a caller in one of them, and an echo host in the other.
const APART: &str = "[[router]]\nname='left'\nnat='linux'\n[[router]]\nname='right'\nnat='linux'\n\
    [[host]]\nname='e'\nkind='echo'\nbehind='right'\n";

#[test]
fn a_host_that_nobody_can_send_to_is_refused() {
    let cases = [
        ("[[host]]\nname='s'\nkind='steady'\nto='e'\n", "f:14:4: "),
        (
            "[[host]]\nname='s'\nkind='flood'\nbehind='left'\nto='e'\n",
            "f:15:4: ",
        ),
        (
            "[[host]]\nname='s'\nkind='manual'\n[[event]]\nat=1\nsend='s'\nto='e'\n",
            "f:17:4: ",
        ),
        (
            "[[host]]\nname='s'\nkind='manual'\n[random]\nevents=1\nsenders='s'\nreceivers='e'\n",
            "f:17:11: ",
        ),
    ];
    for (text, place) in cases {
        let error = Scenario::parse(&format!("{APART}{text}"), "f").expect_err(text);
        let error = error.to_string();
        let told = "s cannot send to e, which is behind the NAT of right\n";
        assert!(error.starts_with(&format!("{place}{told}")), "{error}");
        assert!(
            error.contains("put s behind right too, or e outside"),
            "{error}"
        );
    }
    let engines = "[[host]]\nname='t'\nkind='tracker'\nbehind='right'\n\
        [[host]]\nname='p'\nkind='engine-seed'\nbehind='right'\n\
        [[host]]\nname='l'\nkind='engine-leech'\ntrackers='t'\npeers='p'\n";
    let errors = Scenario::parse(&format!("{APART}{engines}"), "f").expect_err("hidden");
    assert_eq!(errors.iter().count(), 2, "{errors}");
    // Inside one NAT, from further inside, and over IPv6, which is not translated, there is a way.
    for text in [
        "[[host]]\nname='s'\nkind='steady'\nbehind='right'\nto='e'\n",
        "[[router]]\nname='inner'\nbehind='right'\nnat='linux'\n\
         [[host]]\nname='s'\nkind='steady'\nbehind='inner'\nto='e'\n",
        "[[host]]\nname='six'\nkind='echo'\nbehind='right'\naddress=['10.9.9.9','2001:db8::9']\n\
         [[host]]\nname='s'\nkind='steady'\naddress=['198.51.100.77','2001:db8::7']\nto='six'\n",
    ] {
        let text = format!("{APART}{text}");
        let s = Scenario::parse(&text, "f").unwrap_or_else(|e| panic!("{e}"));
        let result = run(&s, 1, &RunOptions::default());
        let met = |rule: &str| result.counters.iter().any(|c| c.rule == rule);
        assert!(met("host.delivered") && !met("route.none"), "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_gateway_is_said() {
    let alice = "[[host]]\nname='alice'\nkind='manual'\nbehind='x'\n\
                 [[host]]\nname='bob'\nkind='steady'\nto='out'\nbehind='x'\n\
                 [[host]]\nname='out'\nkind='echo'\n";
    let home = |keys: &str, rest: &str| format!("{GATEWAY_HOME}{keys}{alice}{rest}");
    for (text, message) in [
        (
            "[[router]]\nname='x'\ngateway='standard'\n".into(),
            "this router has none",
        ),
        (
            home("", "").replace("standard", "standart"),
            "did you mean `standard`",
        ),
        (
            "[[router]]\nname='x'\nnat='linux'\ngateway-mappings=5\n".into(),
            "has none",
        ),
        (
            home("gateway-quirks='ppp-onyl'\n", ""),
            "did you mean ppp-only",
        ),
        (
            home("gateway-protocols='upnp'\n", ""),
            "a list of: upnp-igd1",
        ),
        (home("gateway-address='fe80::1'\n", ""), "one IPv4 address"),
        (home("gateway-mappings=5000\n", ""), "gateway-mappings"),
        (
            home("", "[[event]]\nat=1\nmap='out'\n"),
            "no gateway maps ports for out",
        ),
        (home("", "[[event]]\nat=1\nmap='bob'\n"), "of kind `steady`"),
        (
            home("", "[[event]]\nat=1\nmap='alice'\nfor='bob'\n"),
            "by UPnP alone",
        ),
        (
            home(
                "",
                "[[event]]\nat=1\nmap='alice'\nfor='out'\nusing='upnp'\n",
            ),
            "no gateway maps ports for out when alice asks",
        ),
        (
            home("", "").replace(
                "behind='x'\n[[host]]\nname='bob'",
                "behind='x'\naddress='10.0.0.1'\n[[host]]\nname='bob'",
            ),
            "10.0.0.1 is taken",
        ),
    ] {
        let error = Scenario::parse(&text, "f").expect_err(&text);
        assert!(error.to_string().contains(message), "{error}\n{text}");
    }
    assert!(Scenario::parse(&home("", ""), "f").is_ok());
}

#[test]
fn what_cannot_happen_is_refused() {
    let told = |host: &str, more: &str| {
        let text = format!(
            "duration = '5s'\n[[host]]\nname = 's'\nkind = 'echo'\n[[host]]\nname = {host}\n{more}"
        );
        Scenario::parse(&text, "f").map_or_else(|e| e.to_string(), |_| String::new())
    };
    let steady = |times: &str| told("'c'", &format!("kind = 'steady'\nto = 's'\n{times}"));
    assert_eq!(steady("start = '1s'\nstop = '2s'\n"), "");
    assert!(steady("start = '9s'\n").contains("it never starts"));
    assert!(steady("start = '4s'\nstop = '2s'\n").contains("it stops before it starts"));
    let named = told("\"a\\u001b[31m\"", "kind = 'echo'\n");
    assert!(named.contains("without control characters"), "{named}");
    assert!(!named.contains('\u{1b}'));
}
