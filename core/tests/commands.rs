//! Commands, and the reasons why they are not carried out.

use dunlin_core::dht::{Goal, Saved};
use dunlin_core::engine::{
    AddError, AddTorrent, Command, CommandError, Engine, Event, Reply, Scope, Source, State,
};
use dunlin_core::{Caps, Config, DhtMode, InfoHash, Instant, NodeId, TorrentId};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const NOW: Instant = Instant::ORIGIN;

fn engine(config: Config) -> Engine {
    let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
    Engine::new(NOW, config, Caps::all(), rng)
}

fn add(n: u8) -> Command {
    let info_hash = InfoHash([n; 20]);
    let source = Source::Hash {
        info_hash,
        name: None,
    };
    Command::Add(Box::new(AddTorrent::new(source)))
}

/// Every command that is about the torrent `id`.
fn about(torrent: TorrentId) -> Vec<Command> {
    let (scope, on, enabled) = (Scope::Torrent(torrent), true, false);
    let (down, up, by, piece) = (Some(1), None, Some(NOW), 0);
    vec![
        Command::Pause(torrent),
        Command::Resume(torrent),
        Command::Recheck(torrent),
        Command::SetPriorities {
            torrent,
            priorities: Vec::new(),
        },
        Command::SetSequential { torrent, on },
        Command::SetDeadline { torrent, piece, by },
        Command::SetLimits { scope, down, up },
        Command::AddPeers {
            torrent,
            peers: vec![([192, 0, 2, 1], 6881).into()],
        },
        Command::AddTrackers {
            torrent,
            urls: vec!["http://tracker.example/announce".into()],
        },
        Command::SetTrackerEnabled {
            torrent,
            url: "http://tracker.example/announce".into(),
            enabled,
        },
        Command::Reannounce(torrent),
        Command::Scrape(torrent),
        Command::Remove {
            torrent,
            delete: false,
        },
    ]
}

#[test]
fn a_command_about_a_torrent_says_whether_there_is_one() {
    let mut engine = engine(Config::default());
    let gone = TorrentId(7);
    for command in about(gone) {
        let said = format!("{command:?}");
        let done = engine.command(NOW, command);
        assert_eq!(done, Err(CommandError::NoTorrent(gone)), "{said}");
    }
    let Ok(Reply::Added(id)) = engine.command(NOW, add(1)) else {
        panic!("it was not added");
    };
    for command in about(id) {
        let said = format!("{command:?}");
        assert_eq!(engine.command(NOW, command), Ok(Reply::Done), "{said}");
    }
}

#[test]
fn what_is_done_shows() {
    let mut engine = engine(Config::default());
    let Ok(Reply::Added(id)) = engine.command(NOW, add(1)) else {
        panic!("it was not added");
    };
    engine.command(NOW, Command::Pause(id)).unwrap();
    assert_eq!(engine.torrent(id).unwrap().status(NOW).state, State::Paused);
    let tracker = Command::SetTrackerEnabled {
        torrent: id,
        url: "http://none.example/".into(),
        enabled: true,
    };
    assert_eq!(engine.command(NOW, tracker), Err(CommandError::NoTracker));
    engine.command(NOW, Command::Shutdown).unwrap();
    assert_eq!(
        engine.command(NOW, add(2)),
        Err(CommandError::Add(AddError::Stopping))
    );
}

#[test]
fn a_torrent_that_is_here_is_not_added_again() {
    let mut engine = engine(Config {
        max_torrents: 1,
        ..Config::default()
    });
    let Ok(Reply::Added(id)) = engine.command(NOW, add(1)) else {
        panic!("it was not added");
    };
    let duplicate = AddError::Duplicate(id);
    assert_eq!(
        engine.command(NOW, add(1)),
        Err(CommandError::Add(duplicate))
    );
    assert_eq!(
        engine.command(NOW, add(2)),
        Err(CommandError::Add(AddError::Full))
    );
}

fn asked_of_the_dht() -> Vec<Command> {
    let addr = ([192, 0, 2, 1], 6881).into();
    let target = NodeId([1; 20]);
    vec![
        Command::Search(Goal::Nodes(target)),
        Command::Ping(addr),
        Command::Sample { addr, target },
    ]
}

#[test]
fn without_a_dht_its_commands_say_so() {
    let mut engine = engine(Config {
        dht: DhtMode::Disable,
        ..Config::default()
    });
    let more = [
        Command::SetDht(DhtMode::On),
        Command::UseDht,
        Command::AddDhtNode("192.0.2.1:6881".into()),
    ];
    for command in asked_of_the_dht().into_iter().chain(more) {
        let said = format!("{command:?}");
        let done = engine.command(NOW, command);
        assert_eq!(done, Err(CommandError::NoDht), "{said}");
    }
    let disable = Command::SetDht(DhtMode::Disable);
    assert_eq!(engine.command(NOW, disable), Ok(Reply::Done));
}

#[test]
fn a_dht_that_does_not_run_is_told_from_one_that_is_not_there() {
    let mut engine = engine(Config {
        dht: DhtMode::Off,
        dht_saved: Some(Saved::default()),
        ..Config::default()
    });
    for command in asked_of_the_dht().into_iter().chain([Command::UseDht]) {
        let said = format!("{command:?}");
        let done = engine.command(NOW, command);
        assert_eq!(done, Err(CommandError::DhtNotRunning), "{said}");
    }
    let node = |node: &str| Command::AddDhtNode(node.into());
    assert_eq!(engine.command(NOW, node("192.0.2.1:6881")), Ok(Reply::Done));
    let unnamed = engine.command(NOW, node("192.0.2.1:x"));
    assert!(
        matches!(unnamed, Err(CommandError::DhtNode(_))),
        "{unnamed:?}"
    );
    let limit = Command::SetDhtLimit {
        name: "dht".into(),
        up: Some(1),
    };
    assert_eq!(engine.command(NOW, limit), Ok(Reply::Done));
    assert!(!matches!(engine.poll_event(), Some(Event::Stopped)));
}
