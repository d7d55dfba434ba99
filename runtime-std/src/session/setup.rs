//! The settings of a session, for every driver.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use dunlin_core::{Caps, Config, DhtMode, dht::Saved};

use crate::{
    disk::{Allocation, DiskConfig},
    net::socket::{self, Route},
    paths::Names,
    platform,
    routers::routers,
    session::store::Store,
};

/// Descriptors used for other things than files of torrents and connections with peers: the program's own,
/// listeners, the session folder, HTTP and name resolution.
const OTHER_DESCRIPTORS: u64 = 128;

/// The settings of a session. Start from the default and change fields.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The configuration of the engine.
    pub engine: Config,
    /// The addresses to listen on; port 0 lets the system choose. IPv6 addresses are ignored where there is
    /// no IPv6. If this is empty, or with a proxy, peers cannot connect to this session.
    pub listen: Vec<SocketAddr>,
    /// Source addresses, interface and proxy.
    pub route: Route,
    /// The session folder, which keeps resume records and torrent files between sessions; `None` keeps
    /// nothing.
    pub folder: Option<PathBuf>,
    /// The folder for torrents that are added without one and that are not known from an earlier session.
    pub dir: PathBuf,
    /// Threads and open files.
    pub disk: DiskConfig,
    /// When disk space is reserved.
    pub allocation: Allocation,
    /// The rules that file names follow.
    pub names: Names,
    /// Whether to run a DHT node without a [`Self::folder`] as well, in which case it cannot save its
    /// table. Its mode is [`Config::dht`].
    pub dht_without_folder: bool,
}

impl Default for SessionConfig {
    /// Listens on a port that the system chooses, keeps nothing, and saves to the current folder. The DHT
    /// runs while there are torrents that are not private, and starts from the public
    /// [`ROUTERS`](crate::routers::ROUTERS); see [`SessionConfig::without_dht`].
    fn default() -> Self {
        let mut engine = Config {
            dht: DhtMode::Auto,
            dht_routers: routers(),
            ..Config::default()
        };
        // Used if a socket of this family can be bound.
        engine.dht_config.ipv6 = true;
        Self {
            engine,
            listen: vec![
                (Ipv4Addr::UNSPECIFIED, 0).into(),
                (Ipv6Addr::UNSPECIFIED, 0).into(),
            ],
            route: Route::default(),
            folder: None,
            dir: PathBuf::from("."),
            disk: DiskConfig::default(),
            allocation: Allocation::default(),
            names: Names::default(),
            dht_without_folder: true,
        }
    }
}

impl SessionConfig {
    /// The same settings without a DHT: peers come from trackers and other peers only.
    #[must_use]
    pub fn without_dht(mut self) -> Self {
        self.engine.dht = DhtMode::Disable;
        self.engine.dht_routers.clear();
        self
    }

    /// The engine's configuration.
    #[must_use]
    pub fn for_engine(&self) -> Config {
        let mut config = self.engine.clone();
        config.boot = config.boot.or_else(boot);
        if let Some(limit) = platform::open_file_limit() {
            config.max_connections = config.max_connections.min(self.connections_of(limit));
        }
        config.listen.clear();
        if self.route.proxy.is_none() {
            for &address in &self.listen {
                let taken = config
                    .listen
                    .iter()
                    .any(|l| l.is_ipv4() == address.is_ipv4());
                // An address that was named is used; an unspecified one is not, if only the other family
                // was named.
                let named = !address.ip().is_unspecified();
                let ours = named || self.route.egress.allows(address.ip());
                if !taken && ours && (address.is_ipv4() || socket::has_ipv6()) {
                    // There are two families and two places, so this cannot fail.
                    let _ = config.listen.push(self.route.egress.listen(address));
                }
            }
        }
        config
    }

    /// The engine's configuration with the DHT's table from `store`, and a message for people about it.
    /// Blocks.
    #[must_use]
    pub fn for_engine_with(&self, store: Option<&Store>) -> (Config, Option<String>) {
        let mut config = self.for_engine();
        if config.dht == DhtMode::Disable || config.dht_saved.is_some() {
            return (config, None);
        }
        let Some(store) = store else {
            config.dht_saved = self.dht_without_folder.then(Saved::default);
            return (config, None);
        };
        let loaded = store.load_dht();
        config.dht_saved = Some(loaded.saved.unwrap_or_default());
        (config, loaded.note)
    }

    /// How many connections fit into a limit of `limit` open files.
    fn connections_of(&self, limit: u64) -> u32 {
        // The disk uses a quarter of the limit at most.
        let files = (self.disk.open_files as u64).min(limit / 4);
        let others = OTHER_DESCRIPTORS.min(limit / 4);
        u32::try_from(limit - files - others)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// What this platform and this route support.
    #[must_use]
    pub fn caps(&self) -> Caps {
        let mut caps = Caps::all();
        caps.ipv6 = socket::has_ipv6();
        let egress = &self.route.egress;
        // The proxy resolves names, and connects over the families that it has.
        let proxied = self.route.proxy.is_some();
        caps.resolve = !proxied;
        caps.proxied = proxied;
        caps.ipv4 &= proxied || egress.allows(Ipv4Addr::UNSPECIFIED.into());
        caps.ipv6 &= proxied || egress.allows(Ipv6Addr::UNSPECIFIED.into());
        caps.session = self.folder.is_some();
        caps
    }
}

/// Raises the number of files that this process may have open as far as the system allows. Many systems
/// start programs with a limit of 256 or 1024 for compatibility; a session works with any limit. Programs
/// call this before they start a session: the limit belongs to the process, so a library must not change it
/// by itself.
pub fn raise_open_file_limit() {
    platform::raise_open_file_limit();
}

/// An id of the current boot of this machine, where the system provides one.
#[must_use]
pub fn boot() -> Option<[u8; 16]> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let mut digits = text.chars().filter_map(|c| c.to_digit(16));
    let mut id = [0; 16];
    for byte in &mut id {
        *byte = u8::try_from(digits.next()? << 4 | digits.next()?).ok()?;
    }
    digits.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_family_is_the_only_one_offered() {
        let mut config = SessionConfig::default();
        config.route.egress.v4 = Some(Ipv4Addr::LOCALHOST);
        let caps = config.caps();
        assert!(caps.ipv4 && !caps.ipv6 && !caps.proxied);
        let listen = config.for_engine().listen;
        assert_eq!(listen[..], [(Ipv4Addr::LOCALHOST, 0).into()]);

        config.route.egress.v4 = None;
        config.route.egress.v6 = Some(Ipv6Addr::LOCALHOST);
        let caps = config.caps();
        assert!(!caps.ipv4 && caps.ipv6 == socket::has_ipv6());
        let listen = config.for_engine().listen;
        assert!(listen.iter().all(SocketAddr::is_ipv6));

        // The proxy is reached from this family; what it reaches is not limited by that.
        config.route.proxy = "socks5://127.0.0.1:1080".parse().ok();
        let caps = config.caps();
        assert!(caps.ipv4 && caps.proxied && !caps.resolve);
    }

    #[test]
    fn the_default_has_a_dht_with_public_routers_and_there_is_a_way_off() {
        let (engine, _) = SessionConfig::default().for_engine_with(None);
        assert_eq!(engine.dht, DhtMode::Auto);
        assert_eq!(engine.dht_routers, routers());
        assert!(engine.dht_saved.is_some(), "it runs without a folder");

        let (engine, _) = SessionConfig::default().without_dht().for_engine_with(None);
        assert_eq!(engine.dht, DhtMode::Disable);
        assert!(engine.dht_routers.is_empty() && engine.dht_saved.is_none());

        let config = SessionConfig {
            dht_without_folder: false,
            ..SessionConfig::default()
        };
        assert!(config.for_engine_with(None).0.dht_saved.is_none());
    }
}
