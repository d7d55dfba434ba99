//! What a driver is made with.

use dunlin_std::session::setup::SessionConfig;

/// What a driver is made with. Start from the default and change fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DriverConfig {
    /// Everything that is not this driver's own affair: where to listen, where files go, the
    /// engine's limits.
    pub session: SessionConfig,
    /// HTTP requests at once at most, each on a thread that exists only while there is work; at
    /// least 1. [`Config::max_requests`](dunlin_core::Config::max_requests) is lowered to it.
    pub http_threads: usize,
    /// Names looked up at once at most, each on a thread that exists only while there is work; at
    /// least 1. [`Config::max_lookups`](dunlin_core::Config::max_lookups) is lowered to it.
    pub name_threads: usize,
    /// Commands of handles that may wait for the loop; more make the callers wait.
    pub commands: usize,
}

impl Default for DriverConfig {
    /// For a small machine: as [`SessionConfig::default`], but without a DHT, with one disk thread and fewer
    /// HTTP requests at once. A machine
    /// with cores to spare hashes faster with more: set
    /// [`DiskConfig::threads`](dunlin_std::disk::DiskConfig::threads).
    fn default() -> Self {
        let mut session = SessionConfig::default().without_dht();
        session.disk.threads = 1;
        Self {
            http_threads: 8,
            ..session.into()
        }
    }
}

impl From<SessionConfig> for DriverConfig {
    /// Takes the session's settings as they are, the disk threads too.
    fn from(session: SessionConfig) -> Self {
        Self {
            session,
            http_threads: 16,
            name_threads: 4,
            commands: 64,
        }
    }
}
