//! The session that the configuration file and the command line ask for.

use std::{
    fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use dunlin_tokio::{
    Config, Egress, Limits, SessionConfig,
    dunlin_core::{
        BLOCK_LEN, DhtMode, EncryptionPolicy,
        dht::{ReadOnly, guard},
        metainfo::HostPort,
    },
    free_port, has_ipv6,
    system::{
        config::{self, Encryption, Interface, Ports, Settings},
        net::interfaces,
        routers::routers,
    },
};

use crate::{
    args::{ShowConfig, Swarm},
    exit::Exit,
    output,
};

/// Reads the configuration file: the one that is named, or the usual one.
///
/// # Errors
/// A message that names the file.
pub(crate) fn read(named: Option<&Path>) -> Result<Settings, String> {
    match named {
        // A file that is named has to exist; the usual one need not.
        Some(path) if !path.exists() => return Err(format!("{}: no such file", path.display())),
        Some(path) => Settings::load(path),
        None => Settings::load(&config::default_path()),
    }
    .map_err(|error| error.to_string())
}

/// Prints every key with its default, and checks the existing file.
pub(crate) fn print(args: &ShowConfig) -> Exit {
    let path = args.config.clone().unwrap_or_else(config::default_path);
    if args.path {
        return crate::print(format!("{}\n", path.display()).as_bytes());
    }
    if args.init {
        return match init(&path) {
            Ok(()) => {
                output::say(&format!("{} is written", path.display()));
                Exit::Complete
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                output::complain(&format!(
                    "{} is there already and stays as it is",
                    path.display()
                ));
                Exit::Failed
            }
            Err(error) => {
                output::complain(&format!("{}: {error}", path.display()));
                Exit::Failed
            }
        };
    }
    if let Err(error) = read(args.config.as_deref()) {
        output::complain(&error);
        return Exit::Usage;
    }
    let state = if path.exists() {
        "which is there and is understood"
    } else {
        "which is not there yet"
    };
    let head = format!("# For {}, {state}.\n#\n", path.display());
    crate::print((head + &config::default_file()).as_bytes())
}

/// Writes the default file if none exists.
fn init(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(path)?.write_all(config::default_file().as_bytes())
}

/// The result of the command line and the configuration file.
pub(crate) struct Loaded {
    pub(crate) session: SessionConfig,
    /// The limits of each torrent.
    pub(crate) limits: Limits,
    /// The ratio of uploaded bytes to size at which sharing ends.
    pub(crate) seed_ratio: Option<f64>,
    /// The longest time of sharing.
    pub(crate) seed_time: Option<Duration>,
    /// Options without effect, with the reasons.
    pub(crate) remarks: Vec<String>,
    /// A note about the port that is listened on.
    pub(crate) note: Option<String>,
}

/// The session for `swarm` and the configuration file; torrents are saved to `dir`, if it is given.
///
/// # Errors
/// A message that names the file or option.
pub(crate) fn load(swarm: &Swarm, dir: Option<PathBuf>) -> Result<Loaded, String> {
    let settings = read(swarm.config.as_deref())?;

    let mut session = SessionConfig {
        dir: dir.unwrap_or_else(|| settings.downloads.clone()),
        folder: (!swarm.no_session).then(|| {
            let usual = || settings.session.clone();
            swarm.session.clone().unwrap_or_else(usual)
        }),
        disk: settings.disk(),
        allocation: settings.allocation,
        names: settings.names,
        // As in rTorrent: without a session folder there is no DHT.
        dht_without_folder: false,
        ..SessionConfig::default()
    };
    session.route.proxy = swarm.proxy.clone().or_else(|| settings.proxy.clone());
    session.route.egress = egress(swarm, &settings)?;
    let (listen, moved) = listen(swarm, settings.ports, &session.route.egress);
    session.listen = listen;
    let proxied = session.route.proxy.is_some();

    let engine = &mut session.engine;
    engine.encryption = swarm.encryption.map_or(
        match settings.encryption {
            Encryption::Off => EncryptionPolicy::Off,
            Encryption::Allowed => EncryptionPolicy::Allowed,
            Encryption::Preferred => EncryptionPolicy::Preferred,
            Encryption::Required => EncryptionPolicy::Required,
        },
        Into::into,
    );
    engine.pex = settings.pex && !swarm.no_pex;
    if let Some(name) = &settings.user_agent {
        engine.user_agent.clone_from(name);
    }
    engine.max_connections = swarm.max_peers.unwrap_or(settings.connections);
    engine.max_connections_per_torrent = swarm
        .max_peers
        .unwrap_or(settings.torrent_connections)
        .min(engine.max_connections);
    engine.limit_down = swarm.limit_down.or(settings.down);
    engine.limit_up = swarm.limit_up.or(settings.up);
    let blocks = settings.memory / BLOCK_LEN as u64;
    engine.max_blocks = u32::try_from(blocks).unwrap_or(u32::MAX).max(1);
    engine.stop_timeout = settings.shutdown_timeout;
    dht(engine, swarm, &settings, session.folder.is_some());
    let mut remarks: Vec<String> = no_dht(swarm).into_iter().collect();
    // Without `--port`, any port is right.
    let moved = moved.filter(|_| !proxied);
    let (moved, note) = match swarm.port {
        Some(_) => (moved, None),
        None => (None, moved),
    };
    remarks.extend(moved);
    remarks.extend(not_asked(
        "--dht-node",
        &swarm.dht_nodes,
        swarm.dht_local,
        "--dht-local",
    ));
    Ok(Loaded {
        session,
        remarks,
        note,
        limits: Limits {
            down: settings.torrent_down,
            up: settings.torrent_up,
        },
        seed_ratio: settings
            .seed_ratio
            .map(|thousandths| f64::from(thousandths) / 1000.0),
        seed_time: settings.seed_time,
    })
}

/// The reason why options about the DHT have no effect, if they have none.
fn no_dht(swarm: &Swarm) -> Option<String> {
    let running = |mode: &DhtMode| matches!(mode, DhtMode::Auto | DhtMode::On);
    let option = match swarm {
        Swarm {
            dht: Some(mode), ..
        } => running(mode).then(|| format!("--dht {mode}"))?,
        Swarm {
            dht_port: Some(port),
            ..
        } => format!("--dht-port {port}"),
        Swarm {
            dht_local: true, ..
        } => "--dht-local".into(),
        Swarm { dht_nodes, .. } => format!("--dht-node {}", dht_nodes.first()?),
    };
    swarm.no_session.then(|| {
        format!(
            "{option} has no effect with --no-session: the DHT needs a session folder, in which it \
             keeps the nodes it knows; leave out --no-session, or name a folder with --session"
        )
    })
}

/// The reason why the nodes of `option` are not queried: they are in a private network, and the DHT is not.
pub(crate) fn not_asked(
    option: &str,
    nodes: &[HostPort],
    local: bool,
    local_option: &str,
) -> Option<String> {
    let private = |node: &&HostPort| {
        let addr = node.addr();
        !local && addr.is_some_and(|addr| guard::is_martian(&addr, false))
    };
    let node = nodes.iter().find(private)?;
    Some(format!(
        "{option} {node}: this is not a public address, and the public DHT does not ask it; add \
         {local_option} if the DHT is that of a private network"
    ))
}

/// Sets the DHT's part of the engine's configuration.
fn dht(engine: &mut Config, swarm: &Swarm, settings: &Settings, remembers: bool) {
    let given = &settings.dht;
    engine.dht = match (swarm.dht, remembers) {
        (Some(mode), _) => mode,
        (None, true) => given.mode,
        // Nobody asked for a DHT, and it could not keep its nodes.
        (None, false) => DhtMode::Disable,
    };
    engine.dht_port = swarm.dht_port.or(given.port);
    engine.dht_limit_up = given.limit_up;
    engine.dht_config.new_remote_budget = given.new_remote_budget;
    engine.dht_config.local = swarm.dht_local;
    // Used if a socket of this family can be bound.
    engine.dht_config.ipv6 = true;
    if given.read_only {
        engine.dht_config.read_only = ReadOnly::Always;
    }
    engine.dht_routers = match swarm.dht_local {
        true => Vec::new(),
        false => given.routers.clone().unwrap_or_else(routers),
    };
    let named = given.add_node.iter().chain(&swarm.dht_nodes);
    engine.dht_routers.extend(named.cloned());
}

fn egress(swarm: &Swarm, settings: &Settings) -> Result<Egress, String> {
    let (option, named) = match swarm.bind.is_empty() {
        true => ("network.interfaces", settings.interfaces.clone()),
        false => ("--bind", swarm.bind.clone()),
    };
    // Checked now, so that it is not found by every connection that fails.
    named
        .iter()
        .try_for_each(can_bind)
        .map_err(|message| format!("{option} {message}"))?;
    let mut egress = Egress::default();
    for interface in named {
        let taken = match interface {
            Interface::Address(IpAddr::V4(ip)) => egress.v4.replace(ip).is_some(),
            Interface::Address(IpAddr::V6(ip)) => egress.v6.replace(ip).is_some(),
            Interface::Name(name) => egress.interface.replace(name).is_some(),
        };
        if taken {
            return Err(format!(
                "{option}: one address per family and one interface, no more"
            ));
        }
    }
    Ok(egress)
}

/// Whether this machine has `interface`.
fn can_bind(interface: &Interface) -> Result<(), String> {
    match interface {
        Interface::Address(ip) => match UdpSocket::bind((*ip, 0)) {
            Err(error) => Err(format!("{ip}: {error}")),
            Ok(_) => Ok(()),
        },
        Interface::Name(name) => match interfaces::addresses() {
            Ok(have) if !have.iter().any(|a| a.interface == *name) => Err(format!(
                "{name}: there is no such interface, or it has no address"
            )),
            _ => Ok(()),
        },
    }
}

/// The number of ports tried after the requested one, if that is in use.
const NEXT_PORTS: u16 = 100;

/// The addresses to listen on, and a message if another program uses the requested port. A family is left
/// out if only an address of the other one was named.
fn listen(swarm: &Swarm, ports: Ports, egress: &Egress) -> (Vec<SocketAddr>, Option<String>) {
    if swarm.no_listen {
        return (Vec::new(), None);
    }
    let only = egress.v4.is_some() || egress.v6.is_some();
    let v4 = egress.v4.or((!only).then_some(Ipv4Addr::UNSPECIFIED));
    let v6 = egress
        .v6
        .or((!only && has_ipv6()).then_some(Ipv6Addr::UNSPECIFIED));
    let addresses: Vec<IpAddr> = v4
        .map(IpAddr::V4)
        .into_iter()
        .chain(v6.map(IpAddr::V6))
        .collect();
    let (first, last) = match swarm.port {
        Some(port) => (port, port.saturating_add(NEXT_PORTS)),
        None => (ports.first, ports.last),
    };
    // If several commands run at the same time, any port will do.
    let port = match first {
        0 => 0,
        first => free_port(first..=last, &addresses).unwrap_or(0),
    };
    let moved = (port != first).then(|| match port {
        0 => {
            format!("ports {first} to {last} are in use: listening on one that the system chooses")
        }
        port => format!("port {first} is in use: listening on {port} instead"),
    });
    let listen = addresses.into_iter();
    let listen = listen.map(|address| SocketAddr::new(address, port));
    (listen.collect(), moved)
}
