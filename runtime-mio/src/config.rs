//! The settings of a driver.

use dunlin_std::session::setup::SessionConfig;

/// The settings of a driver. Start from the default and change fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DriverConfig {
    /// The settings that all drivers share: addresses, folders, limits of the engine.
    pub session: SessionConfig,
    /// The most HTTP requests at the same time, at least 1. Each has a thread that exists only while it
    /// runs. [`Config::max_requests`](dunlin_core::Config::max_requests) is lowered to this.
    pub http_threads: usize,
    /// The most names resolved at the same time, at least 1. Each has a thread that exists only while it
    /// runs. [`Config::max_lookups`](dunlin_core::Config::max_lookups) is lowered to this.
    pub name_threads: usize,
    /// The most commands of handles that wait for the loop; further callers wait.
    pub commands: usize,
}

impl Default for DriverConfig {
    /// For a small machine: as [`SessionConfig::default`], but without a DHT, with one disk thread and
    /// fewer HTTP requests at the same time. A machine with more cores hashes faster with more threads: see
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
    /// Uses the session's settings unchanged, including the number of disk threads.
    fn from(session: SessionConfig) -> Self {
        Self {
            session,
            http_threads: 16,
            name_threads: 4,
            commands: 64,
        }
    }
}
