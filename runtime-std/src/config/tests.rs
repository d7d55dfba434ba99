use super::*;
use dunlin_core::{DhtMode, metainfo::HostPort};

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(text, Path::new("d.toml")).map_err(|e| e.to_string())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err()
}

#[test]
fn an_empty_file_and_the_default_file_mean_the_same() {
    let default = Settings::default();
    assert_eq!(parse("").unwrap(), default);
    let file = default_file();
    assert_eq!(parse(&file).unwrap(), default);
    // With every `#name = value` uncommented.
    let mut in_force = String::new();
    let mut settings = 0;
    for line in file.lines() {
        let bare = line.strip_prefix('#').filter(|l| !l.starts_with(' '));
        settings += usize::from(bare.is_some());
        in_force.push_str(bare.unwrap_or(line));
        in_force.push('\n');
    }
    assert_eq!(settings, KEYS.len());
    assert_eq!(parse(&in_force).unwrap(), default);
    assert!(file.lines().all(|l| l.len() <= 100), "{file}");
    assert_eq!((default.connections, default.memory), (500, 16 << 20));
    assert!(default.pex && default.encryption == Encryption::Preferred);
}

#[test]
fn every_kind_of_value_is_taken() {
    let s = parse(
        r#"
        [folders]
        downloads = "/srv/x"
        [network]
        ports = 51_413
        interfaces = ["eth0", "::1"]
        encryption = "required"
        pex = false
        proxy = "socks5h://localhost:9050"
        user_agent = "me/1"
        [limits]
        down = "1.5 MiB/s"
        up = "off"
        memory = 0x4000000
        [disk]
        threads = 3
        allocation = "full"
        [dht]
        mode = "on"
        port = 6_881
        routers = ["router.example", "[2001:db8::1]:7"]
        add_node = "192.0.2.1:6882"
        limit_up = "20 KiB/s"
        read_only = "on"
        new_remote_budget = "off"
        [seeding]
        ratio = 1.25
        time = "12h"
        "#,
    )
    .unwrap();
    assert_eq!(s.downloads, Path::new("/srv/x"));
    assert_eq!(s.ports.first, 51_413);
    assert_eq!(s.interfaces.len(), 2);
    assert!(!s.pex && s.proxy.as_ref().unwrap().remote_names);
    assert_eq!(s.user_agent.as_deref(), Some("me/1"));
    assert_eq!((s.down, s.up, s.memory), (Some(3 << 19), None, 64 << 20));
    assert_eq!((s.disk().threads, s.allocation), (3, Allocation::Full));
    let nodes = |nodes: &[HostPort]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (s.dht.mode, s.dht.port, s.dht_port()),
        (DhtMode::On, Some(6881), 6881)
    );
    let routers = nodes(s.dht.routers.as_ref().unwrap());
    assert_eq!(routers, ["router.example:6881", "[2001:db8::1]:7"]);
    assert_eq!(nodes(&s.dht.add_node), ["192.0.2.1:6882"]);
    assert_eq!(
        (s.dht.limit_up, s.dht.new_remote_budget),
        (Some(20_480), None)
    );
    assert!(s.dht.read_only);
    assert_eq!(s.seed_ratio, Some(1250));
    assert_eq!(s.seed_time, Some(Duration::from_secs(43_200)));
}

#[test]
fn a_time_without_a_unit_is_seconds_as_the_file_says() {
    let s = parse("[seeding]\ntime = \"12\"\n[shutdown]\ntimeout = 3").unwrap();
    assert_eq!(s.seed_time, Some(Duration::from_secs(12)));
    assert_eq!(s.shutdown_timeout, Duration::from_secs(3));
    assert_eq!(default_file().matches("number alone is seconds").count(), 2);
}

#[test]
fn encryption_has_the_words_of_the_command_line() {
    for (word, wanted) in [
        ("off", Encryption::Off),
        ("allowed", Encryption::Allowed),
        ("preferred", Encryption::Preferred),
        ("required", Encryption::Required),
    ] {
        let s = parse(&format!("[network]\nencryption = {word:?}")).unwrap();
        assert_eq!(s.encryption, wanted);
        assert!(default_file().contains(&format!("{word:?}")));
    }
}

#[test]
fn the_budget_of_the_dht_is_the_nodes_own() {
    let own = dunlin_core::dht::DhtConfig::default().new_remote_budget;
    assert_eq!(Settings::default().dht.new_remote_budget, own);
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_would_be_right() {
    for (text, says) in [
        (
            "[limits]\n\n  dwon = 1",
            "d.toml:3:3: unknown setting `dwon` in [limits]: did you mean `down`?",
        ),
        (
            "[limit]\n",
            "d.toml:1:2: unknown section `limit`: did you mean [limits]?",
        ),
        (
            "pex = true",
            "d.toml:1:1: unknown section `pex`: it belongs into [network]",
        ),
        (
            "[limits]\npex = true",
            "d.toml:2:1: unknown setting `pex` in [limits]: it belongs into [network]",
        ),
        (
            "[network]\nencryption = \"require\"",
            "d.toml:2:14: network.encryption: expected one of \"off\", \"allowed\", \"preferred\", \"required\" (did you mean \"required\"?)",
        ),
        (
            "[limits]\ndown = \"fast\"",
            "d.toml:2:8: limits.down: expected a rate such as",
        ),
        (
            "[limits]\ndown = [1]",
            "d.toml:2:8: limits.down: expected a rate such as",
        ),
        (
            "[limits]\n\ndown = \"0\"",
            "d.toml:3:8: limits.down: expected a rate of at least 1 KiB/s",
        ),
        (
            "[limits]\nup = 2",
            "d.toml:2:6: limits.up: expected a rate of at least 1 KiB/s",
        ),
        (
            "[seeding]\ntime = \"12x\"",
            "d.toml:2:8: seeding.time: expected a time such as",
        ),
        (
            "[limits]\nconnections = 70000",
            "expected a number from 1 to 65535",
        ),
        (
            "[limits]\nconnections = -1",
            "expected a number from 1 to 65535",
        ),
        ("[disk]\nthreads = 0", "\"auto\" or a number from 1 to 64"),
        ("[network]\ninterfaces = 5", "a list such as"),
        ("[network]\nuser_agent = \"a\\nb\"", "plain ASCII"),
        ("limits = 3", "`limits` is a section: write [limits]"),
        ("[limits]\ndown = 1\ndown = 2", "d.toml:3:1: "),
        ("[limits\n", "d.toml:1:8: "),
        ("[\"ä\"]\nu = 1", "unknown section"),
    ] {
        let message = error(text);
        assert!(message.contains(says), "{text:?}: {message}");
        assert!(message.starts_with("d.toml:"), "{message}");
    }
}

#[test]
fn a_missing_file_is_an_empty_one_and_an_unreadable_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Settings::load(&dir.path().join("none.toml"));
    assert_eq!(missing.unwrap(), Settings::default());
    let e = Settings::load(dir.path()).unwrap_err();
    assert!(e.to_string().starts_with(dir.path().to_str().unwrap()));
    std::fs::write(dir.path().join("bin"), [0xff, 0xfe]).unwrap();
    assert!(Settings::load(&dir.path().join("bin")).is_err());
}

quickcheck::quickcheck! {
    fn no_text_panics(text: String) -> bool {
        let _ = parse(&text);
        KEYS.iter().all(|key| {
            let (section, name) = split(key.path);
            let line = format!("[{section}]\n{name} = {text:?}");
            parse(&line).is_err_and(|e| e.starts_with("d.toml:")) || parse(&line).is_ok()
        })
    }
}
